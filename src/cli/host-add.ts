/** host add: logs in to a machine and makes its Host, with what was found there written out. */
import { type Manifest, parseManifest } from '../api/admission.ts';
import { AlreadyExistsError } from '../api/errors.ts';
import { hostKeyWords, type SshSpec } from '../api/host-ssh.ts';
import { API_VERSION } from '../api/meta.ts';
import { withOwnCredentials } from '../store/host-credentials.ts';
import { afterChange } from './after-change.ts';
import { type Context, type Globals, print, tell, withSession } from './context.ts';
import { usageError } from './exit-codes.ts';
import { type CredentialOptions, credentialsOf } from './host-credentials.ts';
import { requireObject } from './resources.ts';
import type { Session } from './session.ts';
import type { WaitOptions } from './wait-options.ts';

export interface AddOptions extends Globals, CredentialOptions, WaitOptions {
  readonly user?: string;
  readonly port?: string;
  readonly jump?: string;
  readonly hostKeyPolicy?: string;
}

interface Named {
  readonly name: string;
  readonly address: string | undefined;
}

export async function addHost(context: Context, { name, address }: Named, options: AddOptions): Promise<void> {
  const { vmDir, ...global } = options;
  const ssh = sshOf({ name, address }, options);
  // Judged before anything is asked: a wrong name or address costs no login.
  parseManifest(documentOf(name, { ssh, ...(vmDir === undefined ? {} : { vmDir }) }));
  await withSession(context, global, async (session) => {
    const { store } = session;
    if ((await store.get('Host', { name })) !== undefined)
      throw new AlreadyExistsError(`hosts.qemu-operator.dev "${name}" already exists`);
    if (ssh.jumpHostName !== undefined) await requireJump(session, ssh.jumpHostName);
    const credentials = await credentialsOf(context, options);
    const found = await session.welcome({ name, ssh, credentials }, { vmDir, signal: context.signal });
    if (!found.hasQemu) tell(context, 'QEMU is not installed there yet: apt-get install qemu-system-x86 qemu-utils');
    for (const key of found.newKeys)
      tell(context, `the key of ${ssh.address} is new and is trusted from now on: ${hostKeyWords(key)}`);
    const spec = {
      ssh: {
        ...ssh,
        ...(found.newKeys.length === 0 ? {} : { hostKeys: found.newKeys }),
        ...(credentials === undefined ? {} : { credentialsSecretRef: { name } }),
      },
      vmDir: found.vmDir,
      allowedPaths: ['/'],
    };
    const manifest = parseManifest(documentOf(name, spec)) as Manifest<'Host'>;
    const make = () => store.create(manifest, { asWritten: spec });
    await (credentials === undefined ? make() : withOwnCredentials(session, { host: name, credentials }, make));
    print(context, `host/${name} created (${found.user}@${ssh.address}, VMs in ${found.vmDir})`);
    // Whether it serves is what a person wants to know, also where a service drives the store.
    await afterChange(context, session, [{ kind: 'Host', ref: { name } }], { ...options, wait: options.wait ?? true });
  });
}

async function requireJump({ store }: Session, name: string): Promise<void> {
  const { spec } = await requireObject(store, { kind: 'Host', ref: { name } });
  if (spec.ssh === undefined) throw usageError(`--jump: Host ${name} is this machine, from which we go in any case`);
}

function documentOf(name: string, spec: object): object {
  return { apiVersion: API_VERSION, kind: 'Host', metadata: { name }, spec };
}

function sshOf({ name, address = name }: Named, options: AddOptions): SshSpec {
  const there = loginIn(address);
  const { user: login = there.user, port = there.port, jump, hostKeyPolicy } = options;
  return {
    address: there.address,
    ...(port === undefined ? {} : { port: /^\d+$/.test(port) ? Number(port) : (port as unknown as number) }),
    ...(login === undefined ? {} : { user: login }),
    ...(jump === undefined ? {} : { jumpHostName: jump }),
    ...(hostKeyPolicy === undefined ? {} : { hostKeyPolicy: hostKeyPolicy as 'Strict' | 'AcceptNew' }),
  };
}

interface Login {
  readonly user?: string | undefined;
  readonly address: string;
  readonly port?: string | undefined;
}

/** `[USER@]ADDRESS` or `ssh://[USER@]ADDRESS[:PORT]`. @throws CliError for a port that only the latter takes */
function loginIn(text: string): Login {
  const url = /^ssh:\/\/(?:(.*)@)?(?:\[(.+)\]|([^:/]*))(?::(\d+))?\/?$/.exec(text);
  if (url !== null) {
    const [, user, inBrackets, plain = '', port] = url;
    return { user, address: inBrackets ?? plain, port };
  }
  const at = text.lastIndexOf('@');
  const address = text.slice(at + 1);
  const [, inBrackets, plain, port] = /^(?:\[(.+)\]|([^:]+)):(\d+)$/.exec(address) ?? [];
  if (port !== undefined)
    throw usageError(`${address}: a port is said by itself: ${inBrackets ?? plain} --port ${port}`);
  return { user: at < 0 ? undefined : text.slice(0, at), address };
}
