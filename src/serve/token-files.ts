/**
 * The bearer tokens of one box: files that their owner alone may read. `edit.token` is for whoever may do all that the
 * tools can, `view.token` for whoever shall only look. Each is read anew, so that a token ends when its file does.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { closeSync, fstatSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const TOKEN_ROLES = ['edit', 'view'] as const;
export type TokenRole = (typeof TOKEN_ROLES)[number];

/** A file or its rights are not as they must be, and which. */
export class TokenFileError extends Error {
  override readonly name = 'TokenFileError';
}

const TOKEN_BYTES = 32;
/** Whoever writes a token of his own: nothing that could be guessed. */
const MIN_LENGTH = 32;

export class TokenFiles {
  readonly #folder: string;

  /**
   * Makes what is absent.
   * @throws TokenFileError where others could read a file
   */
  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (const role of TOKEN_ROLES) {
      make(this.path(role));
      read(this.path(role));
    }
  }

  path(role: TokenRole): string {
    return join(this.#folder, `${role}.token`);
  }

  /** Compares all of them in constant time. Undefined: nobody's. */
  roleOf(token: string): TokenRole | undefined {
    const asked = digestOf(token);
    const matching = TOKEN_ROLES.filter((role) => {
      const known = readIfSound(this.path(role));
      return timingSafeEqual(asked, digestOf(known ?? '')) && known !== undefined;
    });
    // With one token in both files the weaker role counts.
    return matching.at(-1);
  }
}

/** Of equal length, whatever was sent. */
function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

function make(path: string): void {
  try {
    writeFileSync(path, `${randomBytes(TOKEN_BYTES).toString('base64url')}\n`, { mode: 0o600, flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST')
      throw new TokenFileError(`${path} cannot be written: ${(error as Error).message}`, { cause: error });
  }
}

/** @throws TokenFileError */
function read(path: string): string {
  const file = openSync(path, 'r');
  try {
    const { mode, uid } = fstatSync(file);
    if ((mode & 0o077) !== 0 || uid !== process.geteuid?.())
      throw new TokenFileError(`${path} must be readable by its owner alone, and be yours: chmod 600 ${path}`);
    const token = readFileSync(file, 'utf8').trim();
    if (token.length < MIN_LENGTH)
      throw new TokenFileError(
        `${path} has a token of fewer than ${MIN_LENGTH} characters: remove it, and it is made anew`,
      );
    return token;
  } finally {
    closeSync(file);
  }
}

/** A file that is gone, or that others could read since, lets nobody in. */
function readIfSound(path: string): string | undefined {
  try {
    return read(path);
  } catch {
    return undefined;
  }
}
