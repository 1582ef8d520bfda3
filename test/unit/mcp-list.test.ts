/** list_vms from what the store says. */
import { beforeEach, describe, expect, test } from 'vitest';
import { type Bench, makeBench } from './mcp-fakes.ts';

let bench: Bench;

beforeEach(async () => {
  bench = await makeBench();
  await bench.addHost('localhost');
});

const names = (result: { data: { vms: { name: string }[] } }) => result.data.vms.map(({ name }) => name);

test('an empty host', async () => {
  expect(await bench.call('list_vms')).toEqual({
    success: true,
    message: '0 VM(s) on localhost',
    data: { host: 'localhost', vm_count: 0, vms: [] },
  });
});

test('one VM in full', async () => {
  await bench.addVm('web', {
    seen: 'running',
    spec: {
      memory: '2Gi',
      disks: [
        { name: 'root', size: '20Gi' },
        { name: 'data', path: '/d/x.raw', format: 'raw', size: '1Gi' },
      ],
    },
    status: {
      vcpus: 4,
      memory: '512Mi',
      disks: [{ name: 'root', path: '/vms/web/root.qcow2', virtualSize: '30Gi', state: 'Created' }],
      interfaces: [
        { name: 'net0', mac: '52:54:00:00:00:01', ips: ['10.0.2.15', 'fec0::1'] },
        { name: 'net1', mac: '52:54:00:00:00:02' },
      ],
    },
  });
  const [{ metadata } = { metadata: undefined }] = (await bench.store.list('VirtualMachine')).items;
  const { data } = await bench.call('list_vms');
  expect(data.vms).toEqual([
    {
      name: 'web',
      arch: 'x86_64',
      // The figures of the process that runs.
      vcpus: 4,
      memory: '512M',
      disk: 'path=/vms/web/root.qcow2,size=30G',
      disks: [
        { path: '/vms/web/root.qcow2', size: '30G', format: 'qcow2' },
        { path: '/d/x.raw', size: '1G', format: 'raw' },
      ],
      status: 'running',
      managed: true,
      host: 'localhost',
      namespace: 'default',
      uid: metadata?.uid,
      resource_version: metadata?.resourceVersion,
      phase: 'Running',
      ips: ['10.0.2.15', 'fec0::1'],
    },
  ]);
});

test('running, stopped, and what cannot be seen', async () => {
  await bench.addVm('a-run', { seen: 'running' });
  await bench.addVm('b-stop', { seen: 'stopped' });
  // What was last seen of it says nothing of now.
  await bench.addVm('c-away', { seen: 'unreachable', status: { pid: 7 } });
  await bench.addVm('d-new', { seen: undefined });
  const all = await bench.call('list_vms');
  expect(all.data.vms.map(({ status }: { status: string }) => status)).toEqual([
    'running',
    'stopped',
    'unknown',
    'unknown',
  ]);
  expect(names(await bench.call('list_vms', { status: 'running' }))).toEqual(['a-run']);
  expect(names(await bench.call('list_vms', { status: 'stopped' }))).toEqual(['b-stop']);
  expect((await bench.call('list_vms', { status: 'all' })).data.vm_count).toBe(4);
});

test('filters', async () => {
  await bench.addVm('Ubuntu-1', { object: 'ubuntu-1' });
  await bench.addVm('my-ubuntu', { spec: { architecture: 'arm64' } });
  await bench.addVm('debian', { namespace: 'team', spec: { vmDir: '/other' } });
  expect(names(await bench.call('list_vms', { filter_name: 'UBUNTU' }))).toEqual(['Ubuntu-1', 'my-ubuntu']);
  expect(names(await bench.call('list_vms', { arch: 'aarch64' }))).toEqual(['my-ubuntu']);
  expect(names(await bench.call('list_vms', { arch: 'amd64' }))).toEqual(['Ubuntu-1', 'debian']);
  expect(names(await bench.call('list_vms', { namespace: 'team' }))).toEqual(['debian']);
  expect(names(await bench.call('list_vms', { vm_dir: '/other' }))).toEqual(['debian']);
  // The default of the specification means the host's own folder.
  expect(names(await bench.call('list_vms', { vm_dir: '/var/lib/qemu' }))).toEqual(['Ubuntu-1', 'my-ubuntu']);
  expect((await bench.call('list_vms', { filter_name: '.*' })).data.vm_count).toBe(0);
});

test('pages: sorted, without a gap or a repetition, counted over all', async () => {
  const wanted = Array.from({ length: 23 }, (_, index) => `vm-${String(index).padStart(2, '0')}`);
  for (const name of wanted.toReversed()) await bench.addVm(name);
  const seen: string[] = [];
  let cursor: string | undefined;
  do {
    const page: Awaited<ReturnType<Bench['call']>> = await bench.call('list_vms', {
      limit: 5,
      ...(cursor === undefined ? {} : { cursor }),
    });
    expect(page.data.vm_count).toBe(23);
    expect(page.data.vms.length).toBeLessThanOrEqual(5);
    seen.push(...names(page));
    cursor = page.data.next_cursor;
  } while (cursor !== undefined);
  expect(seen).toEqual(wanted);
});

