/**
 * A replica of the operator that a signal ends or freezes before or after an effect:
 * `node mortal-replica.ts KUBECONFIG HOST FAULTS`. It shares the one Host with its like. In FAULTS lies a file for each
 * fault that is to happen, `before LAUNCH #0` or the like, with the signal as text; whoever removes it has that fault.
 *
 * It tells on stdout: `here`, then lines of JSON.
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, unlinkSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { ReplaySubject } from 'rxjs';
import type { Host } from '../../../src/api/host.ts';
import { driveHosts } from '../../../src/drive-hosts.ts';
import type { DialOptions, RunOptions, RunResult } from '../../../src/host/shell.ts';
import { loadKubeConfig } from '../../../src/kube/kube-config.ts';
import { ReplicaLeases } from '../../../src/kube/replica-leases.ts';
import { KubeTransport } from '../../../src/kube/transport.ts';
import { type Owns, ownedBy } from '../../../src/reconcile/rendezvous.ts';
import { HostShells } from '../../../src/remote/host-shells.ts';
import type { RemoteShell } from '../../../src/remote/remote-shell.ts';
import { KubeSecrets } from '../../../src/store/kube-secrets.ts';
import { openKubeStore } from '../../../src/store/kube-store.ts';
import type { Store } from '../../../src/store/store.ts';
import { effectOf, qmpEffectOf } from '../../e2e/support/effects.ts';
import { ObservedStore } from '../../proof/observed-store.ts';

const [kubeconfig = '', hostName = '', faults = ''] = process.argv.slice(2);
const NAMESPACE = 'default';
/** A take-over is waited for some hundred times. */
const TIMES = { durationMs: 1_500, renewMs: 400, leftMs: 30_000 };

/** What the suite reads. */
export interface Line {
  readonly effect: string;
  /** `ended`: only of an effect that was begun after its process had been frozen. */
  readonly is: 'begun' | 'before' | 'after' | 'awake' | 'ended';
  readonly signal?: string;
  /** Under which it acts there. */
  readonly epoch?: number;
  /** Of a script its exit code; else what it failed with. */
  readonly outcome?: number | string;
}

const say = (line: Line) => writeSync(1, `${JSON.stringify(line)}\n`);

/** The signal that is meant for this effect, once. */
function faultAt(when: 'before' | 'after', effect: string): NodeJS.Signals | undefined {
  for (const name of readdirSync(faults)) {
    if (!name.startsWith(`${when} ${effect} #`)) continue;
    try {
      const signal = readFileSync(join(faults, name), 'utf8') as NodeJS.Signals;
      unlinkSync(join(faults, name));
      return signal;
    } catch {
      // The other replica has it.
    }
  }
  return undefined;
}

let vmDir = '';
let claimed: number | undefined;

/** As the marker has it, without a word to the host; 0 where there is none. */
function epochNow(): number {
  try {
    return (JSON.parse(readFileSync(join(vmDir, '.qemu-operator.json'), 'utf8')) as { epoch: number }).epoch;
  } catch {
    return 0;
  }
}

/** One replica at a time is frozen: the other one has to take over. */
const FROZEN = `${faults}.frozen`;
async function mayFreeze(): Promise<void> {
  for (;;) {
    try {
      mkdirSync(FROZEN);
      return;
    } catch {
      await sleep(20);
    }
  }
}

/** @returns whether this process was frozen; one that is killed does not return */
async function suffer(when: 'before' | 'after', effect: string): Promise<boolean> {
  const signal = faultAt(when, effect);
  if (signal === undefined) return false;
  if (signal === 'SIGSTOP') await mayFreeze();
  const now = epochNow();
  // One that was taken over and does not know it yet has its own one.
  const epoch = when === 'before' && effect === 'CLAIM' ? now : (claimed ?? now);
  say({ effect, is: when, signal, epoch });
  process.kill(process.pid, signal);
  rmdirSync(FROZEN);
  say({ effect, is: 'awake' });
  return true;
}

