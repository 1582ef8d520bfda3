/** A store of the test's own beside a real sshd, with the command as people run it. */
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type FileStore, openFileStore } from '../../../src/store/file-store.ts';
import { CliRig, type Ended } from './cli-rig.ts';
import { kill } from './process.ts';
import type { OnFinished } from './rig.ts';
import { Sshd, type SshdOptions } from './sshd.ts';
import { until } from './wait.ts';

export interface SeenObject {
  readonly metadata: { readonly uid: string; readonly annotations?: Readonly<Record<string, string>> | undefined };
  // biome-ignore lint/suspicious/noExplicitAny: tests read what they expect
  readonly spec: any;
  // biome-ignore lint/suspicious/noExplicitAny: tests read what they expect
  readonly status?: any;
}

export interface RemoteOptions extends SshdOptions {
  /** Another store for the same machine and vmDir. */
  readonly beside?: RemotePlace;
}

export class RemotePlace {
  readonly rig: CliRig;
  readonly sshd: Sshd;
  readonly vmDir: string;

  #store: Promise<FileStore> | undefined;

  private constructor(rig: CliRig, sshd: Sshd, vmDir: string) {
    this.rig = rig;
    this.sshd = sshd;
    this.vmDir = vmDir;
  }

  static async start(onFinished: OnFinished, { beside, ...options }: RemoteOptions = {}): Promise<RemotePlace> {
    const sshd = beside?.sshd ?? (await Sshd.start(onFinished, options));
    const rig = new CliRig(onFinished);
    const place = new RemotePlace(rig, sshd, beside?.vmDir ?? rig.path('far'));
    onFinished(async () => (await place.#store)?.close());
    return place;
  }

  /** `host add NAME` for the sshd. */
  add(name: string, more: readonly string[]): Promise<Ended> {
    const { address, user, port } = this.sshd;
    const vmDir = more.includes('--vm-dir') ? [] : ['--vm-dir', this.vmDir];
    return this.rig.run(['host', 'add', name, `${user}@${address}`, '--port', String(port), ...vmDir, ...more]);
  }

  /** With the key that may log in, until it is ready. */
  async added(name: string): Promise<Ended> {
    const ended = await this.add(name, ['-i', this.sshd.identity]);
    if (ended.code !== 0) throw new Error(`host add ended with ${ended.code}: ${ended.stderr}`);
    return ended;
  }

  /** `qvm/NAME` or `qhost/NAME`, from the store itself: waiting takes many readings. */
  async get(word: string): Promise<SeenObject> {
    this.#store ??= openFileStore({ dir: this.rig.store });
    const store = await this.#store;
    const [type = '', name = ''] = word.split('/');
    const found =
      type === 'qhost'
        ? await store.get('Host', { name })
        : await store.get('VirtualMachine', { namespace: 'default', name });
    if (found === undefined) throw new Error(`there is no ${word}`);
    return found;
  }

  /** Status of a condition, and its reason. */
  async condition(word: string, type: string): Promise<string> {
    const { status } = await this.get(word);
    const found = status?.conditions?.find((one: { readonly type: string }) => one.type === type);
    return found === undefined ? '' : `${found.status} ${found.reason}`;
  }

  untilCondition(word: string, type: string, wanted: string, deadlineMs?: number): Promise<string> {
    const read = () => this.condition(word, type);
    return until(`${word}: ${type} is ${wanted}`, read, (found) => found === wanted, deadlineMs);
  }

  untilConnected(): Promise<number[]> {
    const read = () => this.sshd.connections();
    return until('the controller is connected', read, (pids) => pids.length > 0);
  }

  /** Of the key that sshd has now, by ssh-keygen. */
  fingerprint(): string {
    const file = join(this.sshd.folder, 'host_ed25519.pub');
    return execFileSync('ssh-keygen', ['-lf', file], { encoding: 'utf8' }).split(' ')[1] ?? '';
  }

  /** The machine goes off: no sshd, and none of its connections. */
  async cut(): Promise<void> {
    const connections = this.sshd.connections();
    await this.sshd.stop();
    for (const pid of connections) kill(pid, 'SIGKILL');
  }

  /** The sshd that takes new connections. */
  listener(): number {
    return Number(readFileSync(join(this.sshd.folder, 'pid'), 'utf8'));
  }

  get authorizedFile(): string {
    return join(this.sshd.folder, 'authorized_keys');
  }

  authorized(): string {
    return readFileSync(this.authorizedFile, 'utf8');
  }

  privateKey(): Buffer {
    return readFileSync(this.sshd.identity);
  }

  removeMarker(): void {
    rmSync(join(this.vmDir, '.qemu-operator.json'));
  }
}
