/** The command as people run it: real processes with a store and a vmDir of their own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OPERATOR_NAMESPACE } from '../../../src/api/host-ssh.ts';
import { writeSparseTiny } from './images.ts';
import { type OverSsh, overSsh } from './over-ssh.ts';
import { kill, qemusBelow } from './process.ts';
import { type OnFinished, testFolder } from './rig.ts';
import { until } from './wait.ts';

export const MAIN = join(import.meta.dirname, '..', '..', '..', 'src', 'main.ts');

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  /** Default: the rig's own folder. */
  readonly cwd?: string;
}

/** A command that runs. */
export class Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  stdout = '';
  stderr = '';

  constructor(child: ChildProcess, input: string | Uint8Array | undefined) {
    this.child = child;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    child.stdin?.on('error', () => undefined);
    if (input !== undefined) child.stdin?.end(input);
    this.ended = new Promise((resolve) => {
      child.on('close', (code) => resolve({ code, stdout: this.stdout, stderr: this.stderr }));
    });
  }

  /** Waits until it has said so on stderr or stdout. */
  says(pattern: RegExp): Promise<unknown> {
    return until(
      `the command says ${pattern}`,
      () => this.stderr + this.stdout,
      (text) => pattern.test(text),
    );
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    this.child.kill(signal);
    return this.ended;
  }
}

export class CliRig {
  readonly root: string;
  readonly store: string;
  readonly vmDir: string;

  constructor(onFinished: OnFinished) {
    this.root = testFolder(onFinished);
    this.store = join(this.root, 'store');
    this.vmDir = join(this.root, 'vms');
    mkdirSync(join(this.root, 'images'));
    const way = overSsh();
    if (way !== undefined) this.#putBehindSsh(way);
    onFinished(async () => {
      for (const pid of qemusBelow(this.root)) kill(pid, 'SIGKILL');
    });
  }

  /** The Host that a first start would make, but reached by SSH. */
  #putBehindSsh({ address, port, user, identity, hostKey }: OverSsh): void {
    const ssh = { address, port, user, hostKeys: [hostKey], credentialsSecretRef: { name: 'localhost' } };
    const spec = { ssh, vmDir: this.vmDir, allowedPaths: ['/'], allowedBridges: ['*'] };
    const secret = join(this.store, '.state', 'secrets', OPERATOR_NAMESPACE, 'localhost');
    mkdirSync(secret, { recursive: true, mode: 0o700 });
    writeFileSync(join(secret, 'ssh-privatekey'), readFileSync(identity), { mode: 0o600 });
    const document = { apiVersion: 'qemu-operator.dev/v1alpha1', kind: 'Host', metadata: { name: 'localhost' }, spec };
    writeFileSync(join(this.store, 'localhost.yaml'), JSON.stringify(document));
  }

  path(...parts: string[]): string {
    return join(this.root, ...parts);
  }

  folder(name: string): string {
    return join(this.vmDir, name);
  }

  get env(): Record<string, string> {
    const { PATH = '' } = process.env;
    const run = Object.entries(process.env).filter(([name]) => /^(QEMU_OPERATOR_TEST|NODE_)/.test(name));
    return {
      ...(Object.fromEntries(run) as Record<string, string>),
      PATH,
      HOME: this.root,
      QEMU_OPERATOR_STORE: this.store,
      QEMU_OPERATOR_VM_DIR: this.vmDir,
    };
  }

  start(words: readonly string[], { input, env = {}, cwd = this.root }: RunOptions = {}): Running {
    const child = spawn(process.execPath, [MAIN, ...words], {
      cwd,
      env: { ...this.env, ...env },
      stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    return new Running(child, input);
  }

  run(words: readonly string[], options: RunOptions = {}): Promise<Ended> {
    return this.start(words, options).ended;
  }

  /** Runs it and expects exit code 0. */
  async ok(words: readonly string[], options: RunOptions = {}): Promise<Ended> {
    const ended = await this.run(words, options);
    if (ended.code !== 0) throw new Error(`${words.join(' ')} ended with ${ended.code}: ${ended.stderr}`);
    return ended;
  }

  /** A controller in a process of its own, ended with the test. */
  async controller(onFinished: OnFinished): Promise<Running> {
    const running = this.start(['run']);
    onFinished(async () => void (await running.stop()));
    await running.says(/controller started/);
    return running;
  }

  /** A manifest of a machine that boots the tiny guest, written to a file. */
  manifest(name: string, spec: Readonly<Record<string, unknown>> = {}, metadata: object = {}): string {
    const disk = { name: 'root', format: 'raw', path: writeSparseTiny(this.path('images', `${name}.raw`)) };
    const document = {
      apiVersion: 'qemu-operator.dev/v1alpha1',
      kind: 'VirtualMachine',
      metadata: { name, ...metadata },
      spec: {
        hostName: 'localhost',
        architecture: 'x86_64',
        vcpus: 1,
        memory: '32Mi',
        networks: [],
        // The trial of KVM takes its time and is not what is tested here.
        accelerator: 'TCG',
        disks: [disk],
        ...spec,
      },
    };
    const path = this.path(`${name}.yaml`);
    writeFileSync(path, JSON.stringify(document));
    return path;
  }
}
