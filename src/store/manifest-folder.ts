/** The files of a store's folder: found, read once per change, and replaced so that a crash leaves the old or the new. */
import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import {
  accessSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { messageOf, StoreUnavailableError } from '../api/errors.ts';
import { type ManifestText, parseManifestText } from './manifest-text.ts';

/** A manifest file as it lies there. */
export interface ManifestFile {
  readonly hash: string;
  readonly content: () => ManifestText;
  readonly changedAtMs: number;
}

export interface Scan {
  /** By path below the folder. */
  readonly files: ReadonlyMap<string, ManifestFile>;
  /** Folders that were read, the store's own as ''. */
  readonly folders: readonly string[];
  /** Folders that could not be read: what lies in them is not known. */
  readonly unreadable: ReadonlyMap<string, string>;
}

interface Known {
  readonly stamp: string;
  readonly file: ManifestFile;
}

/** A file changed so recently may change again within one tick of its clock. */
const RACY_MS = 2_000;
/** No write takes so long. */
const LEFTOVER_MS = 60_000;

export class ManifestFolder {
  readonly dir: string;
  #known = new Map<string, Known>();

  constructor(dir: string) {
    this.dir = dir;
  }

  /** Removes staged content that a crash left behind; what is still wanted of it is staged again. */
  sweep(folders: readonly string[]): void {
    for (const folder of folders) {
      try {
        sweepFolder(join(this.dir, folder));
      } catch {
        // Leftovers harm nobody.
      }
    }
  }

  /** @throws StoreUnavailableError where the folder itself cannot be read */
  scan(): Scan {
    const files = new Map<string, ManifestFile>();
    const unreadable = new Map<string, string>();
    const folders: string[] = [];
    this.#scanFolder('', { files, unreadable, folders });
    const failure = unreadable.get('');
    if (failure !== undefined)
      throw new StoreUnavailableError(`the store's folder ${this.dir} cannot be read: ${failure}`);
    this.#known = new Map([...this.#known].filter(([path]) => files.has(path)));
    return { files, folders, unreadable };
  }

  #scanFolder(
    folder: string,
    found: { files: Map<string, ManifestFile>; unreadable: Map<string, string>; folders: string[] },
  ): void {
    try {
      const entries = readdirSync(join(this.dir, folder), { withFileTypes: true });
      found.folders.push(folder);
      for (const entry of entries) {
        if (entry.name.startsWith('.')) continue;
        const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
        if (entry.isDirectory()) this.#scanFolder(path, found);
        else if (/\.ya?ml$/.test(entry.name)) {
          const file = this.read(path);
          if (file !== undefined) found.files.set(path, file);
        }
      }
    } catch (error) {
      if (folder === '' || !isMissing(error)) found.unreadable.set(folder, messageOf(error));
    }
  }

  /** The file as it is now; undefined where there is none. One that cannot be read says so in its content's error. */
  read(path: string): ManifestFile | undefined {
    try {
      const stat = statSync(join(this.dir, path), { bigint: true });
      if (!stat.isFile()) return undefined;
      const stamp = [stat.ino, stat.size, stat.mtimeNs, stat.ctimeNs].join(' ');
      const known = this.#known.get(path);
      const changedAtMs = Number(stat.mtimeMs);
      if (known?.stamp === stamp && Math.abs(Date.now() - changedAtMs) > RACY_MS) return known.file;
      const bytes = readFileSync(join(this.dir, path));
      const hash = hashOf(bytes);
      const file = known?.file.hash === hash ? { ...known.file, changedAtMs } : manifestFile(hash, bytes, changedAtMs);
      this.#known.set(path, { stamp, file });
      return file;
    } catch (error) {
      if (isMissing(error)) return undefined;
      const message = `cannot be read: ${messageOf(error)}`;
      return { hash: hashOf(message), content: () => ({ documents: [], error: message }), changedAtMs: 0 };
    }
  }

  /** When something last came to or went from the place where the file would lie; 0 where nobody knows. */
  placeChangedAtMs(path: string): number {
    for (let place = path; place !== '.'; ) {
      place = dirname(place);
      const stat = statSync(join(this.dir, place), { throwIfNoEntry: false });
      if (stat !== undefined) return stat.mtimeMs;
    }
    return 0;
  }

  /** @throws StoreUnavailableError */
  text(path: string): string {
    try {
      const text = textOf(readFileSync(join(this.dir, path)));
      if (text !== undefined) return text;
    } catch (error) {
      throw fileError(path, error);
    }
    throw new StoreUnavailableError(`the manifest ${path} cannot be rewritten, nothing was changed: it ${NOT_UTF8}`);
  }

  exists(path: string): boolean {
    return existsSync(join(this.dir, path));
  }

  /** Lays the new content beside the file, durably. @throws StoreUnavailableError, the file as it was */
  stage(path: string, text: string): void {
    try {
      mkdirSync(dirname(join(this.dir, path)), { recursive: true, mode: 0o700 });
      const target = this.#target(path);
      const old = statSync(target, { throwIfNoEntry: false });
      const staged = stagedPath(target, text);
      const fd = openSync(staged, 'w', 0o600);
      try {
        writeFileSync(fd, text);
        if (old !== undefined) fchmodSync(fd, old.mode & 0o7777);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      if (old !== undefined && process.getuid?.() === 0) chownSync(staged, old.uid, old.gid);
    } catch (error) {
      this.unstage(path, text);
      throw fileError(path, error);
    }
  }

  /** Puts staged content in the place of the file. */
  publish(path: string, text: string): void {
    try {
      const target = this.#target(path);
      const staged = stagedPath(target, text);
      if (!existsSync(staged)) this.stage(path, text);
      renameSync(staged, target);
      syncFolder(dirname(target));
    } catch (error) {
      throw fileError(path, error);
    }
  }

  /** Takes staged content away. */
  unstage(path: string, text: string): void {
    try {
      rmSync(stagedPath(this.#target(path), text), { force: true });
    } catch {
      // A hidden leftover that nothing reads.
    }
  }

  /** @throws StoreUnavailableError where a file in that place cannot be removed */
  checkRemovable(path: string): void {
    try {
      accessSync(dirname(join(this.dir, path)), constants.W_OK);
    } catch (error) {
      throw fileError(path, error);
    }
  }

  remove(path: string): void {
    try {
      unlinkSync(join(this.dir, path));
      syncFolder(dirname(join(this.dir, path)));
    } catch (error) {
      if (!isMissing(error)) throw fileError(path, error);
    }
  }

  /** A symbolic link stays one: its target is replaced. */
  #target(path: string): string {
    const full = join(this.dir, path);
    return existsSync(full) ? realpathSync(full) : full;
  }
}

/** Parsed when somebody asks: most files are as they were the last time anybody looked. */
function manifestFile(hash: string, bytes: Buffer, changedAtMs: number): ManifestFile {
  let parsed: ManifestText | undefined;
  const content = () => {
    parsed ??= contentOf(bytes);
    return parsed;
  };
  return { hash, content, changedAtMs };
}

function contentOf(bytes: Buffer): ManifestText {
  const text = textOf(bytes);
  return text === undefined ? { documents: [], error: NOT_UTF8 } : parseManifestText(text);
}

const NOT_UTF8 = 'is not UTF-8 text: save it in that encoding';

/** Undefined where the bytes are no UTF-8: what would be made of them is not what somebody wrote. */
function textOf(bytes: Buffer): string | undefined {
  return isUtf8(bytes) ? bytes.toString('utf8') : undefined;
}

export function hashOf(content: string | Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

const STAGED = '.qemu-operator-staged-';

/** Named by content, so that whoever finishes a write finds it. */
function stagedPath(target: string, text: string): string {
  return join(dirname(target), `${STAGED}${hashOf(`${basename(target)}\n${text}`).slice(0, 16)}`);
}

function sweepFolder(folder: string): void {
  for (const name of readdirSync(folder).filter((one) => one.startsWith(STAGED))) {
    const path = join(folder, name);
    const changedAtMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
    if (Date.now() - changedAtMs > LEFTOVER_MS) rmSync(path, { force: true });
  }
}

function syncFolder(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function isMissing(error: unknown): boolean {
  const { code } = (error ?? {}) as { code?: unknown };
  return code === 'ENOENT' || code === 'ENOTDIR';
}

const WHAT_TO_DO: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full: free some space',
  EDQUOT: 'the quota is used up: free some space',
  EROFS: 'the file system is read-only: make it writable',
  EACCES: 'permission denied: look at the owner and the mode of the file and its folder',
  EPERM: 'permission denied: look at the owner and the mode of the file and its folder',
};

function fileError(path: string, error: unknown): unknown {
  if (error instanceof StoreUnavailableError) return error;
  const { code } = (error ?? {}) as { code?: unknown };
  if (typeof code !== 'string') return error;
  return new StoreUnavailableError(
    `the manifest ${path} cannot be written, nothing was changed: ${WHAT_TO_DO[code] ?? messageOf(error)} (${code})`,
    { cause: error },
  );
}
