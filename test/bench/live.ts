/** The real controller in a process of its own on a file store, and the bench as another process on the same store. */
import { type ChildProcess, execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type FileStore, openFileStore } from '../../src/store/file-store.ts';
import { until } from '../e2e/support/wait.ts';
import { localHost, tinyVm } from './fleet.ts';
import { type Place, stopChild } from './place.ts';

export interface Live {
  readonly store: FileStore;
  readonly controller: ChildProcess;
  make(name: string, spec?: object): Promise<void>;
  end(): Promise<void>;
}

/**
 * @param name of the store's folder below the bench's
 * @param prepare what is to be in the store before the controller starts
 */
export async function startLive(
  place: Place,
  name: string,
  prepare: (store: FileStore) => Promise<void> = async () => undefined,
): Promise<Live> {
  const store = await openFileStore({ dir: place.folder(name), pollMs: 5 });
  await store.create(localHost(place.folder(`${name}-vms`)));
  await prepare(store);
  const stdio = ['ignore', 'ignore', 'pipe'] as const;
  const args = place.command(name, ['run', '--log-format', 'json']);
  const controller = place.spawn(process.execPath, args, { cwd: '/', stdio: [...stdio] });
  let log = '';
  controller.stderr?.on('data', (chunk: Buffer) => {
    log = (log + chunk.toString()).slice(-20_000);
  });
  await until(
    'the controller has started',
    () => log,
    (text) => text.includes('controller started'),
  );
  const end = async () => {
    await stopChild(controller);
    await store.close();
  };
  place.onEnd(end);
  const images = place.folder(`${name}-images`);
  return {
    store,
    controller,
    make: async (vm, spec) => void (await store.create(tinyVm(images, vm, spec))),
    end,
  };
}

const TICKS_PER_SECOND = 100;

/** CPU time of a process and of its children that have ended, seconds. Source: proc_pid_stat(5). */
export function cpuSeconds(pid: number): number {
  const text = readFileSync(join('/proc', String(pid), 'stat'), 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const ticks = [11, 12, 13, 14].map((field) => Number(fields[field]));
  return ticks.reduce((sum, value) => sum + value, 0) / TICKS_PER_SECOND;
}

/** Runs one command of the product to its end. */
export async function runCommand(place: Place, store: string, words: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, place.command(store, words), { cwd: '/' });
  return stdout;
}
