/** Lines for the terminal, and docs/performance.md. */
import { CONTROLLER_NODE_OPTIONS } from '../../src/doctor/unit-files.ts';
import { type Finding, shownNumber, verdictOf } from './figures.ts';
import type { Machine } from './machine.ts';

export interface Results {
  readonly date: string;
  readonly machine: Machine;
  readonly findings: readonly Finding[];
}

const MARKS = { met: 'ok  ', broken: 'MISS', 'no bound': '    ' } as const;

export function lineOf(finding: Finding): string {
  const { name, from } = finding;
  return `${MARKS[verdictOf(finding)]} ${name}: ${figureOf(finding)}${boundOf(finding, ', at most ')} (${from})`;
}

function figureOf({ figure, unit }: Finding): string {
  return unit === 'writes' || unit === 'round trips' ? `${figure} ${unit}` : `${shownNumber(figure)} ${unit}`;
}

function boundOf({ bound, unit }: Finding, before = ''): string {
  return bound === undefined ? '' : `${before}${bound} ${unit}`;
}

const MACHINE_WORDS: Readonly<Record<keyof Machine, string>> = {
  cpu: 'CPU',
  memory: 'Memory',
  kernel: 'Kernel',
  accelerator: 'Accelerator',
  qemu: 'QEMU',
  libvirt: 'libvirt',
  node: 'Node',
  load: 'Load average',
};

function figuresOf({ date, machine, findings }: Results): string {
  const rows = findings.map(
    (finding) =>
      `| ${finding.name} | **${figureOf(finding)}** | ${boundOf(finding) || 'none'} | ${verdictOf(finding)} | ${finding.from} |`,
  );
  const facts = (Object.keys(MACHINE_WORDS) as (keyof Machine)[]).map(
    (name) => `* ${MACHINE_WORDS[name]}: ${machine[name]}`,
  );
  return `| what | figure | at most | verdict | from |
| --- | --- | --- | --- | --- |
${rows.join('\n')}

Taken on ${date}:

${facts.join('\n')}`;
}

export function pageOf(results: Results): string {
  return `# Performance

Written by \`npm run bench\`; do not edit. \`npm run bench -- --check\` exits 1 where a bound is broken. On a Kubernetes
API server: [performance on a cluster](performance-cluster.md).

${figuresOf(results)}

## How it is measured

* The contestants take turns, every second round in reverse order, and a ratio is the median of the ratios of
  neighbours in time: a machine that is busy for a while slows both. Milliseconds are of this machine on this day, and
  worth less than the ratios. One round before the first is not counted.
* *By hand* is the very command line of a launch, run without a shell, then the monitor asked until it says \`running\`.
  Ours holds the vmDir's lock, checks the fence, and writes the record durably before and after.
* libvirt is the system's package, its daemon up, in its session mode: an ordinary user's, without cgroups. \`virsh\` is
  a process per command, as people run it. It has the same machines: one vCPU, 32 MiB, a virtio disk, a serial port.
* A look returns for every VM its record, folder, files, disk headers, log, process identity and run state, and for
  the host its tools, free space and QEMU processes that are nobody's. \`virsh list\` returns a name and a state.
* A sample has CPU per vCPU, memory, and rates of every disk and network of each VM. \`virsh domstats\` has counters.
* The controller and the commands are the compiled product, each process new; the files are in the page cache.
* Memory is of a controller as \`service install\` starts it: with Node's options \`${CONTROLLER_NODE_OPTIONS.join(' ')}\`.
  A \`run\` by hand has them only where they are named to Node; without them V8 keeps more in reserve.
* CPU at rest includes the scripts that the controller runs. The simulated hosts of the memory figures live in the
  measured process: what they hold is counted too.
`;
}

export function clusterPageOf(results: Results): string {
  return `# Performance on a cluster

Written by \`npm run bench -- --cluster\`; do not edit. Of the hosts themselves: [performance](performance.md). What it means
for a fleet: [scale](operations/scale.md).

${figuresOf(results)}

## How it is measured

* The cluster is the kube-apiserver and etcd of the tests, on the same processors, etcd without fsync; the operator runs
  as its image starts it. A VM is timed from the request that makes it to the watch event in which condition Running is
  True. Writes are those in the API server's audit log, so that one that changes nothing counts too.
* Of the operator of 8,000 VMs the driver alone is exchanged: everything from the API server to the driver's contract
  is its own. All VMs are there before it starts. A list is timed from the call to the objects, in the process that has
  the cache, right after one of them was changed.
`;
}
