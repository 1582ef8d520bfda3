/**
 * Text from a guest, made safe for a terminal: a guest can print whatever it likes, and escape sequences can retitle
 * windows, hide lines or type answers. Keeps state between chunks, so that a sequence that is cut in two is still
 * one. Source: ECMA-48 5.3 to 5.6 for the forms of control functions.
 */

type State = 'text' | 'escape' | 'sequence' | 'string';

/** Characters that reorder or separate what a reader sees: bidirectional controls, line and paragraph separator. */
const DECEIVING = /[\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;
const ESCAPE = '\u001b';
const BELL = '\u0007';
const CSI = '\u009b';
/** ESC and one of these, or their C1 form, begin a string that a bell, ESC \ or ST ends: DCS, SOS, OSC, PM, APC. */
const STRING_AFTER_ESCAPE = /[PX\]^_]/;
const STRING_C1 = /[\u0090\u0098\u009d\u009e\u009f]/;

export class SafeText {
  #state: State = 'text';
  #carriageReturn = false;

  /** The printable part of the next piece; lines end with \n alone. */
  push(text: string): string {
    let safe = '';
    for (const character of text) safe += this.#next(character);
    return safe;
  }

  #next(character: string): string {
    if (character === ESCAPE) {
      this.#state = 'escape';
      return '';
    }
    // A line's end ends every sequence: an unfinished one must not swallow what follows.
    if (character === '\n' || character === '\r') return this.#lineEnd(character);
    const afterReturn = this.#carriageReturn && this.#state === 'text' ? '\n' : '';
    switch (this.#state) {
      case 'text': {
        const printed = this.#text(character);
        if (printed === '') return '';
        this.#carriageReturn = false;
        return `${afterReturn}${printed}`;
      }
      case 'escape':
        this.#state = afterEscape(character);
        return '';
      case 'sequence':
        if (character >= '@' && character <= '~') this.#state = 'text';
        return '';
      case 'string':
        if (character === BELL || character === '\u009c') this.#state = 'text';
        return '';
    }
  }

  /** \r\n is one end. A lone \r goes back in the line, where a terminal overwrites: here the text goes on below. */
  #lineEnd(character: string): string {
    this.#state = 'text';
    if (character === '\r') {
      this.#carriageReturn = true;
      return '';
    }
    this.#carriageReturn = false;
    return '\n';
  }

  #text(character: string): string {
    if (character === CSI) this.#state = 'sequence';
    else if (STRING_C1.test(character)) this.#state = 'string';
    else if (character === '\t' || isPrintable(character)) return character;
    return '';
  }
}

function isPrintable(character: string): boolean {
  const control = character < ' ' || (character >= '\u007f' && character < '\u00a0');
  return !control && !DECEIVING.test(character);
}

function afterEscape(character: string): State {
  if (character === '[') return 'sequence';
  if (STRING_AFTER_ESCAPE.test(character)) return 'string';
  // Intermediate characters (ESC ( B selects a character set) go on to a final one.
  return character >= ' ' && character <= '/' ? 'escape' : 'text';
}
