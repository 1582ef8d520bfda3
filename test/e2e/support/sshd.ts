/** Debian's own sshd with a configuration, port and keys of the test's own, and what a client of it needs. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import type { HostKeyRules, SshCredentials, SshRoute } from '../../../src/host/ssh-route.ts';
import { SshShell } from '../../../src/host/ssh-shell.ts';
import { RUN_VARIABLE } from '../../machine.mjs';
import { isAlive, kill } from './process.ts';
import type { OnFinished } from './rig.ts';
import { freePort } from './sockets.ts';
import { until } from './wait.ts';

const SSHD = '/usr/sbin/sshd';
/** sshd as root wants it, and its package makes it when the machine boots. */
const PRIVILEGE_SEPARATION = '/run/sshd';
/** There where tests made it: the last of them removes it, for each connection of each sshd needs it. */
const MADE_BY_TESTS = join(tmpdir(), 'qo-privilege-separation');
const FOLDER_PREFIX = 'qo-sshd-';
const isRoot = userInfo().uid === 0;

export interface SshdOptions {
  /** Lines of sshd_config(5) before our own: the first one of a keyword counts. */
  readonly config?: readonly string[];
  /** Who may log in with `identity`; default: whoever runs the test. */
  readonly user?: string;
  readonly port?: number;
  /** Words before its command: a network namespace's. */
  readonly within?: readonly string[];
  /** Where it listens; default: this machine's loopback. */
  readonly address?: string;
}

export class Sshd {
  readonly folder: string;
  readonly port: number;
  readonly address: string;
  readonly user: string;
  /** Path of a private key that may log in. */
  readonly identity: string;
  readonly #options: SshdOptions;
  #child: ChildProcess | undefined;

  private constructor(folder: string, port: number, options: SshdOptions) {
    this.folder = folder;
    this.port = port;
    this.address = options.address ?? '127.0.0.1';
    this.user = options.user ?? userInfo().username;
    this.identity = join(folder, 'id');
    this.#options = options;
  }

