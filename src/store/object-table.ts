/**
 * Objects and the history of their changes as rows. Every method runs inside a transaction of the caller. One
 * counter numbers all changes: an object's resourceVersion is the number of its last one.
 */
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { crc32 } from 'node:zlib';
import { StoreUnavailableError } from '../api/errors.ts';
import type { Kind, ObjectMeta, ObjectRef } from '../api/meta.ts';
import type { Database, Row } from './database.ts';
import { isRecord, type JsonRecord } from './merge.ts';
import type { ObjectProblem } from './store.ts';

/** What a manifest says, without defaults: the part of an object that it owns. */
export interface Declaration {
  readonly labels: JsonRecord;
  readonly annotations: JsonRecord;
  readonly spec: JsonRecord;
}

/** An object as it is kept: the spec without defaults, readers fill them. */
export interface StoredObject {
  readonly kind: Kind;
  readonly metadata: ObjectMeta;
  readonly spec: unknown;
  readonly status?: unknown;
  /** What was declared last; absent where no manifest ever was. */
  readonly declaration?: Declaration | undefined;
  readonly problem?: Pick<ObjectProblem, 'reason' | 'message'> | undefined;
}

/** A row that is decoded only where it is not the one that is known already. */
export interface ObjectRow {
  readonly ref: ObjectRef;
  /** Absent in the history. */
  readonly uid: string | undefined;
  readonly revision: number;
  /** Of the texts, as they lie in the store. */
  readonly checksum: number;
  /** @throws StoreUnavailableError where the row is not what was written: it must not pass for an absent object. */
  decode(): StoredObject;
}

export interface Change {
  readonly revision: number;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly row: ObjectRow;
}

/** How many changes a watch can look back. */
const HISTORY = 10_000;
/** Old changes go in batches. */
const COMPACT_EVERY = 100;

const TABLES = `
  CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS objects (
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL,
    revision INTEGER NOT NULL, json TEXT NOT NULL, declaration TEXT, problem TEXT,
    PRIMARY KEY (kind, namespace, name)) STRICT;
  CREATE TABLE IF NOT EXISTS changes (
    revision INTEGER PRIMARY KEY, kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    type TEXT NOT NULL, json TEXT NOT NULL) STRICT;
`;

export class ObjectTable {
  readonly #db: Database;
  readonly #history: number;
  readonly uid: string;

  /** Makes the tables and the store's uid where they are not there yet. */
  constructor(db: Database, history: number = HISTORY) {
    this.#db = db;
    this.#history = history;
    const uid = db.read(() => {
      const made = db.get("SELECT 1 FROM sqlite_schema WHERE name = 'changes'") !== undefined;
      return made ? this.#meta('uid') : undefined;
    });
    this.uid = uid ?? db.write(() => this.#initialize());
  }

  #initialize(): string {
    this.#db.exec(TABLES);
    for (const [key, value] of [
      ['uid', randomUUID()],
      ['revision', '0'],
      ['compacted', '0'],
    ] as const) {
      this.#db.run('INSERT INTO meta VALUES (?, ?) ON CONFLICT DO NOTHING', key, value);
    }
    return this.#meta('uid') ?? '';
  }

