/**
 * The way to a host over SSH, as data and callbacks: whoever knows Hosts and Secrets makes it, SshShell walks it.
 * And the two refusals that a person has to mend; neither is tried in a loop.
 */
import { HostUnreachableError, type Shell } from './shell.ts';

export interface SshRoute {
  /** The Host's name, for messages. */
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly user: string;
  /** Asked at each attempt to connect, so that a changed Secret serves at the next one. What it throws is the refusal. */
  readonly credentials: () => Promise<SshCredentials>;
  readonly hostKeys: HostKeyRules;
  /** Another host that opens the TCP connection for us, by its own connection: its key is verified there. */
  readonly jump?: Pick<Shell, 'dialTcp'>;
}

/** Tried in this order: identities, agent, password. Absent is not tried. */
export interface SshCredentials {
  readonly identities?: readonly SshIdentity[];
  /** Path of the agent's socket on this machine. */
  readonly agentSocket?: string;
  readonly password?: string;
  /** Where they come from, for messages: `Secret rack1-h3`, `the SSH agent and ~/.ssh/id_ed25519`. */
  readonly from: string;
}

export interface SshIdentity {
  /** As the file has it: OpenSSH, PEM or PPK. */
  readonly privateKey: Uint8Array;
  readonly passphrase?: string;
  /** For messages: `ssh-privatekey of Secret rack1-h3`, `~/.ssh/id_ed25519`. */
  readonly from: string;
}

export interface HostKeyRules {
  /** `ssh-ed25519 AAAA...`, comments allowed. Where there is one, nothing else is looked at. */
  readonly pinned: readonly string[];
  /** What becomes of a key that neither `pinned` nor `knownHosts` knows. */
  readonly policy: 'Strict' | 'AcceptNew';
  /** Files in the format of known_hosts(5); one that is not there is empty, one that cannot be read is a refusal. */
  readonly knownHosts?: readonly string[];
  /** ssh_config(5), HostKeyAlias: the name under which these files have it, whatever its port. */
  readonly knownAs?: string;
  /**
   * AcceptNew: keeps the key, as `pinned` has it, before anything is authenticated. Where it throws, the connection is
   * refused. From then on the shell holds to that key by itself, whatever `pinned` says.
   */
  readonly accept: (key: string) => Promise<void>;
  /** The command by which a person trusts another key. */
  readonly trust?: string;
}

/** What is known of the connection. A lost one is made again by the next use of the shell, at `retryInMs` or later. */
export type SshConnection =
  | { readonly kind: 'unopened' }
  | {
      readonly kind: 'connected';
      /** The key that was verified: `ssh-ed25519 AAAA...`. */
      readonly hostKey: string;
    }
  | { readonly kind: 'lost'; readonly error: HostUnreachableError; readonly retryInMs: number };

/** No method was accepted. Tried again after ten minutes, or when SshShell.retryNow is called. */
export class CredentialsInvalidError extends HostUnreachableError {
  override name = 'CredentialsInvalidError';
  /** What was tried and why it did not serve: `publickey ~/.ssh/id_ed25519: refused`. Never a secret. */
  readonly tried: readonly string[];

  constructor(message: string, tried: readonly string[]) {
    super(message);
    this.tried = tried;
  }
}

/** The host showed a key that may not be trusted; nothing was sent to it. Tried again as CredentialsInvalidError is. */
export class HostKeyRefusedError extends HostUnreachableError {
  override name = 'HostKeyRefusedError';
  readonly verdict: 'unknown' | 'changed' | 'revoked';
  /** The key as it would have to be pinned: `ssh-ed25519 AAAA...`. */
  readonly hostKey: string;
  /** `SHA256:...`, as ssh-keygen prints it. */
  readonly offered: string;
  /** The same of the keys that are known; none where the verdict is unknown. */
  readonly expected: readonly string[];

  constructor(message: string, refusal: Omit<HostKeyRefusedError, keyof Error>) {
    super(message);
    this.verdict = refusal.verdict;
    this.hostKey = refusal.hostKey;
    this.offered = refusal.offered;
    this.expected = refusal.expected;
  }
}