async function tell<T>(effect: string, work: () => Promise<T>): Promise<T> {
  say({ effect, is: 'begun' });
  const froze = await suffer('before', effect);
  try {
    const result = await work();
    if (effect === 'CLAIM' && (result as unknown as RunResult).code === 0) claimed = epochNow();
    if (froze) say({ effect, is: 'ended', outcome: (result as Partial<RunResult> | undefined)?.code ?? 'done' });
    await suffer('after', effect);
    return result;
  } catch (error) {
    if (froze) say({ effect, is: 'ended', outcome: String(error) });
    throw error;
  }
}

class MortalShells extends HostShells {
  readonly #made = new Map<string, RemoteShell>();

  override remote(host: Host): RemoteShell | undefined {
    const { uid } = host.metadata;
    vmDir = host.spec.vmDir;
    const made = this.#made.get(uid) ?? super.remote(host);
    if (made === undefined || this.#made.has(uid)) return made;
    const [run, dial] = [made.run.bind(made), made.dial.bind(made)];
    made.run = (script: string, args: readonly string[], options: RunOptions) => {
      // Its trial takes a second and a half for each take-over, and has tests of its own.
      if (script.includes('KVM ran no code'))
        return Promise.resolve({ code: 1, stdout: Buffer.from('not tried'), stderr: Buffer.alloc(0) });
      const known = effectOf(script);
      return known === undefined ? run(script, args, options) : tell(known, () => run(script, args, options));
    };
    made.dial = async (socket: string, options: DialOptions): Promise<Duplex> => {
      const stream = await dial(socket, options);
      const write = stream.write.bind(stream) as (chunk: unknown) => boolean;
      stream.write = ((chunk: unknown) => {
        const command = qmpEffectOf(chunk);
        if (command === undefined) return write(chunk);
        void tell(`QMP ${command}`, async () => void write(chunk));
        return true;
      }) as typeof stream.write;
      return stream;
    };
    this.#made.set(uid, made);
    return made;
  }
}

/** A status that says nothing new is no effect. */
class MortalStore extends ObservedStore {
  readonly #inner: Store;

  constructor(inner: Store) {
    super(inner, { read: (_what, now) => now(), write: (_what, work) => work(), tells: () => true });
    this.#inner = inner;
  }

  override async patch(...[kind, ref, patch, options]: Parameters<Store['patch']>) {
    const work = () => this.#inner.patch(kind, ref, patch, options);
    if (kind !== 'VirtualMachine') return work() as never;
    return tell(`patch (${Object.keys(patch.metadata ?? {}).join(', ')})`, work) as never;
  }

  override async updateStatus(...[kind, ref, status, preconditions]: Parameters<Store['updateStatus']>) {
    const work = () => this.#inner.updateStatus(kind, ref, status, preconditions);
    const before = kind === 'VirtualMachine' ? await this.#inner.get(kind, ref) : undefined;
    const plain = (value: unknown) => JSON.parse(JSON.stringify(value ?? {})) as unknown;
    if (before === undefined || isDeepStrictEqual(plain(before.status), plain(status))) return work() as never;
    return tell('status', work) as never;
  }
}

const transport = new KubeTransport({ load: () => loadKubeConfig({ kubeconfig }), userAgent: 'mortal-replica' });
const store = new MortalStore(await openKubeStore({ transport, fieldManager: 'qemu-operator', cached: true }));
const secrets = new KubeSecrets({ transport, operatorNamespace: NAMESPACE, fieldManager: 'qemu-operator' });
const owned$ = new ReplaySubject<Owns>(1);
const leases = new ReplicaLeases({
  transport,
  // By Host, so that nobody else's life is disturbed.
  namespace: hostName,
  application: 'qemu-operator',
  name: hostname(),
  times: TIMES,
  onChange: (live) => {
    const owns = ownedBy(leases.id, live);
    owned$.next((name) => name === hostName && owns(name));
  },
});
const shells = new MortalShells(store, secrets, { isolated: true });
await driveHosts({ store, secrets, shells, owned$ }, () => undefined);
await leases.start();
writeSync(1, 'here\n');
