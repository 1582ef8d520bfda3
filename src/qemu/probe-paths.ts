/** The part of a probe's answer that speaks of files: what they are, how large, and how they begin. */
import { HEAD_BYTES } from './probe-script.ts';

export interface ProbedPath {
  readonly resolved: string;
  readonly parent: boolean;
  readonly readable: boolean;
  /** A symbolic link itself, wherever it leads. */
  readonly link: boolean;
  /** Of an ISO image that is absent: names of those in its folder. */
  readonly beside?: readonly string[];
  readonly stat?: {
    readonly bytes: number;
    readonly actualBytes: number;
    readonly mtime: string;
    readonly type: string;
  };
  readonly freeBytes?: number;
  readonly head?: Buffer;
}

/** The answer is read as Latin-1, which keeps every byte; names become text here. */
export function utf8(latin1: string): string {
  return Buffer.from(latin1, 'latin1').toString('utf8');
}

/** @param first the lines of a section by name; @param asked the paths in the order of the request */
export function pathsOf(first: (name: string) => string[], asked: readonly string[]): Map<string, ProbedPath> {
  const real = first('real');
  const access = first('access');
  const stats = statsOf(first('files'));
  const free = new Map<string, number>();
  for (const line of first('fs')) {
    const match = /^(\d+) (\d+) (.*)$/.exec(line);
    if (match !== null) free.set(utf8(match[3] ?? ''), Number(match[1]) * Number(match[2]));
  }
  const blocks = new Map<string, number>();
  for (const line of first('block')) {
    const match = /^(\d+) (.*)$/.exec(line);
    if (match !== null) blocks.set(utf8(match[2] ?? ''), Number(match[1]));
  }
  const beside = besideOf(first('beside'));
  const heads = headsOf(first('heads'), asked);
  return new Map(
    asked.map((path, index): [string, ProbedPath] => {
      const stat = stats.get(path);
      const bytes = blocks.get(path);
      const freeBytes = free.get(path);
      const head = heads.get(path);
      return [
        path,
        {
          resolved: utf8(real[index] ?? path),
          readable: access[index]?.split(' ')[0] === '1',
          parent: access[index]?.split(' ')[1] === '1',
          link: access[index]?.split(' ')[2] === '1',
          ...(stat === undefined ? {} : { stat: bytes === undefined ? stat : { ...stat, bytes } }),
          ...(beside.has(path) ? { beside: beside.get(path) ?? [] } : {}),
          ...(freeBytes === undefined ? {} : { freeBytes }),
          ...(head === undefined ? {} : { head }),
        },
      ];
    }),
  );
}

/** NUL-separated pairs: the path that was asked for, the name of an image beside it. */
function besideOf(lines: readonly string[]): Map<string, string[]> {
  const beside = new Map<string, string[]>();
  const items = lines.join('\n').split('\0').map(utf8);
  for (let index = 0; index + 1 < items.length; index += 2) {
    const path = items[index] ?? '';
    beside.set(path, [...(beside.get(path) ?? []), items[index + 1] ?? '']);
  }
  return beside;
}

function statsOf(lines: readonly string[]): Map<string, NonNullable<ProbedPath['stat']>> {
  const stats = new Map<string, NonNullable<ProbedPath['stat']>>();
  for (const line of lines) {
    const match = /^(\d+) (\d+) (\d+) (.*)\t([^\t]*)$/.exec(line);
    if (match === null) continue;
    stats.set(utf8(match[4] ?? ''), {
      bytes: Number(match[1]),
      actualBytes: Number(match[2]) * 512,
      mtime: match[3] ?? '',
      type: match[5] ?? '',
    });
  }
  return stats;
}

/** `head -v` writes `==> path <==` before each; the paths and their order are ours, so content cannot fake one. */
function headsOf(lines: readonly string[], asked: readonly string[]): Map<string, Buffer> {
  const bytes = Buffer.from(lines.join(''), 'base64');
  const headers = asked.map((path) => Buffer.from(`==> ${path} <==\n`));
  const heads = new Map<string, Buffer>();
  let at = 0;
  for (const [index, header] of headers.entries()) {
    const separator = at > 0 && bytes[at] === NEWLINE ? 1 : 0;
    if (!beginsAt(bytes, header, at + separator)) continue;
    const from = at + separator + header.length;
    at = endOfHead(bytes, from, headers.slice(index + 1));
    heads.set(asked[index] ?? '', bytes.subarray(from, at));
  }
  return heads;
}

const NEWLINE = 10;

function beginsAt(bytes: Buffer, header: Buffer, at: number): boolean {
  return bytes.subarray(at, at + header.length).equals(header);
}

/** At the next header of ours; where there is none within reach, the head has its full length or is the last. */
function endOfHead(bytes: Buffer, from: number, later: readonly Buffer[]): number {
  const limit = Math.min(bytes.length, from + HEAD_BYTES);
  for (let at = bytes.indexOf('\n==> ', from); at >= 0 && at <= limit; at = bytes.indexOf('\n==> ', at + 1)) {
    if (later.some((header) => beginsAt(bytes, header, at + 1))) return at;
  }
  return limit;
}
