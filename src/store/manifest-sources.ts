/** The manifests of a file store as Sources of its table: people's edits come in, verbs go out to the files. */
import { createHash } from 'node:crypto';
import { messageOf, StoreUnavailableError } from '../api/errors.ts';
import type { Kind, ObjectRef } from '../api/meta.ts';
import type { Database } from './database.ts';
import { hashOf, type ManifestFolder, type Scan } from './manifest-folder.ts';
import type { IndexedDocument, ManifestIndex, OutboxEntry } from './manifest-index.ts';
import { identityKey, indexed, takeIn, unreadableAbove } from './manifest-intake.ts';
import {
  type Identity,
  isSameIdentity,
  manifestText,
  parseManifestText,
  withDeclaration,
  withoutDocument,
} from './manifest-text.ts';
import type { Declaration, ObjectTable } from './object-table.ts';
import type { ObjectProblem, SourceProblem } from './store.ts';
import type { Sources } from './table-store.ts';

export interface ManifestSourcesOptions {
  readonly db: Database;
  readonly table: ObjectTable;
  readonly index: ManifestIndex;
  readonly folder: ManifestFolder;
  /** A file that changed more recently is not taken in yet: it may be half-written. */
  readonly settleMs: number;
}

/** What a sync left for later. */
export interface SyncResult {
  readonly scan: Scan;
  /** Some file is still being written: look again soon. */
  readonly unsettled: boolean;
  /** Objects may have changed. */
  readonly changed: boolean;
}

export class ManifestSources implements Sources {
  readonly #db: Database;
  readonly #table: ObjectTable;
  readonly #index: ManifestIndex;
  readonly #folder: ManifestFolder;
  readonly #settleMs: number;
  /** What the current write wants the files to be; undefined: gone. */
  readonly #planned = new Map<string, string | undefined>();

  constructor({ db, table, index, folder, settleMs }: ManifestSourcesOptions) {
    this.#db = db;
    this.#table = table;
    this.#index = index;
    this.#folder = folder;
    this.#settleMs = settleMs;
  }

