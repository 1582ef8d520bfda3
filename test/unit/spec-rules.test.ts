/** Every CEL rule of the CRDs has a twin in TypeScript, for stores without CEL: the same changes are refused. */
import { describe, expect, test } from 'vitest';
import { parseManifest, readSpec, validateUpdate } from '../../src/api/admission.ts';
import { crdOf } from '../../src/api/crd.ts';
import { type FieldIssue, InvalidObjectError, quoteValue } from '../../src/api/errors.ts';
import type { ObjectOf, SpecOf } from '../../src/api/kinds.ts';
import { KINDS, type Kind } from '../../src/api/meta.ts';
import type { Structural } from '../../src/api/structural.ts';
import { hostDocument, monitorDocument, SOME_UID, storedVm, vmDocument } from '../fakes/manifests.ts';

function issuesOf(run: () => unknown): readonly FieldIssue[] {
  try {
    run();
    return [];
  } catch (error) {
    if (error instanceof InvalidObjectError) return error.issues;
    throw error;
  }
}

const onCreate = (document: unknown) => issuesOf(() => parseManifest(document));

type Fields = Readonly<Record<string, unknown>>;

function onUpdate(before: Fields, after: Fields): readonly FieldIssue[] {
  const spec = readSpec('VirtualMachine', 'web-1', { architecture: 'x86_64', ...after });
  return issuesOf(() => validateUpdate(storedVm(before), spec));
}

const root = (fields: Fields) => ({ disks: [{ name: 'root', ...fields }] });

function monitorUpdate(): readonly FieldIssue[] {
  const document = monitorDocument() as { spec: unknown };
  const spec = readSpec('VirtualMachineMonitor', 'watch-1', document.spec);
  const old = { ...document, spec } as unknown as ObjectOf<'VirtualMachineMonitor'>;
  expect(issuesOf(() => validateUpdate(old, { ...spec }))).toEqual([]);
  return issuesOf(() => validateUpdate(old, { ...spec, intervalSeconds: 60 }));
}

const forwarding = (...hostForwards: readonly Fields[]) =>
  vmDocument({ networks: [{ name: 'a', user: { hostForwards } }] });

