/** Ownership records as looks found them: a text that is the same as at the last look is not judged again. */
import { parseRecord, type RecordState } from '../reconcile/record.ts';

export class Records {
  /** By folder. */
  readonly #known = new Map<string, { readonly text: string; readonly state: RecordState }>();

  of(folder: string, text: string | undefined): RecordState {
    const known = this.#known.get(folder);
    if (known !== undefined && known.text === text) return known.state;
    const state = parseRecord(text);
    if (text !== undefined) this.#known.set(folder, { text, state });
    return state;
  }

  forget(folder: string): void {
    this.#known.delete(folder);
  }

  folders(): Iterable<string> {
    return this.#known.keys();
  }
}
