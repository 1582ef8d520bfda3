/** A file store in a folder of its own, with what its tests do to the files. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type FileStore, type FileStoreOptions, openFileStore } from '../../src/store/file-store.ts';
import type { ObjectProblem, Store } from '../../src/store/store.ts';

export const WEB = { namespace: 'default', name: 'web-1' };

export class StoreFolder {
  readonly dir = mkdtempSync(join(tmpdir(), 'qemu-operator-store-'));
  readonly #open: FileStore[] = [];

  async open(options: Partial<FileStoreOptions> = {}): Promise<FileStore> {
    const store = await openFileStore({ dir: this.dir, settleMs: 40, ...options });
    this.#open.push(store);
    return store;
  }

  path(path: string): string {
    return join(this.dir, path);
  }

  write(path: string, text: string): void {
    mkdirSync(dirname(this.path(path)), { recursive: true });
    writeFileSync(this.path(path), text);
  }

  read(path: string): string {
    return readFileSync(this.path(path), 'utf8');
  }

  has(path: string): boolean {
    return existsSync(this.path(path));
  }

  git(...words: string[]): string {
    const identity = ['-c', 'user.name=t', '-c', 'user.email=t@example.com', '-c', 'init.defaultBranch=main'];
    return execFileSync('git', ['-C', this.dir, ...identity, ...words], { encoding: 'utf8', stdio: 'pipe' });
  }

  async remove(): Promise<void> {
    for (const store of this.#open) await store.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** A manifest as a person writes it, comments and all. */
export function manifest(spec: string[] = [], name = 'web-1'): string {
  return [
    '# ours',
    'apiVersion: qemu-operator.dev/v1alpha1',
    'kind: VirtualMachine',
    `metadata: {name: ${name}, namespace: default}`,
    'spec:',
    '  architecture: x86_64   # the old server',
    ...spec.map((line) => `  ${line}`),
    '',
  ].join('\n');
}

/** Asks until the answer is what is wanted; the last answer where it never is. */
export async function eventually<T>(ask: () => T | Promise<T>, wanted: (answer: T) => boolean): Promise<T> {
  const until = performance.now() + 5_000;
  for (;;) {
    const answer = await ask();
    if (wanted(answer) || performance.now() > until) return answer;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export function problemOf(store: Store, name = 'web-1'): ObjectProblem | undefined {
  return store.problems().find(({ ref }) => ref.name === name);
}

export function reasonSoon(store: Store, reason: ObjectProblem['reason'] | undefined): Promise<string | undefined> {
  return eventually(
    () => problemOf(store)?.reason,
    (seen) => seen === reason,
  );
}
