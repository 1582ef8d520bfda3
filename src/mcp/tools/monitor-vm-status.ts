/** monitor_vm_status: samples of a running VM, as many as asked, or until the client has had enough. */
import { z } from 'zod';
import { oneLine } from '../../api/errors.ts';
import { METRICS, type Metric, type Sample } from '../../api/virtual-machine-monitor.ts';
import { type SampleRequest, samplesOf } from '../../store/samples.ts';
import {
  DEFAULT_WAIT_SECONDS,
  hostArguments,
  nameArgument,
  namespaceArgument,
  parseArguments,
  publishedSchema,
  waitArgument,
} from '../arguments.ts';
import { type Envelope, Refusal, succeeded } from '../envelope.ts';
import { vmFor } from '../hosts.ts';
import { outputSchema } from '../output-schema.ts';
import type { Tool, ToolContext } from '../tool.ts';

const monitorSchema = z.strictObject({
  name: nameArgument(),
  metrics: z
    .enum([...METRICS, 'all'])
    .optional()
    .describe('Default all'),
  interval: z.int().min(1).max(3600).optional().describe('Seconds between samples (5)'),
  count: z.int().min(0).max(1000).optional().describe('Samples (1). 0: until cancelled, each as a progress message'),
  ...hostArguments,
  namespace: namespaceArgument(),
  wait_seconds: waitArgument(),
});
type MonitorArguments = z.infer<typeof monitorSchema>;

/** A call without end keeps no more than this; each was told as progress. */
const MAX_KEPT = 1000;
const MAX_PROGRESS = 4000;

export const monitorVmStatus: Tool = {
  changes: false,
  definition: {
    name: 'monitor_vm_status',
    title: 'Monitor a VM',
    description:
      'Sample CPU, memory, disk and network of a running VM. One entry per sample and metric; figures that cannot be known are left out and named in unavailable.',
    inputSchema: publishedSchema(monitorSchema),
    outputSchema: outputSchema({
      host: 'string',
      vm_name: 'string',
      timestamp: 'array',
      metrics_data: 'object',
      unavailable: 'array',
      completed: 'boolean',
      error: 'object',
    }),
    annotations: {
      title: 'Monitor a VM',
      readOnlyHint: true,
      destructiveHint: false,
      idempotentHint: true,
      openWorldHint: false,
    },
  },
  async run(input: unknown, context: ToolContext): Promise<Envelope> {
    const args = parseArguments(monitorSchema, input, context.say);
    const { vm, host } = await vmFor(context, args.name, args);
    if (vm.status?.pid === undefined) throw notRunning(context, args, vm.status?.phase ?? 'Pending');
    const metrics = args.metrics === undefined || args.metrics === 'all' ? METRICS : [args.metrics];
    const taken = await take(context, args, vm, metrics);
    context.signal.throwIfAborted();
    if (taken.samples.length === 0 && taken.ended) throw notRunning(context, args, 'Stopped');
    return answer(context, args, { host: args.host ?? host.metadata.name, metrics, taken });
  },
};

function notRunning({ say }: ToolContext, { name, host }: MonitorArguments, phase: string): Refusal {
  const where = host === undefined ? {} : { host };
  return new Refusal(say.notRunning(name, phase), {
    code: 'NotRunning',
    field: 'name',
    value: JSON.stringify(name),
    next: { tool: 'manage_vm', arguments: { name, action: 'start', ...where } },
  });
}

interface Taken {
  readonly samples: readonly Sample[];
  /** The VM has no process any more. */
  readonly ended: boolean;
}

async function take(
  context: ToolContext,
  args: MonitorArguments,
  vm: SampleRequest['vm'],
  metrics: readonly Metric[],
): Promise<Taken> {
  const wanted = args.count ?? 1;
  const endless = wanted === 0 && context.progress !== undefined && args.wait_seconds === undefined;
  const forMs = endless ? undefined : (args.wait_seconds ?? DEFAULT_WAIT_SECONDS) * 1000;
  const over = new AbortController();
  const timer = forMs === undefined ? undefined : setTimeout(() => over.abort(), forMs);
  const signal = AbortSignal.any([context.signal, over.signal]);
  const samples: Sample[] = [];
  try {
    for await (const sample of samplesOf(context.store, {
      vm,
      ...(metrics.length === METRICS.length ? {} : { metrics }),
      intervalSeconds: args.interval ?? 5,
      forMs,
      signal,
    })) {
      samples.push(sample);
      if (samples.length > MAX_KEPT) samples.shift();
      context.progress?.(progressText(sample, metrics), wanted === 0 ? undefined : wanted);
      if (samples.length === wanted) return { samples, ended: false };
    }
    return { samples, ended: !signal.aborted };
  } finally {
    clearTimeout(timer);
  }
}

/** All figures of the sample, since a call without end has no other answer. */
function progressText(sample: Sample, metrics: readonly Metric[]): string {
  const figures = Object.fromEntries(metrics.map((metric) => [metric, figuresOf(sample, metric)]));
  return JSON.stringify({ timestamp: sample.at, ...figures }).slice(0, MAX_PROGRESS);
}

const FIELDS = { cpu: 'cpu', memory: 'memory', disk: 'disks', network: 'networks' } as const;

function figuresOf(sample: Sample, metric: Metric): unknown {
  const figures = sample[FIELDS[metric]];
  return figures ?? (metric === 'cpu' || metric === 'memory' ? {} : []);
}

function answer(
  { say }: ToolContext,
  args: MonitorArguments,
  { host, metrics, taken }: { readonly host: string; readonly metrics: readonly Metric[]; readonly taken: Taken },
): Envelope {
  const { samples, ended } = taken;
  const wanted = args.count ?? 1;
  const completed = wanted > 0 && samples.length >= wanted;
  const unavailable = unavailableIn(samples, metrics);
  const more = completed ? say.sampled(args.name, samples.length) : say.sampledSoFar(args.name, samples.length, wanted);
  return succeeded(ended ? say.endedWhileSampled(args.name, samples.length) : more, {
    host,
    vm_name: args.name,
    timestamp: samples.map(({ at }) => at),
    metrics_data: Object.fromEntries(
      metrics.map((metric) => [metric, samples.map((sample) => figuresOf(sample, metric))]),
    ),
    ...(unavailable.length === 0 ? {} : { unavailable }),
    completed,
    ...(completed || ended ? {} : { next_call: nextCall(args, wanted - samples.length) }),
  });
}

function nextCall(args: MonitorArguments, left: number): { tool: string; arguments: Record<string, unknown> } {
  const { ssh_port: _port, ...given } = args;
  return { tool: 'monitor_vm_status', arguments: { ...given, count: args.count === 0 ? 0 : Math.max(1, left) } };
}

/** Each figure that is missing is named once, however many samples lack it. */
function unavailableIn(samples: readonly Sample[], metrics: readonly Metric[]): { metric: string; reason: string }[] {
  const found = new Map<string, string>();
  const asked = new Set<string>(metrics.map((metric) => FIELDS[metric]));
  for (const sample of samples) {
    for (const { metric, reason } of sample.unavailable ?? []) {
      if (asked.has(metric.split(/[.[]/)[0] ?? '')) found.set(oneLine(metric, 128), oneLine(reason, 256));
    }
  }
  return [...found].map(([metric, reason]) => ({ metric, reason }));
}
