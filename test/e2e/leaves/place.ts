/** Where the rows find their machines: one controller for all of them, and guests of its own for each. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { RunOptions, RunResult } from '../../../src/host/shell.ts';
import { SecretFolder } from '../../../src/store/secret-folder.ts';
import { qmp } from '../support/oracle.ts';
import { qemusBelow } from '../support/process.ts';
import { type OnFinished, Rig, testFolder } from '../support/rig.ts';
import { TestShell } from '../support/stand-ins.ts';

type Fields = Readonly<Record<string, unknown>>;

/** A host on which KVM is believed to run code, whether it does or not. */
class BelievingShell extends TestShell {
  override async run(script: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
    if (!script.includes('KVM ran no code')) return super.run(script, args, options);
    return { code: 0, stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
  }
}

export interface House {
  readonly rig: Rig;
  readonly secrets: SecretFolder;
  /** Its host believes in KVM; that of `rig` does not. */
  readonly believing: Rig;
}

export async function openHouse(onFinished: OnFinished): Promise<House> {
  const root = testFolder(onFinished);
  const folder = join(root, 'secrets');
  mkdirSync(folder, { mode: 0o700 });
  const secrets = new SecretFolder(folder);
  const rig = await Rig.start(onFinished, { root, secrets, host: { allowedBridges: ['*'] } });
  return { rig, secrets, believing: await Rig.start(onFinished, { shell: new BelievingShell() }) };
}

/** Absent: in the vmDir of the one host that all rows share. */
interface Where {
  readonly rig?: Rig;
  readonly vmDir?: string;
}

let count = 0;

/** What a row has for itself. */
export class Place {
  readonly house: House;
  readonly rig: Rig;
  readonly onFinished: OnFinished;
  readonly #word: string;

  /** @param word names its objects, for whoever reads of a failure */
  constructor(house: House, word: string, onFinished: OnFinished) {
    this.house = house;
    this.rig = house.rig;
    this.onFinished = onFinished;
    this.#word = word
      .toLowerCase()
      .replaceAll(/[^a-z]/g, '')
      .slice(-16);
  }

  /** A name that nothing else has. */
  name(): string {
    count += 1;
    return `${this.#word}-${count}`;
  }

  /** Without further words a VM whose end is quick, and which takes every change at once. */
  async create(spec: Fields = {}, where: Where = {}): Promise<Guest> {
    const { rig = this.rig, vmDir = rig.vmDir } = where;
    const name = this.name();
    const quick = { powerOff: { mode: 'Hard' }, updateStrategy: { type: 'Restart' } };
    await rig.create(name, { ...quick, ...spec });
    // An idle machine costs nothing, but some of them compute.
    this.onFinished(() => rig.delete(name).catch(() => undefined));
    return new Guest(rig, name, join(vmDir, name));
  }

  async running(spec: Fields = {}, where: Where = {}): Promise<Guest> {
    const guest = await this.create(spec, where);
    await guest.running();
    return guest;
  }

  /** Entry of spec.disks: the tiny guest, or one that hears no power button. */
  root(write: (path: string) => string): Fields {
    return { name: 'root', format: 'raw', path: write(this.path('.raw')) };
  }

  /** Of a file that nobody else has. */
  path(end: string): string {
    return this.rig.path('images', this.name() + end);
  }
}

export class Guest {
  readonly rig: Rig;
  readonly name: string;
  readonly folder: string;
  pid = 0;

  constructor(rig: Rig, name: string, folder: string) {
    this.rig = rig;
    this.name = name;
    this.folder = folder;
  }

  async running(): Promise<number> {
    this.pid = await this.rig.untilRunning(this.name);
    return this.pid;
  }

  edit(spec: Fields): Promise<void> {
    return this.rig.edit(this.name, spec);
  }

  /** Changes the spec and waits for the process that has it. */
  async restarted(spec: Fields): Promise<number> {
    await this.edit(spec);
    this.pid = await this.rig.untilRestarted(this.name, this.pid);
    return this.pid;
  }

  /** Changes the spec of a process that goes on. */
  async changed(spec: Fields): Promise<void> {
    await this.edit(spec);
    if ((await this.rig.untilRunning(this.name)) !== this.pid) throw new Error(`${this.name} was restarted`);
  }

  qmp<T>(command: string, args?: object): Promise<T> {
    return qmp<T>(this.folder, command, args);
  }

  /** The lines of a command of QEMU's human monitor. */
  async monitor(line: string): Promise<string[]> {
    return (await this.qmp<string>('human-monitor-command', { 'command-line': line })).split('\r\n');
  }

  /** Files behind the block nodes, by name of the node. */
  async nodes(): Promise<ReadonlyMap<string, string>> {
    const nodes = await this.qmp<{ 'node-name': string; file: string }[]>('query-named-block-nodes');
    return new Map(nodes.map((node) => [node['node-name'], node.file]));
  }

  /** The processes that have its folder. */
  qemus(): number[] {
    return qemusBelow(`${this.folder}/`);
  }
}
