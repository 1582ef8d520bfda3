/**
 * Two replicas over real QEMU behind SSH: whoever owns a Host is killed, or frozen and woken after the take-over, before
 * and after each effect of a life. The life that results is the one that nobody disturbed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { contentHash, writeSparseTiny } from '../e2e/support/images.ts';
import { humanMonitor } from '../e2e/support/oracle.ts';
import { argumentOf, qemusBelow, stateOf } from '../e2e/support/process.ts';
import { conditionOf, testFolder } from '../e2e/support/rig.ts';
import { until } from '../e2e/support/wait.ts';
import { clusterForFile } from './support/api.ts';
import type { Line } from './support/mortal-replica.ts';
import { smallVm, sshHosts } from './support/ssh-hosts.ts';
import { type Witness, witness } from './support/witness.ts';

const PROGRAM = join(import.meta.dirname, 'support', 'mortal-replica.ts');
/** By VM, which has a Host and a pair of replicas for itself. */
const SIGNALS = { 'on-killed': 'SIGKILL', 'on-frozen': 'SIGSTOP' } as const;
type Name = keyof typeof SIGNALS;
const NAMES = Object.keys(SIGNALS) as Name[];
const hostOf = (name: Name) => name.replace('on-', '');
const PATIENCE_MS = 300_000;
const TAKE_OVER_MS = 20_000;
const MARK = { byte: '0x5a', at: '1M', length: '64k' };
const TEMPLATE = Buffer.alloc(2 * 1024 * 1024, 'template');

let root: string;
let eyes: Witness;
const file = clusterForFile(async (cluster, onFinished) => {
  root = testFolder(onFinished);
  eyes = witness(join(root, 'bin'));
  const made = await sshHosts(onFinished, cluster, root, eyes.path);
  const hosts = NAMES.map((name) => made(hostOf(name), join(root, hostOf(name)))).map((host) => ({
    ...host,
    spec: { ...host.spec, metricsIntervalSeconds: 0 },
  }));
  await cluster.apply(...hosts);
  for (const name of NAMES) await cluster.kubectl(['create', 'namespace', hostOf(name)]);
});

const vmDir = (name: Name) => join(root, hostOf(name));
const folder = (name: Name) => join(vmDir(name), name);
const image = (name: Name) => join(root, `${name}.raw`);

const epochOf = (name: Name): number => {
  const marker = join(vmDir(name), '.qemu-operator.json');
  return existsSync(marker) ? (JSON.parse(readFileSync(marker, 'utf8')) as { epoch: number }).epoch : 0;
};

async function read(name: Name): Promise<VirtualMachine | undefined> {
  const { code, stdout } = await file.cluster.tryKubectl(['get', 'qvm', name, '-o', 'json', '--ignore-not-found']);
  return code === 0 && stdout !== '' ? (JSON.parse(stdout) as VirtualMachine) : undefined;
}

async function untilReady(name: Name, reason: string, also: (vm: VirtualMachine) => boolean = () => true) {
  const isSo = (vm: VirtualMachine | undefined) => {
    const ready = vm && conditionOf(vm, 'Ready');
    return (
      ready?.status === 'True' && ready.reason === reason && vm?.status?.observedGeneration === vm?.metadata.generation
    );
  };
  const found = await until(
    `${name} is ${reason}`,
    () => read(name),
    (vm) => isSo(vm) && also(vm as VirtualMachine),
    PATIENCE_MS,
  );
  return found as VirtualMachine;
}

const edit = (name: Name, spec: object) =>
  file.cluster.kubectl(['patch', 'qvm', name, '--type=merge', '-p', JSON.stringify({ spec })]);

interface Act {
  readonly name: string;
  /** Faults of these effects are left to another act: what they interrupt goes on another way. */
  readonly without?: RegExp;
  readonly begin: (name: Name) => Promise<unknown>;
  readonly end: (name: Name) => Promise<unknown>;
}

