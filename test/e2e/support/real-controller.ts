/** Controllers as processes, a file store that they share with the test, and a mount namespace that a test may break. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { type FileStore, openFileStore } from '../../../src/store/file-store.ts';
import type { OnFinished } from './rig.ts';
import { until } from './wait.ts';

const PROCESS = fileURLToPath(new URL('controller-process.ts', import.meta.url));

export interface RealController {
  readonly pid: number;
  /** All that it has said. */
  readonly said: () => string;
  kill(signal: NodeJS.Signals): Promise<void>;
}

export interface ControllerPlace {
  readonly storeDir: string;
  readonly vmDir: string;
  readonly apart?: Apart;
}

/** Starts one and waits until it says who runs the loop. */
export async function startController(onFinished: OnFinished, place: ControllerPlace): Promise<RealController> {
  const command = [process.execPath, PROCESS, place.storeDir, place.vmDir];
  const [program = '', ...args] = place.apart?.command(command) ?? command;
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const controller = { pid: child.pid ?? 0, said: () => said, kill: (signal: NodeJS.Signals) => end(child, signal) };
  onFinished(() => controller.kill('SIGKILL'));
  await until(
    'a controller starts',
    () => said,
    (text) => /^(here|elsewhere)$/m.test(text),
  );
  return controller;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill(signal);
  await once(child, 'exit');
}

/** The store that controllers run on, opened by the test too. */
export async function shareStore(onFinished: OnFinished, dir: string): Promise<FileStore> {
  const store = await openFileStore({ dir, settleMs: 40 });
  onFinished(() => store.close());
  return store;
}

/** A mount namespace that lives until the test ends; nothing that is mounted there is seen outside. */
export interface Apart {
  /** The command line that runs a command inside. */
  command(command: readonly string[]): string[];
  run(...command: string[]): void;
}

/** @throws where this user may not make one: what cannot be proved fails, and says what it needs */
export async function makeApart(onFinished: OnFinished): Promise<Apart> {
  const asUser = process.getuid?.() === 0 ? [] : ['--map-root-user'];
  if (spawnSync('unshare', ['--mount', ...asUser, 'true']).status !== 0)
    throw new Error('this user may not mount a small disk: run the tests as root, or allow user namespaces');
  const holder = spawn('unshare', ['--mount', ...asUser, 'sh', '-c', 'echo ready; exec sleep 3600'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  onFinished(() => end(holder, 'SIGKILL'));
  await once(holder.stdout, 'data');
  const pid = holder.pid ?? 0;
  const enter = [
    'nsenter',
    '--target',
    String(pid),
    '--mount',
    ...(asUser.length > 0 ? ['--user', '--preserve-credentials'] : []),
  ];
  const command = (words: readonly string[]) => [...enter, ...words];
  return {
    command,
    run: (...words) => {
      const [program = '', ...args] = command(words);
      const ended = spawnSync(program, args, { encoding: 'utf8' });
      if (ended.status !== 0) throw new Error(`${words.join(' ')}: ${ended.stderr}`);
    },
  };
}
