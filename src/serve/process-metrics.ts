/** This process, under the names that client libraries use. Each is read when it is scraped. */
import { readdirSync, readFileSync } from 'node:fs';
import { type Figure, familyOf, type Metric } from './exposition.ts';

interface ProcessMetric extends Metric {
  readonly of: (place: ProcessPlace) => readonly Figure[];
}

/** One kind of answer of the API server, and how many there were. */
export interface RequestCount {
  readonly method: string;
  /** HTTP status, or `<error>` where there was no answer. */
  readonly code: string;
  readonly count: number;
}

export interface ProcessPlace {
  readonly version: string;
  /** Whether this process runs the loop; one that stands by does not. */
  readonly isDriving: boolean;
  /** Of a cluster. */
  readonly requests: Iterable<RequestCount>;
}

/** Told apart from the others, since it takes a look at the store. */
export const STORE_UP: Metric = {
  name: 'qemu_operator_store_up',
  type: 'gauge',
  help: 'Whether the store answers, in a cluster the API server: 1, else 0. At 0 the figures of objects are old or absent.',
  labels: [],
};

const gauge = (name: string, help: string, of: (place: ProcessPlace) => number | undefined): ProcessMetric => ({
  name,
  type: 'gauge',
  help,
  labels: [],
  of: (place) => [[[], of(place)]],
});

export const PROCESS_METRICS: readonly ProcessMetric[] = [
  {
    name: 'qemu_operator_build_info',
    type: 'gauge',
    help: 'Always 1: the version of the operator and of its Node.',
    labels: ['version', 'node_version'],
    of: ({ version }) => [[[version, process.version], 1]],
  },
  gauge(
    'qemu_operator_loop_running',
    'Whether this process runs the loop: 1; 0: it stands by, or ends.',
    ({ isDriving }) => (isDriving ? 1 : 0),
  ),
  {
    name: 'rest_client_requests_total',
    type: 'counter',
    help: 'Requests to the API server by method and HTTP status; code <error>: no answer. Absent with a store of files.',
    labels: ['code', 'method'],
    of: ({ requests }) => Array.from(requests, ({ code, method, count }) => [[code, method], count]),
  },
  {
    ...gauge('process_cpu_seconds_total', 'CPU time of the operator.', () => {
      const { user, system } = process.cpuUsage();
      return (user + system) / 1e6;
    }),
    type: 'counter',
  },
  gauge('process_resident_memory_bytes', 'Memory of the operator.', () => process.memoryUsage.rss()),
  gauge(
    'process_start_time_seconds',
    'When the operator started, Unix time.',
    () => Math.round(performance.timeOrigin) / 1000,
  ),
  gauge('process_open_fds', 'Open file descriptors of the operator.', () =>
    orUndefined(() => readdirSync('/proc/self/fd').length),
  ),
  gauge('process_max_fds', 'How many it may open.', () => orUndefined(maxFds)),
  gauge('nodejs_heap_size_used_bytes', 'JavaScript heap in use.', () => process.memoryUsage().heapUsed),
];

/** proc_pid_limits(5): the soft limit. */
function maxFds(): number | undefined {
  const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  return soft === undefined ? undefined : Number(soft);
}

/** Where no descriptor is left, the other figures are wanted most. */
function orUndefined(read: () => number | undefined): number | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

export function processText(place: ProcessPlace): string {
  return PROCESS_METRICS.map((metric) => familyOf(metric, metric.of(place))).join('');
}
