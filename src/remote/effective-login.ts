/** Where a login would go, without making one. */
import type { SshSpec } from '../api/host-ssh.ts';
import { loginOf } from './ssh-routes.ts';

const CONFIG_MS = 10_000;

/** What is not said is as ~/.ssh/config has it. */
export async function effectiveLogin(ssh: SshSpec): Promise<{ readonly port: number; readonly user: string }> {
  const { address, port, user } = ssh;
  if (port !== undefined && user !== undefined) return { port, user };
  const { readSshConfig } = await import('../host/ssh-config.ts');
  // Where it cannot be read, the login itself says why.
  const config = await readSshConfig(address, AbortSignal.timeout(CONFIG_MS)).catch(() => undefined);
  return loginOf(ssh, config);
}
