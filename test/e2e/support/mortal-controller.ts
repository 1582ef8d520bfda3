/**
 * A controller that kills itself at an effect: `node mortal-controller.ts STORE PATH HOW`, where PATH is that of its
 * scripts, and HOW one of
 *
 *     live     does all it has to do, and tells each effect
 *     claim-before, claim-during, claim-after    dies so at the claim of the vmDir
 *     next     dies before its next effect, or after it where that is a status: what a status is about is done
 *     at EFFECT    dies before that one and survives all others
 *     after, during    dies after its next effect; during: with the script just begun, which lives on
 *
 * It tells on stdout what it does: `here`, then lines of `effect`, `before`, `during` or `after` and the effect's name.
 */
import { writeSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { isDeepStrictEqual } from 'node:util';
import type { RunOptions, RunResult } from '../../../src/host/shell.ts';
import { QemuDriver } from '../../../src/qemu/driver.ts';
import { runController } from '../../../src/reconcile/controller.ts';
import { openFileStore } from '../../../src/store/file-store.ts';
import type { Store } from '../../../src/store/store.ts';
import { ObservedStore } from '../../proof/observed-store.ts';
import { effectOf, qmpEffectOf } from './effects.ts';
import { TestShell } from './stand-ins.ts';

const [dir = '', path = '', how = 'live'] = process.argv.slice(2);
const QUICK = { resyncMs: 1_000, failureBackoffMs: { first: 300, max: 2_000 } };

const say = (line: string) => writeSync(1, `${line}\n`);

function die(when: 'before' | 'during' | 'after', effect: string): void {
  say(`${when} ${effect}`);
  process.kill(process.pid, 'SIGKILL');
}

/** When to die at this effect, if at all. */
function deathAt(effect: string): 'before' | 'during' | 'after' | undefined {
  const claims = effect === 'CLAIM';
  if (how.startsWith('claim-')) return claims ? (how.slice('claim-'.length) as 'before') : undefined;
  if (how.startsWith('at ')) return how === `at ${effect}` ? 'before' : undefined;
  if (how === 'live' || claims) return undefined;
  if (how === 'next') return effect.startsWith('status') ? 'after' : 'before';
  return how as 'during' | 'after';
}

/** @param begin starts it and resolves when it is done */
async function effect<T>(name: string, begin: () => Promise<T>, lastsLonger = false): Promise<T> {
  say(`effect ${name}`);
  const death = deathAt(name);
  if (death === 'before') die(death, name);
  const result = begin();
  if (death === 'during' && lastsLonger) die(death, name);
  await result;
  if (death !== undefined) die('after', name);
  return result;
}

class MortalShell extends TestShell {
  override run(script: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
    const run = () => super.run(script, args, options);
    const name = effectOf(script);
    return name === undefined ? run() : effect(name, run, true);
  }

  override async dial(socket: string, options: { timeoutMs: number; signal: AbortSignal }): Promise<Duplex> {
    const stream = await super.dial(socket, options);
    const write = stream.write.bind(stream) as (chunk: unknown) => boolean;
    stream.write = ((chunk: unknown) => {
      const command = qmpEffectOf(chunk);
      if (command === undefined) return write(chunk);
      void effect(`QMP ${command}`, async () => write(chunk));
      return true;
    }) as typeof stream.write;
    return stream;
  }
}

/** A status that is as it was is no write, nor are figures that differ at each look: controllers would die of them without end. */
class MortalStore extends ObservedStore {
  readonly #inner: Store;

  constructor(inner: Store) {
    super(inner, { read: (_what, now) => now(), write: (what, work) => effect(what, work), tells: () => true });
    this.#inner = inner;
  }

  override async updateStatus(...[kind, ref, status, preconditions]: Parameters<Store['updateStatus']>) {
    const current = await this.#inner.get(kind, ref);
    const same = isDeepStrictEqual(withoutFigures(current?.status), withoutFigures(status));
    const store = same ? this.#inner : { updateStatus: super.updateStatus.bind(this) };
    return store.updateStatus(kind, ref, status, preconditions) as never;
  }
}

function withoutFigures(status: unknown): unknown {
  const isFigure = (name: string) => name === 'roundTripMs' || name === 'freeBytes';
  const kept = (name: string, value: unknown) => (isFigure(name) ? undefined : value);
  return status === undefined ? undefined : JSON.parse(JSON.stringify(status, kept));
}

const store = await openFileStore({ dir, settleMs: 20 });
await store.controllerLock.acquire(new AbortController().signal);
say('here');
runController({
  store: new MortalStore(store),
  driverFor: () => new QemuDriver(new MortalShell({ path })),
  options: QUICK,
}).subscribe();