test('a page goes on after its last VM, also when that one is gone', async () => {
  for (const name of ['a', 'b', 'c']) await bench.addVm(name);
  const { data } = await bench.call('list_vms', { limit: 1 });
  await bench.store.delete('VirtualMachine', { namespace: 'default', name: 'a' });
  expect(names(await bench.call('list_vms', { limit: 5, cursor: data.next_cursor }))).toEqual(['b', 'c']);
});

test('the same name in two namespaces is listed twice', async () => {
  await bench.addVm('x');
  await bench.addVm('x', { namespace: 'team' });
  const first = await bench.call('list_vms', { limit: 1 });
  const second = await bench.call('list_vms', { limit: 1, cursor: first.data.next_cursor });
  expect([first, second].map(({ data }) => data.vms[0].namespace)).toEqual(['default', 'team']);
  expect(second.data).not.toHaveProperty('next_cursor');
});

test('folders without an object are listed as not managed, their names as plain text', async () => {
  await bench.addHost('h2', {
    unclaimed: [
      {
        name: 'left\u001b[31mover',
        vmDir: '/vms',
        running: true,
        architecture: 'arm64',
        vcpus: 2,
        memory: '1Gi',
        disks: [{ path: '/vms/l/root.qcow2', size: '2Gi' }],
      },
      { name: 'bare', vmDir: '/vms', running: false },
    ],
  });
  const { data } = await bench.call('list_vms', { host: 'h2' });
  expect(data.vms).toEqual([
    { name: 'bare', disks: [], status: 'stopped', managed: false, host: 'h2', folder: '/vms/bare' },
    {
      name: 'left [31mover',
      arch: 'arm64',
      vcpus: 2,
      memory: '1G',
      disk: 'path=/vms/l/root.qcow2,size=2G',
      disks: [{ path: '/vms/l/root.qcow2', size: '2G' }],
      status: 'running',
      managed: false,
      host: 'h2',
      folder: '/vms/left [31mover',
    },
  ]);
  const missing = await bench.call('manage_vm', { host: 'h2', name: 'bare', action: 'start' });
  expect(missing).toMatchObject({ success: false, data: { error: { code: 'NotFound' } } });
  expect(missing.message).toContain('/vms/bare');
});

test('an empty answer says where there are VMs', async () => {
  await bench.addHost('h2');
  await bench.addVm('far', { host: 'h2' });
  expect((await bench.call('list_vms')).data).toMatchObject({ vm_count: 0, other_hosts: { h2: 1 } });
});

describe('without a Host named localhost', () => {
  beforeEach(async () => {
    await bench.store.delete('Host', { name: 'localhost' });
    await bench.addHost('h1');
    await bench.addHost('h2');
    await bench.addVm('only', { host: 'h1' });
    await bench.addVm('both', { host: 'h1', object: 'both-1' });
    await bench.addVm('both', { host: 'h2', object: 'both-2' });
  });

  test('all hosts are listed, each VM with its own', async () => {
    const { data, message } = await bench.call('list_vms');
    expect(message).toBe('3 VM(s) on all');
    expect(data.host).toBe('all');
    expect(data.vms.map(({ name, host }: { name: string; host: string }) => [name, host])).toEqual([
      ['both', 'h1'],
      ['both', 'h2'],
      ['only', 'h1'],
    ]);
  });

  test('a name that one host has is resolved, another is asked for', async () => {
    expect(await bench.call('monitor_vm_status', { name: 'only' })).toMatchObject({
      data: { error: { code: 'NotRunning' } },
    });
    expect(await bench.call('manage_vm', { name: 'both', action: 'start' })).toMatchObject({
      success: false,
      data: { error: { code: 'InvalidArgument', field: 'host', allowed: ['h1', 'h2'] } },
    });
  });

  test('create names the hosts to choose from', async () => {
    expect(await bench.call('manage_vm', { name: 'new', action: 'create', arch: 'arm64' })).toMatchObject({
      success: false,
      data: { error: { field: 'host', allowed: ['h1', 'h2'] } },
    });
  });
});

test('Chinese', async () => {
  for (const name of ['a', 'b', 'c']) await bench.addVm(name, { seen: 'running' });
  const message = async (args: Record<string, unknown>) =>
    (await bench.call('list_vms', args, { language: 'zh' })).message;
  expect(await message({ status: 'running' })).toBe('成功获取本地运行中虚拟机，共3个');
  expect(await message({ status: 'stopped' })).toBe('成功获取本地已停止虚拟机，共0个');
  expect(await message({})).toBe('成功获取本地虚拟机，共3个');
});