/** By place and message of the CEL rule: what breaks it, and the field that the refusal names. */
const TWINS: Readonly<Record<string, readonly [() => readonly FieldIssue[], string]>> = {
  'VirtualMachine: spec.vmName is required where metadata.name has more than 63 characters': [
    () => onCreate(vmDocument({}, { name: 'a'.repeat(64) })),
    'spec.vmName',
  ],
  'VirtualMachineMonitor.spec.until: a time such as 2026-01-31T15:04:05Z': [
    () => onCreate(monitorDocument({ until: '2026-02-30T15:04:05Z' })),
    'spec.until',
  ],
  'Host.spec.allowedNamespaces: set names, selector or both': [
    () => onCreate(hostDocument({ local: {}, allowedNamespaces: {} })),
    'spec.allowedNamespaces',
  ],
  'Host.spec.allowedNamespaces.selector.matchLabels: keys of labels have at most 317 characters': [
    () =>
      onCreate(
        hostDocument({ local: {}, allowedNamespaces: { selector: { matchLabels: { ['k'.repeat(318)]: 'v' } } } }),
      ),
    `spec.allowedNamespaces.selector.matchLabels[${quoteValue('k'.repeat(318))}]`,
  ],
  'Host.spec.allowedNamespaces.selector.matchExpressions[]: In and NotIn need values, and the other operators take none':
    [
      () =>
        onCreate(
          hostDocument({
            local: {},
            allowedNamespaces: { selector: { matchExpressions: [{ key: 'team', operator: 'In' }] } },
          }),
        ),
      'spec.allowedNamespaces.selector.matchExpressions[0]',
    ],
  'VirtualMachine.spec: hostName is immutable once set': [
    () => onUpdate({ hostName: 'a' }, { hostName: 'b' }),
    'spec.hostName',
  ],
  'VirtualMachine.spec: uuid is immutable once set': [
    () => onUpdate({ uuid: SOME_UID }, { uuid: SOME_UID.replace('1', '2') }),
    'spec.uuid',
  ],
  'VirtualMachine.spec: vmName is immutable': [() => onUpdate({ vmName: 'a' }, { vmName: 'b' }), 'spec.vmName'],
  'VirtualMachine.spec: architecture is immutable': [
    () => onUpdate({}, { architecture: 'arm64' }),
    'spec.architecture',
  ],
  'VirtualMachine.spec: vmDir is immutable': [() => onUpdate({ vmDir: '/a' }, { vmDir: '/b' }), 'spec.vmDir'],
  'VirtualMachine.spec: must be UEFI for architecture arm64': [
    () => onCreate(vmDocument({ architecture: 'arm64', firmware: { type: 'BIOS' } })),
    'spec.firmware.type',
  ],
  "VirtualMachine.spec: a cdrom's path may not be the path of a disk of this VM": [
    () => onCreate(vmDocument({ ...root({ path: '/a' }), cdroms: [{ name: 'cd', path: '/a' }] })),
    'spec.cdroms[cd].path',
  ],
  'VirtualMachine.spec.cloudInit: must be absent where userData is set: a guest has one user data': [
    () => onCreate(vmDocument({ cloudInit: { userData: 'x', userDataSecretRef: { name: 'a', key: 'b' } } })),
    'spec.cloudInit.userDataSecretRef',
  ],
  'VirtualMachine.spec.memory: must be at least 1Mi and at most 64Ti; a plain number counts bytes': [
    () => onCreate(vmDocument({ memory: '65Ti' })),
    'spec.memory',
  ],
  'VirtualMachine.spec.disks: two disks of a VM may not have the same path': [
    () =>
      onCreate(
        vmDocument({
          disks: [
            { name: 'a', path: '/x' },
            { name: 'b', path: '/x' },
          ],
        }),
      ),
    'spec.disks[b].path',
  ],
  'VirtualMachine.spec.disks[]: path is immutable': [
    () => onUpdate(root({ path: '/a' }), root({ path: '/b' })),
    'spec.disks[root].path',
  ],
  'VirtualMachine.spec.disks[]: format is immutable': [
    () => onUpdate(root({ format: 'raw' }), root({})),
    'spec.disks[root].format',
  ],
  'VirtualMachine.spec.disks[]: a disk only grows; set its former size in your manifest': [
    () => onUpdate(root({ size: '40Gi' }), root({ size: '20Gi' })),
    'spec.disks[root].size',
  ],
  'VirtualMachine.spec.disks[].size: must be at least 1Mi and at most 4Pi; a plain number counts bytes': [
    () => onCreate(vmDocument(root({ size: '5Pi' }))),
    'spec.disks[root].size',
  ],
  'VirtualMachine.spec.disks[]: image is immutable': [
    () => onUpdate(root({ image: { path: '/a' } }), root({ image: { path: '/b' } })),
    'spec.disks[root].image',
  ],
  'VirtualMachine.spec.disks[].image: must have exactly one of url and path': [
    () => onCreate(vmDocument(root({ image: { url: 'https://a.example/i', path: '/i' } }))),
    'spec.disks[root].image',
  ],
  'VirtualMachine.spec.disks[].image: is required for an http: url, which anybody on the way could change': [
    () => onCreate(vmDocument(root({ image: { url: 'http://a.example/i' } }))),
    'spec.disks[root].image.checksum',
  ],
  'VirtualMachine.spec.networks: two networks of a VM may not have the same mac': [
    () =>
      onCreate(
        vmDocument({
          networks: ['a', 'b'].map((name) => ({ name, user: {}, mac: '52:54:00:00:00:01' })),
        }),
      ),
    'spec.networks[b].mac',
  ],
  'VirtualMachine.spec.networks[]: set either user or bridge': [
    () => onCreate(vmDocument({ networks: [{ name: 'a', user: {}, bridge: { name: 'br0' } }] })),
    'spec.networks[a]',
  ],
  'VirtualMachine.spec.networks[].user.hostForwards: two forwards of a network may not have the same port of the host':
    [
      () => onCreate(forwarding({ hostPort: 2222, guestPort: 22 }, { hostPort: 2222, guestPort: 80 })),
      'spec.networks[a].user.hostForwards[1].hostPort',
    ],
  'VirtualMachine.spec.networks[].user.hostForwards: two forwards without hostPort may not have the same guestPort': [
    () => onCreate(forwarding({ guestPort: 22 }, { hostPort: 2222, guestPort: 22 }, { guestPort: 22 })),
    'spec.networks[a].user.hostForwards[2].guestPort',
  ],
  'Host.spec: set exactly one of local and ssh': [
    () => onCreate(hostDocument({ local: {}, ssh: { address: 'a.example' } })),
    'spec',
  ],
  'VirtualMachineMonitor.spec: a monitor is immutable: create another': [monitorUpdate, 'spec'],
};

