/**
 * `npm run soak`: thirty VMs of real QEMU are made, started, stopped, edited, killed and deleted in rounds. After each
 * round all are at the same rest, and what the controller holds then must not rise. Exits 1 where it does, where a
 * VM does not come to rest, or where a QEMU, a folder or an object is left at the end.
 *
 *   npm run soak                     20 minutes
 *   npm run soak -- --minutes N
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import type { Manifest } from '../../src/api/admission.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { CONTROLLER_NODE_OPTIONS } from '../../src/doctor/unit-files.ts';
import { type FileStore, openFileStore } from '../../src/store/file-store.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { kill, processesNaming, qemusBelow } from '../e2e/support/process.ts';
import { manifest } from '../e2e/support/rig.ts';
import { until } from '../e2e/support/wait.ts';
import type { Holdings } from './controller.ts';
import { type Bound, judge, lineOf } from './verdict.ts';

const VMS = 30;
const PATIENCE_MS = 180_000;
/** Rounds until caches, pools and compiled code are there. */
const WARM_UP = 3;
/** Fewer figures show no slope. */
const ROUNDS = 4;
const MB = 1e6;

const BOUNDS: readonly (Bound & { readonly of: (one: Holdings) => number })[] = [
  { name: 'resident memory after GC', unit: ' MB', rise: 12, of: ({ rssBytes }) => rssBytes / MB },
  { name: 'heap after GC', unit: ' MB', rise: 4, of: ({ heapBytes }) => heapBytes / MB },
  { name: 'open descriptors', unit: '', rise: 3, of: ({ descriptors }) => descriptors },
  { name: 'timers and handles', unit: '', rise: 3, of: ({ handles }) => handles },
];

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '20' } } });
const minutes = Number(values.minutes);
if (!(minutes > 0)) {
  console.error(`--minutes is a number of minutes, not ${values.minutes}`);
  process.exit(2);
}

const root = realpathSync(mkdtempSync(join(tmpdir(), 'qo-soak-')));
const [storeDir, vmDir] = [join(root, 'store'), join(root, 'vms')];
mkdirSync(join(root, 'images'));
const names = Array.from({ length: VMS }, (_, index) => `vm-${index}`);
const ref = (name: string) => ({ namespace: 'default', name });

function startController(): ChildProcess {
  const program = join(import.meta.dirname, 'controller.ts');
  const options = ['--expose-gc', ...CONTROLLER_NODE_OPTIONS];
  return spawn(process.execPath, [...options, program, storeDir, vmDir], { stdio: ['pipe', 'pipe', 'inherit'] });
}

function create(store: FileStore, name: string): Promise<unknown> {
  const disk = { name: 'root', format: 'raw', path: writeSparseTiny(join(root, 'images', `${name}.raw`)) };
  const spec = {
    ...{ hostName: 'localhost', architecture: 'x86_64', vcpus: 1, memory: '16Mi', networks: [], accelerator: 'TCG' },
    ...{ restartPolicy: 'Always', powerOff: { mode: 'Hard' }, disks: [disk, { name: 'data', size: '1Mi' }] },
  };
  return store.create(manifest('VirtualMachine', ref(name), spec) as Manifest<'VirtualMachine'>);
}

/** All of them are as they should be. */
async function atRest(store: FileStore, what: string, satisfies: (vm: VirtualMachine) => boolean): Promise<void> {
  const fresh = ({ status, metadata }: VirtualMachine) => status?.observedGeneration === metadata.generation;
  await until(
    what,
    async () => (await store.list('VirtualMachine')).items.filter((vm) => !(fresh(vm) && satisfies(vm))),
    (others) => others.length === 0,
    PATIENCE_MS,
  );
}

const runs = ({ status }: VirtualMachine) => status?.phase === 'Running' && isReady(status.conditions);
const rests = ({ status }: VirtualMachine) => status?.phase === 'Stopped' && isReady(status.conditions);
function isReady(conditions: NonNullable<VirtualMachine['status']>['conditions']): boolean {
  return conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') === true;
}

