/** A VirtualMachineMonitor in full. Pure. */
import type { VirtualMachineMonitor } from '../api/virtual-machine-monitor.ts';
import { sampleLines } from './sample-lines.ts';
import { conditionLines, fields, metadataLines, section } from './sheet.ts';

const SHOWN = 3;

export function describeMonitor(monitor: VirtualMachineMonitor, now: number): string[] {
  const { spec, status } = monitor;
  const samples = (status?.samples ?? []).slice(-SHOWN);
  return [
    ...metadataLines(monitor, now),
    ...fields([
      ['VM', spec.virtualMachineName],
      ['Interval', `${spec.intervalSeconds} s`],
      ['Metrics', spec.metrics?.join(', ') ?? 'all'],
      ['Until', spec.until],
    ]),
    ...conditionLines(status?.conditions, now),
    ...samples.flatMap(({ sequence, sample }) => section(`Sample ${sequence} at ${sample.at}`, sampleLines(sample))),
  ];
}
