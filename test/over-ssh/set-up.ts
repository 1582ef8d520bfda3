/** One sshd for the whole project, with this user's own rights. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import type { OverSsh } from '../e2e/support/over-ssh.ts';
import { Sshd } from '../e2e/support/sshd.ts';
import { RUN_VARIABLE } from '../machine.mjs';

declare module 'vitest' {
  interface ProvidedContext {
    overSsh: OverSsh;
  }
}

// biome-ignore lint/style/noDefaultExport: vitest calls the default export
export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const ends: (() => Promise<void>)[] = [];
  // A login shell would otherwise read what this user has in its rc files, for each script.
  const home = mkdtempSync(join(tmpdir(), 'qo-home-'));
  const run = process.env[RUN_VARIABLE];
  const environment = [`HOME=${home}`, ...(run === undefined ? [] : [`${RUN_VARIABLE}=${run}`])];
  const sshd = await Sshd.start((work) => ends.push(work), {
    config: ['MaxStartups 100', 'LogLevel ERROR', `SetEnv ${environment.join(' ')}`],
  });
  ends.push(async () => rmSync(home, { recursive: true }));
  project.provide('overSsh', {
    address: '127.0.0.1',
    port: sshd.port,
    user: sshd.user,
    identity: sshd.identity,
    hostKey: sshd.hostKey(),
  });
  return async () => {
    for (const end of ends) await end();
  };
}
