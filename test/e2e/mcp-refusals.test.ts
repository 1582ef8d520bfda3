/** What manage_vm, list_vms and monitor_vm_status refuse, how they say it, and that a refused call changes nothing. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type McpSession, makePlace, openMcp } from './mcp-client.ts';

const place = makePlace();
let mcp: McpSession;

/** Everything that a call could have left behind. */
function leftovers(): { vms: string[]; manifests: string[] } {
  const names = (folder: string) => readdirSync(folder, { recursive: true }).map(String).sort();
  return {
    vms: names(place.vmDir).filter(
      (name) => !name.startsWith('.qemu-operator') && name !== 'kept' && !name.startsWith('kept/'),
    ),
    manifests: names(place.store).filter(
      (name) => name.endsWith('.yaml') && !name.includes('localhost') && !name.includes('kept'),
    ),
  };
}

beforeAll(async () => {
  mcp = await openMcp(place);
  const made = await mcp.call('manage_vm', { name: 'kept', action: 'create', arch: 'x86_64', disk: 'size=1M' });
  expect(made).toMatchObject({ success: true });
});
afterEach(() => expect(leftovers()).toEqual({ vms: [], manifests: [] }));
afterAll(async () => {
  await mcp.close();
  place.clear();
});

const create = (more: Record<string, unknown>) => ({ name: 'new', action: 'create', arch: 'x86_64', ...more });

async function refusal(tool: string, args: Record<string, unknown>) {
  const answer = await mcp.call(tool, args);
  expect(answer).toMatchObject({ success: false, isError: true });
  expect(answer.message).not.toMatch(/[\u0000-\u001f\u007f]/);
  return { message: answer.message, error: answer.data.error, data: answer.data };
}

describe('names that are none', () => {
  const names = [
    '',
    '../x',
    '/etc/passwd',
    'a;b',
    'a b',
    'a\nb',
    'a\u0000b',
    '$(id)',
    '`id`',
    '-name',
    '--help',
    '.hidden',
    'x'.repeat(300),
    'x'.repeat(64),
    '虚拟机',
    'é',
    'a/b',
    'a\\b',
    'a\u202eb',
  ];
  test.each(names)('%j', async (name) => {
    for (const action of ['create', 'start', 'delete']) {
      const arch = action === 'create' ? { arch: 'x86_64' } : {};
      const { error } = await refusal('manage_vm', { name, action, ...arch });
      expect(error).toMatchObject({ code: 'InvalidArgument', field: 'name' });
      expect(error.value.length).toBeLessThan(150);
    }
    expect((await refusal('monitor_vm_status', { name })).error).toMatchObject({ field: 'name' });
  });
});

