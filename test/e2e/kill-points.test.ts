/**
 * Controllers as real processes over real QEMU: each kills itself with SIGKILL before, in the middle of or after one
 * effect, and the next one goes on. The life that results is the life that nobody disturbed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import type { Manifest } from '../../src/api/admission.ts';
import { countingQemu } from './support/counting-qemu.ts';
import { contentHash, writeSparseTiny } from './support/images.ts';
import { humanMonitor } from './support/oracle.ts';
import { argumentOf, qemusBelow } from './support/process.ts';
import { shareStore } from './support/real-controller.ts';
import { manifest, type OnFinished, Rig, readyOf, testFolder } from './support/rig.ts';
import { until } from './support/wait.ts';

const PROGRAM = fileURLToPath(new URL('support/mortal-controller.ts', import.meta.url));
const MINUTE = 60_000;
const KILLS = 40;
const NAME = 'web-1';
const MARK = { byte: '0x5a', at: '1M', length: '64k' };

/** Controllers one after the other, each with its way to die. */
class Relay {
  readonly effects: string[] = [];
  readonly kills: string[] = [];
  readonly #place: readonly string[];
  /** Of the controllers that will follow, the first ones die at the claim. */
  readonly #firstDeaths = ['claim-before', 'claim-during', 'claim-after'];
  readonly #mortal: boolean;
  #child: ChildProcess | undefined;
  #death = 'next';
  #through: 'after' | 'during' = 'after';
  #aims: readonly string[] = [];
  #over = false;

  constructor(place: readonly string[], mortal: boolean) {
    this.#place = place;
    this.#mortal = mortal;
  }

