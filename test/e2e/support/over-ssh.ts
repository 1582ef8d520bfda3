/**
 * The e2e body once more over SSH: in the project `over-ssh` the host `localhost` is behind a real sshd, and every test
 * is otherwise the same. What is needed to get there travels in the environment, as commands of the tests inherit it.
 */
import { readFileSync } from 'node:fs';
import type { Shell } from '../../../src/host/shell.ts';
import { SshShell } from '../../../src/host/ssh-shell.ts';

/** Read by the tests and by the processes that they start. */
export const OVER_SSH_VARIABLE = 'QEMU_OPERATOR_TEST_SSH';

export interface OverSsh {
  readonly address: string;
  readonly port: number;
  readonly user: string;
  /** Path of the private key. */
  readonly identity: string;
  readonly hostKey: string;
}

/** Undefined: the host is this machine. */
export function overSsh(): OverSsh | undefined {
  const text = process.env[OVER_SSH_VARIABLE];
  return text === undefined ? undefined : (JSON.parse(text) as OverSsh);
}

export function shellOverSsh({ address, port, user, identity, hostKey }: OverSsh): Shell {
  const privateKey = readFileSync(identity);
  return new SshShell({
    name: 'localhost',
    address,
    port,
    user,
    credentials: async () => ({ identities: [{ privateKey, from: identity }], from: 'the test' }),
    hostKeys: {
      pinned: [hostKey],
      policy: 'Strict',
      accept: async () => {
        throw new Error('the key of the test is known');
      },
    },
  });
}
