/** Where a run of the bench lives: one temporary folder, and everything that was started, ended with it. */
import { type ChildProcess, execFileSync, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isAlive, kill, processesNaming } from '../e2e/support/process.ts';
import { until } from '../e2e/support/wait.ts';

const ROOT = join(import.meta.dirname, '..', '..');

export class Place {
  /** Short: sockets lie below it. */
  readonly root = realpathSync(mkdtempSync(join(tmpdir(), 'qb-')));
  readonly rounds: number;
  readonly #children: ChildProcess[] = [];
  readonly #ends: (() => Promise<void> | void)[] = [];
  #built: string | undefined;

  constructor(rounds: number) {
    this.rounds = rounds;
    // libvirt runs as another user below it.
    chmodSync(this.root, 0o711);
  }

  /** A folder of this name, made where it is not there yet. */
  folder(name: string): string {
    const path = join(this.root, name);
    mkdirSync(path, { recursive: true });
    return path;
  }

  /** A folder in memory where the system has one: for what writes much and is not measured by its speed. */
  quickFolder(name: string): string {
    if (!existsSync('/dev/shm')) return this.folder(name);
    const path = mkdtempSync(`/dev/shm/qb-${name}-`);
    this.onEnd(() => rmSync(path, { recursive: true, force: true }));
    return path;
  }

  onEnd(work: () => Promise<void> | void): void {
    this.#ends.push(work);
  }

  spawn(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
    const child = spawn(command, [...args], options);
    this.#children.push(child);
    return child;
  }

  /** Runs a program to its end. */
  async run(command: string, args: readonly string[]): Promise<void> {
    const [code] = await once(this.spawn(command, args, { stdio: 'ignore' }), 'exit');
    if (code !== 0) throw new Error(`${command} ended with ${code}`);
  }

  /** The product as it is installed, compiled, with the simulated hosts of the tests beside it. */
  built(): string {
    if (this.#built !== undefined) return this.#built;
    const out = this.folder('built');
    symlinkSync(realpathSync(join(ROOT, 'node_modules')), join(this.root, 'node_modules'));
    const config = join(this.root, 'tsconfig.json');
    const programs = ['memory-controller.ts', 'simulated-hosts.ts', 'simulated-driver.ts'];
    const beside = ['test/fakes', ...programs.map((name) => join('test/bench', name))];
    const include = ['src', ...beside].map((path) => join(ROOT, path));
    const compilerOptions = { rootDir: ROOT, outDir: out, sourceMap: false, inlineSources: false };
    writeFileSync(config, JSON.stringify({ extends: join(ROOT, 'tsconfig.build.json'), compilerOptions, include }));
    execFileSync(join(ROOT, 'node_modules', '.bin', 'tsc'), ['-p', config], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    cpSync(join(ROOT, 'src', 'setup', 'bin.js'), join(out, 'src', 'bin.js'));
    cpSync(join(ROOT, 'package.json'), join(out, 'package.json'));
    this.#built = out;
    return out;
  }

  /** Arguments of node that run the command on a store of this name. */
  command(store: string, words: readonly string[]): string[] {
    const folders = ['--store', join(this.root, store), '--vm-dir', join(this.root, `${store}-vms`)];
    return [join(this.built(), 'src', 'bin.js'), ...folders, ...words];
  }

  async end(): Promise<void> {
    for (const work of this.#ends.toReversed()) {
      try {
        await work();
      } catch (error) {
        console.error(error);
      }
    }
    for (const child of this.#children) child.kill('SIGKILL');
    await until(
      'processes end',
      () => processesNaming(this.root),
      (pids) => {
        for (const pid of pids) kill(pid, 'SIGKILL');
        return pids.length === 0;
      },
    );
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** Ends a child in order and waits for it. */
export async function stopChild(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}

export function untilGone(pid: number): Promise<unknown> {
  return until(
    `process ${pid} ends`,
    () => isAlive(pid),
    (alive) => !alive,
  );
}
