/** All figures there are, for docs/reference/metrics.md. */
import type { Metric } from './exposition.ts';
import { HOST_METRICS } from './host-metrics.ts';
import { LOOP_METRICS } from './loop-metrics.ts';
import { PROCESS_METRICS, STORE_UP } from './process-metrics.ts';
import { VM_METRICS } from './vm-metrics.ts';

export interface MetricGroup {
  readonly title: string;
  readonly metrics: readonly Metric[];
}

export const METRIC_GROUPS: readonly MetricGroup[] = [
  { title: 'Virtual machines', metrics: VM_METRICS },
  { title: 'Hosts', metrics: HOST_METRICS },
  { title: 'The loop', metrics: LOOP_METRICS },
  { title: 'The operator itself', metrics: [STORE_UP, ...PROCESS_METRICS] },
];