  #meta(key: string): string | undefined {
    const value = this.#db.get('SELECT value FROM meta WHERE key = ?', key)?.['value'];
    return typeof value === 'string' ? value : undefined;
  }

  /** The number of the last change. */
  revision(): number {
    return Number(this.#meta('revision') ?? 0);
  }

  /** Changes up to this number are forgotten. */
  compacted(): number {
    return Number(this.#meta('compacted') ?? 0);
  }

  find(kind: Kind, ref: ObjectRef): StoredObject | undefined {
    return this.row(kind, ref)?.decode();
  }

  row(kind: Kind, ref: ObjectRef): ObjectRow | undefined {
    const row = this.#db.get(
      'SELECT * FROM objects WHERE kind = ? AND namespace = ? AND name = ?',
      kind,
      ref.namespace ?? '',
      ref.name,
    );
    return row === undefined ? undefined : objectRow(row);
  }

  /** All of a kind, ordered by namespace and name; each is read when it is asked for. */
  *rows(kind: Kind): Generator<ObjectRow> {
    for (const row of this.#db.each('SELECT * FROM objects WHERE kind = ? ORDER BY namespace, name', kind))
      yield objectRow(row);
  }

  /** Whose objects of a kind were written or removed after `revision`; the history must reach back to it. */
  touchedAfter(revision: number, kind: Kind): ObjectRef[] {
    return this.#db
      .all('SELECT DISTINCT namespace, name FROM changes WHERE revision > ? AND kind = ?', revision, kind)
      .map(refOfRow);
  }

  insert(object: StoredObject): StoredObject {
    const stored = this.#record('ADDED', object);
    this.#db.run(
      'INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
      ...keyColumns(stored),
      stored.metadata.uid,
      Number(stored.metadata.resourceVersion),
      encodeObject(stored),
      encode(stored.declaration),
      encode(stored.problem),
    );
    return stored;
  }

  /** Writes what differs from `before`. A change that readers can see, or of the problem, is numbered and told to watches. */
  update(before: StoredObject, after: StoredObject): StoredObject {
    if (before === after) return before;
    const seen = encodeObject(before) !== encodeObject(after) && !isDeepStrictEqual(visible(before), visible(after));
    const told = seen || encode(before.problem) !== encode(after.problem);
    if (!told && isDeepStrictEqual(before.declaration, after.declaration)) return before;
    const stored = told ? this.#record('MODIFIED', after) : after;
    this.#db.run(
      `UPDATE objects SET revision = ?, json = ?, declaration = ?, problem = ?
       WHERE kind = ? AND namespace = ? AND name = ?`,
      Number(stored.metadata.resourceVersion),
      encodeObject(stored),
      encode(stored.declaration),
      encode(stored.problem),
      ...keyColumns(stored),
    );
    return stored;
  }

  /** Removes the object; its last state is told to watches. */
  remove(object: StoredObject): StoredObject {
    this.#db.run('DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?', ...keyColumns(object));
    return this.#record('DELETED', object);
  }

  /** Changes of a kind after `revision`, in order, at most `limit`. */
  changesAfter(revision: number, kind: Kind, limit: number): Change[] {
    return this.#db
      .all('SELECT * FROM changes WHERE revision > ? AND kind = ? ORDER BY revision LIMIT ?', revision, kind, limit)
      .map((row) => ({
        revision: Number(row['revision']),
        type: row['type'] as Change['type'],
        row: objectRow(row),
      }));
  }

  /** Gives the object the next number and notes the change. */
  #record(type: Change['type'], object: StoredObject): StoredObject {
    const row = this.#db.get("UPDATE meta SET value = value + 1 WHERE key = 'revision' RETURNING value");
    const revision = Number(row?.['value']);
    const numbered = { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } };
    this.#db.run(
      'INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?)',
      revision,
      ...keyColumns(object),
      type,
      encodeObject(numbered),
    );
    if (revision % COMPACT_EVERY === 0 || this.#history < COMPACT_EVERY) this.#compact(revision - this.#history);
    return numbered;
  }

  #compact(through: number): void {
    if (through <= 0) return;
    this.#db.run('DELETE FROM changes WHERE revision <= ?', through);
    this.#db.run("UPDATE meta SET value = ? WHERE key = 'compacted'", String(through));
  }
}

function keyColumns({ kind, metadata }: StoredObject): [string, string, string] {
  return [kind, metadata.namespace ?? '', metadata.name];
}

function visible(object: StoredObject): unknown {
  return [object.metadata, object.spec, object.status];
}

function encodeObject({ metadata, spec, status }: StoredObject): string {
  return sealed(JSON.stringify({ metadata, spec, status }));
}

function encode(value: object | undefined): string | null {
  return value === undefined ? null : sealed(JSON.stringify(value));
}

/** The text of an object with its checksum as its first field: a damaged row must not pass for another wish. */
function sealed(text: string): string {
  return `{"sum":${crc32(text)},${text.slice(1)}`;
}

/** @throws where the text is not what was sealed; a text of before there were checksums has none */
function unsealed(text: string): unknown {
  const [head = '', sum] = /^\{"sum":(\d+),/.exec(text) ?? [];
  const rest = sum === undefined ? text : `{${text.slice(head.length)}`;
  if (sum !== undefined && crc32(rest) !== Number(sum)) throw new Error('the checksum does not match');
  return JSON.parse(rest);
}

function refOfRow(row: Row): ObjectRef {
  const name = String(row['name']);
  return row['namespace'] === '' ? { name } : { namespace: String(row['namespace']), name };
}

function objectRow(row: Row): ObjectRow {
  return {
    ref: refOfRow(row),
    uid: row['uid'] as string | undefined,
    revision: Number(row['revision']),
    checksum: crc32(String(row['problem'] ?? ''), crc32(String(row['json']))),
    decode: () => decodeObject(row),
  };
}

function decodeObject(row: Row): StoredObject {
  const kind = row['kind'] as Kind;
  try {
    const { metadata, spec, status } = unsealed(String(row['json'])) as Record<string, unknown>;
    if (!isRecord(metadata) || metadata['name'] !== row['name']) throw new Error('metadata is missing');
    if (row['uid'] !== undefined && metadata['uid'] !== row['uid']) throw new Error('another uid');
    return {
      kind,
      metadata: metadata as unknown as ObjectMeta,
      spec,
      ...(status === undefined ? {} : { status }),
      ...decoded<'declaration', Declaration>('declaration', row),
      ...decoded<'problem', StoredObject['problem']>('problem', row),
    };
  } catch (error) {
    const name = [row['namespace'], row['name']].filter((part) => part !== '').join('/');
    throw new StoreUnavailableError(
      `the store's entry of ${kind} ${name} is damaged; its VM is left alone and nothing is deleted: stop ` +
        'qemu-operator and restore .state/store.db from a backup',
      { cause: error },
    );
  }
}

function decoded<F extends string, T>(field: F, row: Row): { [key in F]?: T } {
  const value = row[field];
  return typeof value === 'string' ? ({ [field]: unsealed(value) } as { [key in F]?: T }) : {};
}
