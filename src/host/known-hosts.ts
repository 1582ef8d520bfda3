/** Keys of hosts as known_hosts(5) and a Host's hostKeys have them, and the judgement of one that a host offers. Pure. */
import { createHash, createHmac } from 'node:crypto';

/** What is known of one host. Keys are blobs as they go over the wire, with their type at the front. */
export interface KnownKeys {
  readonly keys: readonly Buffer[];
  readonly revoked: readonly Buffer[];
}

/** changed: keys of this host are known, and this is none of them, whatever its type. */
export type HostKeyVerdict = 'known' | 'unknown' | 'changed' | 'revoked';

const DEFAULT_PORT = 22;

/** Host key algorithms that ssh2 has, without SHA-1; one that is not yet known is asked for in this order. */
const ALGORITHMS = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
];

/** The keys that a file in the format of known_hosts(5) has for a host. Lines that make no sense are skipped, as ssh does. */
export function keysInFile(text: string, address: string, port = DEFAULT_PORT): KnownKeys {
  const name = nameOf(address, port);
  const keys: Buffer[] = [];
  const revoked: Buffer[] = [];
  for (const line of text.split('\n')) {
    const fields = line.trim().split(/\s+/);
    const marker = fields[0]?.startsWith('@') ? fields.shift() : undefined;
    const [patterns = '', type, base64] = fields;
    const key = keyOf(type, base64);
    if (key === undefined || patterns.startsWith('#') || !covers(patterns, name)) continue;
    // A certificate authority vouches for certificates, which we do not ask for: its hosts stay unknown.
    if (marker === '@revoked') revoked.push(key);
    else if (marker === undefined) keys.push(key);
  }
  return { keys, revoked };
}

/** The key of a line `ssh-ed25519 AAAA... comment`; undefined where it is none. */
export function keyInLine(line: string): Buffer | undefined {
  const [type, base64] = line.trim().split(/\s+/);
  return keyOf(type, base64);
}

/** `ssh-ed25519 AAAA...` */
export function lineOf(key: Buffer): string {
  return `${typeOf(key)} ${key.toString('base64')}`;
}

/** As `ssh-keygen -l` prints it. */
export function fingerprintOf(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
}

export function judge(offered: Buffer, { keys, revoked }: KnownKeys): HostKeyVerdict {
  const isOffered = (key: Buffer) => key.equals(offered);
  if (revoked.some(isOffered)) return 'revoked';
  if (keys.some(isOffered)) return 'known';
  return keys.length > 0 ? 'changed' : 'unknown';
}

/** The order to ask in, known types first: a host that has several keys must show one that we can compare. */
export function algorithmOrder({ keys }: KnownKeys): string[] {
  const known = keys.flatMap((key) => {
    const type = typeOf(key);
    return type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type];
  });
  return [...new Set([...known.filter((name) => ALGORITHMS.includes(name)), ...ALGORITHMS])];
}

/** As known_hosts names it: the port only where it is another than SSH's. */
function nameOf(address: string, port: number): string {
  const name = address.toLowerCase();
  return port === DEFAULT_PORT ? name : `[${name}]:${port}`;
}

function keyOf(type: string | undefined, base64: string | undefined): Buffer | undefined {
  if (type === undefined || base64 === undefined) return undefined;
  const key = Buffer.from(base64, 'base64');
  return typeOf(key) === type ? key : undefined;
}

/** RFC 4253, 6.6: the blob begins with the length of its type and the type. */
function typeOf(key: Buffer): string {
  return key.length < 4 ? '' : key.toString('latin1', 4, 4 + key.readUInt32BE(0));
}

/** One pattern that is negated and matches outweighs all others. */
function covers(patterns: string, name: string): boolean {
  if (patterns.startsWith('|')) return isHashOf(patterns, name);
  const all = patterns.toLowerCase().split(',');
  const matches = (pattern: string) => expressionOf(pattern).test(name);
  if (all.some((pattern) => pattern.startsWith('!') && matches(pattern.slice(1)))) return false;
  return all.some((pattern) => !pattern.startsWith('!') && matches(pattern));
}

/** `|1|salt|HMAC-SHA1 of the name`, which is how ssh hides the names in a stolen file. */
function isHashOf(pattern: string, name: string): boolean {
  const [, method, salt = '', hash = ''] = pattern.split('|');
  if (method !== '1') return false;
  return createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest('base64') === hash;
}

/** `*` is any text, `?` one character, all else itself: the brackets of `[host]:port` too. */
function expressionOf(pattern: string): RegExp {
  const literal = pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&');
  return new RegExp(`^${literal.replaceAll('*', '.*').replaceAll('?', '.')}$`);
}
