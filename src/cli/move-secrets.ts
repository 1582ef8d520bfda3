/** What of a move lies in Secrets: how a Host is logged in to, and user data. Values are copied, and none is replaced. */

import type { SecretRef } from '../api/cloud-init.ts';
import { ConflictError, NotFoundError } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import type { Credentials } from '../api/host-ssh.ts';
import { DEFAULT_NAMESPACE } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { readCredentials, withKeyItself } from '../store/host-credentials.ts';
import { CliError, EXIT } from './exit-codes.ts';
import type { Naming, Sides } from './move-plan.ts';
import { isFolder } from './session.ts';

export interface SecretMove {
  readonly ref: SecretRef;
  readonly value: Uint8Array;
}

/** Undefined where it names none, or the other store has it. @throws ConflictError for another value there */
export async function secretOf({ from, to }: Sides, vm: VirtualMachine): Promise<SecretMove | undefined> {
  const named = vm.spec.cloudInit?.userDataSecretRef;
  if (named === undefined) return undefined;
  const ref = { namespace: vm.metadata.namespace ?? DEFAULT_NAMESPACE, ...named };
  const value = await from.secrets.read(ref);
  if (value === undefined) return undefined;
  const there = await to.secrets.read(ref);
  if (there === undefined) return { ref, value };
  if (Buffer.from(there).equals(value)) return undefined;
  throw new ConflictError(`Secret ${ref.namespace}/${ref.name} has another value of ${ref.key} in the other store`);
}

/** Of a Host that the other store does not have yet. @throws CliError where it could not be reached from there */
export async function hostCredentials(sides: Sides, host: Host, naming: Naming): Promise<Credentials | undefined> {
  const { from, to } = sides;
  const { ssh } = host.spec;
  const { name } = host.metadata;
  if (ssh === undefined)
    throw new CliError(
      EXIT.failed,
      `host/${name} is this machine, which the other store reaches over SSH: make a Host of it there, with vmDir ${host.spec.vmDir}, and name it with --as`,
    );
  await refuseJump(sides, host, naming);
  const secret = ssh.credentialsSecretRef?.name;
  const found = secret === undefined ? {} : await readCredentials(from.secrets, secret);
  const credentials = to.secrets.readHere ? found : withKeyItself(found);
  const isThere = Object.keys(credentials).length > 0;
  if (isFolder(to)) return isThere ? credentials : undefined;
  if (ssh.user === undefined)
    throw new CliError(EXIT.failed, `host/${name} has no spec.ssh.user, which a cluster does not guess: set it first`);
  if (isThere) return credentials;
  throw new CliError(
    EXIT.failed,
    `host/${name} is logged in to with keys of this user, which a cluster has not: host credentials ${name} --identity FILE`,
  );
}

async function refuseJump({ to }: Sides, { metadata, spec }: Host, { all }: Naming): Promise<void> {
  const jump = spec.ssh?.jumpHostName;
  if (jump === undefined || all.includes(jump) || (await to.store.get('Host', { name: jump })) !== undefined) return;
  throw new NotFoundError(`host/${metadata.name} is reached through host/${jump}, which the other store does not have`);
}
