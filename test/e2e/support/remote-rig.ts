/** A controller in the test's own process whose only Host is a real sshd behind a network of the test's own. */
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { Host } from '../../../src/api/host.ts';
import { ANNOTATIONS } from '../../../src/api/meta.ts';
import { HostUnreachableError, type RunOptions, type RunResult, type Shell } from '../../../src/host/shell.ts';
import { QemuDriver } from '../../../src/qemu/driver.ts';
import { runController } from '../../../src/reconcile/controller.ts';
import type { LookRequest } from '../../../src/reconcile/driver.ts';
import type { Look } from '../../../src/reconcile/observed.ts';
import { HostShells } from '../../../src/remote/host-shells.ts';
import type { RemoteShell } from '../../../src/remote/remote-shell.ts';
import { keepCredentials } from '../../../src/store/host-credentials.ts';
import { createMemoryStore } from '../../../src/store/memory-store.ts';
import { SecretFolder } from '../../../src/store/secret-folder.ts';
import { type OnFinished, Rig, testFolder } from './rig.ts';
import { type LinkOptions, SlowLink } from './slow-link.ts';
import { Sshd } from './sshd.ts';

/** What a test does to the calls of a host: by itself nothing but counting them. */
export class PassingShell implements Shell {
  readonly remote: RemoteShell;
  runs = 0;

  constructor(remote: RemoteShell) {
    this.remote = remote;
  }

  run(script: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
    this.runs += 1;
    return this.remote.run(script, args, options);
  }

  dial(socket: string, options: Parameters<Shell['dial']>[1]): Promise<Duplex> {
    return this.remote.dial(socket, options);
  }

  dialTcp(...[address, options]: Parameters<Shell['dialTcp']>): Promise<Duplex> {
    return this.remote.dialTcp(address, options);
  }

  close(): Promise<void> {
    return this.remote.close();
  }
}

interface Seen {
  /** By performance.now(). */
  readonly at: number;
  readonly look: Look;
}

/** Notes when each look was done. */
class NotingDriver extends QemuDriver {
  onLook: (look: Look) => void = () => undefined;

  override async look(request: LookRequest, signal: AbortSignal): Promise<Look> {
    const look = await super.look(request, signal);
    this.onLook(look);
    return look;
  }
}

const HOST = 'rack1';

export class RemoteRig {
  readonly rig: Rig;
  readonly sshd: Sshd;
  readonly link: SlowLink;
  /** Looks so far. */
  readonly looks: Seen[] = [];
  /** By performance.now(); undefined before the first connection. */
  connectedAt: number | undefined;
  readonly #shells: HostShells;
  #shell: PassingShell | undefined;

  private constructor(rig: Rig, { sshd, link }: { sshd: Sshd; link: SlowLink }, shells: HostShells) {
    this.rig = rig;
    this.sshd = sshd;
    this.link = link;
    this.#shells = shells;
  }

  /** The controller is not started yet. */
  static async start(onFinished: OnFinished, network: LinkOptions = {}): Promise<RemoteRig> {
    const root = testFolder(onFinished);
    const sshd = await Sshd.start(onFinished);
    const link = await SlowLink.start(onFinished, sshd.port, network);
    const store = createMemoryStore();
    mkdirSync(join(root, 'secrets'), { mode: 0o700 });
    const secrets = new SecretFolder(join(root, 'secrets'));
    const rig = await Rig.start(onFinished, { root, store, vmDir: join(root, 'far'), controller: 'none' });
    const shells = new HostShells(store, secrets);
    onFinished(async () => {
      await shells.close();
      await store.close();
    });
    await keepCredentials(secrets, HOST, { 'ssh-privatekey': readFileSync(sshd.identity) });
    const ssh = {
      address: '127.0.0.1',
      port: link.port,
      user: sshd.user,
      hostKeys: [sshd.hostKey()],
      credentialsSecretRef: { name: HOST },
    };
    await rig.addHost(HOST, rig.vmDir, { local: undefined, ssh });
    return new RemoteRig(rig, { sshd, link }, shells);
  }

  /**
   * Runs the controller until the test ends.
   * @param wrap what the loop has in place of the shell
   */
  run(onFinished: OnFinished, wrap: (shell: RemoteShell) => PassingShell = (shell) => new PassingShell(shell)): void {
    const running = runController({
      store: this.rig.store,
      driverFor: (host) => this.#driver(host, wrap),
      options: { failureBackoffMs: { first: 300, max: 2_000 } },
    }).subscribe((event) => this.rig.events.push(event));
    onFinished(async () => running.unsubscribe());
  }

  /** Scripts that the loop has run. */
  get runs(): number {
    return this.#shell?.runs ?? 0;
  }

  /** Asks the loop to look at everything again. */
  async look(): Promise<void> {
    const annotations = { [ANNOTATIONS.lookRequestedAt]: randomUUID() };
    await this.rig.store.patch('Host', { name: HOST }, { metadata: { annotations } });
  }

  /** A small VM there. */
  create(name: string, spec: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return this.rig.create(name, { hostName: HOST, accelerator: 'TCG', ...spec });
  }

  #driver(host: Host, wrap: (shell: RemoteShell) => PassingShell): QemuDriver {
    const remote = this.#shells.remote(host);
    if (remote === undefined) throw new HostUnreachableError(`${host.metadata.name} is this machine`);
    this.#shell = wrap(remote);
    remote.connection$.subscribe(() => {
      this.connectedAt ??= performance.now();
    });
    const driver = new NotingDriver(this.#shell, { connection: () => remote.seen(), connection$: remote.connection$ });
    driver.onLook = (look) => this.looks.push({ at: performance.now(), look });
    return driver;
  }
}
