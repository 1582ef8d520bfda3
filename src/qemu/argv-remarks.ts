/** What a command line says that is not carried over: by names alone, since values of others may be secrets. */
import type { KeyValues } from './option-words.ts';

export class Remarks {
  readonly #warnings = new Set<string>();
  readonly #refusals = new Set<string>();

  warn(sentence: string): void {
    this.#warnings.add(sentence);
  }

  refuse(sentence: string): void {
    this.#refusals.add(sentence);
  }

  get warnings(): string[] {
    return [...this.#warnings];
  }

  get refusals(): string[] {
    return [...this.#refusals];
  }
}

/** Keys are QEMU's words only where they look like some. */
const KEY = /^[a-z][a-z-]{1,30}(\.[a-z-]{1,30}){0,3}$/;

export function remarkKeys(remarks: Remarks, option: string, words: KeyValues, known: readonly string[]): void {
  for (const key of words.others(known))
    remarks.warn(KEY.test(key) ? `${option} ${key} is not carried over` : `${option}: a part is not carried over`);
}
