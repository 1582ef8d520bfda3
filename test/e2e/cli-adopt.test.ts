/** adopt: what lost its object gets it again, and its guest notices nothing. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { CliRig } from './support/cli-rig.ts';
import { imageInfo } from './support/images.ts';
import { runState } from './support/oracle.ts';
import { argvOf, isAlive, qemusBelow, startTicksOf } from './support/process.ts';
import { until } from './support/wait.ts';

const ADOPT = 'qemu-operator.dev/adopt';
const web = (name: string) => `virtualmachine.qemu-operator.dev/${name}`;

async function vmOf(rig: CliRig, name: string): Promise<VirtualMachine> {
  return JSON.parse((await rig.ok(['get', 'qvm', name, '-o', 'json'])).stdout) as VirtualMachine;
}

/** The object goes, its process and files stay. */
async function orphan(rig: CliRig, ...names: string[]): Promise<void> {
  await rig.ok(['annotate', 'qvm', ...names, 'qemu-operator.dev/orphan=true']);
  await rig.ok(['delete', 'qvm', ...names]);
}

const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const conditionsOf = (vm: VirtualMachine) => vm.status?.conditions?.map(({ type }) => type) ?? [];
const recordFile = (rig: CliRig, name: string) => join(rig.folder(name), '.qemu-operator.json');
const recordOf = (rig: CliRig, name: string) =>
  JSON.parse(readFileSync(recordFile(rig, name), 'utf8')) as Record<string, unknown> & { uid: string };

/** Settings that are no defaults, a disk that is made, one that is there, and forwards with a chosen and a given port. */
function specOf(root: { readonly path: string }) {
  return {
    restartPolicy: 'Always',
    powerOff: { mode: 'Hard' },
    disks: [
      { name: 'root', format: 'raw', path: root.path },
      { name: 'data', size: '2Mi' },
    ],
    networks: [{ name: 'lan', user: { hostForwards: [{ guestPort: 22 }] } }],
  };
}