const ACTS: readonly Act[] = [
  {
    name: 'create',
    begin: (name) => {
      const disks = [
        { name: 'root', path: image(name), format: 'raw' },
        { name: 'data', size: '4Mi' },
        { name: 'copy', size: '4Mi', image: { path: join(root, 'template.raw') } },
      ];
      const spec = { disks, powerOff: { mode: 'Hard' }, updateStrategy: { type: 'Restart' }, accelerator: 'TCG' };
      const vm = smallVm(name, hostOf(name), { ...spec, powerState: 'PoweredOff' });
      return file.cluster.apply(vm);
    },
    end: (name) => untilReady(name, 'Stopped'),
  },
  {
    name: 'start',
    begin: (name) => edit(name, { powerState: 'PoweredOn' }),
    end: async (name) => {
      await untilReady(name, 'Running');
      const { byte, at, length } = MARK;
      await humanMonitor(folder(name), `qemu-io disk-data "write -P ${byte} ${at} ${length}"`);
    },
  },
  {
    name: 'modify',
    without: /^(before|after) STOP|^after QMP/,
    begin: (name) => edit(name, { vcpus: 2 }),
    end: async (name) => {
      const vm = await untilReady(name, 'Running', ({ status }) => status?.vcpus === 2);
      expect(argumentOf(Number(vm.status?.pid), '-smp')).toMatch(/^(cpus=)?2/);
    },
  },
  {
    name: 'stop',
    without: /^(before|after) STOP|^before QMP/,
    begin: (name) => edit(name, { powerState: 'PoweredOff' }),
    end: (name) => untilReady(name, 'Stopped'),
  },
  {
    name: 'start again',
    without: /./,
    begin: (name) => edit(name, { powerState: 'PoweredOn' }),
    end: (name) => untilReady(name, 'Running'),
  },
  {
    name: 'delete',
    without: /QMP/,
    begin: (name) => file.cluster.kubectl(['delete', 'qvm', name, '--wait=false']),
    end: (name) =>
      until(
        `${name} is gone`,
        () => read(name),
        (vm) => vm === undefined,
        PATIENCE_MS,
      ),
  },
];

/** Two replicas at any time: who is killed is replaced, who is frozen wakes when its Host has been taken over. */
class Pair {
  readonly lines: Line[] = [];
  readonly #name: Name;
  readonly #faults: string;
  readonly #children = new Set<ChildProcess>();
  #over = false;

  constructor(name: Name, faults: string) {
    this.#name = name;
    this.#faults = faults;
  }

