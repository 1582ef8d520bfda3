/** Manifests made again from records: what runs has nothing to wait for. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseManifest } from '../../src/api/admission.ts';
import { effectiveSpec, type LaunchSpec } from '../../src/api/effective-spec.ts';
import type { Host } from '../../src/api/host.ts';
import type { VirtualMachine, VirtualMachineSpec } from '../../src/api/virtual-machine.ts';
import { type OwnershipRecord, parseRecord, recordText } from '../../src/reconcile/record.ts';
import { recordedSpec } from '../../src/reconcile/recorded-spec.ts';
import { withoutDefaults } from '../../src/store/merge.ts';
import { type Adoption, adoption } from '../../src/takeover/adopt.ts';
import type { VmFolder } from '../../src/takeover/machine.ts';

const API = 'qemu-operator.dev/v1alpha1';
const host = { metadata: { name: 'h1' }, spec: { local: {}, vmDir: '/vms' } } as unknown as Host;
const UUID = '6d3a1f0e-0000-4000-8000-000000000001';

function vmOf(spec: object): VirtualMachine {
  const manifest = parseManifest({
    apiVersion: API,
    kind: 'VirtualMachine',
    metadata: { name: 'web-1', namespace: 'prod' },
    spec: { hostName: 'h1', architecture: 'x86_64', ...spec },
  });
  return { ...manifest, metadata: { ...manifest.metadata, uid: 'uid-1' } } as VirtualMachine;
}

interface Given {
  readonly spec: object;
  readonly record?: Partial<OwnershipRecord>;
  readonly runs?: boolean;
  readonly folder?: Partial<VmFolder>;
}

/** As a launch from this spec leaves it, through the record's own text. */
function adopted({ spec, record: more = {}, runs = true, folder = {} }: Given): Adoption | undefined {
  const vm = vmOf(spec);
  const launch = {
    state: 'running' as const,
    spec: effectiveSpec(vm, host, UUID).launch as NonNullable<OwnershipRecord['launch']>['spec'],
    bootID: 'boot',
    at: 1,
    pid: 7,
    startTicks: 8,
    accelerator: 'TCG' as const,
    qemuVersion: '7.2',
  };
  const whole: OwnershipRecord = {
    recordVersion: 1,
    uid: 'uid-1',
    storeUID: 's',
    namespace: 'prod',
    name: 'web-1',
    uuid: UUID,
    spec: recordedSpec(vm.spec),
    disks: {},
    restarts: 0,
    ...(runs ? { launch } : {}),
    ...more,
  };
  const state = parseRecord(recordText(whole));
  if (state.kind !== 'readable') throw new Error(state.kind);
  const process = { pid: 7, startTicks: 8, argv: [] };
  const place = { vmDir: '/vms', name: 'web-1', path: '/vms/web-1', record: state, ...(runs ? { process } : {}) };
  return adoption({ ...place, ...folder }, state.record, host);
}

const specOf = (found: Adoption | undefined): VirtualMachineSpec => {
  if (found === undefined) throw new Error('no adoption');
  return (
    parseManifest({ ...found.manifest, spec: withoutDefaults('VirtualMachine', found.manifest.spec) }) as {
      spec: VirtualMachineSpec;
    }
  ).spec;
};

const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,6}[a-z0-9]$/);
const distinct = <T extends { name: string }>(one: fc.Arbitrary<T>, maxLength: number) =>
  fc.uniqueArray(one, { maxLength, selector: (entry) => entry.name });
const spec = fc.record(
  {
    uuid: fc.constant('11111111-0000-4000-8000-000000000002'),
    restartPolicy: fc.constantFrom('Always', 'OnFailure', 'Never'),
    vcpus: fc.integer({ min: 1, max: 64 }),
    memory: fc.constantFrom('64Mi', '1G', '3Gi'),
    firmware: fc.record({ type: fc.constantFrom('BIOS', 'UEFI') }),
    accelerator: fc.constantFrom('Auto', 'KVM', 'TCG'),
    disks: distinct(
      fc.record({ name, size: fc.constantFrom('1Gi', '20G'), format: fc.constantFrom('qcow2', 'raw') }),
      3,
    ),
    cdroms: distinct(fc.record({ name, path: name.map((one) => `/iso/${one}`) }), 2),
    networks: distinct(
      fc.record({
        name,
        user: fc.record({
          hostForwards: fc.uniqueArray(fc.record({ guestPort: fc.integer({ min: 1, max: 99 }) }), {
            maxLength: 2,
            selector: ({ guestPort }) => guestPort,
          }),
        }),
      }),
      3,
    ),
    graphics: fc.constantFrom({}, { vnc: {} }),
    powerOff: fc.record({ mode: fc.constantFrom('Hard', 'Soft') }),
    cloudInit: fc.record(
      { sshAuthorizedKeys: fc.constant([`ssh-ed25519 ${'A'.repeat(68)} me`]) },
      { requiredKeys: [] },
    ),
  },
  { requiredKeys: [] },
);

