/** The NoCloud seed: the files that cloud-init reads, on a volume that it finds by its label. Pure. */
import type { SeedContent } from '../api/cloud-init.ts';
import { isoImage } from './seed-iso.ts';

const LABEL = 'cidata';

export function seedImage(content: SeedContent): Buffer {
  return isoImage(LABEL, seedFiles(content));
}

/**
 * Keys and hostname are in the meta-data whatever the user data is, so that they hold beside a person's own; the
 * generated user data repeats them for guests that read that alone.
 */
function seedFiles({ instanceID, hostname, user, sshAuthorizedKeys, userData, networkData }: SeedContent) {
  const metaData = [
    `instance-id: ${quoted(instanceID)}`,
    `local-hostname: ${quoted(hostname)}`,
    ...listed('public-keys', sshAuthorizedKeys),
  ];
  const generated = [
    '#cloud-config',
    `hostname: ${quoted(hostname)}`,
    ...(user === undefined ? [] : defaultUser(user)),
    ...listed('ssh_authorized_keys', sshAuthorizedKeys),
  ];
  const files = [
    { name: 'meta-data', content: bytesOf(lines(metaData)) },
    { name: 'user-data', content: bytesOf(userData ?? lines(generated)) },
  ];
  return networkData === undefined ? files : [...files, { name: 'network-config', content: bytesOf(networkData) }];
}

/**
 * Renames the image's default user, who keeps groups and rights; as a text instead of a name's object it is deprecated.
 * Images let root in only where they are told. Source: cloud-init's cc_users_groups and cc_ssh.
 */
function defaultUser(name: string): string[] {
  return ['user:', `  name: ${quoted(name)}`, ...(name === 'root' ? ['disable_root: false'] : [])];
}

function lines(list: readonly string[]): string {
  return list.map((line) => `${line}\n`).join('');
}

function listed(field: string, values: readonly string[]): string[] {
  return values.length === 0 ? [] : [`${field}:`, ...values.map((value) => `  - ${quoted(value)}`)];
}

/** Line ends and a mark that YAML 1.1 knows and JSON leaves as they are. */
const YAML_BREAKS = /[\u0085\u2028\u2029\ufeff]/g;

/** A YAML string, whatever the text: a host may be called `on` or `1e3`. */
function quoted(text: string): string {
  return JSON.stringify(text).replace(YAML_BREAKS, (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

function bytesOf(content: string | Uint8Array): Uint8Array {
  return typeof content === 'string' ? Buffer.from(content, 'utf8') : content;
}
