/**
 * One controller, a real sshd and a network that breaks before and after each effect of a life: the life that results
 * is the life that nobody disturbed.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import type { RunOptions, RunResult, Shell } from '../../src/host/shell.ts';
import type { RemoteShell } from '../../src/remote/remote-shell.ts';
import { countingQemu } from './support/counting-qemu.ts';
import { effectOf, qmpEffectOf } from './support/effects.ts';
import { liveThere } from './support/far-life.ts';
import { contentHash } from './support/images.ts';
import { humanMonitor } from './support/oracle.ts';
import { qemusBelow } from './support/process.ts';
import { PassingShell, RemoteRig } from './support/remote-rig.ts';
import { readyOf } from './support/rig.ts';
import type { SlowLink } from './support/slow-link.ts';
import { until } from './support/wait.ts';

const NAME = 'web-1';
const PATIENCE_MS = 240_000;
const MINUTE = 60_000;
/** Between a script's work and its end. */
const ANSWER_SECONDS = 2;

type When = 'before' | 'after' | 'never';
/** What is wanted once more although it was done, as a claim is whose answer was lost, comes through. */
const FOLLOWS: Readonly<Record<When, When>> = { before: 'after', after: 'never', never: 'before' };

interface CuttingPlace {
  readonly link: SlowLink;
  /** The PATH of scripts. */
  readonly path: string;
  readonly isCutting: boolean;
  /** Where the host says that it is done: the beginning of paths. */
  readonly mark: string;
  /** Asks the loop to look again. */
  readonly look: () => Promise<void>;
}

/** Cuts the link before an effect, and after it when it is tried again. */
class CuttingShell extends PassingShell {
  readonly effects: string[] = [];
  readonly cuts: string[] = [];
  readonly #place: CuttingPlace;
  #last: { readonly name: string; readonly when: When } | undefined;

  constructor(remote: RemoteShell, place: CuttingPlace) {
    super(remote);
    this.#place = place;
  }

  override run(script: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
    const name = effectOf(script);
    const path = `PATH='${this.#place.path}'; export PATH\n`;
    if (name === undefined) return super.run(path + script, args, options);
    return this.#effect(name, (mark) => {
      const marking = mark === undefined ? '' : `trap ': >"${mark}"; sleep ${ANSWER_SECONDS}' EXIT\n`;
      return super.run(path + marking + script, args, options);
    });
  }

  override async dial(socket: string, options: Parameters<Shell['dial']>[1]): Promise<Duplex> {
    const stream = await super.dial(socket, options);
    const write = stream.write.bind(stream) as (chunk: unknown) => boolean;
    stream.write = ((chunk: unknown) => {
      const command = qmpEffectOf(chunk);
      if (command === undefined) return write(chunk);
      void this.#effect(`QMP ${command}`, async () => write(chunk)).catch(() => undefined);
      return true;
    }) as typeof stream.write;
    return stream;
  }

  /** @param begin does it; with a path, a file appears there when the host has done it */
  async #effect<T>(name: string, begin: (mark?: string) => Promise<T>): Promise<T> {
    this.effects.push(name);
    if (!this.#place.isCutting) return begin();
    const when = this.#when(name);
    this.#last = { name, when };
    if (when === 'never') return begin();
    this.cuts.push(`${when} ${name}`);
    try {
      return await (when === 'before' ? this.#cutBefore(begin) : this.#cutAfter(name, begin));
    } finally {
      // The pauses between attempts grow with each loss, and have tests of their own.
      await this.remote.close();
      await this.#place.look();
    }
  }

  /** An end that was cut off before it came may be brought about in another way: the next one of its kind is cut after it. */
  #when(name: string): When {
    if (this.#last?.name === name) return FOLLOWS[this.#last.when];
    // The quit that follows is only asked for by a stop that was noted without trouble.
    if (name === 'STOP' && this.cuts.includes('after STOP')) return 'never';
    return this.cuts.includes(`before ${name}`) && !this.cuts.includes(`after ${name}`) ? 'after' : 'before';
  }

  async #cutBefore<T>(begin: () => Promise<T>): Promise<T> {
    this.#place.link.reset();
    await this.#untilLost();
    return begin();
  }

  /** The host does it, and what it says of it is lost: a script's end comes late, a monitor's answer is held back. */
  async #cutAfter<T>(name: string, begin: (mark: string) => Promise<T>): Promise<T> {
    const { link, mark } = this.#place;
    const done = `${mark}-${this.cuts.length}`;
    const isCommand = name.startsWith('QMP');
    if (isCommand) link.holdAnswers();
    const result = begin(done);
    result.catch(() => undefined);
    const isDone = () => (isCommand ? link.held > 0 : existsSync(done));
    await until(`${name} is done`, isDone, Boolean);
    link.reset();
    await this.#untilLost();
    return result;
  }

  async #untilLost(): Promise<void> {
    await until(
      'the connection is lost',
      () => this.remote.seen(),
      (seen) => seen === undefined,
    );
  }
}

