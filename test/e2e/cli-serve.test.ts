/** The doors of `run`: probes and metrics over HTTP, read by whoever comes. */
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { expect, onTestFinished, test } from 'vitest';
import { CliRig, type Running } from './support/cli-rig.ts';
import { ask, DOORS, doorsOf, logOf } from './support/doors.ts';
import { type Exposition, scrape } from './support/exposition.ts';
import { isAlive, kill, qemusBelow } from './support/process.ts';
import { boundBy, listen } from './support/sockets.ts';
import { until } from './support/wait.ts';

const WEB = { namespace: 'default', name: 'web-1' };

async function served(rig: CliRig): Promise<Running> {
  const running = rig.start(['run', ...DOORS]);
  onTestFinished(async () => void (await running.stop()));
  await running.says(/controller started|standing by/);
  return running;
}

/** kB of a line of /proc/PID/status. */
function kibOf(pid: number, field: string): number {
  const [, kib] = new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib);
}

function untilScraped(what: string, address: string, satisfies: (seen: Exposition) => boolean): Promise<Exposition> {
  return until(what, () => scrape(address), satisfies);
}

test('the life of a machine in figures, each as the kernel and QEMU have it', async () => {
  const rig = new CliRig(onTestFinished);
  const running = await served(rig);
  const { metrics } = await doorsOf(running);
  const host = { spec: { metricsIntervalSeconds: 1 } };
  await rig.ok(['patch', 'qhost', 'localhost', '-p', JSON.stringify(host)]);
  await rig.ok(['apply', '--wait', '-f', rig.manifest('web-1')]);
  const [pid = 0] = qemusBelow(rig.vmDir);
  const ofVm = (seen: Exposition, name: string, labels = {}) =>
    seen.value(`qemu_operator_vm_${name}`, { ...WEB, ...labels });

  const seen = await untilScraped('a sample of the VM', metrics, (one) => ofVm(one, 'cpu_usage_cores') !== undefined);
  expect(ofVm(seen, 'info', { host: 'localhost', architecture: 'x86_64', accelerator: 'TCG' })).toBe(1);
  expect(ofVm(seen, 'phase', { phase: 'Running' })).toBe(1);
  expect(['ready', 'running', 'stalled', 'restarts_total', 'vcpus'].map((name) => ofVm(seen, name))).toEqual([
    1, 1, 0, 0, 1,
  ]);
  expect(ofVm(seen, 'memory_bytes')).toBe(32 * 2 ** 20);
  const resident = ofVm(seen, 'memory_resident_bytes') ?? 0;
  expect(Math.abs(resident - kibOf(pid, 'VmRSS') * 1024)).toBeLessThan(resident / 2);
  expect(Math.abs((ofVm(seen, 'start_time_seconds') ?? 0) - Date.now() / 1000)).toBeLessThan(120);
  expect(ofVm(seen, 'disk_read_bytes_total', { disk: 'root' })).toBeGreaterThan(0);
  expect(seen.value('qemu_operator_host_vms', { host: 'localhost', state: 'running' })).toBe(1);
  expect(seen.value('qemu_operator_host_ready', { host: 'localhost' })).toBe(1);

  const operator = running.child.pid ?? 0;
  expect(Math.abs((seen.value('process_open_fds') ?? 0) - readdirSync(`/proc/${operator}/fd`).length)).toBeLessThan(20);
  const rss = kibOf(operator, 'VmRSS') * 1024;
  expect(Math.abs((seen.value('process_resident_memory_bytes') ?? 0) - rss)).toBeLessThan(rss / 2);
  expect(seen.value('qemu_operator_loop_running')).toBe(1);
  expect(seen.value('qemu_operator_actions_total', { action: 'launch', result: 'success' })).toBe(1);
  expect(seen.text).toContain('qemu_operator_action_duration_seconds_count{action="launch"} 1\n');
  expect(seen.value('controller_runtime_reconcile_total', { result: 'success' })).toBeGreaterThan(0);
  // Nothing of a cluster is claimed without one.
  expect(seen.names).not.toContain('rest_client_requests_total');

  kill(pid, 'SIGKILL');
  const again = await untilScraped('it was started again', metrics, (one) => ofVm(one, 'restarts_total') === 1);
  expect(again.value('controller_runtime_reconcile_total', { result: 'success' })).toBeGreaterThan(
    seen.value('controller_runtime_reconcile_total', { result: 'success' }) ?? 0,
  );
  await rig.ok(['stop', '--force', 'web-1']);
  const stopped = await untilScraped('it is stopped', metrics, (one) => ofVm(one, 'running') === 0);
  expect([ofVm(stopped, 'ready'), ofVm(stopped, 'phase', { phase: 'Stopped' })]).toEqual([1, 1]);
  // A figure of a process that is gone would be one that nobody measured.
  for (const name of ['cpu_usage_cores', 'memory_resident_bytes', 'vcpus'])
    expect(ofVm(stopped, name), name).toBeUndefined();
  await rig.ok(['delete', 'qvm', 'web-1']);
  await untilScraped('nothing is said of it', metrics, ({ text }) => !text.includes('web-1'));

  const launch = logOf(running).find((line) => line['action'] === 'launch');
  expect(launch).toMatchObject({ kind: 'VirtualMachine', ...WEB, host: 'localhost', msg: 'acting' });
});

