/** An ordinary user for the tests that must not run as root; made for the test and removed after it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RUN_VARIABLE, USERS_VARIABLE } from './machine.mjs';

const asText = { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] };

/**
 * Makes a system user with a home of its own. Without root there is no need: the caller is an ordinary user, and
 * `name` is theirs.
 *
 * @returns {{name: string, home: string, command(args: string[], options?: {setuid?: boolean}): [string, string[]], remove(): void}}
 * `command` runs without a way back to root, unless programs that are setuid are to have their rights
 */
export function ordinaryUser() {
  if (process.getuid() !== 0) {
    return {
      name: process.env['USER'] ?? String(process.getuid()),
      home: process.env['HOME'] ?? '/',
      command: ([program, ...args]) => [program, args],
      remove: () => undefined,
    };
  }
  const name = `qo-test-${randomBytes(4).toString('hex')}`;
  const home = join(tmpdir(), name);
  const uid = freeUid();
  const list = process.env[USERS_VARIABLE];
  if (list !== undefined) appendFileSync(list, `${uid}\n`);
  const place = ['--create-home', '--home-dir', home, '--shell', '/bin/sh'];
  execFileSync('useradd', ['--system', '--uid', uid, ...place, name], asText);
  return { name, home, command: (args, options) => asUser(name, home, args, options), remove: () => remove(name, uid) };
}

/** What is killed by user must be ours: an id that no user has, and no process either, as a container's may. */
function freeUid() {
  for (;;) {
    const uid = String(randomInt(40_000, 60_000));
    const isKnown = spawnSync('getent', ['passwd', uid], asText).status === 0;
    if (!isKnown && processesOfUser(uid).length === 0) return uid;
  }
}

/** Paths below /proc. */
function processesOfUser(uid) {
  const listed = spawnSync('find', ['/proc', '-maxdepth', '1', '-name', '[0-9]*', '-uid', uid], asText).stdout;
  return listed.split('\n').filter((line) => line !== '');
}

/** The program and arguments that run `args` as the user, with a clean environment. */
function asUser(name, home, args, { setuid = false } = {}) {
  const environment = [`HOME=${home}`, `USER=${name}`, `LOGNAME=${name}`, `TMPDIR=${home}`];
  for (const kept of ['PATH', RUN_VARIABLE])
    if (process.env[kept] !== undefined) environment.push(`${kept}=${process.env[kept]}`);
  // It may not write the run's own.
  environment.push('NODE_DISABLE_COMPILE_CACHE=1');
  const ids = [`--reuid=${name}`, `--regid=${name}`, '--init-groups', ...(setuid ? [] : ['--no-new-privs'])];
  return ['setpriv', [...ids, 'env', '--ignore-environment', '--chdir', home, ...environment, ...args]];
}

/** Ends what the user still runs, by process id, and removes user and home. */
function remove(name, uid) {
  for (const path of processesOfUser(uid)) {
    try {
      process.kill(Number(path.slice('/proc/'.length)), 'SIGKILL');
    } catch {
      // It ended in the meantime.
    }
  }
  // By force: what was just killed may not have been reaped yet.
  execFileSync('userdel', ['--force', '--remove', name], asText);
}