  /** Takes in all changes of the files that are complete, and finishes what a crashed process left in the outbox. */
  sync(): SyncResult {
    const scan = this.#folder.scan();
    const { unsettled, news } = this.#db.read(() => this.#compare(scan));
    if (!news) return { scan, unsettled: unsettled.size > 0, changed: false };
    return this.#db.write(() => {
      this.#flush();
      const now = this.#folder.scan();
      const again = this.#compare(now);
      this.#takeIn(now, again.unsettled);
      return { scan: now, unsettled: again.unsettled.size > 0, changed: true };
    });
  }

  /** Which files are still being written, and whether anything is to be taken in. */
  #compare(scan: Scan): { unsettled: Set<string>; news: boolean } {
    const unsettled = new Set<string>();
    const known = new Map(this.#index.files().map(({ path, hash }) => [path, hash]));
    let news = this.#index.isStale() || this.#index.outbox().length > 0;
    for (const [path, { hash, changedAtMs }] of scan.files) {
      if (known.get(path) === hash) continue;
      if (this.#isSettled(changedAtMs)) news = true;
      else unsettled.add(path);
    }
    for (const [path, hash] of known) {
      const unseen = unreadableAbove(path, scan) !== undefined;
      if (scan.files.has(path) || (unseen && hash === '')) continue;
      // Whoever replaces a file may remove it first.
      if (unseen || this.#isSettled(this.#folder.placeChangedAtMs(path))) news = true;
      else unsettled.add(path);
    }
    return { unsettled, news };
  }

  #isSettled(changedAtMs: number): boolean {
    const ageMs = Date.now() - changedAtMs;
    // A time in the future says nothing; waiting for it could take for ever.
    return ageMs >= this.#settleMs || ageMs < 0;
  }

  #takeIn(scan: Scan, unsettled: ReadonlySet<string>): void {
    const held = new Set([...unsettled, ...this.#index.outbox().map(({ path }) => path)]);
    takeIn({ scan, index: this.#index, table: this.#table, held });
  }

  refresh(kind: Kind, ref: ObjectRef): void {
    if (kind === 'VirtualMachineMonitor') return;
    this.#flush();
    const paths = new Set(this.#index.documentsOf(kind, ref).map(({ path }) => path));
    const usual = usualPath({ kind, ref });
    if (this.#folder.exists(usual)) paths.add(usual);
    const changed = [...paths].some((path) => this.#folder.read(path)?.hash !== this.#index.file(path)?.hash);
    if (!changed && !this.#index.isStale()) return;
    const scan = this.#folder.scan();
    // This object's own files count as they are now: the caller decides on them now.
    const { unsettled } = this.#compare(scan);
    this.#takeIn(scan, new Set([...unsettled].filter((path) => !paths.has(path))));
  }

  declare(kind: Kind, ref: ObjectRef, declaration: Declaration, make: boolean): void {
    if (kind === 'VirtualMachineMonitor') return;
    const identity = { kind, ref };
    const [document] = this.#index.documentsOf(kind, ref);
    if (document !== undefined) this.#rewrite(identity, document, declaration, make);
    else if (make) {
      this.#plan(this.#newPath(identity), undefined, manifestText(identity, declaration));
      if (this.#table.find(kind, ref) !== undefined) this.#index.setStale(true);
    }
  }

  #rewrite(identity: Identity, document: IndexedDocument, declaration: Declaration, isWhole: boolean): void {
    const { path } = document;
    const text = this.#readable(path);
    if (document.fingerprint === undefined || (document.error !== undefined && !isWhole)) {
      throw new StoreUnavailableError(
        `the manifest ${path} declares this and does not count: ${document.error ?? 'it is invalid'}; ` +
          'mend it first, nothing was changed',
      );
    }
    // What was wrong with it is judged anew when it is written.
    if (document.error !== undefined) this.#index.setStale(true);
    const changed = withDeclaration(text, identity, declaration);
    if (changed !== text) this.#plan(path, text, changed);
  }

  /** The text of a file that is about to be rewritten. */
  #readable(path: string): string {
    const error = this.#index.file(path)?.error ?? this.#index.outbox().find((entry) => entry.path === path)?.path;
    if (error === undefined) return this.#folder.text(path);
    const why = error === path ? 'an earlier change of it could not be written' : error;
    throw new StoreUnavailableError(
      `the manifest ${path} cannot be rewritten: ${why}; mend it first, nothing was changed`,
    );
  }

  undeclare(kind: Kind, ref: ObjectRef): void {
    const identity = { kind, ref };
    const documents = this.#index.documentsOf(kind, ref);
    for (const path of new Set(documents.map((document) => document.path))) {
      const text = this.#readable(path);
      const gone = { identity, fingerprint: documents.find((one) => one.path === path)?.fingerprint };
      this.#plan(path, text, withoutDocument(text, identity), gone);
    }
  }

  removed(kind: Kind, ref: ObjectRef): void {
    if (this.#index.documentsOf(kind, ref).length > 0) this.#index.setStale(true);
  }

  #plan(path: string, old: string | undefined, text: string | undefined, gone?: OutboxEntry['gone']): void {
    this.#index.putOutbox({ path, base: old === undefined ? undefined : hashOf(old), text, gone });
    if (text === undefined) this.#index.dropFile(path);
    else this.#index.putFile({ path, hash: hashOf(text) }, parseManifestText(text).documents.map(indexed));
    this.#planned.set(path, text);
  }

  /** By namespace and name; another name where that is taken. */
  #newPath(identity: Identity): string {
    const usual = usualPath(identity);
    for (let n = 1; ; n += 1) {
      const path = n === 1 ? usual : usual.replace(/\.yaml$/, `-${n}.yaml`);
      if (!this.#folder.exists(path) && this.#index.file(path) === undefined) return path;
    }
  }

  prepare(): void {
    for (const [path, text] of this.#planned) {
      if (text === undefined) this.#folder.checkRemovable(path);
      else this.#folder.stage(path, text);
    }
  }

  settle(): void {
    const hasPlans = this.#planned.size > 0;
    this.#planned.clear();
    try {
      if (!hasPlans && !this.#db.read(() => this.#index.isStale())) return;
      this.#db.write(() => {
        this.#flush();
        if (!this.#index.isStale()) return;
        const scan = this.#folder.scan();
        this.#takeIn(scan, this.#compare(scan).unsettled);
      });
    } catch {
      // What is committed stays in the outbox; the next sync of any process carries it out.
    }
  }

  forget(): void {
    for (const [path, text] of this.#planned) if (text !== undefined) this.#folder.unstage(path, text);
    this.#planned.clear();
  }

  #flush(): void {
    for (const entry of this.#index.outbox()) {
      try {
        this.#carryOut(entry);
      } catch {
        // It stays in the outbox, and sourceProblems() tells of it.
      }
    }
  }

  /** Writes the file where it is still the one that the entry was made for. */
  #carryOut(entry: OutboxEntry): void {
    const { path, base, text, gone } = entry;
    const current = this.#folder.exists(path) ? this.#folder.text(path) : undefined;
    const hash = current === undefined ? undefined : hashOf(current);
    if (hash === base) this.#write(path, text);
    else if (gone !== undefined && current !== undefined && !this.#removeFrom(path, current, gone)) return;
    if (hash !== base && text !== undefined) this.#folder.unstage(path, text);
    this.#index.dropOutbox(path);
  }

  #write(path: string, text: string | undefined): void {
    if (text === undefined) this.#folder.remove(path);
    else this.#folder.publish(path, text);
  }

  /** Somebody edited the file meanwhile: the document goes all the same, unless it is another one by now. */
  #removeFrom(path: string, current: string, gone: NonNullable<OutboxEntry['gone']>): boolean {
    const { documents, error } = parseManifestText(current);
    if (error !== undefined) return false;
    const document = documents.find((one) => isSameIdentity(one.identity, gone.identity));
    const isTheOne = document !== undefined && indexed(document).fingerprint === gone.fingerprint;
    if (isTheOne) this.#write(path, withoutDocument(current, gone.identity));
    return true;
  }

  problems(): readonly ObjectProblem[] {
    const problems = new Map<string, ObjectProblem>();
    const files = new Map(this.#index.files().map((file) => [file.path, file]));
    for (const { identity, error, path } of this.#index.documents()) {
      const why = files.get(path)?.error ?? error;
      if (identity === undefined || why === undefined || problems.has(identityKey(identity))) continue;
      if (this.#table.find(identity.kind, identity.ref) !== undefined) continue;
      const message = `the manifest ${path} does not count: ${why}`;
      problems.set(identityKey(identity), { ...identity, reason: 'ManifestInvalid', message });
    }
    return [...problems.values()];
  }

  sourceProblems(): readonly SourceProblem[] {
    return this.#db.read(() => {
      const documents = this.#index.documents();
      const files = this.#index
        .files()
        .filter(({ path, error }) => error !== undefined && !documents.some((one) => one.path === path))
        .map(({ path, error = '' }) => ({ source: path, message: error }));
      const strangers = documents
        .filter(({ identity, error }) => identity === undefined && error !== undefined)
        .map(({ path, error = '' }) => ({ source: path, message: error }));
      const waiting = this.#index.outbox().map(({ path }) => ({ source: path, message: this.#waiting(path) }));
      return [...files, ...strangers, ...waiting];
    });
  }

  #waiting(path: string): string {
    try {
      this.#folder.checkRemovable(path);
      if (this.#folder.exists(path)) this.#folder.text(path);
      return 'a change of this manifest is about to be written';
    } catch (error) {
      return messageOf(error);
    }
  }
}

/** Room for `-2.yaml` and for the name of a staged copy within a file name's 255 bytes. */
const MAX_FILE_NAME = 200;

function usualPath({ kind, ref }: Identity): string {
  const hash = createHash('sha256').update(ref.name).digest('hex').slice(0, 8);
  const name = ref.name.length <= MAX_FILE_NAME ? ref.name : `${ref.name.slice(0, MAX_FILE_NAME)}-${hash}`;
  return `${kind === 'Host' ? 'hosts' : (ref.namespace ?? '')}/${name}.yaml`;
}
