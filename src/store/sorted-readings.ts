/** Objects in the order of namespace and name, kept so from change to change: sorting twenty thousand takes too long. */
import type { Reading } from './object-reader.ts';
import { hostNameOf } from './object-rules.ts';
import type { ObjectProblem } from './store.ts';

export class SortedReadings {
  readonly #orders: string[] = [];
  readonly #readings: Reading[] = [];
  readonly #problems = new Map<string, ObjectProblem>();

  get all(): readonly Reading[] {
    return this.#readings;
  }

  get problems(): Iterable<ObjectProblem> {
    return this.#problems.values();
  }

  /** Returns what was there in its place. */
  put(reading: Reading): Reading | undefined {
    const order = orderOf(reading);
    const at = this.#placeOf(order);
    const isKnown = this.#orders[at] === order;
    const before = isKnown ? this.#readings[at] : undefined;
    if (isKnown) this.#readings[at] = reading;
    else {
      this.#orders.splice(at, 0, order);
      this.#readings.splice(at, 0, reading);
    }
    if (reading.problem === undefined) this.#problems.delete(order);
    else this.#problems.set(order, reading.problem);
    return before;
  }

  /** Returns what was there. */
  delete(reading: Reading): Reading | undefined {
    const order = orderOf(reading);
    const at = this.#placeOf(order);
    if (this.#orders[at] !== order) return undefined;
    this.#orders.splice(at, 1);
    this.#problems.delete(order);
    return this.#readings.splice(at, 1)[0];
  }

  /** Of the first that is not before it. */
  #placeOf(order: string): number {
    let [low, high] = [0, this.#orders.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#orders[middle] ?? '') < order) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The same by the Host that they name: its loop asks for them at each pass. */
export class ReadingsByHost {
  readonly #hosts = new Map<string, SortedReadings>();

  of(hostName: string): readonly Reading[] {
    return this.#hosts.get(hostName)?.all ?? [];
  }

  move(before: Reading | undefined, after: Reading | undefined): void {
    const [from, to] = [before && hostNameOf(before.object), after && hostNameOf(after.object)];
    if (before !== undefined && from !== undefined && from !== to) {
      const left = this.#hosts.get(from);
      left?.delete(before);
      if (left?.all.length === 0) this.#hosts.delete(from);
    }
    if (after === undefined || to === undefined) return;
    const there = this.#hosts.get(to) ?? new SortedReadings();
    this.#hosts.set(to, there);
    there.put(after);
  }
}

/** No name has this character. */
function orderOf({ object: { metadata } }: Reading): string {
  return `${metadata.namespace ?? ''}\0${metadata.name}`;
}
