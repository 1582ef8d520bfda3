/** dry_run by a real client on a real machine: what was said is what the call then does, and until then nothing does. */
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { askQemu, imageInfo, makePlace, openMcp, pidOf } from './mcp-client.ts';
import { writeTinyQcow2 } from './support/images.ts';

test('modify: live for a disk, a restart for vcpus', async () => {
  const place = makePlace();
  onTestFinished(() => place.clear());
  const mcp = await openMcp(place);
  onTestFinished(() => mcp.close());
  // A guest that follows the power button: the restart need not wait for the end of the grace period.
  const disk = writeTinyQcow2(join(place.root, 'tiny.qcow2'));
  const bytes = () => imageInfo(disk)['virtual-size'];
  const manage = (action: string, more = {}) => mcp.call('manage_vm', { name: 'web', action, ...more });

  const wanted = { arch: 'x86_64', memory: '64M', vcpus: 1, disk: `path=${disk}` };
  const created = await manage('create', { ...wanted, dry_run: true });
  expect(created).toMatchObject({ success: true, data: { details: { dry_run: true, outcome: 'create' } } });
  expect((await mcp.call('list_vms', {})).data.vm_count).toBe(0);

  await manage('create', wanted);
  expect((await manage('start', { dry_run: true })).data.details).toMatchObject({ process: 'started' });
  expect(pidOf(place.vmDir, 'web')).toBeUndefined();
  await manage('start');
  const pid = pidOf(place.vmDir, 'web');

  const grow = await manage('modify', { disk: 'size=16M', dry_run: true });
  expect(grow.data.details).toMatchObject({ process: 'kept', changes: [{ effect: 'live' }] });
  expect(bytes()).toBe(1_048_576);
  await manage('modify', { disk: 'size=16M' });
  expect(bytes()).toBe(16 * 1_048_576);
  expect(pidOf(place.vmDir, 'web')).toBe(pid);

  const cpus = await manage('modify', { vcpus: 2, dry_run: true });
  expect(cpus.data.details).toMatchObject({ process: 'restarted' });
  expect(cpus.data.details.changes).toContainEqual(expect.objectContaining({ path: 'spec.vcpus', effect: 'restart' }));
  expect(pidOf(place.vmDir, 'web')).toBe(pid);
  expect(await askQemu(place.vmDir, 'web', 'query-cpus-fast')).toHaveLength(1);
  expect(await manage('modify', { vcpus: 2, wait_seconds: 100 })).toMatchObject({
    data: { details: { completed: true } },
  });
  expect(pidOf(place.vmDir, 'web')).not.toBe(pid);
  expect(await askQemu(place.vmDir, 'web', 'query-cpus-fast')).toHaveLength(2);

  const doomed = await manage('delete', { force: true, dry_run: true });
  expect(doomed.data.details.changes).toContainEqual(
    expect.objectContaining({ from: disk, effect: 'live', because: 'disk-stays' }),
  );
  expect(pidOf(place.vmDir, 'web')).toBeDefined();
  expect((await manage('delete', { force: true })).data.details).toMatchObject({
    deleted_disks: [],
    kept_disks: [{ path: disk }],
  });
});