function ruleNames(schema: Structural, path: string): string[] {
  return [
    ...(schema['x-kubernetes-validations'] ?? []).map(({ message }) => `${path}: ${message}`),
    ...Object.entries(schema.properties ?? {}).flatMap(([name, field]) => ruleNames(field, `${path}.${name}`)),
    ...(schema.items === undefined ? [] : ruleNames(schema.items, `${path}[]`)),
  ];
}

test('each CEL rule is listed here, and no other', () => {
  const schemaOf = (kind: Kind) => crdOf(kind).spec.versions[0]?.schema.openAPIV3Schema ?? {};
  const rules = KINDS.flatMap((kind) => ruleNames(schemaOf(kind), kind));
  expect(rules.sort()).toEqual(Object.keys(TWINS).sort());
});

test.each(Object.entries(TWINS))('%s', (_rule, [breakIt, field]) => {
  expect(breakIt().map((issue) => issue.field)).toEqual([field]);
});

describe('names that list-map keys keep unique', () => {
  test.each(['disks', 'cdroms', 'networks'])('%s', (list) => {
    const entry = { disks: {}, cdroms: { path: '/a' }, networks: { user: {} } }[list];
    const document = vmDocument({ [list]: ['x', 'x'].map((name) => ({ name, ...entry })) });
    expect(onCreate(document).map(({ field }) => field)).toContain(`spec.${list}[x].name`);
  });
});

describe('what may change', () => {
  const uuid = SOME_UID;
  test.each<[string, Fields, Fields]>([
    ['hostName, once', {}, { hostName: 'a' }],
    ['uuid, once', {}, { uuid }],
    ['a disk grows', root({ size: '20Gi' }), root({ size: '40Gi' })],
    ['a disk is said otherwise', root({ size: '1Gi' }), root({ size: 1_073_741_824 })],
    ['a disk gets a size', root({ path: '/a' }), root({ path: '/a', size: '1Gi' })],
    ['a disk is taken out', root({ size: '1Gi' }), {}],
    ['a disk is added', {}, root({ size: '1Gi' })],
    ['the order of disks', { disks: [{ name: 'a' }, { name: 'b' }] }, { disks: [{ name: 'b' }, { name: 'a' }] }],
    [
      'all else',
      {},
      { vcpus: 4, memory: '4Gi', powerState: 'PoweredOff', restartedAt: 'x', networks: [], graphics: {} },
    ],
  ])('%s', (_name, before, after) => {
    expect(onUpdate(before, after)).toEqual([]);
  });

  test.each<[string, Fields, Fields, string]>([
    ['hostName taken away', { hostName: 'a' }, {}, 'cannot be taken away: the field is immutable, it is "a"'],
    ['uuid taken away', { uuid }, {}, 'cannot be taken away'],
    ['vmName set later', {}, { vmName: 'a' }, 'cannot be set later: the field is immutable'],
    ['vmDir set later', {}, { vmDir: '/a' }, 'cannot be set later: the field is immutable'],
    ['path set later', root({}), root({ path: '/a' }), 'cannot be set later: the field is immutable'],
    ['vmName changed', { vmName: 'a' }, { vmName: 'b' }, 'is immutable; it is "a"'],
    [
      'size shrunk',
      root({ size: '40Gi' }),
      root({ size: '20Gi' }),
      'disk grew to 40Gi; set size: 40Gi in your manifest',
    ],
    ['size taken away', root({ size: '40Gi' }), root({}), 'disk grew to 40Gi; set size: 40Gi in your manifest'],
    ['size shrunk by a byte', root({ size: 1_073_741_824 }), root({ size: 1_073_741_823 }), 'disk grew to 1073741824'],
  ])('not: %s', (_name, before, after, message) => {
    expect(onUpdate(before, after).map((issue) => issue.message)).toEqual([expect.stringContaining(message)]);
  });
});

test('a spec that did not change is never refused', () => {
  const spec = { hostName: 'a', vmName: 'b', uuid: SOME_UID, vmDir: '/a', ...root({ path: '/x', size: '1Gi' }) };
  expect(onUpdate(spec, spec)).toEqual([]);
  expect(
    (readSpec('VirtualMachine', 'x', { architecture: 'x86_64', ...spec }) as SpecOf<'VirtualMachine'>).vmName,
  ).toBe('b');
});
