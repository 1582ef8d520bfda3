/** A life in the lab, and what was true at the end of each of its acts. */
import { complaints } from '../fakes/satisfies.ts';
import { EXISTING, LIVES } from './acts.ts';
import { Lab, type Trouble } from './lab.ts';

/** Longer than a resync, after which all that was missed is seen. */
const SETTLE_MS = 70_000;

export interface Rest {
  readonly act: string;
  readonly complaints: readonly string[];
  readonly qemuStarts: number;
  /** Each image that was made. */
  readonly made: readonly string[];
  /** By path: who made the file, which making it was, and what was written into it since. */
  readonly contents: Readonly<Record<string, string>>;
  readonly folders: readonly string[];
  readonly status: unknown;
}

export interface Life {
  readonly rests: readonly Rest[];
  readonly lab: Pick<Lab, 'effects' | 'reads' | 'events' | 'happened'>;
  /** What was done on the host, in order. */
  readonly hostEffects: readonly string[];
}

/** With trouble, the life goes on for one more act: what it did to the VM would show there at the latest. */
export async function live(name: string, trouble?: Trouble): Promise<Life> {
  const lab = await Lab.withHost(trouble);
  try {
    lab.world.addFile(EXISTING);
    lab.startController();
    const rests: Rest[] = [];
    for (const act of LIVES[name] ?? []) {
      const before = lab.happened;
      lab.act = act.name;
      await act.begin(lab);
      await lab.pass(SETTLE_MS);
      rests.push(await restOf(lab, act.name));
      if (before) break;
    }
    return { rests, lab, hostEffects: lab.journal.map(({ action }) => action.type) };
  } finally {
    await lab.end();
  }
}

async function restOf(lab: Lab, act: string): Promise<Rest> {
  const { world } = lab;
  const { phase, vcpus, disks, lastExit, restarts } = (await lab.vm())?.status ?? {};
  return {
    act,
    // A folder that was released has no object to answer to.
    complaints: act === 'release' ? world.violations : await complaints(lab),
    qemuStarts: world.starts,
    made: world.made.map((one) => one.slice(one.indexOf('/'))),
    contents: Object.fromEntries([...world.files].map(([path, { content }]) => [path, content])),
    folders: [...world.folders.keys()],
    status: { phase, vcpus, disks, restarts, lastExit: lastExit?.reason },
  };
}

/** The first act whose end differs from the reference; undefined where all are the same. */
export function firstDifference(life: Life, reference: Life): { readonly is: Rest; readonly was: Rest } | undefined {
  for (const [index, was] of reference.rests.entries()) {
    const is = life.rests[index];
    // Later acts are left out where all was well until then.
    if (is !== undefined && JSON.stringify(is) !== JSON.stringify(was)) return { is, was };
  }
  return undefined;
}
