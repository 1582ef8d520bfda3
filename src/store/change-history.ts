/** The last changes of a kind, for those who follow them: each has a place of its own in them. */
import { ExpiredError } from '../api/errors.ts';
import type { ObjectOf } from '../api/kinds.ts';
import type { Kind } from '../api/meta.ts';

export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: ObjectOf<Kind>;
  readonly revision: bigint;
}

/** Old changes go in batches. */
const SLACK = 1.1;

export class ChangeHistory {
  readonly #length: number;
  #changes: Change[] = [];
  /** How many are forgotten. */
  #first = 0;
  /** Changes up to here are forgotten. */
  #compacted = -1n;

  /** @param length how many changes are kept */
  constructor(length: number) {
    this.#length = length;
  }

  /** The place after the newest. */
  get end(): number {
    return this.#first + this.#changes.length;
  }

  add(change: Change): void {
    this.#changes.push(change);
    if (this.#changes.length > this.#length * SLACK) this.#drop(this.#changes.length - this.#length);
  }

  /** Begins with this revision: nothing before it is known, and whoever followed it is told so. */
  forget(revision: bigint): void {
    this.#drop(this.#changes.length);
    this.#first += 1;
    this.#compacted = revision;
  }

  /** From where all later changes are to be found. @throws ExpiredError */
  placeAfter(revision: bigint): number {
    if (revision < this.#compacted) throw expired(`resourceVersion ${revision}`);
    return this.#first;
  }

  /** By revision. @throws ExpiredError */
  from(place: number): readonly Change[] {
    if (place < this.#first) throw expired('what is to be told next');
    return this.#changes.slice(place - this.#first).sort(byRevision);
  }

  #drop(count: number): void {
    this.#first += count;
    for (const { revision } of this.#changes.splice(0, count))
      if (revision > this.#compacted) this.#compacted = revision;
  }
}

function expired(what: string): ExpiredError {
  return new ExpiredError(`${what} is older than the history`);
}

function byRevision(a: Change, b: Change): number {
  return a.revision < b.revision ? -1 : a.revision > b.revision ? 1 : 0;
}
