/**
 * cloudInit of a VirtualMachine: what a guest's cloud-init is told over the NoCloud seed, a small read-only volume
 * labelled `cidata`. The launch record keeps only digests of it, since user data may hold passwords.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { ObjectMeta } from './meta.ts';
import {
  authorizedKey,
  type CelRule,
  hostname,
  type ObjectFactory,
  rules,
  secretKey,
  subdomain,
  userName,
  wholeText,
} from './schema.ts';

const MAX_KEYS = 64;
const MAX_INLINE = 65_536;
/** Longest part of a DNS name. */
const MAX_LABEL = 63;

const oneUserData: CelRule = {
  rule: '!has(self.userData) || !has(self.userDataSecretRef)',
  message: 'must be absent where userData is set: a guest has one user data',
  fieldPath: '.userDataSecretRef',
};

export const cloudInit = (object: ObjectFactory) =>
  object({
    hostname: hostname().optional().describe('Absent: metadata.name. `hostname` in the user data wins.'),
    user: userName()
      .optional()
      .describe(
        "Name of the guest's default user, whom the keys let in and `qemu-operator ssh` takes. Absent: as the image names it. User data of your own has the last word on users: then this is for `ssh` alone.",
      ),
    userData: wholeText(MAX_INLINE)
      .optional()
      .describe(
        'Passed on unchanged: `#cloud-config`, a script, or whatever the guest takes. Absent: a `#cloud-config` with hostname, user and keys. For passwords use userDataSecretRef.',
      ),
    userDataSecretRef: object({
      name: subdomain(253).describe("Name of the Secret, in the VM's namespace."),
      key: secretKey().describe('Key in it whose value is the user data, at most 256 KiB.'),
    })
      .optional()
      .describe('User data from a Secret, see `qemu-operator secret`.'),
    networkData: wholeText(MAX_INLINE)
      .optional()
      .describe(
        'Network configuration, version 1 or 2, passed on unchanged as `network-config`. Absent: DHCP on the first interface.',
      ),
    sshAuthorizedKeys: z
      .array(authorizedKey())
      .max(MAX_KEYS)
      .optional()
      .describe("Public keys for the image's default user, beside what the user data says."),
  }).meta(rules(oneUserData));

export type CloudInit = z.infer<ReturnType<typeof cloudInit>>;

/** A value of a Secret, by names. */
export interface SecretRef {
  readonly namespace: string;
  readonly name: string;
  readonly key: string;
}

/** No value of a Secret is larger, bytes. */
export const MAX_SECRET_BYTES = 256 * 1024;

/** What a process was given of cloudInit. Digests, so that no secret is in it. */
export interface LaunchCloudInit {
  readonly hostname: string;
  /** Absent: the image's. User data of one's own is not told of it. */
  readonly user?: string | undefined;
  /** GENERATED, or a digest, with OF_SECRET before that of a Secret's value; absent where its Secret is not there. */
  readonly userData?: string | undefined;
  /** Absent: none. */
  readonly networkData?: string | undefined;
  /** Absent: none. */
  readonly sshAuthorizedKeys?: string | undefined;
}

const GENERATED = 'generated';
const OF_SECRET = 'secret:';
/** Stands for contents in status and plans that must not be told apart there. */
export const HIDDEN = '(secret)';

/** What a seed is made from. It holds secrets: it goes to the host, and nowhere else. */
export interface SeedContent {
  /** cloud-init takes another id for another machine, and runs its first boot again. */
  readonly instanceID: string;
  readonly hostname: string;
  /** For generated user data; absent: the image's. */
  readonly user?: string | undefined;
  readonly sshAuthorizedKeys: readonly string[];
  /** Absent: generated. */
  readonly userData?: string | Uint8Array | undefined;
  readonly networkData?: string | undefined;
}

type Named = Pick<ObjectMeta, 'name'>;

/** @param secret the value of userDataSecretRef, where the spec has one */
export function seedContent(spec: CloudInit, metadata: Named, uuid: string, secret?: Uint8Array): SeedContent {
  return {
    instanceID: uuid,
    hostname: hostnameOf(spec, metadata),
    user: spec.user,
    sshAuthorizedKeys: spec.sshAuthorizedKeys ?? [],
    userData: spec.userDataSecretRef === undefined ? spec.userData : secret,
    networkData: spec.networkData,
  };
}

/** From the spec, never from the files that are made of it: an upgrade that words them differently is no change. */
export function launchCloudInit(spec: CloudInit, metadata: Named, secretDigest: string | undefined): LaunchCloudInit {
  const { user, userData, userDataSecretRef, networkData, sshAuthorizedKeys = [] } = spec;
  const given = userData === undefined ? GENERATED : digestOf(userData);
  const secret = secretDigest && `${OF_SECRET}${secretDigest}`;
  const digest = userDataSecretRef === undefined ? given : secret;
  return {
    hostname: hostnameOf(spec, metadata),
    ...(user === undefined || digest !== GENERATED ? {} : { user }),
    ...(digest === undefined ? {} : { userData: digest }),
    ...(networkData === undefined ? {} : { networkData: digestOf(networkData) }),
    ...(sshAuthorizedKeys.length === 0 ? {} : { sshAuthorizedKeys: digestOf(sshAuthorizedKeys.join('\n')) }),
  };
}

export function digestOf(content: string | Uint8Array): string {
  return `sha256:${createHash('sha256').update(content).digest('hex')}`;
}

/** For who compares specs without reading Secrets: another name is another value. */
export function standInDigest(spec: CloudInit | undefined): string | undefined {
  const ref = spec?.userDataSecretRef;
  return ref && digestOf(`${ref.name}/${ref.key}`);
}

function hostnameOf({ hostname: given }: CloudInit, { name }: Named): string {
  return given ?? name.slice(0, MAX_LABEL).replace(/[-.]+$/, '');
}

interface Difference {
  readonly path: string;
  readonly from?: string;
  readonly to?: string;
}

/** What a process lacks of the wanted cloudInit. A Secret's value shows as HIDDEN, other contents by the begin of their digest. */
export function cloudInitChanges(
  launched: LaunchCloudInit | undefined,
  wanted: LaunchCloudInit | undefined,
): Difference[] {
  // Where there is a seed on both sides, a Secret that is not there says nothing of a change.
  const both = launched !== undefined && wanted !== undefined;
  const fields = ['hostname', 'user', 'userData', 'networkData', 'sshAuthorizedKeys'] as const;
  return fields.flatMap((field) => {
    const [from, to] = [launched?.[field], wanted?.[field]];
    const unknown = both && field === 'userData' && (from === undefined || to === undefined);
    // The same text is the same user data, wherever it stands.
    if (from?.replace(OF_SECRET, '') === to?.replace(OF_SECRET, '') || unknown) return [];
    return [{ path: `spec.cloudInit.${field}`, ...shown('from', field, from), ...shown('to', field, to) }];
  });
}

function shown(side: 'from' | 'to', field: keyof LaunchCloudInit, value: string | undefined): Partial<Difference> {
  if (value === undefined) return {};
  if (value.startsWith(OF_SECRET)) return { [side]: HIDDEN };
  return { [side]: field === 'hostname' || field === 'user' ? value : value.slice(0, 'sha256:'.length + 12) };
}

/** What a restart does not bring into a guest that has booted before (seen with cloud-init 22.4); empty where that is no question. */
export function firstBootHint(changed: readonly string[]): string {
  const late = changed.filter((path) => path.startsWith('spec.cloudInit.') && path !== 'spec.cloudInit.hostname');
  return late.length === 0
    ? ''
    : '; a guest that has booted before takes no new keys and network data, and little of new user data';
}
