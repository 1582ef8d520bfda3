/**
 * QEMU's own option syntax, for reading command lines of others: pure, and it never throws. Source: QEMU's
 * qemu-options.hx, util/keyval.c and util/qemu-option.c.
 */

export interface OptionWord {
  /** With one dash, as in `-drive`; `disk image` for a word that is no option. */
  readonly name: string;
  readonly value: string;
}

/** All others take a word. */
const FLAGS = new Set(
  (
    'h help version snapshot full-screen nographic no-user-config nodefaults no-fd-bootchk no-acpi no-hpet enable-kvm ' +
    'daemonize S s singlestep one-insn-per-tb preconfig no-reboot no-shutdown win2k-hack usb portrait only-migratable ' +
    'mem-prealloc semihosting old-param no-quit curses sdl alt-grab ctrl-grab no-frame rtc-td-hack tdf no-kvm ' +
    'enable-sync-profile perfmap jitdump xen-attach xen-domid-restrict no-kvm-irqchip no-kvm-pit-reinjection'
  ).split(' '),
);

export const DISK_IMAGE = 'disk image';

/** The words after the program. One dash and two are the same; a word without is a disk image. */
export function optionWords(words: readonly string[]): OptionWord[] {
  const found: OptionWord[] = [];
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at] ?? '';
    if (!word.startsWith('-')) {
      found.push({ name: DISK_IMAGE, value: word });
      continue;
    }
    const name = word.replace(/^--?/, '');
    const takesNone = FLAGS.has(name);
    found.push({ name: `-${name}`, value: takesNone ? '' : (words[at + 1] ?? '') });
    if (!takesNone) at += 1;
  }
  return found;
}

/** A list of key=value, or the same as JSON; a key may come several times, parts of a value have dotted keys. */
export class KeyValues {
  readonly #pairs: readonly (readonly [key: string, value: string])[];

  /** @param implied the key of a first value that has none */
  constructor(text: string, implied: string) {
    this.#pairs = text.startsWith('{') ? pairsOfJson(text) : pairsOfWords(text, implied);
  }

  /** The last one counts, as for QEMU. */
  get(...keys: readonly string[]): string | undefined {
    return this.#pairs.findLast(([key]) => keys.includes(key))?.[1];
  }

  all(key: string): string[] {
    return this.#pairs.flatMap(([one, value]) => (one === key ? [value] : []));
  }

  isOn(...keys: readonly string[]): boolean {
    return ['on', 'yes', 'true', 'y'].includes(this.get(...keys) ?? '');
  }

  /** Those that are not among the known ones. */
  others(known: readonly string[]): string[] {
    return [...new Set(this.#pairs.map(([key]) => key))].filter((key) => !known.includes(key));
  }

  get size(): number {
    return this.#pairs.length;
  }
}

/** A comma in a value is written as two. A key alone means on, and with `no` before it off. */
function pairsOfWords(text: string, implied: string): [string, string][] {
  return splitCommas(text).flatMap((word, index): [string, string][] => {
    const at = word.indexOf('=');
    if (at >= 0) return [[word.slice(0, at), word.slice(at + 1)]];
    if (word === '') return [];
    if (index === 0 && implied !== '') return [[implied, word]];
    return [[word, 'on'], ...(word.startsWith('no') ? [[word.slice(2), 'off'] as [string, string]] : [])];
  });
}

function splitCommas(text: string): string[] {
  const parts: string[] = [''];
  for (let at = 0; at < text.length; at += 1) {
    const letter = text.charAt(at);
    if (letter !== ',') parts[parts.length - 1] += letter;
    else if (text.charAt(at + 1) === ',') {
      parts[parts.length - 1] += ',';
      at += 1;
    } else parts.push('');
  }
  return parts;
}

function pairsOfJson(text: string): [string, string][] {
  try {
    return flattened(JSON.parse(text), '');
  } catch {
    return [];
  }
}

/** Deep values of others could go on for ever. */
const MAX_DEPTH = 16;

function flattened(value: unknown, key: string, depth = 0): [string, string][] {
  if (depth > MAX_DEPTH || value === null) return [];
  if (Array.isArray(value)) return value.flatMap((one) => flattened(one, key, depth + 1));
  if (typeof value !== 'object') return [[key, typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value)]];
  return Object.entries(value).flatMap(([name, one]) => {
    // What JSON has as a list of {"str": ...} is repeated where it is written as key=value.
    const inner = key !== '' && name === 'str' ? key : key === '' ? name : `${key}.${name}`;
    return flattened(one, inner, depth + 1);
  });
}
