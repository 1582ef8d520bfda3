/** Waiting until the server at a port of a guest speaks: QEMU's network takes connections long before the guest does. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { GuestPort } from '../streams/vm-streams.ts';
import { type Context, tell, throwIfInterrupted } from './context.ts';
import { humanAge } from './duration.ts';
import { CliError, EXIT } from './exit-codes.ts';
import { whileDriven } from './loop.ts';
import { outcomeOf } from './outcome.ts';
import { type Place, placeOf } from './place.ts';
import type { Target } from './resources.ts';
import type { Session } from './session.ts';
import { waitUntilSettled } from './wait.ts';

export interface Wanted {
  /** As the person calls the VM. */
  readonly name: string;
  readonly namespace: string | undefined;
  readonly guestPort: number;
  readonly timeoutMs: number;
}

const BETWEEN_MS = 1_000;
/** A connection that a guest does not take is given up after this, and tried anew. */
const ATTEMPT_MS = 5_000;

/**
 * A VM that is just being made or started is waited for as well. The way to it stays open until it is closed.
 * @throws CliError where it is off, stalled, cannot be reached, or has not answered in time
 */
export async function untilAnswers(
  context: Context,
  session: Session,
  wanted: Wanted,
): Promise<{ readonly place: Place; readonly target: GuestPort }> {
  const deadline = performance.now() + wanted.timeoutMs;
  const left = () => Math.max(0, deadline - performance.now());
  const place = await placeOf(session, wanted.name, wanted.namespace);
  if (isOnItsWay(place.vm)) {
    const target: Target<'VirtualMachine'> = { kind: 'VirtualMachine', ref: place.vm.metadata };
    await whileDriven(context, session, `${wanted.name} runs`, () =>
      waitUntilSettled(context, session.store, target, { timeoutMs: left() }),
    );
  } else if (lacksAddress(place.vm)) {
    // Only a look finds it.
    return whileDriven(context, session, `the address of ${wanted.name} is known`, () =>
      answered(context, session, wanted, left),
    );
  }
  return answered(context, session, wanted, left);
}

/** Off, and it will not stay so. */
function isOnItsWay(vm: VirtualMachine): boolean {
  const { kind } = outcomeOf(vm);
  return vm.status?.pid === undefined && (vm.spec.powerState ?? 'PoweredOn') === 'PoweredOn' && kind !== 'settled';
}

/** On bridges alone, and nobody has seen there whom it is. */
function lacksAddress({ status }: VirtualMachine): boolean {
  const interfaces = status?.interfaces ?? [];
  return (
    status?.pid !== undefined &&
    interfaces.length > 0 &&
    interfaces.every(({ bridge, ips = [] }) => bridge !== undefined && ips.length === 0)
  );
}

async function answered(
  context: Context,
  session: Session,
  { name, namespace, guestPort, timeoutMs }: Wanted,
  left: () => number,
): Promise<{ readonly place: Place; readonly target: GuestPort }> {
  for (let told = false; ; told = true) {
    const place = await placeOf(session, name, namespace);
    const noAddress = lacksAddress(place.vm);
    if (!noAddress) {
      const target = await place.streams.guestPort(guestPort, context.signal);
      if (await speaks(target, context.signal)) return { place, target };
      await target.close();
    }
    throwIfInterrupted(context);
    const state = noAddress ? `the address of ${name} is not known` : `${name} does not answer at port ${guestPort}`;
    if (left() === 0) throw new CliError(EXIT.timedOut, `${state}: ${adviceOn(context, name, noAddress)}`);
    if (!told) tell(context, `${state} yet: waiting up to ${humanAge(timeoutMs)}`);
    await sleep(Math.min(BETWEEN_MS, left()), undefined, { signal: context.signal }).catch(() =>
      throwIfInterrupted(context),
    );
  }
}

function adviceOn({ invokedAs }: Context, name: string, noAddress: boolean): string {
  const look = `see what the guest does: ${invokedAs} console ${name}`;
  return noAddress ? `its guest agent tells it, or any packet between guest and host; ${look}` : look;
}

/** Whether anything is said there: servers of SSH speak first. */
async function speaks(target: GuestPort, signal: AbortSignal): Promise<boolean> {
  const stream = await target.dial(AbortSignal.any([signal, AbortSignal.timeout(ATTEMPT_MS)])).catch(() => undefined);
  if (stream === undefined) return false;
  const giveUp = () => stream.destroy();
  const deadline = setTimeout(giveUp, ATTEMPT_MS);
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    return await new Promise<boolean>((resolve) => {
      stream.once('data', () => resolve(true));
      for (const end of ['end', 'error', 'close']) stream.on(end, () => resolve(false));
    });
  } finally {
    clearTimeout(deadline);
    signal.removeEventListener('abort', giveUp);
    stream.destroy();
  }
}
