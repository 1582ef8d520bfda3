/** dry_run of every action: what would change and how, and not one write. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { WHYS } from '../../src/api/foreseen.ts';
import { en } from '../../src/messages/en.ts';
import { zh } from '../../src/messages/zh.ts';
import { type Bench, makeBench } from './mcp-fakes.ts';

let bench: Bench;
let before: unknown;

const all = async () => [await bench.store.list('VirtualMachine'), await bench.store.list('Host')];
const dry = (action: string, more: Record<string, unknown> = {}, options = {}) =>
  bench.call('manage_vm', { name: 'x', action, dry_run: true, ...more }, options);

beforeEach(async () => {
  bench = await makeBench();
  await bench.addHost('localhost');
});
afterEach(async () => {
  // Revisions included: nothing was written, not even an annotation that asks for a look.
  expect(await all()).toEqual(before);
});

async function having(options?: Parameters<Bench['addVm']>[1]): Promise<void> {
  if (options !== undefined) await bench.addVm('x', options);
  before = await all();
}

const running = (spec: object = {}, status: object = {}) => ({
  seen: 'running' as const,
  spec: { powerState: 'PoweredOn', disks: [{ name: 'root', size: '20Gi' }], ...spec },
  status: {
    vcpus: 2,
    memory: '2Gi',
    disks: [
      {
        name: 'root',
        path: '/vms/x/root.qcow2',
        state: 'Created' as const,
        virtualSize: '20Gi',
        reclaim: 'Delete' as const,
      },
    ],
    ...status,
  },
});

test('create: every field of the new VM, which stays off', async () => {
  await having();
  const { success, message, data } = await dry('create', { arch: 'arm64', memory: '1G' });
  expect({ success, message }).toEqual({
    success: true,
    message: expect.stringMatching(/^dry run: create would make \d+ change\(s\) to VM x; its process stays absent/),
  });
  expect(data.details).toMatchObject({ dry_run: true, outcome: 'create', process: 'none', notes: [] });
  expect(data.details.changes).toContainEqual({
    path: 'spec.memory',
    to: '1Gi',
    effect: 'create',
    because: 'new-object',
    why: 'the object is new',
  });
});

test('modify of a running VM: a disk grows live, vcpus need the restart that modify brings', async () => {
  await having(running());
  const { data } = await dry('modify', { vcpus: 4, disk: 'size=40G' });
  expect(data.details).toMatchObject({ outcome: 'change', process: 'restarted', waiting_for_restart: [] });
  const effects = Object.fromEntries(
    data.details.changes.map(({ path, effect }: { path: string; effect: string }) => [path, effect]),
  );
  expect(effects).toEqual({
    'spec.vcpus': 'restart',
    'spec.disks[root].size': 'live',
    'spec.restartedAt': 'restart',
  });
});

test('modify of a disk alone restarts nothing', async () => {
  await having(running());
  const { data } = await dry('modify', { disk: 'size=40G' });
  expect(data.details).toMatchObject({
    process: 'kept',
    changes: [{ path: 'spec.disks[root].size', from: '20Gi', to: '40Gi', effect: 'live', because: 'disk-grows-live' }],
  });
});

test('what the call would refuse, its dry run refuses', async () => {
  await having(running({ disks: [{ name: 'root', format: 'raw', path: '/d/x.raw' }] }));
  const raw = await dry('modify', { disk: 'path=/d/x.raw,size=40G' });
  expect(raw).toMatchObject({ success: false, data: { error: { code: 'RawDiskNotGrown' } } });
  expect(await dry('modify', { vcpus: 2 })).toMatchObject({
    success: false,
    message: expect.stringMatching(/nothing to change/),
  });
  expect(await dry('create', { arch: 'x86_64' })).toMatchObject({ data: { error: { code: 'AlreadyExists' } } });
  expect(await dry('start', { memory: '1G' })).toMatchObject({ data: { error: { field: 'memory' } } });
  expect(await dry('delete', {}, { noDelete: true })).toMatchObject({ data: { error: { code: 'DeleteNotAllowed' } } });
  expect(await dry('start', {}, { readOnly: true })).toMatchObject({ data: { error: { code: 'ReadOnly' } } });
});

test('create on a host without that QEMU is refused without a look', async () => {
  await bench.addHost('bare', { info: { qemu: {} } });
  await having();
  const answer = await dry('create', { arch: 'x86_64', host: 'bare' });
  expect(answer).toMatchObject({ success: false, data: { error: { code: 'QEMUNotInstalled' } } });
});

test('start, stop and restart', async () => {
  await having({ seen: 'stopped' });
  expect((await dry('start')).data.details).toMatchObject({ process: 'started' });
  expect((await dry('stop')).data.details).toMatchObject({ outcome: 'none', process: 'none', changes: [] });
});

test('stop and restart of a running one; start changes nothing', async () => {
  await having(running());
  expect(await dry('start')).toMatchObject({
    message: 'dry run: start would change nothing of VM x',
    data: { details: { outcome: 'none', process: 'kept' } },
  });
  expect((await dry('stop')).data.details).toMatchObject({
    process: 'stopped',
    changes: [{ path: 'spec.powerState', from: 'PoweredOn', to: 'PoweredOff', effect: 'stop' }],
  });
  expect((await dry('restart')).data.details).toMatchObject({
    process: 'restarted',
    changes: [{ path: 'spec.restartedAt', effect: 'restart', because: 'restart-asked' }],
  });
});

test('delete: which files go and which stay', async () => {
  await having(running());
  expect((await dry('delete')).data.details).toMatchObject({
    outcome: 'delete',
    process: 'stopped',
    changes: [
      { effect: 'delete', because: 'object-goes' },
      { path: 'spec.disks[root]', from: '/vms/x/root.qcow2', effect: 'delete', because: 'disk-goes' },
    ],
  });
  const kept = await dry('delete', { keep_disks: true });
  expect(kept.data.details.changes[1]).toMatchObject({ effect: 'live', because: 'disk-stays' });
});

test('in Chinese', async () => {
  await having(running());
  const { message, data } = await dry('modify', { disk: 'size=40G' }, { language: 'zh' });
  expect(message).toBe('预演：modify将对虚拟机x做1处更改；进程保持不变。未写入任何内容');
  expect(data.details.changes[0].why).toBe('磁盘在线扩容，客户机继续运行');
});

test('every why has one sentence in both languages', async () => {
  before = await all();
  for (const why of WHYS) {
    for (const say of [en, zh]) expect(say.foreseen(why, 'DETAIL')).toMatch(/\S/);
    expect(en.foreseen(why, 'D').includes('D'), why).toBe(zh.foreseen(why, 'D').includes('D'));
  }
});
