/** manage_vm where no host is needed: the arguments, the objects it writes, and what it refuses. */
import { beforeEach, describe, expect, test } from 'vitest';
import { parseDisk } from '../../src/mcp/disk-argument.ts';
import { objectNames } from '../../src/mcp/manage/create.ts';
import { en } from '../../src/messages/en.ts';
import { type Bench, makeBench } from './mcp-fakes.ts';

let bench: Bench;

beforeEach(async () => {
  bench = await makeBench();
  await bench.addHost('localhost');
});

const spec = async (name: string, namespace = 'default') =>
  (await bench.store.get('VirtualMachine', { namespace, name }))?.spec;

describe('the disk parameter', () => {
  test.each([
    ['path=/data/vm/disk.qcow2,size=20G', { path: '/data/vm/disk.qcow2', size: '20Gi' }],
    ['size=4096M', { size: '4Gi' }],
    ['path=/a', { path: '/a' }],
    [' size=1G , path=/a b/c.raw ', { path: '/a b/c.raw', size: '1Gi' }],
    ['path=/a,,b.qcow2', { path: '/a,b.qcow2' }],
  ])('%j', (text, disk) => {
    expect(parseDisk(text, en)).toEqual(disk);
  });

  test.each([
    '',
    'path=',
    'size=',
    '20G',
    'path=a',
    'path=/a,',
    'path=/a,format=raw',
    'size=1X',
    'size=-1G',
    'size=9999999P',
  ])('not %j', (text) => {
    expect(() => parseDisk(text, en)).toThrow(/disk: /);
  });

  test.each(['9999999T', '0.5G', '512K', '5000T', '0'])(
    'the size %s alone is at fault, and the bounds are told',
    (size) => {
      const at = `disk: "${size}" must be a whole size such as 20G or 512M, from 1M to 4096T`;
      expect(() => parseDisk(`path=/a.qcow2,size=${size}`, en)).toThrow(at);
    },
  );
  test.each(['1M', '4096T', '4P'])('the size %s is one', (size) => {
    expect(parseDisk(`size=${size}`, en)).toHaveProperty('size');
  });
});

test.each([
  ['web-1', 'web-1'],
  ['ubuntu-22.04', 'ubuntu-22.04'],
  ['Web_1', /^web-1-[0-9a-f]{6}$/],
  ['a..b', /^a-b-[0-9a-f]{6}$/],
  ['X'.repeat(63), /^x{63}-[0-9a-f]{6}$/],
])('the object of VM %s', (vmName, object) => {
  const { first, otherwise } = objectNames(vmName, 'localhost');
  if (typeof object === 'string') expect(first).toBe(object);
  else expect(first).toMatch(object);
  expect(otherwise).toMatch(/^[a-z0-9-]+-[0-9a-f]{6}$/);
  expect(objectNames(vmName, 'other').otherwise).not.toBe(otherwise);
});

describe('create', () => {
  const create = (more: Record<string, unknown> = {}) =>
    bench.call('manage_vm', { name: 'new', action: 'create', arch: 'x86_64', wait_seconds: 0, ...more });

  test('writes what was asked for, and the defaults of the specification', async () => {
    const { data } = await create();
    expect(data.details).toMatchObject({
      completed: false,
      namespace: 'default',
      object: 'new',
      vcpus: 2,
      memory: '2G',
    });
    expect(await spec('new')).toMatchObject({
      hostName: 'localhost',
      architecture: 'x86_64',
      powerState: 'PoweredOff',
      vcpus: 2,
      memory: '2Gi',
      disks: [{ name: 'root', size: '20Gi', format: 'qcow2' }],
    });
    expect(await spec('new')).not.toHaveProperty('vmName');
    expect(await spec('new')).not.toHaveProperty('vmDir');
  });

  test('sizes are binary, a raw suffix is raw, the default vm_dir is the host’s', async () => {
    await create({
      memory: '512M',
      vcpus: 8,
      disk: 'path=/d/a.img,size=1G',
      iso: '/iso/a.iso',
      vm_dir: '/var/lib/qemu/',
    });
    expect(await spec('new')).toMatchObject({
      memory: '512Mi',
      vcpus: 8,
      disks: [{ name: 'root', path: '/d/a.img', format: 'raw', size: '1Gi' }],
      cdroms: [{ name: 'install', path: '/iso/a.iso' }],
    });
    expect(await spec('new')).not.toHaveProperty('vmDir');
    await create({ name: 'there', vm_dir: '/other/' });
    expect(await spec('there')).toMatchObject({ vmDir: '/other' });
  });

  test('an object name that is taken, or cannot be, gets a hash; the VM keeps its name', async () => {
    await bench.addHost('h2');
    await bench.addVm('new', { host: 'h2' });
    const { data } = await create();
    expect(data.details.object).toMatch(/^new-[0-9a-f]{6}$/);
    expect(await spec(data.details.object)).toMatchObject({ vmName: 'new', hostName: 'localhost' });
    const capital = await create({ name: 'New_VM' });
    expect(await spec(capital.data.details.object)).toMatchObject({ vmName: 'New_VM' });
  });

  test('a name is unique on its host over all namespaces', async () => {
    await bench.addVm('new', { namespace: 'team', object: 'other' });
    expect(await create()).toMatchObject({ success: false, data: { error: { code: 'AlreadyExists' } } });
  });

  test('a host that is not ready, and why', async () => {
    const at = '2026-01-02T03:04:05Z';
    const conditions = [
      {
        type: 'Ready',
        status: 'False' as const,
        reason: 'ClaimedByAnother',
        message: 'store abc has it',
        lastTransitionTime: at,
      },
    ];
    await bench.addHost('h2', { conditions });
    const answer = await create({ host: 'h2' });
    expect(answer).toMatchObject({
      success: false,
      data: { host: 'h2', error: { code: 'ClaimedByAnother', field: 'host' } },
    });
    expect(answer.message).toContain('store abc has it');
    expect(await spec('new')).toBeUndefined();
  });
});