test('a VM that runs waits for nothing once it is taken over, whether its record has the spec or the launch alone', () => {
  fc.assert(
    fc.property(spec, fc.boolean(), (given, isOld) => {
      const hasSeed = 'cloudInit' in given;
      const found = adopted({ spec: given, ...(isOld ? { record: { spec: undefined } } : {}) });
      if (isOld && hasSeed) return;
      expect(found?.waiting).toEqual([]);
      const again = specOf(found);
      const launched = effectiveSpec(vmOf(given), host, UUID).launch;
      const wanted = effectiveSpec({ ...vmOf(given), spec: again }, host).launch;
      const plain = ({ networks, ...rest }: LaunchSpec) => ({
        ...rest,
        networks: networks.map(({ forwards = [], ...network }) => ({ ...network, forwards })),
      });
      expect(plain(wanted)).toEqual(plain(launched));
      if (!isOld)
        expect([again.restartPolicy, again.powerOff]).toEqual([
          vmOf(given).spec.restartPolicy,
          vmOf(given).spec.powerOff,
        ]);
    }),
  );
});

test('the manifest names whom it takes over, and where it lies', () => {
  const found = adopted({
    spec: { powerState: 'PoweredOff', vmName: 'db', vmDir: '/old' },
    record: { nonce: 'n1' },
    runs: false,
    folder: { vmDir: '/data', name: 'db', path: '/data/db' },
  });
  expect(found?.manifest.metadata).toEqual({
    name: 'web-1',
    namespace: 'prod',
    annotations: { 'qemu-operator.dev/adopt': 'uid-1' },
  });
  expect(found?.manifest.spec).toMatchObject({
    hostName: 'h1',
    vmName: 'db',
    vmDir: '/data',
    uuid: UUID,
    powerState: 'PoweredOff',
    restartedAt: 'n1',
  });
});

test('user data is not in the record, and what is lost is said; it restarts nothing', () => {
  const given = { cloudInit: { userData: 'password: hunter2' }, updateStrategy: { type: 'Restart' } };
  const found = adopted({ spec: given });
  expect(JSON.stringify(recordedSpec(vmOf(given).spec))).not.toContain('hunter2');
  expect(found?.waiting.map(({ path }) => path)).toEqual(['spec.cloudInit.userData']);
  expect(found?.manifest.spec).toMatchObject({ cloudInit: {}, updateStrategy: { type: 'OnRestart' } });
  expect(found?.manifest.spec.cloudInit).not.toHaveProperty('userData');
  expect(found?.warnings).toEqual([
    expect.stringContaining('spec.cloudInit.userData is not kept'),
    expect.stringContaining('updateStrategy was Restart'),
  ]);
});

test('from the launch alone, ports that were chosen are chosen again, and disks keep size and fate', () => {
  const launched = vmOf({
    networks: [{ name: 'a', user: { hostForwards: [{ guestPort: 22 }, { guestPort: 80, hostPort: 8080 }] } }],
  });
  const launch = effectiveSpec(launched, host, UUID).launch;
  const [network] = launch.networks;
  const forwards = network?.forwards?.map((one) =>
    one.hostPort === undefined ? { ...one, hostPort: 40_022, allocated: true as const } : one,
  );
  const found = adopted({
    spec: {
      disks: [
        { name: 'root', size: '3Gi' },
        { name: 'old', path: '/x' },
      ],
    },
    record: {
      spec: undefined,
      disks: {
        root: { path: '/vms/web-1/root.qcow2', format: 'qcow2', state: 'created', sizeBytes: 3 * 2 ** 30 },
        old: { path: '/x', format: 'qcow2', state: 'attached', sizeBytes: 512, reclaimPolicy: 'Delete' },
      },
      launch: {
        state: 'running',
        spec: {
          ...effectiveSpec(
            vmOf({
              disks: [
                { name: 'root', size: '3Gi' },
                { name: 'old', path: '/x' },
              ],
            }),
            host,
            UUID,
          ).launch,
          networks: [{ ...network, forwards }],
        } as NonNullable<OwnershipRecord['launch']>['spec'],
        bootID: 'b',
        at: 1,
        accelerator: 'TCG',
        qemuVersion: '7.2',
      },
    },
  });
  expect(specOf(found)).toMatchObject({
    disks: [
      { name: 'root', size: '3Gi' },
      { name: 'old', path: '/x', reclaimPolicy: 'Delete' },
    ],
    networks: [{ name: 'a', user: { hostForwards: [{ guestPort: 22 }, { guestPort: 80, hostPort: 8080 }] } }],
  });
  expect(JSON.stringify(found?.manifest)).not.toContain('40022');
});

test('a record with neither is not guessed at', () => {
  expect(adopted({ spec: {}, record: { spec: undefined }, runs: false })).toBeUndefined();
});
