/** How a Host behind SSH is reached: the schema of spec.ssh, and the Secret that holds its credentials. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { hostKey, label, type ObjectFactory, setOf, sshAddress, sshUser, subdomain } from './schema.ts';

/** Where the Secrets of Hosts lie: Hosts have no namespace of their own. */
export const OPERATOR_NAMESPACE = 'qemu-operator-system';

/** Keys of such a Secret. A private key is tried before the password. */
export const CREDENTIAL_KEYS = ['password', 'ssh-privatekey', 'ssh-privatekey-path', 'passphrase'] as const;
export type CredentialKey = (typeof CREDENTIAL_KEYS)[number];

/** Values by key. */
export type Credentials = Readonly<Partial<Record<CredentialKey, Uint8Array>>>;

const MAX_HOST_KEYS = 16;

export const sshSpec = (object: ObjectFactory) =>
  object({
    address: sshAddress().describe('Name or IP address; outside a cluster also an alias of ~/.ssh/config.'),
    port: z.int().min(1).max(65_535).optional().describe('Port of sshd. Absent: 22, or what the alias says.'),
    user: sshUser().optional().describe('Who logs in and runs QEMU. Absent: what the alias says, else your own name.'),
    credentialsSecretRef: object({ name: subdomain(253).describe('Name of the Secret.') })
      .optional()
      .describe(
        `Secret in namespace ${OPERATOR_NAMESPACE} with password, ssh-privatekey or ssh-privatekey-path, and passphrase. Absent: the SSH agent and the identity files of ~/.ssh/config.`,
      ),
    hostKeys: setOf(hostKey(), MAX_HOST_KEYS)
      .optional()
      .describe('Keys that the host may show, and no other. Absent: your known_hosts, then hostKeyPolicy.'),
    hostKeyPolicy: z
      .enum(['Strict', 'AcceptNew'])
      .optional()
      .describe(
        'AcceptNew, also if absent: the first key of an unknown host is written to hostKeys. Strict: it is refused.',
      ),
    jumpHostName: label(63).optional().describe('Another Host, through which this one is reached.'),
  });

export type SshSpec = z.infer<ReturnType<typeof sshSpec>>;

/** What to log in with, before anything is kept. */
export interface Attempt {
  readonly name: string;
  readonly ssh: SshSpec;
  /** Absent: the Secret that `ssh` names, else the agent and the files of ~/.ssh/config. */
  readonly credentials?: Credentials | undefined;
  /** The command by which a person trusts another key of a Host. Absent: there is no Host yet. */
  readonly trust?: string | undefined;
  /** What known_hosts says does not count either. */
  readonly forgetKeys?: boolean | undefined;
  /** Called with a key that is not known yet, before anything is sent. What it throws refuses the host. */
  readonly onNewKey: (key: string) => void;
}

/** What a machine said at its first login. */
export interface Welcome {
  /** Where VMs may lie there. */
  readonly vmDir: string;
  readonly user: string;
  /** Keys that were not known before. */
  readonly newKeys: readonly string[];
  readonly hasQemu: boolean;
}

/** A key as people compare it: type and fingerprint, as ssh-keygen -l prints them. */
export function hostKeyWords(line: string): string {
  const [type = '', key = ''] = line.trim().split(/\s+/);
  const digest = createHash('sha256').update(Buffer.from(key, 'base64')).digest('base64').replace(/=+$/, '');
  return `${type} SHA256:${digest}`;
}