describe('arguments', () => {
  const cases: [string, string, Record<string, unknown>, Record<string, unknown>][] = [
    ['no name', 'manage_vm', { action: 'start' }, { field: 'name' }],
    ['no action', 'manage_vm', { name: 'kept' }, { field: 'action', allowed: expect.arrayContaining(['create']) }],
    ['another action', 'manage_vm', { name: 'kept', action: 'Start' }, { field: 'action', value: '"Start"' }],
    [
      'create without arch',
      'manage_vm',
      { name: 'new', action: 'create' },
      { field: 'arch', allowed: ['x86_64', 'arm64'] },
    ],
    ['another arch', 'manage_vm', create({ arch: 'riscv64' }), { field: 'arch' }],
    [
      'an unknown parameter',
      'manage_vm',
      create({ cpu: 2 }),
      { field: 'cpu', allowed: expect.arrayContaining(['vcpus']) },
    ],
    ['an unknown parameter of list', 'list_vms', { state: 'running' }, { field: 'state' }],
    [
      'a status in capitals',
      'list_vms',
      { status: 'Running' },
      { field: 'status', allowed: ['running', 'stopped', 'all'] },
    ],
    [
      'a cursor that is none',
      'list_vms',
      { cursor: 'abc' },
      { field: 'cursor', value: '"abc"', next: { tool: 'list_vms', arguments: {} } },
    ],
    ['a number as text', 'manage_vm', create({ vcpus: '4' }), { field: 'vcpus' }],
    ['no CPU', 'manage_vm', create({ vcpus: 0 }), { field: 'vcpus' }],
    ['too many CPUs', 'manage_vm', create({ vcpus: 100_000 }), { field: 'vcpus' }],
    ['half a CPU', 'manage_vm', create({ vcpus: 1.5 }), { field: 'vcpus' }],
    [
      'memory without sense',
      'manage_vm',
      create({ memory: 'lots' }),
      { field: 'memory', allowed: ['a size such as 2G or 4096M, less than 8192T'] },
    ],
    ['negative memory', 'manage_vm', create({ memory: '-2G' }), { field: 'memory' }],
    ['too little memory', 'manage_vm', create({ memory: '1K' }), { field: 'memory' }],
    ['memory as an injection', 'manage_vm', create({ memory: '2G,foo=bar' }), { field: 'memory' }],
    ['a relative disk', 'manage_vm', create({ disk: 'path=disk.qcow2' }), { field: 'disk' }],
    ['a disk that climbs', 'manage_vm', create({ disk: 'path=/var/../etc/x.qcow2,size=1G' }), { field: 'disk' }],
    ['a disk with a newline', 'manage_vm', create({ disk: 'path=/tmp/a\nb.qcow2,size=1G' }), { field: 'disk' }],
    [
      'a disk with another option',
      'manage_vm',
      create({ disk: 'size=1G,backing_file=/etc/passwd' }),
      { field: 'disk' },
    ],
    ['a disk named twice', 'manage_vm', create({ disk: 'size=1G,size=2G' }), { field: 'disk' }],
    ['a disk in words', 'manage_vm', create({ disk: '20G' }), { field: 'disk' }],
    ['a disk without size', 'manage_vm', create({ disk: 'size=0' }), { field: 'disk' }],
    ['an ISO by URL', 'manage_vm', create({ iso: 'https://example.com/a.iso' }), { field: 'iso' }],
    ['a relative vm_dir', 'manage_vm', create({ vm_dir: 'vms' }), { field: 'vm_dir' }],
    ['a namespace that is none', 'manage_vm', create({ namespace: 'A b' }), { field: 'namespace' }],
    ['an interval of nothing', 'monitor_vm_status', { name: 'kept', interval: 0 }, { field: 'interval' }],
    ['a negative count', 'monitor_vm_status', { name: 'kept', count: -1 }, { field: 'count' }],
    ['another metric', 'monitor_vm_status', { name: 'kept', metrics: 'gpu' }, { field: 'metrics' }],
    ['force with start', 'manage_vm', { name: 'kept', action: 'start', force: true }, { field: 'force' }],
    ['memory with stop', 'manage_vm', { name: 'kept', action: 'stop', memory: '1G' }, { field: 'memory' }],
    ['iso with modify', 'manage_vm', { name: 'kept', action: 'modify', memory: '1G', iso: '/a.iso' }, { field: 'iso' }],
    ['arch with modify', 'manage_vm', { name: 'kept', action: 'modify', vcpus: 1, arch: 'arm64' }, { field: 'arch' }],
  ];
  test.each(cases)('%s', async (_title, tool, args, error) => {
    expect((await refusal(tool, args)).error).toMatchObject({ code: 'InvalidArgument', ...error });
  });

  test('all complaints are named, the nearest parameter is suggested', async () => {
    const { message } = await refusal('manage_vm', create({ vcpu: 2, memory: 7 }));
    expect(message).toContain('did you mean vcpus');
    expect(message).toContain('memory');
  });

  test('a modify that asks for nothing', async () => {
    const { error } = await refusal('manage_vm', { name: 'kept', action: 'modify' });
    expect(error).toMatchObject({ code: 'InvalidArgument', allowed: ['memory', 'vcpus', 'disk'] });
  });

  test('a modify to what is there already', async () => {
    const { error, message } = await refusal('manage_vm', {
      name: 'kept',
      action: 'modify',
      vcpus: 2,
      memory: '2048M',
    });
    expect(error).toEqual({
      code: 'InvalidArgument',
      value: '"memory=2G, vcpus=2"',
      next: { tool: 'list_vms', arguments: { filter_name: 'kept' } },
    });
    expect(message).toContain('memory=2G');
  });

  test('an unknown tool is a protocol error', async () => {
    await expect(mcp.client.callTool({ name: 'rm', arguments: {} })).rejects.toThrow(/Unknown tool: rm/);
  });
});