describe.concurrent('adopt', () => {
  test('a running VM whose object is gone is taken over as it runs, and deleted as if nothing had been', async ({
    onTestFinished,
  }) => {
    const rig = new CliRig(onTestFinished);
    await rig.controller(onTestFinished);
    const first = rig.manifest('web-1');
    const root = (JSON.parse(readFileSync(first, 'utf8')) as { spec: { disks: { path: string }[] } }).spec.disks[0];
    await rig.ok(['apply', '-f', rig.manifest('web-1', specOf(root ?? { path: '' })), '--wait']);
    const before = await vmOf(rig, 'web-1');
    const pid = Number(before.status?.pid);
    const seen = () => ({
      argv: argvOf(pid),
      ticks: startTicksOf(pid),
      data: imageInfo(join(rig.folder('web-1'), 'data.qcow2')),
      root: sha256(root?.path ?? ''),
      prints: readFileSync(join(rig.folder('web-1'), 'console.log'), 'utf8'),
    });
    await until(
      'the guest has written to its disk',
      () => seen().prints,
      (text) => text.includes('TINY-IO'),
    );
    const untouched = seen();
    await orphan(rig, 'web-1');
    const listed = await until(
      'it is listed without an object',
      () => rig.run(['describe', 'qhost', 'localhost']),
      ({ stdout }) => stdout.includes('adopt web-1'),
    );
    expect(listed.stdout).toContain('Folders without an object');
    expect((await rig.ok(['get', 'qhost'])).stderr).toMatch(/localhost: 1 VM folder without an object \(adopt web-1\)/);

    const dry = await rig.ok(['adopt', 'web-1', '--dry-run']);
    expect(dry.stderr).toContain(`its QEMU process ${pid} runs on, and nothing of it changes`);
    expect(dry.stderr).not.toMatch(/Warning: web-1|waits for a restart/);
    const manifest = parse(dry.stdout) as { metadata: unknown; spec: Record<string, unknown> };
    expect(manifest).toMatchObject({
      metadata: { name: 'web-1', namespace: 'default', annotations: { [ADOPT]: before.metadata.uid } },
      spec: {
        uuid: before.status?.uuid,
        restartPolicy: 'Always',
        powerOff: { mode: 'Hard' },
        disks: [{ name: 'root' }, { name: 'data', size: '2Mi' }],
        networks: [
          { name: 'lan', mac: before.status?.interfaces?.[0]?.mac, user: { hostForwards: [{ guestPort: 22 }] } },
        ],
      },
    });
    expect(manifest.spec).not.toHaveProperty('powerState');
    expect((await rig.ok(['get', 'qvm'])).stdout).not.toContain('web-1');

    const { stdout } = await rig.ok(['adopt', 'web-1', '--wait']);
    expect(stdout).toBe(`${web('web-1')} created\n`);
    const after = await vmOf(rig, 'web-1');
    expect(seen()).toEqual(untouched);
    expect(await runState(rig.folder('web-1'))).toBe('running');
    expect(after.metadata.uid).not.toBe(before.metadata.uid);
    expect(after.metadata.annotations).not.toHaveProperty(ADOPT);
    expect(conditionsOf(after)).not.toContain('RestartRequired');
    expect(after.status).toMatchObject({
      pid,
      uuid: before.status?.uuid,
      restarts: 0,
      interfaces: before.status?.interfaces,
    });
    expect(recordOf(rig, 'web-1').uid).toBe(after.metadata.uid);
    const written = readFileSync(join(rig.store, 'default', 'web-1.yaml'), 'utf8');
    expect(written).toContain('restartPolicy: Always');
    expect(written).not.toMatch(/adopt|powerState|restartedAt/);

    await rig.ok(['delete', 'qvm', 'web-1']);
    expect([isAlive(pid), existsSync(rig.folder('web-1')), existsSync(root?.path ?? '')]).toEqual([false, false, true]);
  });

  test('what is off stays off, under no controller; started, it is the same machine', async ({ onTestFinished }) => {
    const rig = new CliRig(onTestFinished);
    await rig.ok(['apply', '-f', rig.manifest('web-1', { restartPolicy: 'Always', networks: undefined })]);
    const before = await vmOf(rig, 'web-1');
    await rig.ok(['stop', 'web-1']);
    await orphan(rig, 'web-1');
    const { stderr } = await rig.ok(['adopt', 'web-1']);
    expect(stderr).toContain('it is off, and stays off until it is started');
    expect(qemusBelow(rig.root)).toEqual([]);
    const off = await vmOf(rig, 'web-1');
    expect(off).toMatchObject({
      spec: { powerState: 'PoweredOff', restartPolicy: 'Always' },
      status: { phase: 'Stopped' },
    });
    await rig.ok(['start', 'web-1']);
    const again = await vmOf(rig, 'web-1');
    expect(again.status?.uuid).toBe(before.status?.uuid);
    expect(again.status?.interfaces?.[0]?.mac).toBe(before.status?.interfaces?.[0]?.mac);
    expect(conditionsOf(again)).not.toContain('RestartRequired');
  });

  test('--all takes over a namespace at once; a record that is older than the kept spec gives what was launched', async ({
    onTestFinished,
  }) => {
    const rig = new CliRig(onTestFinished);
    const names = ['web-1', 'web-2'];
    const manifests = names.map((name) => rig.manifest(name, { memory: '48Mi' }));
    await rig.ok(['apply', '-f', ...manifests, rig.manifest('other', {}, { namespace: 'prod' })]);
    const pids = new Map<string, number | undefined>();
    for (const name of names) pids.set(name, (await vmOf(rig, name)).status?.pid);
    await orphan(rig, ...names);
    const { spec: _newer, checksum: _own, ...old } = recordOf(rig, 'web-2');
    writeFileSync(recordFile(rig, 'web-2'), JSON.stringify(old));
    const { stdout, stderr } = await rig.ok(['adopt', '--all']);
    expect(stdout).toBe(names.map((name) => `${web(name)} created\n`).join(''));
    expect(stderr).toMatch(/Warning: web-2: spec\.restartPolicy, .* are not kept in a record this old/);
    for (const name of names) {
      const vm = await vmOf(rig, name);
      expect([vm.status?.pid, vm.spec.memory, conditionsOf(vm).includes('RestartRequired')]).toEqual([
        pids.get(name),
        '48Mi',
        false,
      ]);
    }
    expect((await rig.ok(['adopt', '--all', '--dry-run'])).stdout).toBe('');
  });

  test('what cannot be taken over is refused with its reason, and nothing is written', async ({ onTestFinished }) => {
    const rig = new CliRig(onTestFinished);
    const names = ['lost', 'newer', 'damaged', 'taken', 'living'];
    const off = { powerState: 'PoweredOff' };
    const manifests = names.map((name) => rig.manifest(name, off));
    await rig.ok(['apply', '-f', ...manifests, rig.manifest('far', off, { namespace: 'prod' })]);
    await orphan(rig, 'lost', 'newer', 'damaged', 'taken');
    await rig.ok(['annotate', 'qvm', 'far', '-n', 'prod', 'qemu-operator.dev/orphan=true']);
    await rig.ok(['delete', 'qvm', 'far', '-n', 'prod']);
    writeFileSync(recordFile(rig, 'newer'), JSON.stringify({ ...recordOf(rig, 'newer'), recordVersion: 99 }));
    writeFileSync(recordFile(rig, 'damaged'), readFileSync(recordFile(rig, 'damaged'), 'utf8').slice(0, 60));
    await rig.ok(['apply', '-f', rig.manifest('taken', { powerState: 'PoweredOff', vmName: 'other', disks: [] })]);
    const all = await rig.run(['adopt', 'lost', 'los', 'newer', 'damaged', 'taken', 'living', 'far']);
    expect(all.code).toBe(3);
    expect(all.stderr.match(/^(?:error|Error).*$/gm)).toEqual([
      expect.stringMatching(/no VM folder "los" on Host localhost; did you mean lost\?/),
      expect.stringMatching(/version 99, written by a later/),
      expect.stringMatching(/cannot be read/),
      expect.stringMatching(/default\/taken exists, and is another VM/),
      expect.stringMatching(/belongs to default\/living, which exists/),
      expect.stringMatching(/is of prod\/far: .* say -n prod/),
    ]);
    expect([(await rig.run(['adopt', '--all'])).code, (await rig.run(['adopt'])).code]).toEqual([1, 2]);
    const listed = (await rig.ok(['get', 'qvm', '-A'])).stdout;
    expect(['lost', 'newer', 'damaged', 'far'].filter((name) => listed.includes(name))).toEqual([]);
    await rig.ok(['adopt', 'far', '-n', 'prod']);
  });
});
