/** Rows of a VM's networks. */
import { randomInt } from 'node:crypto';
import { expect } from 'vitest';
import { bridgeName, makeBridge, portsOf, requireRoot, untilJoined } from '../support/bridges.ts';
import { boundBy, freePort } from '../support/sockets.ts';
import type { Effect, Row } from './leaf.ts';
import type { Guest, Place } from './place.ts';

const net = (more: object) => ({ networks: [{ name: 'net0', user: {}, ...more }] });
const user = (hostForward: object) => net({ user: { hostForwards: [{ guestPort: 22, ...hostForward }] } });
const bridged = (name: string) => ({ networks: [{ name: 'net0', bridge: { name } }] });
const mac = () => `52:54:00:${randomInt(16, 256).toString(16)}:aa:bb`;

/** As QEMU has it: `nic-net0 52:54:00:12:34:56`. */
async function cards(guest: Guest): Promise<string[]> {
  return (await guest.monitor('info network')).flatMap((line) => {
    const [, name, address] = /^(nic-[^:]*): .*macaddr=([0-9a-f:]*)/.exec(line.trim()) ?? [];
    return name === undefined ? [] : [`${name} ${address}`];
  });
}

/** As QEMU has it: `TCP 127.0.0.1:2222 to 22`. */
async function forwards(guest: Guest): Promise<string[]> {
  return (await guest.monitor('info usernet')).flatMap((line) => {
    const [kind = '', , from, port, , to] = line.trim().split(/\s+/);
    return kind.endsWith('[HOST_FORWARD]') ? [`${kind.split('[')[0]} ${from}:${port} to ${to}`] : [];
  });
}

async function follows(guest: Guest, spec: object, told: readonly string[]): Promise<void> {
  await guest.changed({ ...spec });
  expect(await forwards(guest)).toEqual(told);
}

function protocol(name: 'TCP' | 'UDP', former: 'TCP' | 'UDP'): Effect {
  return async (place: Place) => {
    const hostPort = await freePort();
    const guest = await place.running(user({ protocol: former, hostPort }));
    await follows(guest, user({ protocol: name, hostPort }), [`${name} 127.0.0.1:${hostPort} to 22`]);
    const here = [`127.0.0.1:${hostPort}`];
    expect(boundBy(guest.pid, 'tcp')).toEqual(name === 'TCP' ? here : []);
    expect(boundBy(guest.pid, 'udp')).toEqual(name === 'UDP' ? here : []);
  };
}

export const NETWORKS: readonly Row[] = [
  {
    leaf: 'VirtualMachine.spec.networks[].name',
    effect: async (place) => {
      const guest = await place.running(net({ name: 'lan' }));
      const [former] = await cards(guest);
      await guest.restarted(net({ name: 'wan' }));
      const [card] = await cards(guest);
      expect([former?.split(' ')[0], card?.split(' ')[0]]).toEqual(['nic-lan', 'nic-wan']);
      // Another name is another interface.
      expect(card?.split(' ')[1]).not.toBe(former?.split(' ')[1]);
    },
  },
  {
    leaf: 'VirtualMachine.spec.networks[].mac',
    effect: async (place) => {
      const [one, other] = [mac(), '52:54:00:00:aa:bb'];
      const guest = await place.running(net({ mac: one }));
      expect(await cards(guest)).toEqual([`nic-net0 ${one}`]);
      await guest.restarted(net({ mac: other }));
      expect(await cards(guest)).toEqual([`nic-net0 ${other}`]);
    },
  },
  {
    leaf: 'VirtualMachine.spec.networks[].user.hostForwards[].protocol',
    effect: { TCP: protocol('TCP', 'UDP'), UDP: protocol('UDP', 'TCP') },
  },
  {
    leaf: 'VirtualMachine.spec.networks[].user.hostForwards[].hostAddress',
    effect: async (place) => {
      const hostPort = await freePort();
      const guest = await place.running(user({ hostPort }));
      await follows(guest, user({ hostPort, hostAddress: '127.0.0.2' }), [`TCP 127.0.0.2:${hostPort} to 22`]);
      expect(boundBy(guest.pid, 'tcp')).toEqual([`127.0.0.2:${hostPort}`]);
    },
  },
  {
    leaf: 'VirtualMachine.spec.networks[].user.hostForwards[].hostPort',
    effect: async (place) => {
      const guest = await place.running(user({ hostPort: await freePort() }));
      const hostPort = await freePort();
      await follows(guest, user({ hostPort }), [`TCP 127.0.0.1:${hostPort} to 22`]);
      expect(boundBy(guest.pid, 'tcp')).toEqual([`127.0.0.1:${hostPort}`]);
    },
  },
  {
    leaf: 'VirtualMachine.spec.networks[].user.hostForwards[].guestPort',
    effect: async (place) => {
      const hostPort = await freePort();
      const guest = await place.running(user({ hostPort, guestPort: 22 }));
      await follows(guest, user({ hostPort, guestPort: 80 }), [`TCP 127.0.0.1:${hostPort} to 80`]);
    },
  },
  {
    leaf: 'VirtualMachine.spec.networks[].bridge.name',
    effect: async (place) => {
      requireRoot();
      const [one, other] = [bridgeName(place.onFinished), bridgeName(place.onFinished)];
      for (const bridge of [one, other]) makeBridge(bridge);
      const guest = await place.running(bridged(one));
      await untilJoined(one);
      await guest.restarted(bridged(other));
      await untilJoined(other);
      expect(portsOf(one)).toEqual([]);
    },
  },
];
