/** Whether a host is the one that it was: what a route's rules say of the key that it shows, before anything is sent to it. */
import { readFile } from 'node:fs/promises';
import { algorithmOrder, fingerprintOf, judge, type KnownKeys, keyInLine, keysInFile, lineOf } from './known-hosts.ts';
import { HostKeyRefusedError, type SshRoute } from './ssh-route.ts';

export class HostKeys {
  readonly #route: SshRoute;
  /** What AcceptNew took: as good as pinned while we live. */
  #accepted: Buffer | undefined;

  constructor(route: SshRoute) {
    this.#route = route;
  }

  /** Reads what is known now. @throws where a pinned key is none, or a file cannot be read */
  async known(): Promise<KnownKeys & { readonly algorithms: string[] }> {
    const known = await this.#read();
    return { ...known, algorithms: algorithmOrder(known) };
  }

  /** Resolves where the host may be trusted with our credentials. @throws HostKeyRefusedError, and what accept throws */
  async verify(key: Buffer, known: KnownKeys): Promise<void> {
    const verdict = judge(key, this.#accepted === undefined ? known : { ...known, keys: [this.#accepted] });
    if (verdict === 'known') return;
    const { name, hostKeys } = this.#route;
    if (verdict === 'unknown' && hostKeys.policy === 'AcceptNew') {
      await hostKeys.accept(lineOf(key));
      this.#accepted = key;
      return;
    }
    const offered = fingerprintOf(key);
    const expected = known.keys.map(fingerprintOf);
    const trust = hostKeys.trust ?? 'trust it';
    const said = {
      unknown: `nothing is known of the key that ${name} shows, ${offered}: compare it with the host's own (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub there), then ${trust}`,
      changed: `${name} shows another key than before: ${offered} instead of ${expected.join(' or ')}. Either the host was made anew or somebody stands between: compare it with the host's own, then ${trust}`,
      revoked: `the key that ${name} shows, ${offered}, is revoked in known_hosts: the host needs another one`,
    }[verdict];
    throw new HostKeyRefusedError(said, { verdict, hostKey: lineOf(key), offered, expected });
  }

  async #read(): Promise<KnownKeys> {
    const { name, address, port, hostKeys } = this.#route;
    if (this.#accepted !== undefined) return { keys: [this.#accepted], revoked: [] };
    if (hostKeys.pinned.length > 0) {
      const keys = hostKeys.pinned.map((line) => {
        const key = keyInLine(line);
        if (key === undefined) throw new Error(`hostKeys of ${name} has a line that is no key: ${line.slice(0, 40)}`);
        return key;
      });
      return { keys, revoked: [] };
    }
    const files = await Promise.all((hostKeys.knownHosts ?? []).map(textOf));
    const { knownAs } = hostKeys;
    const found = files.map((text) => keysInFile(text, knownAs ?? address, knownAs === undefined ? port : undefined));
    return { keys: found.flatMap(({ keys }) => keys), revoked: found.flatMap(({ revoked }) => revoked) };
  }
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '';
    throw error;
  }
}
