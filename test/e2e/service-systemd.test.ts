/** The service under the real systemd, on a machine of its own that boots, shuts down and boots again. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { MAIN } from './support/cli-rig.ts';
import { writeSparseTiny } from './support/images.ts';
import { testFolder } from './support/rig.ts';
import { standIn } from './support/stand-ins.ts';
import { canRunSystemd, SystemdMachine } from './support/systemd-machine.ts';
import { until } from './support/wait.ts';

const TEST_MS = 240_000;
/** From the boot of the machine to a guest that runs, on a busy one. */
const AGAIN_MS = 90_000;
const STORE = '/srv/store';
const FIRST = '00000000-0000-4000-8000-000000000001';
const SECOND = '00000000-0000-4000-8000-000000000002';

function manifest(machine: SystemdMachine, name: string): string {
  const disk = join(machine.shared, `${name}.raw`);
  writeSparseTiny(disk);
  const spec = {
    hostName: 'localhost',
    architecture: 'x86_64',
    vcpus: 1,
    memory: '32Mi',
    networks: [],
    accelerator: 'TCG',
    restartPolicy: 'Never',
    disks: [{ name: 'root', format: 'raw', path: `/srv/${name}.raw` }],
  };
  const document = { apiVersion: 'qemu-operator.dev/v1alpha1', kind: 'VirtualMachine', metadata: { name }, spec };
  writeFileSync(join(machine.shared, `${name}.yaml`), JSON.stringify(document));
  return `/srv/${name}.yaml`;
}

interface Status {
  readonly phase: string;
  readonly pid?: number;
  readonly lastExit?: { readonly reason: string };
}

function operatorIn(machine: SystemdMachine) {
  const words = [process.execPath, MAIN, '--store', STORE, '--vm-dir', '/srv/vms'];
  const operator = (...more: string[]) => machine.ok(...words, ...more);
  const status = async (name: string): Promise<Status> =>
    JSON.parse(await machine.ok(...words.slice(0, 4), 'get', 'qvm', name, '-o', 'json')).status ?? {};
  return { operator, status, refused: (...more: string[]) => machine.run(...words.slice(0, 4), ...more) };
}

