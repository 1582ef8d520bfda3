/** An installation of three VMs whose files are damaged: what must not happen, and what must be said. */
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Subscription } from 'rxjs';
import { type Manifest, parseManifest } from '../../src/api/admission.ts';
import { messageOf } from '../../src/api/errors.ts';
import { runController } from '../../src/reconcile/controller.ts';
import type { ControllerEvent } from '../../src/reconcile/loop-event.ts';
import { type FileStore, openFileStore } from '../../src/store/file-store.ts';
import { hostDocument, vmDocument } from '../fakes/manifests.ts';
import { SimulatedHost } from '../fakes/simulated-host.ts';
import { SimulatedWorld } from '../fakes/simulated-world.ts';
import { folderOf, VM_DIR } from '../fakes/simulation.ts';
import { VirtualClock } from '../fakes/virtual-clock.ts';

/** Longer than a resync. */
const SETTLE_MS = 65_000;
export const NAMES = ['web-1', 'web-2', 'web-3'];
const STORED = join('.state', 'store.db');

export class DamagedHouse {
  readonly dir: string;
  readonly clock = new VirtualClock();
  readonly world: SimulatedWorld;
  #store: FileStore | undefined;
  #controller: Subscription | undefined;
  #events: ControllerEvent[] = [];
  #refusal: string | undefined;

  private constructor(world?: SimulatedWorld) {
    this.dir = mkdtempSync(join(tmpdir(), 'qo-damage-'));
    this.world = new SimulatedWorld(() => this.clock.now());
    this.world.vmDirs.set(VM_DIR, { mounted: true, writable: true });
    if (world === undefined) return;
    for (const map of ['vmDirs', 'folders', 'files', 'processes'] as const) {
      const into = this.world[map] as Map<unknown, unknown>;
      for (const [key, value] of world[map] as Map<unknown, unknown>) into.set(key, structuredClone(value));
    }
    this.world.starts = world.starts;
  }

  /** Two VMs that run and one that is off, all at rest; its controller is ended. */
  static async build(): Promise<DamagedHouse> {
    const house = new DamagedHouse();
    const store = await house.#open();
    const host = { local: {}, vmDir: VM_DIR, allowedPaths: ['/'], metricsIntervalSeconds: 0 };
    await store.create(parseManifest(hostDocument(host)));
    for (const name of NAMES) {
      const spec = {
        ...{ hostName: 'localhost', updateStrategy: { type: 'Restart' }, disks: [{ name: 'root', size: '1Gi' }] },
        powerState: name === 'web-3' ? 'PoweredOff' : 'PoweredOn',
      };
      await store.create(parseManifest(vmDocument(spec, { name })) as Manifest<'VirtualMachine'>);
    }
    await house.begin();
    await house.pass();
    await house.stop();
    return house;
  }

  copy(): DamagedHouse {
    const house = new DamagedHouse(this.world);
    cpSync(this.dir, house.dir, { recursive: true });
    return house;
  }

  async #open(): Promise<FileStore> {
    this.#store ??= await openFileStore({ dir: this.dir, settleMs: 0 });
    return this.#store;
  }

  /** A controller starts, if the store lets it. */
  async begin(): Promise<void> {
    this.#refusal = undefined;
    this.#events = [];
    try {
      const store = await this.#open();
      const driverFor = () => new SimulatedHost({ world: this.world });
      this.#controller = runController({ store, driverFor, scheduler: this.clock }).subscribe((event) =>
        this.#events.push(event),
      );
    } catch (error) {
      this.#refusal = messageOf(error);
    }
  }

  async pass(): Promise<void> {
    try {
      this.#store?.sync();
    } catch {
      // sourceProblems() tells.
    }
    await this.clock.advance(SETTLE_MS);
  }

  async stop(): Promise<void> {
    this.#controller?.unsubscribe();
    await this.#store?.close();
    this.#store = undefined;
  }

  async end(): Promise<void> {
    await this.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** What guests would notice: their files, their processes, and what was started. */
  guests(): unknown {
    const { files, processes, starts, folders, violations } = this.world;
    return {
      files: [...files].map(([path, { content, virtualBytes }]) => [path, content, virtualBytes]),
      processes: [...processes].map(([pid, { folder, guest }]) => [pid, folder, guest]),
      folders: [...folders.keys()],
      starts,
      violations: [...violations],
    };
  }

  /** Everything that a person can be told. */
  async told(): Promise<string[]> {
    const said = [this.#refusal, ...this.#events.map((event) => (event.type === 'failed' ? event.message : undefined))];
    try {
      const store = await this.#open();
      said.push(...store.problems().map(({ message }) => message), ...store.sourceProblems().map(problemText));
      for (const kind of ['Host', 'VirtualMachine'] as const)
        for (const { status } of (await store.list(kind)).items)
          said.push(...(status?.conditions ?? []).map(({ message }) => message));
    } catch (error) {
      said.push(messageOf(error));
    }
    return said.filter((one) => one !== undefined);
  }

  /** Names of the VMs that are as their specs want. */
  async ready(): Promise<string[]> {
    const { items } = await (await this.#open()).list('VirtualMachine');
    const isReady = (one: { type: string; status: string }) => one.type === 'Ready' && one.status === 'True';
    return items.filter(({ status }) => status?.conditions?.some(isReady)).map(({ metadata }) => metadata.name);
  }

  record(name: string): string {
    return this.world.folders.get(folderOf(name))?.record ?? '';
  }

  setRecord(name: string, text: string): void {
    const folder = this.world.folders.get(folderOf(name));
    if (folder !== undefined) folder.record = text;
  }

  get marker(): string {
    return this.world.vmDirs.get(VM_DIR)?.marker ?? '';
  }

  setMarker(text: string): void {
    const vmDir = this.world.vmDirs.get(VM_DIR);
    if (vmDir !== undefined) vmDir.marker = text;
  }

  manifest(name: string): string {
    return readFileSync(this.#manifestPath(name), 'utf8');
  }

  setManifest(name: string, text: string): void {
    writeFileSync(this.#manifestPath(name), text);
  }

  #manifestPath(name: string): string {
    return join(this.dir, 'default', `${name}.yaml`);
  }

  /** Cells of the store that hold text, as where and what. */
  cell(table: string, column: string, where: string): string {
    return String(
      this.#sql((db) => db.prepare(`SELECT ${column} AS text FROM ${table} WHERE ${where}`).get()?.['text']),
    );
  }

  setCell(table: string, column: string, where: string, text: string): void {
    mkdirSync(join(this.dir, 'saved'), { recursive: true });
    this.#sql((db) => db.exec('PRAGMA wal_checkpoint(TRUNCATE)'));
    copyFileSync(join(this.dir, STORED), join(this.dir, 'saved', 'store.db'));
    this.#sql((db) => db.prepare(`UPDATE ${table} SET ${column} = ? WHERE ${where}`).run(text));
  }

  /** The store's file as it was before the damage. */
  restoreStore(): void {
    for (const suffix of ['-wal', '-shm']) rmSync(join(this.dir, `${STORED}${suffix}`), { force: true });
    copyFileSync(join(this.dir, 'saved', 'store.db'), join(this.dir, STORED));
  }

  #sql<T>(work: (db: DatabaseSync) => T): T {
    const db = new DatabaseSync(join(this.dir, STORED));
    try {
      return work(db);
    } finally {
      db.close();
    }
  }
}

function problemText({ source, message }: { readonly source: string; readonly message: string }): string {
  return `${source}: ${message}`;
}
