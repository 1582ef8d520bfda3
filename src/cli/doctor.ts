/** doctor: what is well on this machine, what is not, and how to mend it. It changes nothing. */
import { writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { type Command, Option } from 'commander';
import { effectiveSpec } from '../api/effective-spec.ts';
import { messageOf } from '../api/errors.ts';
import type { AnyObject } from '../api/kinds.ts';
import { KINDS, keyOf } from '../api/meta.ts';
import { bundle } from '../doctor/bundle.ts';
import type { Check } from '../doctor/check.ts';
import { type Examined, examine, examineRemote, LOCALHOST, type StoreView } from '../doctor/checks.ts';
import { lookAtMachine } from '../doctor/look.ts';
import type { Store } from '../store/store.ts';
import { type ChecksFormat, exitOf, printChecks } from './checks.ts';
import { type Context, type Declare, examples, type Globals, print, withSession } from './context.ts';
import { CliError, EXIT, usageError } from './exit-codes.ts';
import { requireObject } from './resources.ts';
import type { Machine } from './session.ts';

interface DoctorOptions extends Globals {
  readonly output: ChecksFormat;
  readonly bundle?: string;
  readonly host?: string;
}

export const declareDoctor: Declare = (command, context, version) => {
  command
    .addOption(new Option('-o, --output <format>').choices(['text', 'json']).default('text'))
    .option('--host <name>', 'look at this Host instead, over SSH')
    .option('--bundle <file.tar.gz>', 'write a report for a bug, without secrets, to a new file')
    .action(async (_options, self: Command) => doctor(context, version, self.optsWithGlobals<DoctorOptions>()));
  examples(command, [
    ['Look at this machine; code 1 where something does not work', 'doctor'],
    ['Look at another machine', 'doctor --host rack1'],
    ['Gather what a bug report needs, and look through it before sending it', 'doctor --bundle report.tar.gz'],
  ]);
};

/** What was found, and what the report is made of. */
interface Visit {
  readonly examined: Examined;
  readonly objects: readonly AnyObject[];
  /** Folders of the VMs on this machine. */
  readonly folders: readonly string[];
}

/** The Host's machine, as its own credentials reach it. */
async function examineHost(context: Context, name: string, options: DoctorOptions): Promise<void> {
  if (options.bundle !== undefined) throw usageError('--bundle is of this machine: leave --host out');
  await withSession(context, options, async (session) => {
    const host = await requireObject(session.store, { kind: 'Host', ref: { name } });
    if (host.spec.ssh === undefined) throw usageError(`Host ${name} is this machine: leave --host out`);
    const { items } = await session.store.list('VirtualMachine');
    const vms = items.filter(({ spec }) => spec.hostName === name);
    const pids = vms.flatMap(({ status }) => status?.pid ?? []);
    const { vmDir, sudo = false } = host.spec;
    const looked = await lookAtMachine(
      session.shellFor(host),
      { vmDir, store: vmDir, holder: process.pid, sudo, pids },
      context.signal,
    );
    const checks = examineRemote({ ...looked, host, vms, user: looked.machine.user });
    printChecks(context, checks, options.output);
    endAs(checks);
  });
}

function endAs(checks: readonly Check[]): void {
  const code = exitOf(checks);
  if (code !== EXIT.done) throw new CliError(code, 'something does not work: see the problems above');
}

async function doctor(context: Context, version: string, options: DoctorOptions): Promise<void> {
  if (options.host !== undefined) return examineHost(context, options.host, options);
  if (options.bundle !== undefined && !/\.(tar\.gz|tgz)$/.test(options.bundle))
    throw usageError(`--bundle ${options.bundle}: the name of the report must end in .tar.gz`);
  const machine = await context.machine();
  const visit = await examineMachine(context, machine, options);
  const checks = examine(visit.examined);
  printChecks(context, checks, options.output);
  if (options.bundle !== undefined) {
    await writeBundle(context, machine, options.bundle, { visit, checks, version });
    if (options.output === 'text')
      print(context, `report written to ${options.bundle}: look through it before you send it`);
  }
  endAs(checks);
}

async function examineMachine(context: Context, machine: Machine, options: Globals): Promise<Visit> {
  const storeDir = machine.storeDir(options);
  const { store, objects } = await storeView(machine, storeDir);
  const view = store === undefined || 'failure' in store ? undefined : store;
  const host = view?.hosts.find(({ metadata }) => metadata.name === LOCALHOST);
  const vms = (view?.vms ?? []).filter(({ spec }) => spec.hostName === LOCALHOST);
  const vmDir = host?.spec.vmDir ?? machine.vmDir(options);
  const holder = machine.loopHolder(storeDir);
  const pids = vms.flatMap(({ status }) => status?.pid ?? []);
  const request = { vmDir, store: storeDir, holder: holder?.pid ?? process.pid, sudo: host?.spec.sudo === true, pids };
  const looked = await lookAtMachine(machine.shell(), request, context.signal);
  return {
    examined: {
      ...looked,
      invokedAs: context.invokedAs,
      nodeVersion: process.versions.node,
      holder,
      storeDir,
      vmDir,
      store,
    },
    objects,
    folders: host === undefined ? [] : vms.map((vm) => effectiveSpec(vm, host).folder),
  };
}

/** A store that is there is opened and closed; none is made. */
async function storeView(
  machine: Machine,
  storeDir: string,
): Promise<{ store: Examined['store']; objects: readonly AnyObject[] }> {
  let opened: Store | undefined;
  try {
    opened = await machine.openStore(storeDir);
    if (opened === undefined) return { store: undefined, objects: [] };
    return await readStore(opened);
  } catch (error) {
    return { store: { failure: messageOf(error) }, objects: [] };
  } finally {
    await opened?.close();
  }
}

async function readStore(store: Store): Promise<{ store: StoreView; objects: readonly AnyObject[] }> {
  const [vms, hosts] = await Promise.all([store.list('VirtualMachine'), store.list('Host')]);
  const lists = await Promise.all(KINDS.map((kind) => store.list(kind)));
  const problems = [
    ...store.problems().map(({ kind, ref, message }) => `${kind} ${keyOf(ref)}: ${message}`),
    ...store.sourceProblems().map(({ source, message }) => `${source}: ${message}`),
  ];
  return {
    store: { vms: vms.items, hosts: hosts.items, problems },
    objects: lists.flatMap(({ items }) => items as readonly AnyObject[]),
  };
}

interface Report {
  readonly visit: Visit;
  readonly checks: readonly Check[];
  readonly version: string;
}

async function writeBundle(
  context: Context,
  machine: Machine,
  path: string,
  { visit, checks, version }: Report,
): Promise<void> {
  const { facts } = visit.examined;
  const versions = {
    'qemu-operator': version,
    node: process.versions.node,
    kernel: release(),
    os: facts.os,
    qemu: facts.qemu,
  };
  const { objects, folders } = visit;
  const input = { checks, versions, objects, folders, home: context.env['HOME'] };
  const archive = await bundle(machine.shell(), input, context.signal);
  try {
    writeFileSync(path, archive, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    throw new CliError(EXIT.failed, `the report cannot be written: ${messageOf(error)}; choose a new file`);
  }
}
