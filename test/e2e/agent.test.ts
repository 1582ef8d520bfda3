/** Guests with a real QEMU guest agent, and with things in its place that are none. The guest's own shell is the oracle. */
import { execFileSync } from 'node:child_process';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { TestConsole } from '../guests/console.ts';
import { linuxGuest } from '../guests/linux.ts';
import { humanMonitor, qmp } from './support/oracle.ts';
import { argvOf, isAlive } from './support/process.ts';
import { conditionOf, type OnFinished, Rig, type RigOptions } from './support/rig.ts';
import { standIn, TestShell } from './support/stand-ins.ts';

const BOOT_MS = 90_000;
const NET = { networks: [{ name: 'net0', user: {} }] };

async function linuxVm(onFinished: OnFinished, spec: object = {}, options: RigOptions = {}) {
  const rig = await Rig.start(onFinished, options);
  const path = rig.path('images', 'linux.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', await linuxGuest(), '-F', 'qcow2', path]);
  await rig.create('linux', { disks: [{ name: 'root', path }], memory: '128Mi', ...NET, ...spec });
  const pid = await rig.untilRunning('linux');
  await rig.untilPrinted('linux', /linux:~# /, BOOT_MS);
  const console = await TestConsole.to(join(rig.folder('linux'), 'console.sock'));
  onFinished(async () => console.close());
  return { rig, pid, console };
}

const agentOf = (vm: VirtualMachine) => {
  const condition = conditionOf(vm, 'GuestAgentConnected');
  return condition === undefined ? undefined : `${condition.status}/${condition.reason}`;
};
const untilAgent = (rig: Rig, is: string) =>
  rig.until('linux', `GuestAgentConnected is ${is}`, (vm) => agentOf(vm) === is, BOOT_MS);
const ipsOf = (vm: VirtualMachine) => vm.status?.interfaces?.[0]?.ips;

/** What the guest prints between two marks of a command's output. */
async function inGuest(console: TestConsole, command: string): Promise<string> {
  const mark = `m${Math.random().toString(36).slice(2, 8)}`;
  // Cut in two on the command line, so that its echo is not taken for the output.
  console.say(`echo ${mark.slice(0, 3)}"${mark.slice(3)}"; ${command}; echo ${mark.slice(0, 3)}"${mark.slice(3)}"`);
  const between = new RegExp(`${mark}\\r?\\n([\\s\\S]*?)${mark}\\r?\\n`);
  await console.hears(between);
  return (between.exec(console.heard)?.[1] ?? '').trim();
}

/** Whether the loop's looks waited for a guest: the longest pass so far, ms. */
const longestPass = (rig: Rig) => Math.max(...rig.events.flatMap((event) => (event.type === 'pass' ? event.ms : [])));

/** Puts something else in the agent's place. */
async function instead(console: TestConsole, script: string): Promise<void> {
  await inGuest(console, `p=/dev/virtio-ports/org.qemu.guest_agent.0; killall qemu-ga; sleep 1; (${script}) & :`);
}

async function othersGoOn(rig: Rig, name: string): Promise<void> {
  rig.events.length = 0;
  await rig.create(name);
  await rig.untilRunning(name);
  await rig.edit(name, { powerState: 'PoweredOff' });
  await rig.untilSettled(name, 'Stopped');
  // Half of what an answer is waited for.
  expect(longestPass(rig)).toBeLessThan(2_500);
}

async function stopsByTheButton(rig: Rig, pid: number): Promise<void> {
  const asked = Date.now();
  await rig.edit('linux', { powerState: 'PoweredOff' });
  const off = await rig.untilSettled('linux', 'Stopped');
  expect([off.status?.lastExit?.reason, isAlive(pid)]).toEqual(['StoppedByRequest', false]);
  // The grace period of 30 s is not used up.
  expect(Date.now() - asked).toBeLessThan(25_000);
  expect(rig.console('linux')).toContain('Power button pressed');
}

