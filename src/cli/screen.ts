/** A person's terminal as a page that is drawn again in place, until a key ends it; then it is as it was before. */
import type { Context } from './context.ts';

export interface Screen {
  draw(lines: readonly string[]): void;
  /** Aborts at q and Ctrl-C. */
  readonly ended: AbortSignal;
  close(): void;
}

const ENTER = '\u001b[?1049h\u001b[?25l';
const LEAVE = '\u001b[?25h\u001b[?1049l';
const HOME = '\u001b[H';
const CLEAR_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';
const CTRL_C = '\u0003';

export function openScreen({ stdin, stdout }: Pick<Context, 'stdin' | 'stdout'>): Screen {
  const ended = new AbortController();
  const wasRaw = stdin.isRaw ?? false;
  const onInput = (chunk: Buffer | string) => {
    const keys = String(chunk);
    if (/q/i.test(keys) || keys.includes(CTRL_C)) ended.abort();
  };
  let open = true;
  const close = () => {
    if (!open) return;
    open = false;
    process.off('exit', close);
    stdin.off('data', onInput).pause();
    stdin.setRawMode?.(wasRaw);
    stdout.write(LEAVE);
  };
  // However the process ends, the terminal is given back.
  process.once('exit', close);
  if (stdin.isTTY === true) {
    stdin.setRawMode?.(true);
    stdin.on('data', onInput).resume();
  }
  stdout.write(ENTER);
  return {
    ended: ended.signal,
    close,
    draw: (lines) => {
      const { columns = 80, rows = 24 } = stdout;
      const hidden = lines.length - rows;
      const fitting = hidden <= 0 ? lines : [...lines.slice(0, rows - 1), `… ${hidden + 1} more`];
      const text = fitting.map((line) => `${line.slice(0, columns)}${CLEAR_LINE}`).join('\r\n');
      stdout.write(`${HOME}${text}${CLEAR_BELOW}`);
    },
  };
}
