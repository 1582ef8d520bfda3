/**
 * What this process has read of a store: an object whose row is the same as before is neither decoded nor judged
 * again, and all readers share it, frozen. Every method runs inside a transaction of the caller.
 */
import type { ObjectOf } from '../api/kinds.ts';
import type { Kind, ObjectRef } from '../api/meta.ts';
import type { Database } from './database.ts';
import { type Reading, readObject, refOf } from './object-reader.ts';
import type { ObjectRow, ObjectTable } from './object-table.ts';
import type { ObjectProblem } from './store.ts';

interface Known {
  readonly object: ObjectOf<Kind>;
  /** What is wrong with it, and what was noted of its manifest. */
  readonly problems: readonly ObjectProblem[];
  readonly revision: number;
  readonly checksum: number;
}

/** The objects of one kind as they were at a revision, in order. */
interface Snapshot {
  readonly revision: number;
  /** SQLite's number of what others have written. */
  readonly dataVersion: number;
  readonly known: ReadonlyMap<string, Known>;
}

const NONE: ReadonlyMap<string, Known> = new Map();

export class ObjectCache {
  readonly #db: Database;
  readonly #table: ObjectTable;
  readonly #snapshots = new Map<Kind, Snapshot>();

  constructor(db: Database, table: ObjectTable) {
    this.#db = db;
    this.#table = table;
  }

  /** All of a kind, ordered by namespace and name. */
  objects<K extends Kind>(kind: K): ObjectOf<K>[] {
    return Array.from(this.#current(kind).values(), ({ object }) => object as ObjectOf<K>);
  }

  problems(kind: Kind): ObjectProblem[] {
    return [...this.#current(kind).values()].flatMap(({ problems }) => problems);
  }

  /** The object of a row, of now or of the history. */
  object<K extends Kind>(kind: K, row: ObjectRow): ObjectOf<K> {
    const known = this.#snapshots.get(kind)?.known.get(keyOfRef(row.ref));
    return (isOf(known, row) ? known.object : readObject(row.decode()).object) as ObjectOf<K>;
  }

  /**
   * Our own writes are looked up in the history. Where somebody else wrote, every row is compared: it may have been
   * a person with a tool of SQLite, or a damage.
   */
  #current(kind: Kind): ReadonlyMap<string, Known> {
    const before = this.#snapshots.get(kind);
    const [revision, dataVersion] = [this.#table.revision(), this.#db.dataVersion()];
    const same = before?.dataVersion === dataVersion && before.revision >= this.#table.compacted();
    if (same && before.revision === revision) return before.known;
    const known = same ? this.#updated(kind, before) : this.#compared(kind, before?.known ?? NONE);
    this.#snapshots.set(kind, { revision, dataVersion, known });
    return known;
  }

  #compared(kind: Kind, before: ReadonlyMap<string, Known>): Map<string, Known> {
    const known = new Map<string, Known>();
    for (const row of this.#table.rows(kind)) {
      const key = keyOfRef(row.ref);
      known.set(key, knownOf(row, before.get(key)));
    }
    return known;
  }

  #updated(kind: Kind, { revision, known: before }: Snapshot): Map<string, Known> {
    const known = new Map(before);
    for (const ref of this.#table.touchedAfter(revision, kind)) {
      const key = keyOfRef(ref);
      const row = this.#table.row(kind, ref);
      if (row === undefined) known.delete(key);
      else known.set(key, knownOf(row, before.get(key)));
    }
    const grown = [...known.keys()].some((key) => !before.has(key));
    return grown ? new Map([...known].toSorted(([a], [b]) => (a < b ? -1 : 1))) : known;
  }
}

/** In the order of namespace and name: no name has this character. */
function keyOfRef({ namespace = '', name }: ObjectRef): string {
  return `${namespace}\0${name}`;
}

function isOf(known: Known | undefined, { uid, revision, checksum }: ObjectRow): known is Known {
  if (known === undefined || (uid !== undefined && uid !== known.object.metadata.uid)) return false;
  return known.revision === revision && known.checksum === checksum;
}

function knownOf(row: ObjectRow, before: Known | undefined): Known {
  if (isOf(before, row)) return before;
  const stored = row.decode();
  const { object, problem }: Reading = readObject(stored);
  const { revision, checksum } = row;
  const noted = stored.problem && { kind: stored.kind, ref: refOf(stored.metadata), ...stored.problem };
  const problems = [noted, problem].filter((one) => one !== undefined);
  return { object, problems, revision, checksum };
}