describe.concurrent('agent', { timeout: 300_000 }, () => {
  test('the agent says what the guest is and where it can be reached; its end is seen, and so is its return', async ({
    onTestFinished,
  }) => {
    const { rig, console } = await linuxVm(onTestFinished);
    await untilAgent(rig, 'True/GuestAgentAnswers');
    const vm = await rig.until('linux', 'has an address', (one) => ipsOf(one) !== undefined);
    const address = /inet addr:(\S+)/.exec(await inGuest(console, 'ifconfig eth0'))?.[1];
    expect(ipsOf(vm)?.[0]).toBe(address);
    expect(ipsOf(vm)?.join()).not.toMatch(/127\.0|fe80/);
    expect(vm.status?.guest).toEqual({
      os: 'Linux with busybox',
      kernel: await inGuest(console, 'uname -r'),
      hostname: await inGuest(console, 'hostname'),
    });
    await inGuest(console, 'killall qemu-ga');
    const closed = await untilAgent(rig, 'False/GuestAgentClosed');
    expect([closed.status?.guest, ipsOf(closed)]).toEqual([undefined, undefined]);
    await inGuest(console, 'date -s 2031-01-01 >/dev/null; hostname renamed; /etc/agent >/dev/null 2>&1 & :');
    const back = await untilAgent(rig, 'True/GuestAgentAnswers');
    expect(back.status?.guest).toMatchObject({ hostname: 'renamed' });
    expect(back.status?.guest?.clockOffsetSeconds).toBeGreaterThan(86_400);
    await rig.edit('linux', { powerState: 'PoweredOff' });
    const off = await rig.untilSettled('linux', 'Stopped');
    expect([agentOf(off), off.status?.guest, off.status?.interfaces]).toEqual(['False/Stopped', undefined, undefined]);
  });

  test('a controller that starts again says nothing else meanwhile', async ({ onTestFinished }) => {
    const { rig } = await linuxVm(onTestFinished);
    await rig.until('linux', 'has an address', (vm) => ipsOf(vm) !== undefined, BOOT_MS);
    await rig.stopController();
    const before = await rig.vm('linux');
    rig.startController();
    for (let look = 0; look < 4; look += 1) {
      await rig.anotherLook();
      const vm = await rig.vm('linux');
      expect([agentOf(vm), vm.status?.guest, ipsOf(vm)?.[0]]).toEqual([
        'True/GuestAgentAnswers',
        before.status?.guest,
        ipsOf(before)?.[0],
      ]);
    }
  });

  test('an agent that never answers delays no look, no stop and no other VM', async ({ onTestFinished }) => {
    const { rig, pid, console } = await linuxVm(onTestFinished);
    await untilAgent(rig, 'True/GuestAgentAnswers');
    await instead(console, 'exec sleep 1000 <>"$p"');
    await untilAgent(rig, 'False/GuestAgentSilent');
    await othersGoOn(rig, 'other');
    await stopsByTheButton(rig, pid);
  });

  test('half a line, garbage and an answer without end delay nobody either', async ({ onTestFinished }) => {
    const { rig, pid, console } = await linuxVm(onTestFinished);
    await untilAgent(rig, 'True/GuestAgentAnswers');
    const answers = [
      ['half', '{ printf \'\\377{"return": \'; exec sleep 1000; } >"$p"', 'False/GuestAgentSilent'],
      ['garbage', '{ while :; do printf "\\377garbage\\n"; sleep 1; done; } >"$p"', 'False/GuestAgentInvalid'],
      ['flood', 'exec cat /dev/zero >"$p"', 'False/GuestAgentInvalid'],
    ] as const;
    for (const [name, script, is] of answers) {
      await instead(console, script);
      await untilAgent(rig, is);
      await othersGoOn(rig, name);
      if (name !== 'flood') await inGuest(console, 'kill $!');
    }
    await stopsByTheButton(rig, pid);
  });

  test('the bytes of a sample are those that the guest counts', async ({ onTestFinished }) => {
    const { rig, console } = await linuxVm(onTestFinished, {}, { host: { metricsIntervalSeconds: 1 } });
    await untilAgent(rig, 'True/GuestAgentAnswers');
    const received = async () => Number(/RX bytes:(\d+)/.exec(await inGuest(console, 'ifconfig eth0'))?.[1]);
    const network = (vm: VirtualMachine) => vm.status?.metrics?.networks?.[0];
    const before = await received();
    await inGuest(console, '(while :; do ping -c 1 10.0.2.2 >/dev/null; usleep 100000; done) & :');
    const vm = await rig.until(
      'linux',
      'more bytes are received',
      (one) => (network(one)?.receiveBytes ?? 0) > before && (network(one)?.receiveBytesPerSecond ?? 0) > 0,
    );
    expect(network(vm)?.receiveBytes).toBeLessThanOrEqual(await received());
    expect(vm.status?.metrics?.unavailable?.map(({ metric }) => metric) ?? []).not.toContain('networks[net0].bytes');
    await inGuest(console, 'killall qemu-ga');
    await rig.until('linux', 'no bytes are known', (one) => {
      const reasons = one.status?.metrics?.unavailable ?? [];
      return network(one)?.receiveBytes === undefined && reasons.some(({ reason }) => reason === 'NoByteCounters');
    });
  });

  test('a guest that ignores the button is stopped and restarted by its agent', async ({ onTestFinished }) => {
    const { rig, pid, console } = await linuxVm(onTestFinished, { powerOff: { mode: 'Soft', gracePeriodSeconds: 60 } });
    await untilAgent(rig, 'True/GuestAgentAnswers');
    await inGuest(console, 'rm /etc/acpi/power-off');
    await rig.edit('linux', { restartedAt: '1' });
    const again = await rig.untilRestarted('linux', pid, BOOT_MS);
    expect(rig.console('linux')).toContain('Switching off, as the agent was asked.');
    expect((await rig.vm('linux')).status?.lastExit?.reason).toBe('StoppedByRequest');
    await untilAgent(rig, 'True/GuestAgentAnswers');
    await rig.edit('linux', { powerState: 'PoweredOff' });
    const off = await rig.untilSettled('linux', 'Stopped', BOOT_MS);
    expect([off.status?.lastExit?.reason, isAlive(again)]).toEqual(['StoppedByRequest', false]);
    expect(rig.console('linux')).not.toContain('Power button pressed');
  });

  test('an agent that takes the request and does nothing is followed by the button', async ({ onTestFinished }) => {
    const { rig, console } = await linuxVm(onTestFinished);
    await untilAgent(rig, 'True/GuestAgentAnswers');
    await inGuest(console, "printf '#!/bin/sh\\nsleep 100\\n' >/sbin/shutdown");
    await rig.edit('linux', { powerState: 'PoweredOff' });
    const off = await rig.untilSettled('linux', 'Stopped');
    expect(off.status?.lastExit?.reason).toBe('StoppedByRequest');
    expect(rig.console('linux')).toContain('Power button pressed');
  });

  test('without an agent the flows of user networking tell the address', async ({ onTestFinished }) => {
    const { rig, console } = await linuxVm(onTestFinished);
    await untilAgent(rig, 'True/GuestAgentAnswers');
    await inGuest(console, 'killall qemu-ga');
    const closed = await untilAgent(rig, 'False/GuestAgentClosed');
    expect(ipsOf(closed)).toBeUndefined();
    const server = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1');
    onTestFinished(() => void server.close());
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    const address = /inet addr:(\S+)/.exec(await inGuest(console, 'ifconfig eth0'))?.[1];
    console.say(`(sleep 1000 | nc 10.0.2.2 ${port}) &`);
    await rig.until('linux', 'has the address of its flow', (vm) => ipsOf(vm)?.join() === address);
    expect(await humanMonitor(rig.folder('linux'), 'info usernet')).toContain(address);
    console.say('killall nc sleep');
    await rig.anotherLook();
    expect(ipsOf(await rig.vm('linux'))).toEqual([address]);
  });

  test('the host’s neighbours tell the address of a guest on a bridge', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', NET);
    await rig.untilRunning('web-1');
    const mac = (await rig.vm('web-1')).status?.interfaces?.[0]?.mac ?? '';
    expect(ipsOf(await rig.vm('web-1'))).toBeUndefined();
    const bridge = `qo${process.pid}`;
    const ip = (...args: string[]) => execFileSync('ip', args);
    ip('link', 'add', bridge, 'type', 'bridge');
    onTestFinished(() => void ip('link', 'del', bridge));
    ip('link', 'set', bridge, 'up');
    ip('neigh', 'add', '192.0.2.77', 'lladdr', mac, 'dev', bridge, 'nud', 'permanent');
    await rig.until('web-1', 'has the address of the neighbour', (vm) => ipsOf(vm)?.join() === '192.0.2.77');
  });

  test('a process of before there was a port needs no restart, and is asked nothing', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished, { controller: 'none' });
    const strip = 'n=$(($# - 6)); i=0; for a; do shift; i=$((i+1)); [ $i -le $n ] && set -- "$@" "$a"; done';
    const path = standIn(
      rig.path('bin'),
      'qemu-system-x86_64',
      `#!/bin/sh\n[ $# -gt 6 ] && { ${strip}; }\nPATH=\${PATH#*:}\nexec qemu-system-x86_64 "$@"\n`,
    );
    const old = await Rig.start(onTestFinished, { store: rig.store, root: rig.root, shell: new TestShell({ path }) });
    await old.create('web-1', NET);
    const pid = await old.untilRunning('web-1');
    expect(argvOf(pid).join(' ')).not.toContain('guest_agent');
    await old.stopController();
    rig.startController();
    await rig.anotherLook();
    const vm = await rig.vm('web-1');
    expect([agentOf(vm), vm.status?.pendingChanges, await rig.untilRunning('web-1')]).toEqual([
      undefined,
      undefined,
      pid,
    ]);
    await rig.edit('web-1', { restartedAt: '1' });
    const next = await rig.untilRestarted('web-1', pid);
    expect(argvOf(next).join(' ')).toContain('org.qemu.guest_agent.0');
    const chardevs = await qmp<{ label: string; 'frontend-open': boolean }[]>(rig.folder('web-1'), 'query-chardev');
    expect(chardevs.find(({ label }) => label === 'qga0')).toMatchObject({ 'frontend-open': false });
  });
});
