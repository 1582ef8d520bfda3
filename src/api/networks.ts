/** How a VM is joined to networks: the schema of spec.networks, and the ports of the host that it takes. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { type CelRule, interfaceName, ipv4, label, listMap, mac, type ObjectFactory, rules } from './schema.ts';

const MAX_NETWORKS = 16;
const MAX_FORWARDS = 32;

/** Who may be reached without a word of the manifest: this machine alone. */
const LOOPBACK = '127.0.0.1';
/** All addresses of a host. */
export const ANY_ADDRESS = '0.0.0.0';

/** A port of the host whose connections reach a port of the guest. */
export interface HostForward {
  readonly protocol: 'TCP' | 'UDP';
  readonly hostAddress: string;
  readonly guestPort: number;
  /** Absent: one is to be chosen. */
  readonly hostPort?: number | undefined;
  /** hostPort was chosen, not asked for. */
  readonly allocated?: true | undefined;
  /** In a record: it is just being added or removed. */
  readonly changing?: true | undefined;
}

const distinctPorts: CelRule = {
  rule: 'self.all(a, !has(a.hostPort) || self.exists_one(b, has(b.hostPort) && b.hostPort == a.hostPort && b.protocol == a.protocol && b.hostAddress == a.hostAddress))',
  message: 'two forwards of a network may not have the same port of the host',
};

const distinctChoices: CelRule = {
  rule: 'self.all(a, has(a.hostPort) || self.exists_one(b, !has(b.hostPort) && b.guestPort == a.guestPort && b.protocol == a.protocol && b.hostAddress == a.hostAddress))',
  message: 'two forwards without hostPort may not have the same guestPort',
};

const oneWay: CelRule = {
  rule: 'has(self.user) != has(self.bridge)',
  message: 'set either user or bridge',
};

const distinctMac: CelRule = {
  rule: 'self.all(a, !has(a.mac) || self.exists_one(b, has(b.mac) && b.mac == a.mac))',
  message: 'two networks of a VM may not have the same mac',
};

const port = () => z.int().min(1).max(65_535);

const hostForward = (object: ObjectFactory) =>
  object({
    protocol: z.enum(['TCP', 'UDP']).default('TCP').describe('Of the connections that are forwarded.'),
    hostAddress: ipv4()
      .default(LOOPBACK)
      .describe("The host's address that listens. 0.0.0.0: all of them, open to whoever reaches the host."),
    hostPort: port()
      .optional()
      .describe("The host's port. Absent: a free one is chosen, kept from start to start and shown in status."),
    guestPort: port().describe('The port of the guest that it leads to.'),
  });

const network = (object: ObjectFactory) =>
  object({
    name: label(32).describe('Names the interface in status; with the uuid it gives the MAC address.'),
    user: object({
      hostForwards: z
        .array(hostForward(object))
        .max(MAX_FORWARDS)
        .optional()
        .meta(rules(distinctPorts, distinctChoices))
        .describe('Ports of the host that lead to the guest. A change takes effect at once, without a restart.'),
    })
      .optional()
      .describe("QEMU's user-mode network: outbound connections through the host, no rights needed."),
    bridge: object({ name: interfaceName().describe("A bridge of the host, one of its Host's allowedBridges.") })
      .optional()
      .describe('Joins the guest to a bridge of the host, as if it were plugged in there.'),
    mac: mac().optional().describe('Absent: derived from uuid and name.'),
  }).meta(rules(oneWay));

export const networks = (object: ObjectFactory) =>
  z
    .array(network(object))
    .max(MAX_NETWORKS)
    .optional()
    .meta({ ...listMap('name'), ...rules(distinctMac) })
    .describe('Absent: one user-mode network named net0. An empty list: none.');

/** The host's end of a guest's cable to a bridge; Linux takes 15 characters. Another VM or network has another. */
export function tapName(folder: string, network: string): string {
  return `qo${createHash('sha256').update(`${folder}/${network}`).digest('hex').slice(0, 11)}`;
}

/** As `127.0.0.1:2222/TCP`; a port that is yet to be chosen is `*`. */
export function hostEnd({ hostAddress, hostPort, protocol }: HostForward): string {
  return `${hostAddress}:${hostPort ?? '*'}/${protocol}`;
}

/** As `127.0.0.1:2222->22/TCP`. */
export function forwardWords({
  hostAddress,
  hostPort,
  guestPort,
  protocol,
}: Omit<HostForward, 'protocol'> & { readonly protocol: string }): string {
  return `${hostAddress}:${hostPort ?? '*'}->${guestPort}/${protocol}`;
}
