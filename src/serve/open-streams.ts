/** What is open to which VM: how much at once, and until when. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { RefusedError } from '../streams/status.ts';
import { NotReachableError } from '../streams/vm-streams.ts';

interface Held {
  readonly vm: VirtualMachine;
  /** Whether it is one to the process that runs now. */
  readonly ofProcess: boolean;
  readonly end: AbortController;
  readonly done: Promise<unknown>;
}

/** Each has up to four buffers of 64 KiB, and a connection on the host. */
const MOST = 500;
const MOST_OF_ONE = 32;
const LOOK_MS = 2_000;
const CLOSING_MS = 3_000;

export class Guests {
  readonly #find: (vm: VirtualMachine) => Promise<VirtualMachine | undefined>;
  readonly #held = new Set<Held>();
  #closed: Error | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @param find as it is now, from the cache */
  constructor(find: (vm: VirtualMachine) => Promise<VirtualMachine | undefined>) {
    this.#find = find;
  }

  /** @param work gets a signal that aborts with the reason: the VM is gone, or does not run any more, or all is closed */
  async hold<T>(
    { vm, ofProcess }: Pick<Held, 'vm' | 'ofProcess'>,
    work: (ended: AbortSignal) => Promise<T>,
  ): Promise<T> {
    if (this.#closed !== undefined) throw this.#closed;
    const ofOne = [...this.#held].filter((one) => one.vm.metadata.uid === vm.metadata.uid).length;
    if (this.#held.size >= MOST) throw new RefusedError(429, `${MOST} streams are open at this operator already`);
    if (ofOne >= MOST_OF_ONE)
      throw new RefusedError(429, `${MOST_OF_ONE} streams of ${vm.metadata.name} are open already`);
    const end = new AbortController();
    const done = work(end.signal);
    const held = { vm, ofProcess, end, done };
    this.#held.add(held);
    this.#timer ??= setInterval(() => void this.#look(), LOOK_MS);
    try {
      return await done;
    } finally {
      this.#held.delete(held);
      if (this.#held.size === 0) this.#stopLooking();
    }
  }

  async close(reason: Error): Promise<void> {
    this.#closed = reason;
    this.#stopLooking();
    const left = [...this.#held];
    for (const { end } of left) end.abort(reason);
    await Promise.race([
      Promise.allSettled(left.map(({ done }) => done)),
      sleep(CLOSING_MS, undefined, { ref: false }),
    ]);
  }

  #stopLooking(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Most streams end with the process by themselves; one to an address of the guest does not. */
  async #look(): Promise<void> {
    for (const { vm, ofProcess, end } of [...this.#held]) {
      const now = await this.#find(vm).catch(() => vm);
      const { name, uid } = vm.metadata;
      if (now?.metadata.uid !== uid) end.abort(new NotReachableError(`${name} is gone`));
      else if (ofProcess && isOver(vm, now)) end.abort(new NotReachableError(`${name} does not run any more`));
    }
  }
}

/** Of one whose process could not be seen lately nothing is known. */
function isOver({ status: then }: VirtualMachine, { status: now }: VirtualMachine): boolean {
  return then?.pid !== undefined && now?.phase !== 'Unknown' && now?.pid !== then.pid;
}