describe('power', () => {
  const manage = (action: string, more: Record<string, unknown> = {}) =>
    bench.call('manage_vm', { name: 'x', action, wait_seconds: 0, ...more });

  test('start of a VM without a process: on, and a new nonce', async () => {
    await bench.addVm('x');
    await manage('start');
    expect(await spec('x')).toMatchObject({ powerState: 'PoweredOn', restartedAt: expect.stringMatching(/^20/) });
  });

  test('start of a running VM writes no nonce, so that it is not restarted', async () => {
    await bench.addVm('x', { seen: 'running', spec: { powerState: 'PoweredOn' } });
    const answer = await manage('start', { wait_seconds: 5 });
    expect(answer).toMatchObject({ success: true, message: 'VM x is already running; nothing was changed' });
    expect(await spec('x')).not.toHaveProperty('restartedAt');
  });

  test('stop of a stopped VM succeeds and says so', async () => {
    await bench.addVm('x');
    expect(await manage('stop', { wait_seconds: 5 })).toMatchObject({
      success: true,
      message: 'VM x is already stopped; nothing was changed',
      data: { details: { completed: true, changed: false } },
    });
  });

  test.each([
    ['stop', {}, { powerState: 'PoweredOff' }],
    ['stop', { force: true }, { powerState: 'ForcedOff' }],
    ['restart', {}, { powerState: 'PoweredOn', restartedAt: expect.stringMatching(/^20/) }],
  ])('%s %o', async (action, more, expected) => {
    await bench.addVm('x', { seen: 'running', spec: { powerState: 'PoweredOn' } });
    await manage(action, more);
    expect(await spec('x')).toMatchObject(expected);
  });

  test('a VM that is being deleted is left to it', async () => {
    const { metadata } = await bench.addVm('x');
    await bench.store.patch('VirtualMachine', metadata, {
      metadata: { finalizers: ['qemu-operator.dev/host-cleanup'] },
    });
    await bench.store.delete('VirtualMachine', metadata);
    for (const action of ['start', 'stop', 'restart']) {
      expect(await manage(action)).toMatchObject({ success: false, data: { error: { code: 'Terminating' } } });
    }
    expect(await manage('delete')).toMatchObject({ success: true, data: { details: { completed: false } } });
    expect(await bench.call('manage_vm', { name: 'x', action: 'create', arch: 'x86_64' })).toMatchObject({
      success: false,
      data: { error: { code: 'AlreadyExists' } },
    });
  });
});

