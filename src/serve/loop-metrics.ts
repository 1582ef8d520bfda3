/** What the loop did, as figures: heard from its events. One reconcile is one pass of a Host's loop over its woken VMs. */
import { Counts, familyOf, Histogram, type Metric } from './exposition.ts';

/** What the loop tells, as far as figures are made of it. */
export type LoopFact =
  | {
      readonly type: 'pass';
      readonly host: string;
      readonly ms: number;
      readonly woken: number;
      readonly waiting: number;
    }
  | { readonly type: 'action'; readonly host: string; readonly vm: string; readonly action: { readonly type: string } }
  | {
      readonly type: 'done';
      readonly host: string;
      readonly vm: string;
      readonly action: { readonly type: string };
      readonly ms: number;
    }
  | {
      readonly type: 'failed';
      readonly host: string;
      readonly vm: string;
      readonly action?: { readonly type: string };
    }
  | { readonly type: 'ended'; readonly host: string };

/** Of the label `controller`: one of ours has a loop for each Host. */
const CONTROLLER = 'host';

const counter = (name: string, help: string, labels: readonly string[]): Metric => ({
  name,
  type: 'counter',
  help,
  labels,
});
const gauge = (name: string, help: string, labels: readonly string[]): Metric => ({
  name,
  type: 'gauge',
  help,
  labels,
});

const RECONCILES = counter(
  'controller_runtime_reconcile_total',
  'Passes of the loops, one per look at a Host; and, with result="error", failures of a look, a decision or an action.',
  ['controller', 'result'],
);
const ERRORS = counter('controller_runtime_reconcile_errors_total', 'The failures among them.', ['controller']);
const SECONDS: Metric = {
  name: 'controller_runtime_reconcile_time_seconds',
  type: 'histogram',
  help: 'How long passes took; actions go on beside them.',
  labels: ['controller'],
};
const WORKERS = gauge('controller_runtime_active_workers', 'Actions under way, such as a launch.', ['controller']);
const DEPTH = gauge('workqueue_depth', 'VMs that were woken and wait for the next pass, after the last one.', [
  'name',
  'controller',
]);
const ADDS = counter('workqueue_adds_total', 'VMs that were woken and taken by a pass; a whole Host counts as one.', [
  'name',
  'controller',
]);
const HOSTS = gauge('qemu_operator_loop_hosts', 'Hosts that this process drives: its loop has looked at them.', []);
const ACTIONS = counter('qemu_operator_actions_total', 'Actions that ended; result is success or error.', [
  'action',
  'result',
]);
const ACTION_SECONDS: Metric = {
  name: 'qemu_operator_action_duration_seconds',
  type: 'histogram',
  help: 'How long actions took that succeeded.',
  labels: ['action'],
};

export const LOOP_METRICS: readonly Metric[] = [
  RECONCILES,
  ERRORS,
  SECONDS,
  WORKERS,
  DEPTH,
  ADDS,
  HOSTS,
  ACTIONS,
  ACTION_SECONDS,
];

const PASS_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const ACTION_BOUNDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

export class LoopFigures {
  readonly #passSeconds = new Histogram(SECONDS, PASS_BOUNDS);
  readonly #actionSeconds = new Histogram(ACTION_SECONDS, ACTION_BOUNDS);
  readonly #actions = new Counts();
  /** By Host: VMs with an action under way. */
  readonly #active = new Map<string, Set<string>>();
  /** By Host that is driven here: VMs that its last pass left for the next. */
  readonly #waiting = new Map<string, number>();
  #passes = 0;
  #failures = 0;
  #woken = 0;

  hear(fact: LoopFact): void {
    switch (fact.type) {
      case 'pass':
        this.#passes += 1;
        this.#woken += fact.woken;
        this.#waiting.set(fact.host, fact.waiting);
        this.#passSeconds.observe([CONTROLLER], fact.ms / 1000);
        break;
      case 'action':
        this.#active.set(fact.host, (this.#active.get(fact.host) ?? new Set()).add(fact.vm));
        break;
      case 'done':
        this.#ended(fact.host, fact.vm, fact.action.type, 'success');
        this.#actionSeconds.observe([fact.action.type], fact.ms / 1000);
        break;
      case 'failed':
        this.#failures += 1;
        if (fact.action !== undefined) this.#ended(fact.host, fact.vm, fact.action.type, 'error');
        break;
      case 'ended':
        this.#active.delete(fact.host);
        this.#waiting.delete(fact.host);
    }
  }

  #ended(host: string, vm: string, action: string, result: 'success' | 'error'): void {
    this.#active.get(host)?.delete(vm);
    this.#actions.add([action, result]);
  }

  text(): string {
    const active = sumOf([...this.#active.values()].map(({ size }) => size));
    const waiting = sumOf([...this.#waiting.values()]);
    return [
      familyOf(RECONCILES, [
        [[CONTROLLER, 'success'], this.#passes],
        [[CONTROLLER, 'error'], this.#failures],
      ]),
      familyOf(ERRORS, [[[CONTROLLER], this.#failures]]),
      this.#passSeconds.text(),
      familyOf(WORKERS, [[[CONTROLLER], active]]),
      familyOf(DEPTH, [[[CONTROLLER, CONTROLLER], waiting]]),
      familyOf(ADDS, [[[CONTROLLER, CONTROLLER], this.#woken]]),
      familyOf(HOSTS, [[[], this.#waiting.size]]),
      familyOf(ACTIONS, this.#actions.figures()),
      this.#actionSeconds.text(),
    ].join('');
  }
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, one) => sum + one, 0);
}