if (canRunSystemd()) {
  test(
    'machines outlive a restart and the end of the service, are stopped in order with the host, and come back with it',
    async () => {
      const machine = new SystemdMachine(testFolder(onTestFinished), onTestFinished);
      const { operator, status, refused } = operatorIn(machine);
      await machine.boot(FIRST);
      const installed = await operator('service', 'install');
      expect(installed).toContain('systemctl enable qemu-operator.service qemu-operator-guests.service');
      expect(installed).toContain('3 ok, 0 warnings, 0 problems');
      expect(await operator('service', 'install')).toContain('qemu-operator.service unchanged');
      await machine.ok('systemd-analyze', 'verify', 'qemu-operator.service', 'qemu-operator-guests.service');
      await operator('apply', '--wait', '-f', manifest(machine, 'web-1'));
      const { pid } = await status('web-1');
      expect(await machine.ok('systemctl', 'status', 'qemu-operator.service')).toContain('qemu-system-x86_64');
      const console = () => readFileSync(join(machine.shared, 'vms', 'web-1', 'console.log'), 'latin1');
      await until('the guest is up', console, (text) => text.includes('TINY-UP'));

      // Neither a restart of the two units nor their removal touches a guest.
      await machine.ok('systemctl', 'restart', 'qemu-operator.service', 'qemu-operator-guests.service');
      await operator('service', 'uninstall');
      expect((await refused('service', 'status')).code).toBe(1);
      await machine.ok('kill', '-0', String(pid));
      expect(await operator('service', 'install')).toContain('3 ok, 0 warnings, 0 problems');
      await until(
        'it is adopted',
        () => status('web-1'),
        ({ phase }) => phase === 'Running',
        AGAIN_MS,
      );
      expect([(await status('web-1')).pid, console().includes('TINY-POWERDOWN')]).toEqual([pid, false]);

      await machine.shutDown();
      expect(console()).toContain('TINY-POWERDOWN');
      const record = JSON.parse(readFileSync(join(machine.shared, 'vms', 'web-1', '.qemu-operator.json'), 'utf8'));
      expect(record).toMatchObject({ end: { reason: 'HostShutdown' } });
      expect(record.launch).toBeUndefined();

      await machine.boot(SECOND);
      const back = await until(
        'it runs again',
        () => status('web-1'),
        ({ phase }) => phase === 'Running',
        AGAIN_MS,
      );
      expect(back.lastExit?.reason).toBe('HostShutdown');
      expect(await operator('service', 'status', '-o', 'json')).not.toContain('"problem"');
      await machine.shutDown();
    },
    TEST_MS,
  );

  test(
    'the machines of an ordinary user too, whose lingering is asked for, told where it is refused, and checked',
    async () => {
      const machine = new SystemdMachine(testFolder(onTestFinished), onTestFinished);
      await machine.boot(FIRST);
      await machine.ok('useradd', '--uid', '4242', '--create-home', '--home-dir', '/home/alice', 'alice');
      await machine.ok('chown', 'alice', '/srv');
      const alice = ['setpriv', '--reuid=alice', '--regid=alice', '--init-groups', 'env', 'HOME=/home/alice'];
      const words = [...alice, process.execPath, MAIN, '--store', STORE, '--vm-dir', '/srv/vms'];
      const operator = (...more: string[]) => machine.run(...words, ...more);
      const denied = standIn(join(machine.shared, 'bin'), 'loginctl', '#!/bin/sh\necho Access denied >&2\nexit 1\n');
      const path = denied.replace(join(machine.shared, 'bin'), '/srv/bin');
      const refused = await machine.run(...alice, `PATH=${path}`, ...words.slice(alice.length), 'service', 'install');
      expect([refused.code, refused.stderr]).toEqual([
        1,
        expect.stringContaining('Access denied; run: sudo loginctl enable-linger alice'),
      ]);
      const installed = await operator('service', 'install');
      expect([installed.code, installed.stdout]).toEqual([0, expect.stringContaining('4 ok, 0 warnings, 0 problems')]);
      expect(installed.stdout).toContain('loginctl enable-linger');
      const file = manifest(machine, 'web-1');
      await machine.ok('chown', '-R', 'alice', '/srv');
      const applied = await operator('apply', '--wait', '--timeout', '60s', '-f', file);
      expect([applied.code, applied.stderr]).toEqual([0, expect.any(String)]);
      const console = () => readFileSync(join(machine.shared, 'vms', 'web-1', 'console.log'), 'latin1');
      await until('the guest is up', console, (text) => text.includes('TINY-UP'));
      const record = () =>
        JSON.parse(readFileSync(join(machine.shared, 'vms', 'web-1', '.qemu-operator.json'), 'utf8'));
      const { pid } = record().launch;
      expect(await machine.ok('cat', `/proc/${pid}/cgroup`)).toMatch(/user@4242\.service.*qemu-operator\.service/);
      await machine.ok(...alice, 'XDG_RUNTIME_DIR=/run/user/4242', 'systemctl', '--user', 'restart', 'qemu-operator');
      await machine.ok('kill', '-0', String(pid));

      await machine.shutDown();
      expect(console()).toContain('TINY-POWERDOWN');
      expect(record()).toMatchObject({ end: { reason: 'HostShutdown' } });
      // Back at boot, with nobody logged in.
      await machine.boot(SECOND);
      await until('it runs again', record, ({ launch }) => launch?.state === 'running', AGAIN_MS);
      await machine.shutDown();
    },
    TEST_MS,
  );
} else {
  test('a systemd of its own can be run', () => {
    throw new Error(
      'needs root, /lib/systemd/systemd, control groups of version 2, overlayfs and unshare: without them the service stays unproved',
    );
  });
}