describe('modify', () => {
  const modify = (more: Record<string, unknown>) =>
    bench.call('manage_vm', { name: 'x', action: 'modify', wait_seconds: 0, ...more });

  test('of a running VM writes the figures and the restart in one change', async () => {
    const before = await bench.addVm('x', { seen: 'running', spec: { powerState: 'PoweredOn' } });
    await modify({ memory: '4G', vcpus: 4 });
    const after = await bench.store.get('VirtualMachine', before.metadata);
    expect(after?.spec).toMatchObject({
      memory: '4Gi',
      vcpus: 4,
      restartedAt: expect.any(String),
      powerState: 'PoweredOn',
    });
    expect(after?.metadata.generation).toBe(before.metadata.generation + 1);
  });

  test('of a stopped VM starts nothing', async () => {
    await bench.addVm('x');
    const { data } = await modify({ memory: '4G' });
    expect(data.details).toMatchObject({ restarted: false, memory: { before: '2G', after: '4G' } });
    expect(await spec('x')).toMatchObject({ memory: '4Gi', powerState: 'PoweredOff' });
    expect(await spec('x')).not.toHaveProperty('restartedAt');
  });

  const ready = (status: 'True' | 'False', reason: string) => [
    { type: 'Ready', status, reason, message: reason, lastTransitionTime: '2026-01-02T03:04:05Z' },
    {
      type: 'Running',
      status: 'False' as const,
      reason: 'Stopped',
      message: '',
      lastTransitionTime: '2026-01-02T03:04:05Z',
    },
  ];
  const lastExit = { reason: 'Crashed', message: 'it crashed', at: '2026-01-02T03:04:05Z' };

  test.each([
    ['whose launch fails is not in force', { conditions: ready('False', 'LaunchFailed') }, false],
    ['that waits for its restart neither', { conditions: ready('False', 'CrashLoopBackOff'), lastExit }, false],
    ['that powered itself off is', { conditions: ready('True', 'GuestPoweredOff') }, true],
    ['that crashed and is left off is', { conditions: ready('False', 'Crashed'), lastExit }, true],
  ])('of a VM %s', async (_title, status, isInForce) => {
    const vm = await bench.addVm('x', { spec: { powerState: 'PoweredOn' }, status });
    const call = modify({ memory: '4G', wait_seconds: isInForce ? 30 : 1 });
    // The loop has looked at the newer spec, and nothing runs yet.
    await expect.poll(async () => (await spec('x'))?.memory).toBe('4Gi');
    const seen = { ...vm.status, ...status, observedGeneration: 2 };
    await bench.store.updateStatus('VirtualMachine', vm.metadata, seen, { uid: vm.metadata.uid });
    expect(await call).toMatchObject({ success: true, data: { details: { completed: isInForce, restarted: false } } });
    // A launch with the former figures that is under way is followed by one with these.
    expect((await spec('x'))?.restartedAt === undefined).toBe(isInForce);
  });

  test('touches only the disk that was meant', async () => {
    const disks = [
      { name: 'a', size: '1Gi' },
      { name: 'b', path: '/d/b.qcow2', size: '1Gi' },
    ];
    await bench.addVm('x', { spec: { disks } });
    expect(await modify({ disk: 'size=2G' })).toMatchObject({
      success: false,
      data: { error: { field: 'disk', allowed: ['/vms/x/a.qcow2', '/d/b.qcow2'] } },
    });
    await modify({ disk: 'path=/d/b.qcow2,size=2G' });
    expect((await spec('x'))?.disks).toMatchObject([
      { name: 'a', size: '1Gi' },
      { name: 'b', size: '2Gi' },
    ]);
  });

  test('a disk without its new size is refused', async () => {
    await bench.addVm('x', { spec: { disks: [{ name: 'a', size: '1Gi' }] } });
    expect(await modify({ disk: 'path=/vms/x/a.qcow2' })).toMatchObject({
      success: false,
      data: { error: { field: 'disk' } },
    });
  });
});

describe('delete', () => {
  test('keep_disks is refused where a detached disk would go all the same', async () => {
    await bench.addVm('x', {
      status: { disks: [{ name: 'old', path: '/vms/x/old.qcow2', state: 'Detached', reclaim: 'Delete' }] },
    });
    const answer = await bench.call('manage_vm', { name: 'x', action: 'delete', keep_disks: true });
    expect(answer).toMatchObject({ success: false, data: { error: { field: 'keep_disks' } } });
    expect(answer.message).toContain('/vms/x/old.qcow2');
    expect(await spec('x')).toBeDefined();
  });

  test('an object that nothing on a host belongs to is gone at once', async () => {
    await bench.addVm('x', { seen: undefined });
    expect(await bench.call('manage_vm', { name: 'x', action: 'delete' })).toMatchObject({
      success: true,
      data: { details: { completed: true, deleted_disks: [], kept_disks: [] } },
    });
  });
});

test('a stall is a refusal with its reason, in the language of the server', async () => {
  const at = '2026-01-02T03:04:05Z';
  const vm = await bench.addVm('x', { spec: { powerState: 'PoweredOn', restartedAt: 'a' } });
  const call = bench.call('manage_vm', { name: 'x', action: 'start' }, { language: 'zh' });
  await new Promise((resolve) => setTimeout(resolve, 50));
  const condition = {
    status: 'True' as const,
    reason: 'StorageMissing',
    message: '/vms/x\u0007is gone',
    lastTransitionTime: at,
  };
  await bench.store.updateStatus(
    'VirtualMachine',
    vm.metadata,
    { observedGeneration: 2, phase: 'Failed', conditions: [{ type: 'Stalled', ...condition }] },
    { uid: vm.metadata.uid },
  );
  const answer = await call;
  expect(answer).toMatchObject({
    success: false,
    data: { error: { code: 'StorageMissing', field: 'disk', next: { tool: 'list_vms' } } },
  });
  expect(answer.message).toBe('虚拟机x start失败：存储缺失（/vms/x is gone）');
});

test('a cancelled call has no answer', async () => {
  await bench.addVm('x');
  const abort = new AbortController();
  const call = bench.call('manage_vm', { name: 'x', action: 'start' }, { signal: abort.signal });
  setTimeout(() => abort.abort(new Error('cancelled')), 30);
  await expect(call).rejects.toThrow('cancelled');
  // The change goes on.
  expect(await spec('x')).toMatchObject({ powerState: 'PoweredOn' });
});