test('probes: in the words of Kubernetes, and nothing else is to be had', async () => {
  const rig = new CliRig(onTestFinished);
  const running = await served(rig);
  const { metrics, health } = await doorsOf(running);
  expect(await ask(health, '/healthz')).toEqual({ status: 200, text: 'ok' });
  expect(await ask(health, '/readyz')).toEqual({ status: 200, text: 'ok' });
  expect(await ask(health, '/healthz?verbose')).toEqual({ status: 200, text: '[+]ping ok\nhealthz check passed\n' });
  expect(await ask(health, '/readyz?verbose')).toEqual({
    status: 200,
    text: '[+]store ok\n[+]loop ok\nreadyz check passed\n',
  });
  for (const url of [
    `${health}/metrics`,
    `${metrics}/readyz`,
    `${metrics}/`,
    `${metrics}/%2e%2e/<b>`,
    `${metrics}/%`,
  ]) {
    const answer = await fetch(`http://${url}`);
    expect([url, answer.status]).toEqual([url, 404]);
    expect(answer.headers.get('x-powered-by')).toBeNull();
    // Not the words of whoever asked.
    expect(await answer.text()).toBe('404 page not found\n');
  }
  const posted = await fetch(`http://${metrics}/metrics`, { method: 'POST', body: 'x' });
  expect(posted.status).toBe(404);

  // A client that keeps its connection, as Prometheus does, does not keep the process.
  const [host = '', port = ''] = metrics.split(':');
  const idle = connect(Number(port), host);
  await once(idle, 'connect');
  const from = performance.now();
  expect((await running.stop()).code).toBe(0);
  expect(performance.now() - from).toBeLessThan(10_000);
  idle.destroy();
});

test('a store that cannot be read: alive, not ready, and the figures do not lie', async () => {
  const rig = new CliRig(onTestFinished);
  const running = await served(rig);
  const { metrics, health } = await doorsOf(running);
  await rig.ok(['apply', '--wait', '-f', rig.manifest('web-1')]);
  const [pid = 0] = qemusBelow(rig.vmDir);
  const database = new DatabaseSync(join(rig.store, '.state', 'store.db'), { timeout: 5_000 });
  onTestFinished(() => database.close());
  const where = "kind = 'VirtualMachine' AND name = 'web-1'";
  const { json } = database.prepare(`SELECT json FROM objects WHERE ${where}`).get() as { json: string };
  const write = database.prepare(`UPDATE objects SET json = ? WHERE ${where}`);
  write.run(json.replace('"vcpus":1', '"vcpus":7'));
  const unready = await until(
    'it is not ready',
    () => ask(health, '/readyz'),
    ({ status }) => status === 500,
  );
  expect(unready.text).toMatch(/^\[-\]store failed: .*damaged.*\n\[\+\]loop ok\nreadyz check failed\n$/);
  expect(await ask(health, '/healthz')).toEqual({ status: 200, text: 'ok' });
  const blind = await scrape(metrics);
  expect(blind.value('qemu_operator_store_up')).toBe(0);
  expect(blind.names.filter((name) => name.startsWith('qemu_operator_vm_'))).toEqual([]);
  expect(isAlive(pid)).toBe(true);
  write.run(json);
  await until(
    'it is ready',
    () => ask(health, '/readyz'),
    ({ status }) => status === 200,
  );
  expect((await scrape(metrics)).value('qemu_operator_vm_running', WEB)).toBe(1);
});

test('one that stands by is ready, and says that it does not drive', async () => {
  const rig = new CliRig(onTestFinished);
  const first = await served(rig);
  const second = await served(rig);
  const [one, two] = [await doorsOf(first), await doorsOf(second)];
  expect((await ask(two.health, '/readyz')).status).toBe(200);
  const drives = async ({ metrics }: { metrics: string }) =>
    (await scrape(metrics)).value('qemu_operator_loop_running');
  expect([await drives(one), await drives(two)]).toEqual([1, 0]);
  await first.stop('SIGKILL');
  await until(
    'the second drives',
    () => drives(two),
    (is) => is === 1,
  );
});

test('an address that is taken is named with its option, before anything is done', async () => {
  const rig = new CliRig(onTestFinished);
  const { server, port } = await listen();
  onTestFinished(() => void server.close());
  await rig.ok(['apply', '--wait=false', '-f', rig.manifest('web-1')]);
  const taken = `127.0.0.1:${port}`;
  for (const flag of ['--metrics-bind-address', '--health-probe-bind-address']) {
    const ended = await rig.run(['run', ...DOORS, flag, taken]);
    expect(ended.code).toBe(1);
    // Node 22 has a warning of its own before it.
    expect(ended.stderr.trimEnd().split('\n').at(-1)).toBe(
      `error: ${flag} ${taken} cannot be served: another process listens there; choose another address, or 0 for none`,
    );
    expect(ended.stderr).not.toContain('controller started');
    expect(qemusBelow(rig.vmDir)).toEqual([]);
  }
  const wrong = await rig.run(['run', '--metrics-bind-address', '8080']);
  expect([wrong.code, wrong.stderr]).toEqual([
    2,
    expect.stringContaining('--metrics-bind-address "8080" is no address'),
  ]);
});

test('without the options nothing listens', async () => {
  const rig = new CliRig(onTestFinished);
  const running = await rig.controller(onTestFinished);
  const none = rig.start(['run', '--metrics-bind-address', '0', '--health-probe-bind-address', '0']);
  onTestFinished(async () => void (await none.stop()));
  await none.says(/standing by/);
  for (const { child } of [running, none]) expect(boundBy(child.pid ?? 0, 'tcp')).toEqual([]);
});
