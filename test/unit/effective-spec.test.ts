import { describe, expect, test } from 'vitest';
import { readSpec } from '../../src/api/admission.ts';
import {
  effectiveSpec,
  type LaunchSpec,
  launchDigest,
  pendingChanges,
  vmNameOf,
} from '../../src/api/effective-spec.ts';
import { SOME_UID, storedVm } from '../fakes/manifests.ts';

const host = { spec: readSpec('Host', 'localhost', { local: {} }) };
const RECORD_UUID = '99999999-2222-4333-8444-555555555555';

const resolved = (spec: Readonly<Record<string, unknown>> = {}, uuid?: string) =>
  effectiveSpec(storedVm(spec), host, uuid);
const launched = (spec: Readonly<Record<string, unknown>> = {}) => resolved(spec).launch;

describe('places', () => {
  test("the VM's folder is named after it, in the Host's vmDir or its own", () => {
    expect(resolved()).toMatchObject({ vmName: 'web-1', vmDir: '/var/lib/qemu', folder: '/var/lib/qemu/web-1' });
    expect(resolved({ vmName: 'Web_1' }).folder).toBe('/var/lib/qemu/Web_1');
    expect(resolved({ vmDir: '/srv' }).folder).toBe('/srv/web-1');
    expect(resolved({ vmDir: '/' }).folder).toBe('/web-1');
    expect(vmNameOf(storedVm({ vmName: 'x' }))).toBe('x');
  });

  test('a disk lies in the folder unless it says where', () => {
    const { disks } = resolved({
      disks: [
        { name: 'root', size: '1Gi' },
        { name: 'data', format: 'raw', path: '/data/x.img', reclaimPolicy: 'Retain' },
        { name: 'logs', format: 'raw' },
      ],
    });
    expect(disks).toEqual([
      { name: 'root', path: '/var/lib/qemu/web-1/root.qcow2', format: 'qcow2', sizeBytes: 1_073_741_824 },
      { name: 'data', path: '/data/x.img', format: 'raw', reclaimPolicy: 'Retain' },
      { name: 'logs', path: '/var/lib/qemu/web-1/logs.raw', format: 'raw' },
    ]);
  });

  test('sizes are whole sectors, rounded up', () => {
    const [disk] = resolved({ disks: [{ name: 'root', size: 1_048_577 }] }).disks;
    expect(disk?.sizeBytes).toBe(1_048_576 + 512);
  });
});

describe('what is not said', () => {
  test('networks: one in user mode, named net0; an empty list: none', () => {
    expect(launched().networks.map(({ name }) => name)).toEqual(['net0']);
    expect(launched({ networks: [] }).networks).toEqual([]);
  });

  test('firmware: that of the architecture', () => {
    expect(launched().firmware).toBe('BIOS');
    expect(launched({ architecture: 'arm64' }).firmware).toBe('UEFI');
    expect(launched({ firmware: { type: 'UEFI' } }).firmware).toBe('UEFI');
  });

  test('vnc: on with a CD-ROM', () => {
    const cdroms = [{ name: 'install', path: '/iso/a.iso' }];
    expect(launched().vnc).toBe(false);
    expect(launched({ cdroms }).vnc).toBe(true);
    expect(launched({ cdroms, graphics: {} }).vnc).toBe(false);
    expect(launched({ graphics: { vnc: {} } }).vnc).toBe(true);
  });

  test('uuid: the one of the record, before it the uid', () => {
    expect(launched().uuid).toBe(SOME_UID);
    expect(resolved({}, RECORD_UUID).launch.uuid).toBe(RECORD_UUID);
  });

  test('uuid: what the spec says comes first', () => {
    const uuid = '77777777-2222-4333-8444-555555555555';
    expect(resolved({ uuid }, RECORD_UUID).launch.uuid).toBe(uuid);
  });

  test('memory: whole MiB, rounded up', () => {
    expect(launched().memoryMiB).toBe(2048);
    expect(launched({ memory: '2G' }).memoryMiB).toBe(1908);
    expect(launched({ memory: '1.5Gi' }).memoryMiB).toBe(1536);
  });
});

