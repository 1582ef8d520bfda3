/** Commands of the host that answer otherwise: folders that come first in the PATH of what the loop runs there. */
import { chmodSync, existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { LocalShell } from '../../../src/host/local-shell.ts';
import type { RunOptions, RunResult, Shell } from '../../../src/host/shell.ts';
import { overSsh, shellOverSsh } from './over-ssh.ts';

/**
 * The host of the tests, but with the PATH of a test, and without the trial of KVM: it takes a second and a half per
 * controller and has tests of its own.
 */
export class TestShell implements Shell {
  /** The PATH of scripts; undefined leaves it as it is. */
  path: string | undefined;
  readonly #onRun: (script: string) => Promise<void> | void;
  readonly #host: Shell;

  constructor(options: { readonly path?: string; readonly onRun?: (script: string) => Promise<void> | void } = {}) {
    this.#host = testHost();
    this.path = options.path;
    this.#onRun = options.onRun ?? (() => undefined);
  }

  async run(script: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
    if (script.includes('KVM ran no code'))
      return { code: 1, stdout: Buffer.from('KVM is not tried in this test'), stderr: Buffer.alloc(0) };
    await this.#onRun(script);
    const path = this.path === undefined ? '' : `PATH='${this.path}'; export PATH\n`;
    return this.#host.run(path + itsOwn('CURL_CA_BUNDLE') + script, args, options);
  }

  dial(...[socket, options]: Parameters<Shell['dial']>): Promise<Duplex> {
    return this.#host.dial(socket, options);
  }

  dialTcp(...[address, options]: Parameters<Shell['dialTcp']>): Promise<Duplex> {
    return this.#host.dialTcp(address, options);
  }

  close(): Promise<void> {
    return this.#host.close();
  }
}

/** Over SSH a host has an environment of its own: what a test says of this one's is said there. */
function itsOwn(name: string): string {
  const value = process.env[name];
  return overSsh() === undefined || value === undefined ? '' : `${name}='${value}'; export ${name}\n`;
}

/** This machine, directly or by the sshd of the project. */
export function testHost(): Shell {
  const way = overSsh();
  return way === undefined ? new LocalShell() : shellOverSsh(way);
}

/** A folder with one executable of this text, and the PATH that begins with it. */
export function standIn(folder: string, name: string, text: string): string {
  mkdirSync(folder, { recursive: true });
  const file = join(folder, name);
  writeFileSync(file, text);
  chmodSync(file, 0o755);
  return `${folder}:${process.env['PATH'] ?? '/usr/bin:/bin'}`;
}

/** A PATH with every command of the host but those that match. */
export function pathWithout(folder: string, pattern: RegExp): string {
  mkdirSync(folder, { recursive: true });
  for (const from of `${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`.split(':')) {
    if (!existsSync(from)) continue;
    for (const name of readdirSync(from)) {
      if (!pattern.test(name) && !existsSync(join(folder, name))) symlinkSync(join(from, name), join(folder, name));
    }
  }
  return folder;
}