  async start(): Promise<void> {
    const child = spawn(process.execPath, [PROGRAM, file.cluster.kubeconfig, hostOf(this.#name), this.#faults], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#children.add(child);
    child.once('exit', () => {
      this.#children.delete(child);
      if (!this.#over) void this.start();
    });
    for await (const text of createInterface({ input: child.stdout })) {
      if (text === 'here') continue;
      const line = JSON.parse(text) as Line;
      this.lines.push(line);
      if (line.signal === 'SIGSTOP') void this.#wake(child, line);
    }
  }

  /** After the take-over; where the other one has the Host already there is none. */
  async #wake(child: ChildProcess, { epoch = 0 }: Line): Promise<void> {
    // It tells before it does: woken too early, it would sleep for ever.
    const isFrozen = () => stateOf(child.pid ?? 0) === 'T';
    await until('it is frozen', isFrozen, Boolean, TAKE_OVER_MS);
    const isTaken = () => this.#over || epochOf(this.#name) > epoch;
    await until('its Host is taken over', isTaken, Boolean, TAKE_OVER_MS).catch(() => undefined);
    child.kill('SIGCONT');
  }

  async end(): Promise<void> {
    this.#over = true;
    const all = [...this.#children];
    for (const child of all) child.kill('SIGKILL');
    await Promise.all(
      all.map((child) => (child.exitCode === null && child.signalCode === null ? once(child, 'exit') : 0)),
    );
  }
}

interface Rest {
  readonly act: string;
  readonly starts: number;
  readonly qemusNow: number;
  readonly files: readonly string[];
  /** Of the disks' contents, where nobody writes to them now. */
  readonly hashes: readonly string[];
}

interface Life {
  readonly rests: readonly Rest[];
  /** By act. */
  readonly effects: ReadonlyMap<string, readonly string[]>;
  /** Faults that never came to pass. */
  readonly left: readonly string[];
  readonly lines: readonly Line[];
}

/** @param trace of a life that nobody disturbed; absent: nobody disturbs this one */
async function live(name: Name, trace?: Life['effects']): Promise<Life> {
  const faults = join(root, `${name}-${trace === undefined ? 'undisturbed' : 'disturbed'}`);
  mkdirSync(faults);
  writeFileSync(join(root, 'template.raw'), TEMPLATE);
  writeSparseTiny(image(name));
  const pair = new Pair(name, faults);
  file.onFinished(() => pair.end());
  for (let i = 0; i < 2; i += 1) void pair.start();
  const startsBefore = startsOf(name);
  const rests: Rest[] = [];
  const effects = new Map<string, readonly string[]>();
  const left: string[] = [];
  for (const act of ACTS) {
    const from = pair.lines.length;
    if (trace !== undefined) plan(faults, SIGNALS[name], act, trace.get(act.name) ?? []);
    await act.begin(name);
    await act.end(name);
    rests.push(restOf(name, act.name, startsBefore));
    effects.set(
      act.name,
      pair.lines.slice(from).flatMap(({ is, effect }) => (is === 'begun' ? [effect] : [])),
    );
    for (const fault of readdirSync(faults)) {
      left.push(`${act.name}: ${fault}`);
      rmSync(join(faults, fault));
    }
  }
  await pair.end();
  return { rests, effects, left, lines: pair.lines };
}

/** What a status is about is done: before it, nothing is left to happen but what happens after the effect before it. */
function plan(path: string, signal: string, { name, without }: Act, effects: readonly string[]): void {
  const statuses = effects.includes('status') ? ['status'] : [];
  const others = effects.filter((effect) => effect !== 'status' && effect !== 'CLAIM');
  const all = [...(name === 'create' ? ['CLAIM'] : []), ...others, ...statuses].flatMap((effect, i, list) => {
    const nth = list.slice(0, i).filter((other) => other === effect).length;
    return (effect === 'status' ? ['after'] : ['before', 'after']).map((when) => `${when} ${effect} #${nth}`);
  });
  for (const fault of all) if (without?.test(fault) !== true) writeFileSync(join(path, fault), signal);
}

const startsOf = (name: Name) =>
  eyes.deeds().filter((deed) => deed.what === 'start' && deed.folder === folder(name)).length;

function restOf(name: Name, act: string, startsBefore: number): Rest {
  const qemusNow = qemusBelow(folder(name)).length;
  const disks = ['data', 'copy'].map((disk) => join(folder(name), `${disk}.qcow2`)).filter(existsSync);
  return {
    act,
    starts: startsOf(name) - startsBefore,
    qemusNow,
    files: existsSync(folder(name)) ? readdirSync(folder(name)).sort() : [],
    hashes: qemusNow > 0 ? [] : [...disks, image(name)].map(contentHash),
  };
}

test.concurrent.each(NAMES)(
  '%s: the owner killed or frozen before and after each effect lives the same life, and nothing is done by whom the host was taken from',
  {
    timeout: 900_000,
  },
  async (name) => {
    const from = performance.now();
    const undisturbed = await live(name);
    const disturbed = await live(name, undisturbed.effects);
    const faults = disturbed.lines.filter(({ signal }) => signal !== undefined);
    const effects = new Set([...undisturbed.effects.values()].flat()).size;
    const seconds = Math.round((performance.now() - from) / 1000);
    console.log(`proof: replicas, ${name}: ${effects} kinds of effects, ${faults.length} faults, ${seconds} s`);
    expect(disturbed.rests).toEqual(undisturbed.rests);
    const stopped = undisturbed.rests.find(({ act }) => act === 'stop');
    expect([stopped?.starts, stopped?.hashes.length]).toEqual([2, 3]);
    expect(disturbed.left).toEqual([]);
    // Who was frozen before an effect on the host, and woke after the take-over, has tried it and was refused.
    const late = disturbed.lines.filter(({ is, effect }) => is === 'ended' && /^[A-Z_]+$/.test(effect));
    expect(late.length).toBeGreaterThan(name === 'on-frozen' ? 5 : -1);
    expect(late.filter(({ outcome }) => outcome === 0)).toEqual([]);
    // By the host's own account: each record was written, and each QEMU started, for whom the marker named at that time.
    const deeds = eyes.deeds().filter((deed) => deed.folder.startsWith(vmDir(name)));
    expect(deeds.length).toBeGreaterThan(25);
    expect(deeds.filter(({ session, owner }) => session !== 0 && session !== owner)).toEqual([]);
  },
);