describe('a MAC address that nobody gave', () => {
  const macs = (uuid?: string, names = ['net0', 'net1']) =>
    resolved({ networks: names.map((name) => ({ name, user: {} })) }, uuid).launch.networks.map(({ mac }) => mac);

  test('is the same every time, whatever stands beside it', () => {
    expect(macs(RECORD_UUID)).toEqual(macs(RECORD_UUID));
    expect(macs(RECORD_UUID, ['net1', 'net0'])).toEqual(macs(RECORD_UUID).toReversed());
    // Pinned: a guest that got another address after an upgrade would lose its network.
    expect(macs(RECORD_UUID)).toEqual(['52:54:00:d2:b5:78', '52:54:00:5d:96:f8']);
  });

  test('differs by interface and by VM', () => {
    expect(new Set([...macs(), ...macs(RECORD_UUID)]).size).toBe(4);
  });

  test('is unicast, and in the range that QEMU uses', () => {
    for (const mac of macs()) {
      expect(mac).toMatch(/^52:54:00(:[0-9a-f]{2}){3}$/);
      expect(Number.parseInt(mac.slice(0, 2), 16) & 1).toBe(0);
    }
  });

  test('gives way to one that somebody gave', () => {
    const networks = [{ name: 'net0', user: {}, mac: '52:54:00:00:00:01' }];
    expect(launched({ networks }).networks).toEqual([{ name: 'net0', mac: '52:54:00:00:00:01' }]);
  });
});

describe('pending changes', () => {
  test('none where nothing that a process is started from differs', () => {
    const before = launched({ disks: [{ name: 'root', size: '1Gi' }] });
    const after = launched({ disks: [{ name: 'root', size: '2Gi', reclaimPolicy: 'Retain' }], restartPolicy: 'Never' });
    expect(pendingChanges(before, after)).toEqual([]);
  });

  test('name the field as in the manifest, from what, to what', () => {
    const cdroms = [{ name: 'install', path: '/iso/a.iso' }];
    const before = launched({ disks: [{ name: 'root' }], graphics: {} });
    const after = launched({
      vcpus: 4,
      memory: '4Gi',
      firmware: { type: 'UEFI' },
      accelerator: 'TCG',
      graphics: { vnc: {} },
      disks: [{ name: 'root' }, { name: 'data', format: 'raw' }],
      cdroms,
      networks: [],
    });
    expect(pendingChanges(before, after)).toEqual([
      { path: 'spec.vcpus', from: '2', to: '4' },
      { path: 'spec.memory', from: '2048Mi', to: '4096Mi' },
      { path: 'spec.firmware.type', from: 'BIOS', to: 'UEFI' },
      { path: 'spec.accelerator', from: 'Auto', to: 'TCG' },
      { path: 'spec.graphics.vnc', from: 'false', to: 'true' },
      { path: 'spec.disks[data]', to: '/var/lib/qemu/web-1/data.raw (raw)' },
      { path: 'spec.cdroms[install]', to: '/iso/a.iso' },
      { path: 'spec.networks[net0]', from: before.networks[0]?.mac },
    ]);
  });

  test('an order is one', () => {
    const list = [{ name: 'a' }, { name: 'b' }];
    expect(pendingChanges(launched({ disks: list }), launched({ disks: list.toReversed() }))).toEqual([
      { path: 'spec.disks', from: 'a, b', to: 'b, a' },
    ]);
  });

  test('a field that the launching version did not know is none', () => {
    const wanted = launched({ cdroms: [{ name: 'a', path: '/a' }] });
    const { cdroms: _unknown, vnc: _unknownToo, ...known } = wanted;
    expect(pendingChanges(known as LaunchSpec, wanted)).toEqual([]);
  });
});

test('a port that was chosen is no change, and one that is to be forwarded needs no restart', () => {
  const forwarding = (hostForwards: object[]) => launched({ networks: [{ name: 'net0', user: { hostForwards } }] });
  const wanted = forwarding([{ guestPort: 22 }]);
  const chosen = wanted.networks.map((network) => ({
    ...network,
    forwards: network.forwards?.map((forward) => ({ ...forward, hostPort: 20_022, allocated: true as const })),
  }));
  expect(launchDigest({ ...wanted, networks: chosen })).toBe(launchDigest(wanted));
  expect(launchDigest(forwarding([{ hostPort: 20_022, guestPort: 22 }]))).not.toBe(launchDigest(wanted));
  expect(pendingChanges(launched(), wanted)).toEqual([]);
});

test('the digest of a launch changes with what is started, and with nothing else', () => {
  expect(launchDigest(launched())).toBe(launchDigest(launched({ restartPolicy: 'Never', disks: [] })));
  expect(launchDigest(launched())).not.toBe(launchDigest(launched({ vcpus: 3 })));
});