  /** One that answers. It ends with the test, with all that was logged in. */
  static async start(onFinished: OnFinished, options: SshdOptions = {}): Promise<Sshd> {
    const folder = mkdtempSync(join(tmpdir(), FOLDER_PREFIX));
    const sshd = new Sshd(folder, options.port ?? (await freePort()), options);
    if (isRoot) makePrivilegeSeparation();
    onFinished(async () => {
      await sshd.stop();
      rmSync(folder, { recursive: true, force: true });
      if (isRoot) removePrivilegeSeparation();
    });
    // The user's own process reads the list of keys.
    chmodSync(folder, 0o755);
    mkdirSync(sshd.#temporary);
    chmodSync(sshd.#temporary, 0o1777);
    for (const type of ['ed25519', 'rsa']) makeKey(join(folder, `host_${type}`), type);
    makeKey(sshd.identity, 'ed25519');
    writeFileSync(join(folder, 'authorized_keys'), readFileSync(`${sshd.identity}.pub`), { mode: 0o644 });
    await sshd.run();
    return sshd;
  }

  /** Starts it where it was stopped: same port, same keys unless they were made anew. */
  async run(): Promise<void> {
    writeFileSync(join(this.folder, 'sshd_config'), this.#config());
    const log = openSync(join(this.folder, 'log'), 'a');
    const command = [...(this.#options.within ?? []), SSHD, '-D', '-e', '-f', join(this.folder, 'sshd_config')];
    const [program = SSHD, ...args] = command;
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', log] });
    closeSync(log);
    this.#child = child;
    await until(
      'sshd answers',
      () => {
        if (child.exitCode !== null) throw new Error(`sshd ended: ${this.log()}`);
        return answers(this.port, this.address);
      },
      Boolean,
    );
  }

  /** Ends it at once, with every connection of it. */
  async stop(): Promise<void> {
    const child = this.#child;
    if (child?.pid === undefined) return;
    // Those of connections outlive the one that listens.
    const all = [child.pid, ...this.connections()];
    this.#child = undefined;
    for (const pid of all) kill(pid, 'SIGCONT');
    for (const pid of all) kill(pid, 'SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    await until(
      'its connections end',
      () => all.filter(isAlive),
      (left) => left.length === 0,
    );
  }

  /** Its processes for connections, of any user. */
  connections(): number[] {
    return this.#child?.pid === undefined ? [] : descendants(this.#child.pid).filter(isOfSshd);
  }

  /** What it said. */
  log(): string {
    return existsSync(join(this.folder, 'log')) ? readFileSync(join(this.folder, 'log'), 'utf8') : '';
  }

  /** `ssh-ed25519 AAAA...` */
  hostKey(type: 'ed25519' | 'rsa' = 'ed25519'): string {
    return readFileSync(join(this.folder, `host_${type}.pub`), 'utf8')
      .split(' ')
      .slice(0, 2)
      .join(' ');
  }

  get #temporary(): string {
    return join(this.folder, 'tmp');
  }

  /** Takes effect at the next run(). */
  makeHostKeyAnew(type: 'ed25519' | 'rsa'): void {
    for (const path of [`host_${type}`, `host_${type}.pub`]) rmSync(join(this.folder, path));
    makeKey(join(this.folder, `host_${type}`), type);
  }

  /** The way to it: with the key that may log in and the key that it has, unless told otherwise. */
  route({ credentials, hostKeys, ...more }: RouteOptions = {}): SshRoute {
    const mine: SshCredentials = {
      identities: [{ privateKey: readFileSync(this.identity), from: this.identity }],
      from: 'the test',
    };
    return {
      name: 'rack',
      address: this.address,
      port: this.port,
      user: this.user,
      credentials: async () => credentials ?? mine,
      hostKeys: { pinned: [this.hostKey()], policy: 'Strict', accept: async () => undefined, ...hostKeys },
      ...more,
    };
  }

  #config(): string {
    const run = process.env[RUN_VARIABLE];
    return [
      ...(this.#options.config ?? []),
      `Port ${this.port}`,
      `ListenAddress ${this.address}`,
      ...['ed25519', 'rsa'].map((type) => `HostKey ${join(this.folder, `host_${type}`)}`),
      `PidFile ${join(this.folder, 'pid')}`,
      `AuthorizedKeysFile ${join(this.folder, 'authorized_keys')}`,
      'StrictModes no',
      'UsePAM no',
      'PermitRootLogin yes',
      'PasswordAuthentication yes',
      'KbdInteractiveAuthentication no',
      'Subsystem sftp internal-sftp',
      // A script that was killed leaves what it made in here.
      `SetEnv ${[`TMPDIR=${this.#temporary}`, ...(run === undefined ? [] : [`${RUN_VARIABLE}=${run}`])].join(' ')}`,
      '',
    ].join('\n');
  }
}

/** After the folder of the sshd that needs it, which keeps others from removing it. */
function makePrivilegeSeparation(): void {
  if (existsSync(PRIVILEGE_SEPARATION)) return;
  mkdirSync(PRIVILEGE_SEPARATION, { mode: 0o755, recursive: true });
  writeFileSync(MADE_BY_TESTS, '');
}

/** After the folder of the sshd that needed it. */
function removePrivilegeSeparation(): void {
  const isNeeded = readdirSync(tmpdir()).some((name) => name.startsWith(FOLDER_PREFIX));
  if (isNeeded || !existsSync(MADE_BY_TESTS)) return;
  rmSync(PRIVILEGE_SEPARATION, { recursive: true, force: true });
  rmSync(MADE_BY_TESTS, { force: true });
}

type RouteOptions = Partial<Omit<SshRoute, 'credentials' | 'hostKeys'>> & {
  readonly credentials?: SshCredentials;
  readonly hostKeys?: Partial<HostKeyRules>;
};

/** A shell there, until the test ends. */
export function openedShell(onFinished: OnFinished, route: SshRoute): SshShell {
  const shell = new SshShell(route);
  onFinished(() => shell.close());
  return shell;
}

/** A key pair, without a comment. */
export function makeKey(path: string, type: string, passphrase = ''): void {
  execFileSync('ssh-keygen', ['-q', '-t', type, '-N', passphrase, '-C', '', '-f', path], { stdio: 'ignore' });
}

/** An agent that holds these keys; the path of its socket. */
export async function startAgent(onFinished: OnFinished, folder: string, keys: readonly string[]): Promise<string> {
  const socket = join(folder, 'agent.sock');
  const child = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' });
  onFinished(async () => {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  });
  await until('the agent is there', () => existsSync(socket), Boolean);
  const env = { ...process.env, SSH_AUTH_SOCK: socket };
  for (const key of keys) {
    const added = spawnSync('ssh-add', ['-q', key], { env, encoding: 'utf8' });
    if (added.status !== 0) throw new Error(`ssh-add: ${added.stderr}`);
  }
  return socket;
}

function answers(port: number, address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, address);
    const end = (is: boolean) => {
      socket.destroy();
      resolve(is);
    };
    socket.once('data', () => end(true));
    socket.once('error', () => end(false));
  });
}

/** proc(5): the parent is the second field after the name. */
function descendants(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const text = readFileSync(`/proc/${name}/stat`, 'utf8');
      parents.set(Number(name), Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1]));
    } catch {
      // It ended meanwhile.
    }
  }
  const below = (parent: number): number[] =>
    [...parents].filter(([, of]) => of === parent).flatMap(([child]) => [child, ...below(child)]);
  return below(pid);
}

function isOfSshd(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('sshd');
  } catch {
    return false;
  }
}
