/**
 * Which names a request may call this server by. A page in a browser can make its own name mean this machine (DNS
 * rebinding); it cannot hide that name from Host and Origin. Pure.
 */
import { isIP } from 'node:net';

const LOCALHOST = 'localhost';

/** @param header of HTTP. An address is no name that could be made to mean another one. */
export function isOurHost(header: string | undefined, names: readonly string[]): boolean {
  const host = hostOf(`http://${header ?? ''}`);
  return host !== undefined && (isIP(bare(host)) !== 0 || isNamed(host, names));
}

/** Absent, as programs leave it, or a page of this machine or of a name of ours. */
export function isOurOrigin(header: string | undefined, names: readonly string[]): boolean {
  if (header === undefined) return true;
  const host = hostOf(header);
  return host !== undefined && (isLoopback(bare(host)) || isNamed(host, names));
}

function isNamed(host: string, names: readonly string[]): boolean {
  return host === LOCALHOST || names.some((name) => name.toLowerCase() === host);
}

function isLoopback(address: string): boolean {
  return address === '::1' || (isIP(address) === 4 && address.startsWith('127.'));
}

/** Without its port, in lower case, and nothing but it. */
function hostOf(text: string): string | undefined {
  if (!/^https?:\/\/[^/?#@\\\s]+$/i.test(text) || !URL.canParse(text)) return undefined;
  return new URL(text).hostname;
}

function bare(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}