  start(): void {
    const next = this.#aims[0] === undefined ? this.#death : `at ${this.#aims[0]}`;
    const how = this.#mortal ? (this.#firstDeaths.shift() ?? next) : 'live';
    const command = [PROGRAM, ...this.#place, how];
    const child = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#child = child;
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    child.once('close', () => {
      this.#note(said.split('\n').slice(0, -1));
      if (!this.#over) this.start();
    });
  }

  /** Those who follow survive all but these effects, until one has died at each: others come first every time. */
  aim(effects: readonly string[]): void {
    this.#aims = effects;
  }

  #note(lines: readonly string[]): void {
    for (const line of lines) {
      const [word = '', ...name] = line.split(' ');
      if (word === 'effect') this.effects.push(name.join(' '));
      if (!['before', 'during', 'after'].includes(word)) continue;
      this.kills.push(line);
      if (name.join(' ') === this.#aims[0]) this.#aims = this.#aims.slice(1);
      // What it died before is done next, and dies with it.
      this.#death = word === 'before' && this.#firstDeaths.length === 0 ? this.#through : 'next';
      if (word === 'before') this.#through = this.#through === 'after' ? 'during' : 'after';
    }
  }

  async end(): Promise<void> {
    this.#over = true;
    if (this.#child?.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'close');
  }
}

interface Scene {
  readonly rig: Rig;
  readonly relay: Relay;
  uid: string;
}

interface Act {
  readonly name: string;
  /** Effects that a controller only comes to that survived those before them. */
  readonly aims?: readonly string[];
  readonly begin: (scene: Scene) => Promise<unknown>;
  /** What it comes to. */
  readonly end: (scene: Scene) => Promise<unknown>;
}

/** An act takes a dozen processes, each of which starts anew. */
const PATIENCE_MS = 600_000;
const running = ({ rig }: Scene) => rig.untilRunning(NAME, PATIENCE_MS);
const stopped = ({ rig }: Scene) => rig.untilSettled(NAME, 'Stopped', PATIENCE_MS);
const gone = ({ rig }: Scene) => rig.untilGone(NAME, PATIENCE_MS);
const image = (rig: Rig) => rig.path('images', `${NAME}.raw`);
/** What a disk is copied from. */
const template = (rig: Rig) => rig.path('images', 'template.raw');
const TEMPLATE = Buffer.alloc(2 * 1024 * 1024, 'template');
const spec = (rig: Rig) => ({
  disks: [
    { name: 'root', path: image(rig), format: 'raw' },
    { name: 'data', size: '4Mi' },
    { name: 'copy', size: '4Mi', image: { path: template(rig) } },
  ],
  powerOff: { mode: 'Hard' },
  updateStrategy: { type: 'Restart' },
});

/** The life of a VM. An act is one entry. */
const ACTS: readonly Act[] = [
  {
    name: 'claim',
    aims: ['patch Host (annotations)', 'hold Host'],
    begin: async () => undefined,
    end: ({ rig }) =>
      until(
        'the Host is held',
        () => rig.host(),
        ({ metadata }) => metadata.finalizers !== undefined,
        PATIENCE_MS,
      ),
  },
  {
    name: 'create',
    begin: ({ rig }) => rig.create(NAME, { ...spec(rig), powerState: 'PoweredOff' }),
    end: stopped,
  },
  {
    name: 'start',
    begin: ({ rig }) => rig.edit(NAME, { powerState: 'PoweredOn', restartedAt: 'first' }),
    end: async (scene) => {
      await running(scene);
      await scene.rig.untilPrinted(NAME, 'TINY-IO', PATIENCE_MS);
      const { byte, at, length } = MARK;
      await humanMonitor(scene.rig.folder(NAME), `qemu-io disk-data "write -P ${byte} ${at} ${length}"`);
    },
  },
  {
    name: 'modify',
    begin: ({ rig }) => rig.edit(NAME, { vcpus: 2 }),
    end: async (scene) => {
      const vm = await scene.rig.until(
        NAME,
        'runs with two vCPUs',
        (one) => readyOf(one)?.reason === 'Running' && one.status?.vcpus === 2,
        PATIENCE_MS,
      );
      expect(argumentOf(Number(vm.status?.pid), '-smp')).toMatch(/^(cpus=)?2/);
    },
  },
  { name: 'stop', aims: ['QMP quit'], begin: ({ rig }) => rig.edit(NAME, { powerState: 'PoweredOff' }), end: stopped },
  { name: 'start again', begin: ({ rig }) => rig.edit(NAME, { powerState: 'PoweredOn' }), end: running },
  {
    name: 'release',
    begin: async (scene) => {
      scene.uid = (await scene.rig.vm(NAME)).metadata.uid;
      await scene.rig.annotate(NAME, 'orphan', '');
      await scene.rig.delete(NAME);
    },
    end: gone,
  },
  {
    name: 'adopt',
    begin: ({ rig, uid }) =>
      rig.create(NAME, { ...spec(rig), vcpus: 2, restartedAt: 'first' }, { 'qemu-operator.dev/adopt': uid }),
    end: running,
  },
  { name: 'stop the adopted', begin: ({ rig }) => rig.edit(NAME, { powerState: 'PoweredOff' }), end: stopped },
  { name: 'start the adopted', begin: ({ rig }) => rig.edit(NAME, { powerState: 'PoweredOn' }), end: running },
  { name: 'delete', begin: ({ rig }) => rig.delete(NAME), end: gone },
];

interface Rest {
  readonly act: string;
  readonly qemuStarts: number;
  readonly qemusNow: number;
  readonly folder: readonly string[];
  /** Of the disks' contents, where nobody writes to them now. */
  readonly hashes: readonly string[];
}

async function live(onFinished: OnFinished, mortal: boolean): Promise<{ rests: Rest[]; relay: Relay }> {
  const root = testFolder(onFinished);
  const [storeDir, vmDir] = [join(root, 'store'), join(root, 'vms')];
  const qemu = countingQemu(join(root, 'bin'), join(root, 'starts'));
  const store = await shareStore(onFinished, storeDir);
  const rig = await Rig.start(onFinished, { root, store, vmDir, controller: 'none' });
  const host = { local: {}, vmDir, allowedPaths: ['/'], metricsIntervalSeconds: 0 };
  await store.create(manifest('Host', { name: 'localhost' }, host) as Manifest<'Host'>);
  writeSparseTiny(image(rig));
  writeFileSync(template(rig), TEMPLATE);
  const relay = new Relay([storeDir, qemu.path], mortal);
  onFinished(() => relay.end());
  relay.start();
  const scene: Scene = { rig, relay, uid: '' };
  const rests: Rest[] = [];
  for (const { name, aims = [], begin, end } of ACTS) {
    relay.aim(aims);
    await begin(scene);
    await end(scene);
    rests.push(await restOf(scene, name, qemu.starts()));
  }
  await relay.end();
  return { rests, relay };
}

async function restOf({ rig }: Scene, act: string, qemuStarts: number): Promise<Rest> {
  const folder = rig.folder(NAME);
  const qemusNow = qemusBelow(folder).length;
  const disks = ['data', 'copy'].map((name) => join(folder, `${name}.qcow2`)).filter((path) => existsSync(path));
  return {
    act,
    qemuStarts,
    qemusNow,
    folder: existsSync(folder) ? readdirSync(folder).sort() : [],
    hashes: qemusNow > 0 ? [] : [...disks, image(rig)].map(contentHash),
  };
}

test('a controller that is killed at each effect of a life changes nothing of it', { timeout: 25 * MINUTE }, async ({
  onTestFinished,
}) => {
  const undisturbed = await live(onTestFinished, false);
  const killed = await live(onTestFinished, true);
  const { effects } = undisturbed.relay;
  const { kills } = killed.relay;
  console.log(`proof: kill points on real QEMU: ${effects.length} effects, ${kills.length} kills`);
  expect(killed.rests).toEqual(undisturbed.rests);
  const marked = undisturbed.rests.find(({ act }) => act === 'stop')?.hashes;
  expect(marked).toHaveLength(3);
  expect(marked).toEqual(undisturbed.rests.find(({ act }) => act === 'stop the adopted')?.hashes);
  expect(kills.length).toBeGreaterThanOrEqual(Math.max(KILLS, effects.length));
  const died = new Set(kills.map((kill) => kill.slice(kill.indexOf(' ') + 1)));
  expect([...new Set(effects)].filter((kind) => !died.has(kind))).toEqual([]);
});
