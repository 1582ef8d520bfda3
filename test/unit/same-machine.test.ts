/** Which Hosts of a store are one machine. */
import { expect, test } from 'vitest';
import type { Host } from '../../src/api/host.ts';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import { machineIDOf, otherHostsOf, vmDirsOf } from '../../src/reconcile/same-machine.ts';
import { storedVm } from '../fakes/manifests.ts';
import { someHost } from '../fakes/subjects.ts';

const ssh = { local: undefined, ssh: { address: '192.0.2.1' } };

function hostOn(name: string, claimed?: string, seen?: string, spec: object = {}): Host {
  const annotations = claimed === undefined ? {} : { [ANNOTATIONS.claimed]: claimed };
  const host = someHost({ vmDir: `/vms-${name}`, ...spec }, { name, uid: `uid-${name}`, annotations });
  return seen === undefined ? host : { ...host, status: { info: { machineID: seen } } as Host['status'] };
}

test('where its VMs lie: on the machine that was claimed, whatever answers now', () => {
  expect(machineIDOf(hostOn('a', 'm1', 'm2'))).toBe('m1');
  expect(machineIDOf(hostOn('a', undefined, 'm2'))).toBe('m2');
  expect(machineIDOf(hostOn('a'))).toBeUndefined();
});

test('those of one machine-id, and those that were never seen behind the same address', () => {
  const here = hostOn('here', 'm1');
  const hosts = [
    here,
    hostOn('far', 'm1', undefined, ssh),
    hostOn('other', 'm2'),
    hostOn('new'),
    hostOn('way', undefined, undefined, ssh),
    hostOn('door', undefined, undefined, { ...ssh, ssh: { ...ssh.ssh, port: 2222 } }),
  ];
  const names = (host: Host, machineID?: string) =>
    otherHostsOf(host, machineID, hosts).map(({ metadata }) => metadata.name);
  expect(names(here, 'm1')).toEqual(['far', 'new']);
  expect(names(hostOn('far', 'm1', undefined, ssh), 'm1')).toEqual(['here', 'way']);
  expect(names(hostOn('way', undefined, undefined, ssh))).toEqual(['far']);
  expect(names(hostOn('clone', 'm1', undefined, { ...ssh, vmDir: '/vms-far' }), 'm1')).toEqual(['here', 'way']);
});

test('the vmDirs of a Host are those of its VMs too', () => {
  const vms = [storedVm({ hostName: 'a', vmDir: '/data' }), storedVm({ hostName: 'b', vmDir: '/elsewhere' })];
  expect(vmDirsOf(hostOn('a'), vms)).toEqual(['/vms-a', '/data']);
});
