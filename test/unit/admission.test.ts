import { describe, expect, test } from 'vitest';
import { parseManifest, readSpec, validateUpdate } from '../../src/api/admission.ts';
import { type FieldIssue, InvalidObjectError } from '../../src/api/errors.ts';
import { hostDocument, monitorDocument, vmDocument } from '../fakes/manifests.ts';

/** What is refused about a document; empty where it is admitted. */
function refusals(document: unknown): readonly FieldIssue[] {
  try {
    parseManifest(document);
    return [];
  } catch (error) {
    if (error instanceof InvalidObjectError) return error.issues;
    throw error;
  }
}

function sentence(document: unknown): string {
  try {
    parseManifest(document);
    return 'admitted';
  } catch (error) {
    return (error as Error).message;
  }
}

describe('a refusal names the field, the value and what is allowed', () => {
  test.each<[string, unknown, string]>([
    [
      'memory: 2GB',
      vmDocument({ memory: '2GB' }),
      'spec.memory: Invalid value: "2GB": must be a quantity such as 2Gi, 512Mi or 20G; did you mean 2Gi?',
    ],
    [
      'memory: 2 Gi',
      vmDocument({ memory: '2 Gi' }),
      'spec.memory: Invalid value: "2 Gi": must be a quantity such as 2Gi, 512Mi or 20G; did you mean 2Gi?',
    ],
    [
      'memory: lots',
      vmDocument({ memory: 'lots' }),
      'spec.memory: Invalid value: "lots": must be a quantity such as 2Gi, 512Mi or 20G',
    ],
    [
      'memory: 2',
      vmDocument({ memory: 2 }),
      'spec.memory: Invalid value: 2: must be at least 1Mi; a plain number counts bytes',
    ],
    ['memory: -1', vmDocument({ memory: -1 }), 'spec.memory: Invalid value: -1: must be at least 1Mi'],
    ['memory: 9E', vmDocument({ memory: '9E' }), 'spec.memory: Invalid value: "9E": must be at most 64Ti'],
    [
      'memory: true',
      vmDocument({ memory: true }),
      'spec.memory: Invalid value: true: must be a quantity such as 2Gi, 512Mi or 20G',
    ],
    [
      'size: 0',
      vmDocument({ disks: [{ name: 'root', size: '0' }] }),
      'spec.disks[root].size: Invalid value: "0": must be at least 1Mi',
    ],
    ['vcpus: 0', vmDocument({ vcpus: 0 }), 'spec.vcpus: Invalid value: 0: must be at least 1'],
    ['vcpus: 1025', vmDocument({ vcpus: 1025 }), 'spec.vcpus: Invalid value: 1025: must be at most 1024'],
    [
      'vcpus: "2"',
      vmDocument({ vcpus: '2' }),
      'spec.vcpus: Invalid value: "2": must be a whole number, without quotes',
    ],
    ['vcpus: 2.5', vmDocument({ vcpus: 2.5 }), 'spec.vcpus: Invalid value: 2.5: must be a whole number'],
    ['vcpu', vmDocument({ vcpu: 2 }), 'spec.vcpu: unknown field; did you mean vcpus?'],
    [
      'architecture: amd64',
      vmDocument({ architecture: 'amd64' }),
      'spec.architecture: Invalid value: "amd64": must be one of x86_64, arm64; did you mean x86_64?',
    ],
    [
      'architecture: aarch64',
      vmDocument({ architecture: 'aarch64' }),
      'spec.architecture: Invalid value: "aarch64": must be one of x86_64, arm64; did you mean arm64?',
    ],
    [
      'no architecture',
      vmDocument({ architecture: undefined }),
      'spec.architecture: is required: one of x86_64, arm64',
    ],
    [
      'powerState: On',
      vmDocument({ powerState: 'On' }),
      'spec.powerState: Invalid value: "On": must be one of PoweredOn, PoweredOff, ForcedOff; did you mean PoweredOn?',
    ],
    [
      'powerState: true',
      vmDocument({ powerState: true }),
      'spec.powerState: Invalid value: true: must be one of PoweredOn, PoweredOff, ForcedOff; did you mean PoweredOn?',
    ],
    ['powerState: poweredoff', vmDocument({ powerState: 'poweredoff' }), 'did you mean PoweredOff?'],
    ['disks: a map', vmDocument({ disks: {} }), 'spec.disks: Invalid value: {}: must be a list'],
    ['vmName: 3', vmDocument({ vmName: 3 }), 'spec.vmName: Invalid value: 3: must be text: put it in quotes'],
    [
      'a network of no kind that there is',
      vmDocument({ networks: [{ name: 'net0', tap: {} }] }),
      'spec.networks[net0].tap: unknown field; allowed are name, user, bridge, mac',
    ],
    [
      'a network of no kind',
      vmDocument({ networks: [{ name: 'net0' }] }),
      'spec.networks[net0]: set either user or bridge: neither is set',
    ],
    [
      'an address that is none',
      vmDocument({ networks: [{ name: 'net0', user: { hostForwards: [{ hostAddress: '::1', guestPort: 22 }] } }] }),
      'spec.networks[net0].user.hostForwards[0].hostAddress: Invalid value: "::1": must be an IPv4 address',
    ],
    [
      'a port that is none',
      vmDocument({ networks: [{ name: 'net0', user: { hostForwards: [{ guestPort: 65536 }] } }] }),
      'spec.networks[net0].user.hostForwards[0].guestPort: Invalid value: 65536: must be at most 65535',
    ],
    [
      'an option of local',
      hostDocument({ local: { sudo: true } }),
      'spec.local.sudo: unknown field; none is allowed here',
    ],
    [
      'a relative path',
      vmDocument({ cdroms: [{ name: 'a', path: 'a.iso' }] }),
      'spec.cdroms[a].path: Invalid value: "a.iso": must be an absolute path without',
    ],
    ['a disk without a name', vmDocument({ disks: [{ size: '1Gi' }] }), 'spec.disks[0].name: is required'],
    [
      '33 disks',
      vmDocument({ disks: Array.from({ length: 33 }, (_, i) => ({ name: `d${i}` })) }),
      'must be at most 32 entries',
    ],
    ['no spec', { ...vmDocument(), spec: undefined }, 'spec: is required'],
    ['spec: null', { ...vmDocument(), spec: null }, 'spec: Invalid value: null: must be a map'],
    ['metadata: null', { ...vmDocument(), metadata: null }, 'metadata: Invalid value: null: must be a map'],
    [
      'kind: VirtualMachines',
      { ...vmDocument(), kind: 'VirtualMachines' },
      'kind: Invalid value: "VirtualMachines": must be one of VirtualMachine, Host, VirtualMachineMonitor; did you mean VirtualMachine?',
    ],
    [
      'no kind',
      { ...vmDocument(), kind: undefined },
      'kind: is required: one of VirtualMachine, Host, VirtualMachineMonitor',
    ],
    [
      'another apiVersion',
      { ...vmDocument(), apiVersion: 'v1' },
      'apiVersion: Invalid value: "v1": must be qemu-operator.dev/v1alpha1',
    ],
    ['a Host that is nowhere', hostDocument({}), 'spec: set exactly one of local and ssh: neither is set'],
    ['a Host at two places', hostDocument({ local: {}, ssh: { address: 'a' } }), 'local and ssh: both are set'],
    ['an address that is an option', hostDocument({ ssh: { address: '-oProxyCommand=x' } }), 'spec.ssh.address'],
    ['a user that is an option', hostDocument({ ssh: { address: 'a', user: '-l' } }), 'spec.ssh.user'],
    [
      'a key of a host that is none',
      hostDocument({ ssh: { address: 'a', hostKeys: ['ssh-ed25519'] } }),
      'must be a public key: one line such as "ssh-ed25519 AAAA..."',
    ],
    [
      'a namespace on a Host',
      hostDocument({ local: {} }, { namespace: 'x' }),
      'metadata.namespace: Invalid value: "x": must be absent: a Host has no namespace',
    ],
    [
      'a folder twice',
      hostDocument({ local: {}, allowedPaths: ['/a', '/a'] }),
      'spec.allowedPaths: Invalid value: ["/a","/a"]: must be without repetition',
    ],
    ['30 February', monitorDocument({ until: '2026-02-30T00:00:00Z' }), 'must be a time such as 2026-01-31T15:04:05Z'],
    [
      'an interval of 0',
      monitorDocument({ intervalSeconds: 0 }),
      'spec.intervalSeconds: Invalid value: 0: must be at least 1',
    ],
    [
      'an unknown metric',
      monitorDocument({ metrics: ['gpu'] }),
      'spec.metrics[0]: Invalid value: "gpu": must be one of cpu, memory, disk, network; did you mean cpu?',
    ],
    [
      'a label with a space',
      vmDocument({}, { labels: { 'a b': 'x' } }),
      'metadata.labels["a b"]: Invalid value: "a b": its key must be a name',
    ],
    [
      'a label that is a number',
      vmDocument({}, { labels: { app: 1 } }),
      'metadata.labels.app: Invalid value: 1: must be text: put it in quotes',
    ],
  ])('%s', (_name, document, expected) => {
    expect(sentence(document)).toContain(expected);
  });

  test.each([null, undefined, 'text', 7, [], [vmDocument()]])('%j is no manifest', (value) => {
    expect(sentence(value)).toContain('must be a map with apiVersion, kind, metadata and spec');
  });

  test('all that is wrong is told at once', () => {
    const issues = refusals(vmDocument({ vcpus: 0, memory: 'x', powerState: 'Of' }));
    expect(issues.map(({ field }) => field).sort()).toEqual(['spec.memory', 'spec.powerState', 'spec.vcpus']);
  });

  test('but not more than a person reads', () => {
    const many = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`x${i}`, i]));
    const issues = refusals(vmDocument(many));
    expect(issues).toHaveLength(21);
    expect(issues.at(-1)?.message).toBe('4980 more');
  });
});

