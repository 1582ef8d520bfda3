/** host add: logs in to a machine and makes its Host, with what was found there written out. */
import { type Manifest, parseManifest } from '../api/admission.ts';
import { AlreadyExistsError } from '../api/errors.ts';
import { hostKeyWords, type SshSpec } from '../api/host-ssh.ts';
import { API_VERSION } from '../api/meta.ts';
import { keepCredentials } from '../store/host-credentials.ts';
import { afterChange } from './after-change.ts';
import { type Context, type Globals, print, tell, withSession } from './context.ts';
import { type CredentialOptions, credentialsOf } from './host-credentials.ts';
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
    if ((await session.store.get('Host', { name })) !== undefined)
      throw new AlreadyExistsError(`hosts.qemu-operator.dev "${name}" already exists`);
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
    if (credentials !== undefined) await keepCredentials(session.secrets, name, credentials);
    await session.store.create(parseManifest(documentOf(name, spec)) as Manifest<'Host'>, { asWritten: spec });
    print(context, `host/${name} created (${found.user}@${ssh.address}, VMs in ${found.vmDir})`);
    await afterChange(context, session, [{ kind: 'Host', ref: { name } }], options);
  });
}

function documentOf(name: string, spec: object): object {
  return { apiVersion: API_VERSION, kind: 'Host', metadata: { name }, spec };
}

function sshOf({ name, address = name }: Named, { user, port, jump, hostKeyPolicy }: AddOptions): SshSpec {
  const at = address.lastIndexOf('@');
  const login = user ?? (at < 0 ? undefined : address.slice(0, at));
  return {
    address: address.slice(at + 1),
    ...(port === undefined ? {} : { port: /^\d+$/.test(port) ? Number(port) : (port as unknown as number) }),
    ...(login === undefined ? {} : { user: login }),
    ...(jump === undefined ? {} : { jumpHostName: jump }),
    ...(hostKeyPolicy === undefined ? {} : { hostKeyPolicy: hostKeyPolicy as 'Strict' | 'AcceptNew' }),
  };
}
