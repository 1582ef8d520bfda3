/** Ports of the host that lead to guests, on real QEMU: what is bound is read from /proc and from QEMU itself. */
import { expect, test } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { kill } from './support/process.ts';
import { conditionOf, Rig, readyOf } from './support/rig.ts';
import { freePort, listen, listening } from './support/sockets.ts';
import { until } from './support/wait.ts';

type Fields = Readonly<Record<string, unknown>>;

const user = (...hostForwards: readonly Fields[]) => ({ networks: [{ name: 'net0', user: { hostForwards } }] });
const forwardsIn = ({ status }: VirtualMachine) => status?.interfaces?.flatMap(({ forwards = [] }) => forwards) ?? [];

test('a port is chosen, bound, shown, and the same after a restart, a crash and a stop', async ({ onTestFinished }) => {
  const rig = await Rig.start(onTestFinished);
  await rig.create('web-1', user({ guestPort: 22 }));
  const first = await rig.untilRunning('web-1');
  const [forward] = forwardsIn(await rig.vm('web-1'));
  const port = forward?.hostPort ?? 0;
  expect(forward).toEqual({ protocol: 'TCP', hostAddress: '127.0.0.1', hostPort: port, guestPort: 22 });
  expect(listening(first)).toEqual([port]);
  expect((await rig.vm('web-1')).status?.ports).toBe(`127.0.0.1:${port}->22/TCP`);
  await rig.edit('web-1', { restartedAt: 'again' });
  const second = await rig.untilRestarted('web-1', first);
  expect(listening(second)).toEqual([port]);
  kill(second, 'SIGKILL');
  const third = await rig.untilRestarted('web-1', second);
  expect(listening(third)).toEqual([port]);
  await rig.edit('web-1', { powerState: 'PoweredOff' });
  await rig.untilSettled('web-1', 'Stopped');
  // Another one takes it meanwhile: the next is chosen.
  const { server } = await listen(port);
  onTestFinished(async () => void server.close());
  await rig.edit('web-1', { powerState: 'PoweredOn' });
  const fourth = await rig.untilRunning('web-1');
  const [moved] = forwardsIn(await rig.vm('web-1'));
  expect(moved?.hostPort).not.toBe(port);
  expect(listening(fourth)).toEqual([moved?.hostPort]);
});

test('a forwarded port that is taken is PortInUse and names who has it; it clears once the port is free', async ({
  onTestFinished,
}) => {
  const rig = await Rig.start(onTestFinished);
  const { server, port } = await listen();
  await rig.create('web-1', user({ hostPort: port, guestPort: 80 }));
  const taken = await rig.untilReason('web-1', 'PortInUse');
  expect([readyOf(taken)?.message, conditionOf(taken, 'Stalled')?.status]).toEqual([
    `network net0: 127.0.0.1:${port}/TCP of the host is taken by node (pid ${process.pid}); it is forwarded once the port is free, or choose another hostPort`,
    'True',
  ]);
  server.close();
  const pid = await rig.untilRunning('web-1');
  expect(listening(pid)).toEqual([port]);
  await rig.create('db', user({ hostPort: port, guestPort: 5432 }));
  expect(readyOf(await rig.untilReason('db', 'PortInUse'))?.message).toMatch(/is taken by VM default\/web-1;/);
  await rig.delete('web-1');
  await rig.untilRunning('db');
});

test('forwards follow the spec without a restart', async ({ onTestFinished }) => {
  const rig = await Rig.start(onTestFinished);
  const [one, two] = [await freePort(), await freePort()];
  await rig.create('web-1', user({ hostPort: one, guestPort: 80 }));
  const pid = await rig.untilRunning('web-1');
  await rig.edit('web-1', user({ hostPort: two, guestPort: 80 }, { guestPort: 22 }));
  const told = await rig.until('web-1', 'two forwards', (vm) => forwardsIn(vm).length === 2);
  const chosen = forwardsIn(told)[1]?.hostPort ?? 0;
  expect(listening(pid)).toEqual([two, chosen].sort());
  expect(conditionOf(told, 'RestartRequired')).toBeUndefined();
  const { server, port } = await listen();
  await rig.edit('web-1', user({ hostPort: port, guestPort: 80 }, { guestPort: 22 }));
  await rig.untilReason('web-1', 'PortInUse');
  expect(listening(pid)).toEqual([two, chosen].sort());
  server.close();
  expect(await rig.untilRunning('web-1')).toBe(pid);
  expect(listening(pid)).toEqual([port, chosen].sort());
  await rig.edit('web-1', user());
  await until(
    'no forwards are left',
    () => listening(pid),
    (ports) => ports.length === 0,
  );
  expect(await rig.untilRunning('web-1')).toBe(pid);
});
