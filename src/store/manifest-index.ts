/**
 * What the store knows of its manifests, as rows beside the objects: each file's content by hash, whom its documents
 * mean, and the outbox of files to be written. An outbox entry commits together with the object's change and is
 * carried out after it, by whichever process comes first; so neither can happen without the other.
 */
import type { Kind, ObjectRef } from '../api/meta.ts';
import type { Database, Row } from './database.ts';
import type { Identity } from './manifest-text.ts';

/** A document as it was last taken in. */
export interface IndexedDocument {
  readonly path: string;
  readonly position: number;
  readonly identity?: Identity | undefined;
  /** Of its declaration; absent where it is invalid. */
  readonly fingerprint?: string | undefined;
  /** Why it does not count. */
  readonly error?: string | undefined;
}

export interface IndexedFile {
  readonly path: string;
  readonly hash: string;
  /** Why nothing in it counts; its documents are then those of its last good content. */
  readonly error?: string | undefined;
}

/** A file to be written. */
export interface OutboxEntry {
  readonly path: string;
  /** What the file must still be, as a hash; absent: no file. */
  readonly base?: string | undefined;
  /** Absent: the file is removed. */
  readonly text?: string | undefined;
  /** Whose document goes, where the entry belongs to a deletion. */
  readonly gone?: { readonly identity: Identity; readonly fingerprint?: string | undefined } | undefined;
}

const TABLES = `
  CREATE TABLE IF NOT EXISTS manifests (path TEXT PRIMARY KEY, hash TEXT NOT NULL, error TEXT) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS documents (
    path TEXT NOT NULL, position INTEGER NOT NULL, kind TEXT, namespace TEXT, name TEXT, fingerprint TEXT, error TEXT,
    PRIMARY KEY (path, position)) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS documents_by_identity ON documents (kind, namespace, name);
  CREATE TABLE IF NOT EXISTS outbox (path TEXT PRIMARY KEY, base TEXT, text TEXT, gone TEXT) STRICT, WITHOUT ROWID;
`;

export class ManifestIndex {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
    const made = db.read(() => db.get("SELECT 1 FROM sqlite_schema WHERE name = 'outbox'") !== undefined);
    if (!made) db.write(() => db.exec(TABLES));
  }

  files(): IndexedFile[] {
    return this.#db.all('SELECT * FROM manifests ORDER BY path').map((row) => ({
      path: String(row['path']),
      hash: String(row['hash']),
      error: text(row['error']),
    }));
  }

  file(path: string): IndexedFile | undefined {
    const row = this.#db.get('SELECT * FROM manifests WHERE path = ?', path);
    return row === undefined ? undefined : { path, hash: String(row['hash']), error: text(row['error']) };
  }

  /** Ordered by path, then by place in the file: the first of an identity counts. */
  documents(): IndexedDocument[] {
    return this.#db.all('SELECT * FROM documents ORDER BY path, position').map(documentOf);
  }

  documentsOf(kind: Kind, ref: ObjectRef): IndexedDocument[] {
    return this.#db
      .all(
        'SELECT * FROM documents WHERE kind = ? AND namespace = ? AND name = ? ORDER BY path, position',
        kind,
        ref.namespace ?? '',
        ref.name,
      )
      .map(documentOf);
  }

  /** Notes a file; its documents are replaced where they are given, else they stay those of its last good content. */
  putFile({ path, hash, error }: IndexedFile, documents?: readonly Omit<IndexedDocument, 'path' | 'position'>[]): void {
    this.#db.run('INSERT OR REPLACE INTO manifests VALUES (?, ?, ?)', path, hash, error ?? null);
    if (documents === undefined) return;
    this.#db.run('DELETE FROM documents WHERE path = ?', path);
    documents.forEach(({ identity, fingerprint, error: why }, position) => {
      this.#db.run(
        'INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)',
        path,
        position,
        identity?.kind ?? null,
        identity === undefined ? null : (identity.ref.namespace ?? ''),
        identity?.ref.name ?? null,
        fingerprint ?? null,
        why ?? null,
      );
    });
  }

  setDocumentError({ path, position }: IndexedDocument, error: string | undefined): void {
    this.#db.run('UPDATE documents SET error = ? WHERE path = ? AND position = ?', error ?? null, path, position);
  }

  dropFile(path: string): void {
    this.#db.run('DELETE FROM manifests WHERE path = ?', path);
    this.#db.run('DELETE FROM documents WHERE path = ?', path);
  }

  outbox(): OutboxEntry[] {
    return this.#db.all('SELECT * FROM outbox ORDER BY path').map((row) => ({
      path: String(row['path']),
      base: text(row['base']),
      text: text(row['text']),
      gone: typeof row['gone'] === 'string' ? (JSON.parse(row['gone']) as OutboxEntry['gone']) : undefined,
    }));
  }

  putOutbox({ path, base, text: content, gone }: OutboxEntry): void {
    this.#db.run(
      'INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?)',
      path,
      base ?? null,
      content ?? null,
      gone === undefined ? null : JSON.stringify(gone),
    );
  }

  dropOutbox(path: string): void {
    this.#db.run('DELETE FROM outbox WHERE path = ?', path);
  }

  /** Manifests must be looked at although no file changed: an object that one of them declares is gone. */
  isStale(): boolean {
    return this.#db.get("SELECT 1 FROM meta WHERE key = 'manifests-stale'") !== undefined;
  }

  setStale(stale: boolean): void {
    if (stale) this.#db.run("INSERT OR IGNORE INTO meta VALUES ('manifests-stale', '1')");
    else this.#db.run("DELETE FROM meta WHERE key = 'manifests-stale'");
  }
}

function documentOf(row: Row): IndexedDocument {
  const kind = text(row['kind']);
  const namespace = text(row['namespace']);
  const name = String(row['name']);
  const ref = namespace === '' || namespace === undefined ? { name } : { namespace, name };
  return {
    path: String(row['path']),
    position: Number(row['position']),
    identity: kind === undefined ? undefined : { kind: kind as Kind, ref },
    fingerprint: text(row['fingerprint']),
    error: text(row['error']),
  };
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
