/** The Secret behind cloudInit: a look takes its digest, a launch its value, and nothing else ever has it. */
import {
  digestOf,
  launchCloudInit,
  MAX_SECRET_BYTES,
  type SecretRef,
  type SeedContent,
  seedContent,
} from '../api/cloud-init.ts';
import { messageOf } from '../api/errors.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { SecretReader } from '../store/store.ts';
import { blocked, type Decision, type SeenSecret, type Subject } from './decision.ts';
import { EffectError } from './driver.ts';

export const NO_SECRETS: SecretReader = {
  operatorNamespace: '',
  read: async () => undefined,
  setCommand: () => 'this controller was given no Secrets',
  follow: () => () => undefined,
};

function refOf({ metadata, spec }: VirtualMachine): SecretRef | undefined {
  const ref = spec.cloudInit?.userDataSecretRef;
  return ref && { namespace: metadata.namespace, ...ref };
}

export async function seenSecret(vm: VirtualMachine, secrets: SecretReader): Promise<SeenSecret | undefined> {
  const ref = refOf(vm);
  if (ref === undefined) return undefined;
  try {
    return { kind: 'present', digest: digestOf(await secretValue(ref, secrets)) };
  } catch (error) {
    return { kind: 'absent', message: messageOf(error) };
  }
}

/** @throws Error where there is no such value, with what to do */
async function secretValue(ref: SecretRef, secrets: SecretReader): Promise<Uint8Array> {
  const what = `cloudInit wants key ${ref.key} of Secret ${ref.name} in namespace ${ref.namespace}`;
  const value = await secrets.read(ref).catch((error: unknown) => {
    throw new Error(`${what}, which cannot be read: ${messageOf(error)}`);
  });
  if (value === undefined) throw new Error(`${what}, which is not there; set it: ${secrets.setCommand(ref)}`);
  if (value.length > MAX_SECRET_BYTES)
    throw new Error(`${what}, which has ${value.length} bytes; user data may have at most ${MAX_SECRET_BYTES}`);
  return value;
}

/** What keeps a VM from being launched; undefined where nothing does. */
export function secretProblem({ seen: { secret } }: Subject): Decision | undefined {
  return secret?.kind === 'absent' ? blocked('SecretNotFound', secret.message) : undefined;
}

/** @throws EffectError where the Secret is not what the decision to launch knew */
export async function seedFor({ vm, wanted }: Subject, secrets: SecretReader): Promise<SeedContent | undefined> {
  const { cloudInit } = vm.spec;
  if (cloudInit === undefined) return undefined;
  const { uuid, cloudInit: decided } = wanted.launch;
  const ref = refOf(vm);
  if (ref === undefined) return seedContent(cloudInit, vm.metadata, uuid);
  const value = await secretValue(ref, secrets).catch((error: unknown) => {
    throw new EffectError('SecretNotFound', messageOf(error));
  });
  const { userData } = launchCloudInit(cloudInit, vm.metadata, digestOf(value));
  if (userData !== decided?.userData)
    throw new EffectError('SecretNotFound', `Secret ${ref.name} was changed just now: it is read again`);
  return seedContent(cloudInit, vm.metadata, uuid, value);
}
