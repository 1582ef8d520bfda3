/** An ordinary user who may log in over SSH, and what sudo grants them. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { ordinaryUser } from '../../ordinary-user.mjs';
import { requireRoot } from './bridges.ts';
import type { OnFinished } from './rig.ts';

export interface FarUser {
  readonly name: string;
  readonly home: string;
  readonly uid: number;
  /** Writes the rule for sudoers that a message tells to write, under a name of the test's own. */
  grant(message: string): void;
}

export function farUser(onFinished: OnFinished): FarUser {
  requireRoot();
  const { name, home, remove } = ordinaryUser();
  onFinished(async () => remove());
  // sshd lets nobody in whose account is locked.
  execFileSync('usermod', ['--password', '*', name]);
  const uid = Number(execFileSync('id', ['-u', name], { encoding: 'utf8' }));
  const grant = (message: string) => {
    const rule = /echo '([^']+)' \| sudo tee -a \/etc\/sudoers\.d\/qemu-operator/.exec(message)?.[1];
    if (rule === undefined) throw new Error(`no rule in: ${message}`);
    const file = `/etc/sudoers.d/qo-test-${randomBytes(4).toString('hex')}`;
    onFinished(async () => rmSync(file));
    writeFileSync(file, `${rule}\n`, { mode: 0o440 });
    execFileSync('visudo', ['-c', '-q', '-f', file]);
  };
  return { name, home, uid, grant };
}

/** To do all as root. */
export const EVERYTHING = (name: string) =>
  `echo '${name} ALL=(root) NOPASSWD: ALL' | sudo tee -a /etc/sudoers.d/qemu-operator`;