interface Rest {
  readonly act: string;
  readonly phase: string | undefined;
  readonly reason: string | undefined;
  readonly qemuStarts: number;
  readonly qemusNow: number;
  readonly files: readonly string[];
  /** Of what a guest would read, where nobody writes now. */
  readonly hashes: readonly string[];
}

/** Create, start, modify, stop, delete. */
async function live(isCutting: boolean): Promise<{ rests: Rest[]; effects: string[]; cuts: string[] }> {
  const far = await RemoteRig.start(onTestFinished);
  const { rig, link } = far;
  const { path, starts } = countingQemu(rig.path('bin'), rig.path('starts'));
  let shell: CuttingShell | undefined;
  far.run(onTestFinished, (remote) => {
    shell = new CuttingShell(remote, { link, path, isCutting, mark: rig.path('mark'), look: () => far.look() });
    return shell;
  });
  const rests: Rest[] = [];
  const rest = async (act: string) => {
    const vm = await rig.store.get('VirtualMachine', { namespace: 'default', name: NAME });
    const folder = rig.folder(NAME);
    const qemusNow = qemusBelow(folder).length;
    const disks = [join(folder, 'data.qcow2'), rig.path('images', `${NAME}.raw`)].filter((disk) => existsSync(disk));
    rests.push({
      act,
      phase: vm?.status?.phase,
      reason: vm && readyOf(vm)?.reason,
      qemuStarts: starts(),
      qemusNow,
      files: existsSync(folder) ? readdirSync(folder).sort() : [],
      hashes: qemusNow > 0 ? [] : disks.map(contentHash),
    });
  };
  await liveThere(far, {
    name: NAME,
    patienceMs: PATIENCE_MS,
    rest,
    onRunning: async () => {
      await rig.untilPrinted(NAME, 'TINY-IO');
      await humanMonitor(rig.folder(NAME), 'qemu-io disk-data "write -P 0x5a 1M 64k"');
    },
  });
  return { rests, effects: shell?.effects ?? [], cuts: shell?.cuts ?? [] };
}

test('a link that is cut before and after each effect of a life changes nothing of it', {
  timeout: 15 * MINUTE,
}, async () => {
  const undisturbed = await live(false);
  const { rests, cuts } = await live(true);
  const { effects } = undisturbed;
  console.log(`proof: link cuts on real QEMU over SSH: ${effects.length} effects, ${cuts.length} cuts`);
  expect(rests).toEqual(undisturbed.rests);
  expect(cuts.length).toBeGreaterThanOrEqual(effects.length);
  // A machine whose quit was cut off is ended by a script.
  const expected = (when: string) => effects.filter((effect) => when === 'before' || !effect.startsWith('QMP'));
  for (const when of ['before', 'after'])
    expect([...new Set(expected(when))].filter((effect) => !cuts.includes(`${when} ${effect}`))).toEqual([]);
});
