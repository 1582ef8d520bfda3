/** A plan for people and for programs. Pure. */
import type { Effect, Foreseen, ForeseenChange } from '../api/foreseen.ts';
import { en } from '../messages/en.ts';
import { jsonText } from './output.ts';
import { resourceOf } from './resources.ts';
import { Table } from './table.ts';

const OUTCOMES: Readonly<Record<Foreseen['outcome'], string>> = {
  create: 'will be created',
  change: 'will be changed',
  delete: 'will be deleted',
  none: 'is unchanged',
  refused: 'is refused',
};
const FATES = {
  none: '',
  kept: '; its QEMU process is kept',
  started: '; it is started',
  stopped: '; it is stopped',
  restarted: '; it is restarted',
} as const;
const MARKS: Readonly<Record<Effect, string>> = {
  create: '+',
  delete: '-',
  live: '~',
  restart: '!',
  start: '~',
  stop: '~',
  stalls: 'x',
  refused: 'x',
};

export interface Summary {
  readonly create: number;
  readonly change: number;
  readonly unchanged: number;
  readonly refused: number;
  /** VMs that are restarted by it. */
  readonly restarts: number;
  /** VMs that will wait for a restart. */
  readonly waiting: number;
}

export function summaryOf(plans: readonly Foreseen[]): Summary {
  const count = (holds: (plan: Foreseen) => boolean) => plans.filter(holds).length;
  return {
    create: count(({ outcome }) => outcome === 'create'),
    change: count(({ outcome }) => outcome === 'change'),
    unchanged: count(({ outcome }) => outcome === 'none'),
    refused: count(({ outcome }) => outcome === 'refused'),
    restarts: count(({ process }) => process === 'restarted'),
    waiting: count(({ waiting }) => waiting.length > 0),
  };
}

export function planLines(plans: readonly Foreseen[]): string[] {
  const { create, change, unchanged, refused, restarts, waiting } = summaryOf(plans);
  const total = `Plan: ${create} to create, ${change} to change, ${unchanged} unchanged, ${refused} refused; ${restarts} restarted by it, ${waiting} left waiting for a restart.`;
  return [...plans.flatMap((plan) => [...objectLines(plan), '']), total];
}

function objectLines(plan: Foreseen): string[] {
  const { kind, ref, outcome, process, changes, waiting, caveats } = plan;
  const where = ref.namespace === undefined || ref.namespace === 'default' ? '' : ` (namespace ${ref.namespace})`;
  const fate = outcome === 'none' || process === undefined ? '' : FATES[process];
  const told = new Set(changes.map(({ path }) => path));
  const earlier = waiting.filter((path) => !told.has(path));
  return [
    `${resourceOf(kind)}/${ref.name}${where} ${OUTCOMES[outcome]}${fate}`,
    ...new Table().lines(changes.map((change) => changeRow(outcome, change))).map((line) => `  ${line}`),
    ...(earlier.length === 0 ? [] : [`  Waits for a restart already: ${earlier.join(', ')}`]),
    ...caveats.map((caveat) => `  Note: ${en.caveat(caveat)}`),
  ];
}

function changeRow(outcome: Foreseen['outcome'], { path, from, to, effect, why, detail }: ForeseenChange): string[] {
  const mark =
    from === undefined && effect !== 'refused' ? '+' : to === undefined && from !== undefined ? '-' : MARKS[effect];
  const values = from === undefined ? (to ?? '') : to === undefined ? from : `${from} -> ${to}`;
  const field = `${mark} ${path}${values === '' ? '' : `: ${values}`}`;
  // All of a new object has the same effect: its first line says so.
  return outcome === 'create' ? [field] : [field, effect, en.foreseen(why, detail ?? '')];
}

/** The same for programs; `because` is stable, `why` is its sentence. */
export function planJson(plans: readonly Foreseen[]): string {
  return jsonText({
    plans: plans.map(({ kind, ref, outcome, process, changes, waiting, caveats }) => ({
      kind,
      ...ref,
      outcome,
      process,
      changes: changes.map(({ why, detail, ...change }) => ({
        ...change,
        because: why,
        why: en.foreseen(why, detail ?? ''),
      })),
      waitingForRestart: waiting,
      notes: caveats.map((caveat) => en.caveat(caveat)),
    })),
    summary: summaryOf(plans),
  });
}