describe('what is there, and what is not', () => {
  test('a duplicate', async () => {
    const { error, message } = await refusal('manage_vm', { name: 'kept', action: 'create', arch: 'arm64' });
    expect(error).toMatchObject({ code: 'AlreadyExists', field: 'name', next: { tool: 'list_vms' } });
    expect(message).toContain('kept');
  });

  test.each(['start', 'stop', 'restart', 'delete', 'modify'])(
    '%s of a VM that does not exist names near ones',
    async (action) => {
      const more = action === 'modify' ? { vcpus: 1 } : {};
      const { error, message } = await refusal('manage_vm', { name: 'kep', action, ...more });
      expect(error).toMatchObject({
        code: 'NotFound',
        field: 'name',
        value: '"kep"',
        allowed: ['kept'],
        next: { tool: 'list_vms' },
      });
      expect(message).toContain('did you mean kept?');
    },
  );

  test('monitoring wants a running VM', async () => {
    const { error } = await refusal('monitor_vm_status', { name: 'kept' });
    expect(error).toMatchObject({
      code: 'NotRunning',
      next: { tool: 'manage_vm', arguments: { name: 'kept', action: 'start' } },
    });
  });

  test('a host that is not registered', async () => {
    for (const [tool, args] of [
      ['list_vms', {}],
      ['manage_vm', create({})],
      ['monitor_vm_status', { name: 'kept' }],
    ] as const) {
      const { error, message, data } = await refusal(tool, { ...args, host: '10.0.0.5' });
      expect(error).toMatchObject({ code: 'HostNotFound', field: 'host', value: '"10.0.0.5"', allowed: ['localhost'] });
      expect(message).toContain('localhost');
      expect(data.host).toBe('10.0.0.5');
    }
  });

  test('remote credentials, never repeated', async () => {
    const secret = 'hunter2-hunter2';
    // Nobody listens at this address of the loopback.
    const login = { host: '127.0.0.99', ssh_port: 9, ssh_user: 'ops', ssh_pwd: secret };
    const { error, message, data } = await refusal('list_vms', login);
    expect(error).toMatchObject({ code: 'HostUnreachable', field: 'host' });
    expect(JSON.stringify([message, data])).not.toContain(secret);
    const here = await refusal('list_vms', { ssh_user: 'ops', ssh_pwd: secret });
    expect(here.error).toMatchObject({ code: 'InvalidArgument', field: 'ssh_user' });
    const wrong = await refusal('list_vms', { ssh_pwd: [secret] });
    expect(JSON.stringify(wrong)).not.toContain(secret);
    expect(mcp.stderr()).not.toContain(secret);
  });

  test('an ISO that is missing, with those beside it', async () => {
    const folder = join(place.root, 'isos');
    mkdirSync(folder);
    for (const name of ['ubuntu-22.04.iso', 'debian-12.ISO', 'notes.txt']) writeFileSync(join(folder, name), '');
    const { error, message } = await refusal('manage_vm', create({ iso: join(folder, 'ubuntu.iso') }));
    expect(error).toMatchObject({
      code: 'ISONotFound',
      field: 'iso',
      value: JSON.stringify(join(folder, 'ubuntu.iso')),
    });
    expect(message).toContain('ubuntu-22.04.iso');
    expect(message).toContain('debian-12.ISO');
    expect(message).not.toContain('notes.txt');
    // It was taken back: a retry says the same, not "already exists".
    const again = await refusal('manage_vm', create({ iso: join(folder, 'ubuntu.iso') }));
    expect(again.error.code).toBe('ISONotFound');
  });

  test('a disk in a folder that does not exist', async () => {
    const { error } = await refusal('manage_vm', create({ disk: `path=${place.root}/none/a.qcow2,size=1G` }));
    expect(error).toMatchObject({
      code: 'DiskMissing',
      field: 'disk',
      value: expect.stringContaining('/none/a.qcow2'),
    });
  });

  test('a disk with a suffix that is none names the parameter', async () => {
    const { error } = await refusal('manage_vm', create({ disk: `path=${place.root}/a.vmdk,size=1M` }));
    expect(error).toMatchObject({ code: 'InvalidSpec', field: 'disk', value: expect.stringContaining('a.vmdk') });
  });

  test('a disk that would shrink names what it has', async () => {
    const disk = 'size=1M';
    await mcp.call('manage_vm', { name: 'kept', action: 'modify', disk: 'size=2M' });
    const { error } = await refusal('manage_vm', { name: 'kept', action: 'modify', disk });
    expect(error).toEqual({ code: 'DiskCannotShrink', field: 'disk', value: '"size=1M"', allowed: ['>= 2M'] });
  });

  test('a disk that another VM has', async () => {
    const disk = join(place.vmDir, 'kept', 'root.qcow2');
    const { error } = await refusal('manage_vm', create({ disk: `path=${disk}` }));
    expect(['DiskInUse', 'PathNotAllowed']).toContain(error.code);
  });
});
