/**
 * Secrets of a machine without a cluster: `<folder>/<namespace>/<name>/<key>`, a file per value. Folders have mode
 * 0700, files 0600. A value is replaced at once or not at all, and each change passes through the root folder, so
 * that one watch there notices all of them.
 */
import { randomBytes } from 'node:crypto';
import { constants, watch } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import { MAX_SECRET_BYTES, type SecretRef } from '../api/cloud-init.ts';
import { type FieldIssue, InvalidObjectError, messageOf, quoteValue, StoreUnavailableError } from '../api/errors.ts';
import { OPERATOR_NAMESPACE } from '../api/host-ssh.ts';
import { DEFAULT_NAMESPACE } from '../api/meta.ts';
import { label, secretKey, subdomain } from '../api/schema.ts';
import type { SecretEntry, SecretStore } from './store.ts';

/** What Kubernetes allows a whole Secret. */
const MAX_BYTES = 1024 * 1024;
/** Several files change in one go: they are told once. */
const QUIET_MS = 50;

export class SecretFolder implements SecretStore {
  readonly operatorNamespace = OPERATOR_NAMESPACE;
  readonly readHere = true;
  readonly #folder: string;

  /** @param folder exists, with mode 0700 */
  constructor(folder: string) {
    this.#folder = folder;
  }

  async read(ref: SecretRef): Promise<Uint8Array | undefined> {
    const path = this.#path(ref);
    return this.#tell('read', async () => {
      const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch(absent);
      return file === undefined ? undefined : contentOf(file, path);
    });
  }

  setCommand({ namespace, name, key }: SecretRef): string {
    const where = namespace === DEFAULT_NAMESPACE ? '' : ` -n ${namespace}`;
    return `qemu-operator secret set ${name} ${key}${where} < FILE`;
  }

  follow(onChange: () => void): () => void {
    let timer: NodeJS.Timeout | undefined;
    const hint = () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        onChange();
      }, QUIET_MS).unref();
    };
    try {
      // Without a watch (the kernel has few) a change is noticed at the next look.
      const watcher = watch(this.#folder, { persistent: false }, hint).on('error', () => watcher.close());
      return () => {
        watcher.close();
        clearTimeout(timer);
      };
    } catch {
      return () => undefined;
    }
  }

  async set(ref: SecretRef, value: Uint8Array): Promise<'created' | 'configured' | 'unchanged'> {
    const path = this.#path(ref);
    const before = await this.read(ref);
    if (before !== undefined && Buffer.compare(before, value) === 0) return 'unchanged';
    await this.#refuseSize(ref, value);
    const partial = this.#passing();
    await this.#tell('written', async () => {
      try {
        await writeDurably(partial, value);
        await mkdir(join(path, '..'), { recursive: true, mode: 0o700 });
        await rename(partial, path);
        await syncFolder(join(path, '..'));
      } finally {
        await rm(partial, { force: true });
      }
    });
    return before === undefined ? 'created' : 'configured';
  }

  async #refuseSize({ namespace, name, key }: SecretRef, { length }: Uint8Array): Promise<void> {
    const others = (await this.list(namespace)).filter((one) => one.name === name && one.key !== key);
    const whole = others.reduce((sum, { bytes }) => sum + bytes, length);
    const complaint =
      length === 0
        ? 'must not be empty'
        : length > MAX_SECRET_BYTES
          ? `has ${length} bytes; at most ${MAX_SECRET_BYTES} are kept`
          : `is one too many: the Secret would have ${whole} bytes, at most ${MAX_BYTES} are kept`;
    if (length === 0 || length > MAX_SECRET_BYTES || whole > MAX_BYTES)
      throw new InvalidObjectError(`Secret ${name}`, [{ field: `value of ${key}`, message: complaint }]);
  }

  async list(namespace?: string): Promise<SecretEntry[]> {
    if (namespace !== undefined) refuse([issueOf(label(63), 'namespace', namespace)]);
    return this.#tell('listed', async () => {
      const entries: SecretEntry[] = [];
      const namespaces = namespace === undefined ? await namesIn(this.#folder) : [namespace];
      for (const space of namespaces.filter((name) => !name.startsWith('.')))
        for (const name of await namesIn(join(this.#folder, space)))
          for (const key of await namesIn(join(this.#folder, space, name))) {
            const found = await stat(join(this.#folder, space, name, key)).catch(absent);
            if (found !== undefined) entries.push({ namespace: space, name, key, bytes: found.size });
          }
      return entries;
    });
  }

  async delete({ namespace, name }: Pick<SecretRef, 'namespace' | 'name'>, key?: string): Promise<number> {
    const folder = join(this.#path({ namespace, name, key: key ?? 'any' }), '..');
    return this.#tell('deleted', async () => {
      const found = await namesIn(folder);
      const doomed = found.filter((one) => key === undefined || one === key);
      for (const one of doomed) {
        const passing = this.#passing();
        await rename(join(folder, one), passing);
        await rm(passing);
      }
      // One that is not empty stays.
      if (found.length > 0) await rmdir(folder).catch(() => undefined);
      return doomed.length;
    });
  }

  /** A name in the root that no namespace has. */
  #passing(): string {
    return join(this.#folder, `.${randomBytes(6).toString('hex')}`);
  }

  /** @throws InvalidObjectError for what is no name: it never becomes a path */
  #path({ namespace, name, key }: SecretRef): string {
    refuse([
      issueOf(label(63), 'namespace', namespace),
      issueOf(subdomain(253), 'name', name),
      issueOf(secretKey(), 'key', key),
    ]);
    return join(this.#folder, namespace, name, key);
  }

  async #tell<T>(verb: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw new StoreUnavailableError(`Secrets cannot be ${verb} in ${this.#folder}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }
}

function issueOf(schema: z.ZodType, field: string, value: string): FieldIssue | undefined {
  const issue = schema.safeParse(value).error?.issues[0];
  return issue && { field, value: quoteValue(value), message: issue.message };
}

function refuse(issues: readonly (FieldIssue | undefined)[]): void {
  const found = issues.filter((issue) => issue !== undefined);
  if (found.length > 0) throw new InvalidObjectError('Secret', found);
}

/** What is not there is no error. */
function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
}

async function namesIn(folder: string): Promise<string[]> {
  return ((await readdir(folder).catch(absent)) ?? []).sort();
}

async function contentOf(file: FileHandle, path: string): Promise<Buffer> {
  try {
    const found = await file.stat();
    if (!found.isFile()) throw new Error(`${path} is no file`);
    if (found.size > MAX_SECRET_BYTES) throw new Error(`${path} has ${found.size} bytes, at most ${MAX_SECRET_BYTES}`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

async function writeDurably(path: string, value: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(value);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