/** Texts that mean something to a shell, a file system, a command line or a terminal. */
const HOSTILE = [
  '../x',
  '..',
  '.',
  'a/b',
  'a;b',
  'a b',
  'a,b',
  'a\nb',
  'a\n',
  'a\u0000b',
  '-a',
  '--help',
  '$(id)',
  '`id`',
  "a'b",
  'a"b',
  'a\\b',
  '%s',
  'ä',
  'а', // Cyrillic a
  '\u202ea',
  '\ud800',
  '',
  'x'.repeat(300),
];

describe('names and paths that would mean something elsewhere', () => {
  const fields: [string, (value: string) => unknown][] = [
    ['metadata.name', (name) => vmDocument({}, { name })],
    ['metadata.namespace', (namespace) => vmDocument({}, { namespace })],
    ['spec.vmName', (vmName) => vmDocument({ vmName })],
    ['spec.hostName', (hostName) => vmDocument({ hostName })],
    ['spec.disks[0].name', (name) => vmDocument({ disks: [{ name, size: '1Gi' }] })],
    ['spec.networks[0].name', (name) => vmDocument({ networks: [{ name, user: {} }] })],
    ['spec.networks[net0].mac', (mac) => vmDocument({ networks: [{ name: 'net0', user: {}, mac }] })],
    ['spec.uuid', (uuid) => vmDocument({ uuid })],
    ['spec.vmDir', (vmDir) => vmDocument({ vmDir })],
    ['spec.cdroms[cd].path', (path) => vmDocument({ cdroms: [{ name: 'cd', path }] })],
    ['spec.virtualMachineName', (virtualMachineName) => monitorDocument({ virtualMachineName })],
  ];
  test.each(fields)('%s', (_field, documentOf) => {
    for (const value of HOSTILE) {
      const issues = refusals(documentOf(value));
      expect(issues.length, JSON.stringify(value)).toBeGreaterThan(0);
      const text = issues.map((issue) => `${issue.field} ${issue.value} ${issue.message}`).join(' ');
      expect(text.length, 'is bounded').toBeLessThan(1500);
      expect(text, 'is one printable line').not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/);
    }
  });

  test.each([
    '/a/../b',
    '/a/./b',
    '/a//b',
    '/a/',
    '//a',
    '/..',
    '/.',
    '/a\nb',
    '/a\u0000',
    '/a/\ud800',
    '~/a',
    'a',
    '',
    `/${'x'.repeat(1024)}`,
  ])('the path %j', (path) => {
    expect(refusals(vmDocument({ disks: [{ name: 'root', path }] }))).not.toEqual([]);
  });

  test.each(['/a', '/a b/c', '/data/ä/磁盘.qcow2', '/.hidden/..x/...', '/a,b=c', "/it's", '/-a', '/dev/disk/by-id/x'])(
    'the path %j is one: paths never pass through a shell or an option list unquoted',
    (path) => {
      expect(refusals(vmDocument({ disks: [{ name: 'root', path }] }))).toEqual([]);
    },
  );

  test('a value that cannot be turned into text is refused like any other', () => {
    expect(sentence(vmDocument({ architecture: { toString: null } }))).toContain('must be one of x86_64, arm64');
    expect(sentence(vmDocument({ vcpus: 2n }))).toContain('must be a whole number');
    const circular: Record<string, unknown> = {};
    circular['self'] = circular;
    expect(sentence(vmDocument({ hostName: circular }))).toContain('must be text');
  });

  test('a hostile field name is quoted and bounded', () => {
    const [issue] = refusals(vmDocument({ [`a\n${'b'.repeat(9000)}`]: 1 }));
    expect(issue?.field).toMatch(/^spec\["a\\nb{70,80}… \(9005 characters\)\]$/);
  });

  test('the root is a folder, and no file', () => {
    expect(refusals(hostDocument({ local: {}, allowedPaths: ['/'] }))).toEqual([]);
    expect(refusals(vmDocument({ disks: [{ name: 'root', path: '/' }] }))).not.toEqual([]);
  });
});

describe('defaults', () => {
  test('of a VirtualMachine', () => {
    expect(parseManifest(vmDocument({ disks: [{ name: 'root', size: '1Gi' }] })).spec).toEqual({
      architecture: 'x86_64',
      restartPolicy: 'OnFailure',
      vcpus: 2,
      memory: '2Gi',
      accelerator: 'Auto',
      disks: [{ name: 'root', size: '1Gi', format: 'qcow2' }],
      powerOff: { mode: 'TrySoft', gracePeriodSeconds: 30 },
      updateStrategy: { type: 'OnRestart' },
    });
  });

  test('inside an object that is there in part', () => {
    expect(parseManifest(vmDocument({ powerOff: { mode: 'Hard' } })).spec).toMatchObject({
      powerOff: { mode: 'Hard', gracePeriodSeconds: 30 },
    });
  });

  test('of a Host and of a monitor', () => {
    expect(parseManifest(hostDocument()).spec).toEqual({
      local: {},
      vmDir: '/var/lib/qemu',
      metricsIntervalSeconds: 60,
    });
    expect(parseManifest(monitorDocument()).spec).toMatchObject({ intervalSeconds: 5 });
  });

  test('lists have none: no networks is something else than the usual network', () => {
    expect(parseManifest(vmDocument()).spec).not.toHaveProperty('networks');
    expect(parseManifest(vmDocument({ networks: [] })).spec).toMatchObject({ networks: [] });
  });

  test('quantities stay as they were written', () => {
    expect(parseManifest(vmDocument({ memory: '1.5G' })).spec).toMatchObject({ memory: '1.5G' });
    expect(parseManifest(vmDocument({ memory: 2_147_483_648 })).spec).toMatchObject({ memory: 2_147_483_648 });
  });
});

describe('two parsers from one schema', () => {
  const newer = { architecture: 'x86_64', tpm: {}, disks: [{ name: 'root', size: '1Gi', cache: 'none' }] };

  test('admission refuses what it does not know', () => {
    expect(refusals(vmDocument(newer)).map(({ field }) => field)).toEqual(['spec.disks[root].cache', 'spec.tpm']);
  });

  test('reading drops it', () => {
    const spec = readSpec('VirtualMachine', 'web-1', newer);
    expect(spec).not.toHaveProperty('tpm');
    expect(spec.disks).toEqual([{ name: 'root', size: '1Gi', format: 'qcow2' }]);
  });

  test('reading refuses what it cannot understand, with the field', () => {
    expect(() => readSpec('VirtualMachine', 'web-1', { architecture: 'riscv64' })).toThrow(
      'VirtualMachine "web-1" is invalid: spec.architecture: Invalid value: "riscv64": must be one of x86_64, arm64',
    );
  });

  test('what `get -o yaml` shows may be applied again', () => {
    const document = {
      ...vmDocument(
        {},
        { uid: 'u', resourceVersion: '7', generation: 2, creationTimestamp: null, managedFields: [{}] },
      ),
      status: { phase: 'Running' },
    };
    const manifest = parseManifest(document);
    expect(manifest).not.toHaveProperty('status');
    expect(manifest.metadata).toMatchObject({ uid: 'u', resourceVersion: '7' });
  });

  test('a long last-applied-configuration is no obstacle', () => {
    const annotations = { 'kubectl.kubernetes.io/last-applied-configuration': 'x'.repeat(100_000) };
    expect(refusals(vmDocument({}, { annotations }))).toEqual([]);
    const tooLong = { 'kubectl.kubernetes.io/last-applied-configuration': 'x'.repeat(262_144) };
    expect(refusals(vmDocument({}, { annotations: tooLong }))[0]?.message).toContain('at most 262144 characters');
  });
});

test('the rules between old and new have no opinion on a Host', () => {
  const old = { ...hostDocument(), spec: readSpec('Host', 'localhost', { local: {} }) };
  expect(() => validateUpdate(old as never, readSpec('Host', 'localhost', { local: {}, vmDir: '/srv' }))).not.toThrow();
});
