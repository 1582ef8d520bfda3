/**
 * What a guest agent's answers mean. Pure. A guest may say anything: a figure or a text of another form is left out,
 * and each is bounded. Source: QEMU's qga/qapi-schema.json.
 */
import { isIP } from 'node:net';
import { z } from 'zod';
import { oneLine } from '../api/errors.ts';

export interface GuestInterface {
  /** Lower case, as `52:54:00:12:34:56`. */
  readonly mac: string;
  readonly ips: readonly string[];
  /** As the guest's kernel counts, since the interface came up; absent where the agent does not tell. */
  readonly receiveBytes?: number;
  readonly transmitBytes?: number;
}

export interface GuestSystem {
  readonly os?: string;
  readonly kernel?: string;
  readonly hostname?: string;
}

/** The bound of status.interfaces[].ips. */
const MAX_IPS = 16;
const MAX_INTERFACES = 256;
const MAX_TEXT = 128;

const count = z.int().min(0).optional().catch(undefined);
const word = z.string().optional().catch(undefined);
const interfaceAnswer = z.object({
  'hardware-address': z.string().max(64),
  'ip-addresses': z.array(z.unknown()).optional().catch(undefined),
  statistics: z.object({ 'rx-bytes': count, 'tx-bytes': count }).optional().catch(undefined),
});
const addressAnswer = z.object({ 'ip-address': z.string().max(64) });
const systemAnswer = z.object({ 'pretty-name': word, name: word, 'kernel-release': word });
const hostNameAnswer = z.object({ 'host-name': word });
/** guest-get-time: nanoseconds since the epoch, whose last digits JSON's numbers lose. */
const timeAnswer = z
  .number()
  .min(0)
  .max(2 ** 63);

/** Of guest-network-get-interfaces. One per MAC address: a bridge or a VLAN in the guest shares its port's. */
export function interfacesIn(answer: unknown): GuestInterface[] {
  const found = new Map<string, GuestInterface>();
  for (const entry of (Array.isArray(answer) ? answer : []).slice(0, MAX_INTERFACES)) {
    const parsed = interfaceAnswer.safeParse(entry);
    const mac = parsed.data?.['hardware-address'].toLowerCase() ?? '';
    if (!parsed.success || !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac)) continue;
    const { 'ip-addresses': listed = [], statistics = {} } = parsed.data;
    const ips = listed.flatMap((one) => addressAnswer.safeParse(one).data?.['ip-address'] ?? []);
    const first = found.get(mac) ?? {
      mac,
      ips: [],
      ...(statistics['rx-bytes'] === undefined ? {} : { receiveBytes: statistics['rx-bytes'] }),
      ...(statistics['tx-bytes'] === undefined ? {} : { transmitBytes: statistics['tx-bytes'] }),
    };
    found.set(mac, { ...first, ips: [...first.ips, ...ips] });
  }
  return [...found.values()].map((one) => ({ ...one, ips: usefulAddresses(one.ips) }));
}

/**
 * The addresses by which somebody may reach the guest, in their order and bounded: no loopback, and those of the link
 * alone only where there are no others. Whatever is no address is left out.
 */
export function usefulAddresses(texts: readonly string[]): string[] {
  const addresses = [...new Set(texts.map((text) => text.toLowerCase()))].filter(
    (text) => !text.includes('%') && isIP(text) !== 0 && !/^(127\.|0\.0\.0\.0$|::1?$|::ffff:127\.)/.test(text),
  );
  const wide = addresses.filter((address) => !/^(169\.254\.|fe[89ab])/.test(address));
  return (wide.length > 0 ? wide : addresses).slice(0, MAX_IPS);
}

/** Of guest-get-osinfo and guest-get-host-name; undefined for one that was refused. */
export function systemIn(system: unknown, hostName: unknown): GuestSystem {
  const { data } = systemAnswer.safeParse(system);
  const os = shown(data?.['pretty-name'] ?? data?.name);
  const kernel = shown(data?.['kernel-release']);
  const hostname = shown(hostNameAnswer.safeParse(hostName).data?.['host-name']);
  return {
    ...(os === undefined ? {} : { os }),
    ...(kernel === undefined ? {} : { kernel }),
    ...(hostname === undefined ? {} : { hostname }),
  };
}

/** Of guest-get-time: ms since the epoch. */
export function guestTimeIn(answer: unknown): number | undefined {
  const { data } = timeAnswer.safeParse(answer);
  return data === undefined ? undefined : Math.round(data / 1e6);
}

/** Marks that turn or hide text are no part of a name. */
const INVISIBLE = /[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

function shown(text: string | undefined): string | undefined {
  const line = oneLine((text ?? '').slice(0, 4 * MAX_TEXT).replace(INVISIBLE, ''), MAX_TEXT).toWellFormed();
  return line === '' ? undefined : line;
}