async function edit(
  store: FileStore,
  chosen: readonly string[],
  spec: Readonly<Record<string, unknown>>,
): Promise<void> {
  for (const name of chosen) await store.patch('VirtualMachine', ref(name), { spec });
}

/** Everything that can happen to VMs, to a third of them each time, so that every VM meets all of it. */
async function churn(store: FileStore, round: number): Promise<void> {
  const third = (turn: number) => names.filter((_, index) => index % 3 === (round + turn) % 3);
  await edit(store, third(0), { powerState: 'PoweredOff' });
  await edit(store, third(1), { restartedAt: `round ${round}`, vcpus: 1 + (round % 2) });
  // Twice in ten minutes a crash is answered at once or after ten seconds; more often the back-off grows.
  for (const pid of round % 2 === 0 ? third(2).flatMap((name) => qemusBelow(join(vmDir, name))) : [])
    kill(pid, 'SIGKILL');
  await atRest(store, 'a third is off', (vm) => (vm.spec.powerState === 'PoweredOff' ? rests(vm) : runs(vm)));
  await edit(store, third(0), { powerState: 'PoweredOn' });
  const doomed = third(1).slice(0, 5);
  for (const name of doomed) await store.delete('VirtualMachine', ref(name));
  await until(
    'they are gone',
    async () => (await store.list('VirtualMachine')).items.length,
    (count) => count === VMS - doomed.length,
    PATIENCE_MS,
  );
  for (const name of doomed) await create(store, name);
  await atRest(store, 'all run', runs);
}

async function holdings(controller: ChildProcess, answers: AsyncIterator<string>): Promise<Holdings> {
  controller.stdin?.write('\n');
  const { value } = await answers.next();
  return JSON.parse(String(value)) as Holdings;
}

async function soak(): Promise<boolean> {
  const store = await openFileStore({ dir: storeDir });
  const controller = startController();
  const answers = createInterface({ input: controller.stdout ?? process.stdin })[Symbol.asyncIterator]();
  try {
    for (const name of names) await create(store, name);
    await atRest(store, 'all run', runs);
    const figures: Holdings[] = [];
    const end = Date.now() + minutes * 60_000;
    for (let round = 0; Date.now() < end || figures.length < ROUNDS; round += 1) {
      await churn(store, round);
      const held = await holdings(controller, answers);
      if (round >= WARM_UP) figures.push(held);
      console.log(
        `round ${round}: ${BOUNDS.map(({ name, unit, of }) => `${name} ${Math.round(of(held))}${unit}`).join(', ')}`,
      );
    }
    for (const name of names) await store.delete('VirtualMachine', ref(name));
    await until(
      'all are gone',
      async () => (await store.list('VirtualMachine')).items.length,
      (count) => count === 0,
      PATIENCE_MS,
    );
    return verdictOf(figures);
  } finally {
    controller.kill('SIGTERM');
    await once(controller, 'exit');
    await store.close();
  }
}

function verdictOf(figures: readonly Holdings[]): boolean {
  const verdicts = BOUNDS.map(({ of, ...bound }) => judge(bound, figures.map(of)));
  for (const verdict of verdicts) console.log(lineOf(verdict));
  const left = [
    ...qemusBelow(root).map((pid) => `QEMU ${pid}`),
    ...readdirSync(vmDir).filter((name) => !name.startsWith('.')),
  ];
  console.log(`${left.length === 0 ? 'ok  ' : 'FAIL'} left over: ${left.length === 0 ? 'nothing' : left.join(', ')}`);
  return left.length === 0 && verdicts.every(({ ok }) => ok);
}

function cleanUp(): void {
  for (const pid of processesNaming(root)) kill(pid, 'SIGKILL');
  rmSync(root, { recursive: true, force: true });
}

process.once('SIGINT', () => {
  cleanUp();
  process.exit(130);
});
let ok = false;
try {
  ok = await soak();
} catch (error) {
  console.log(`FAIL ${error instanceof Error ? error.message : String(error)}`);
} finally {
  cleanUp();
}
console.log(ok ? 'the soak passed' : 'the soak failed');
process.exit(ok ? 0 : 1);
