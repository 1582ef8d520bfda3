/** Objects in the order of namespace and name, kept so from change to change: sorting twenty thousand takes too long. */
import type { Reading } from './object-reader.ts';
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

  put(reading: Reading): void {
    const order = orderOf(reading);
    const at = this.#placeOf(order);
    if (this.#orders[at] === order) this.#readings[at] = reading;
    else {
      this.#orders.splice(at, 0, order);
      this.#readings.splice(at, 0, reading);
    }
    if (reading.problem === undefined) this.#problems.delete(order);
    else this.#problems.set(order, reading.problem);
  }

  delete(reading: Reading): void {
    const order = orderOf(reading);
    const at = this.#placeOf(order);
    if (this.#orders[at] !== order) return;
    this.#orders.splice(at, 1);
    this.#readings.splice(at, 1);
    this.#problems.delete(order);
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

/** No name has this character. */
function orderOf({ object: { metadata } }: Reading): string {
  return `${metadata.namespace ?? ''}\0${metadata.name}`;
}
