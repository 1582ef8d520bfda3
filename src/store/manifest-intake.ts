/**
 * From files to objects: what people changed in their manifests, taken in under the write lock. It creates and
 * changes objects and never deletes one: a manifest that is gone, moved, broken or out of sight leaves its object as
 * it is, with a problem that says so.
 */

import { isDeepStrictEqual } from 'node:util';
import { parseManifest } from '../api/admission.ts';
import { ApiError, InvalidObjectError, messageOf } from '../api/errors.ts';
import { KIND_INFO } from '../api/kinds.ts';
import { API_VERSION, KINDS, keyOf } from '../api/meta.ts';
import type { ManifestFile, Scan } from './manifest-folder.ts';
import type { IndexedDocument, ManifestIndex } from './manifest-index.ts';
import type { Identity, ManifestDocument } from './manifest-text.ts';
import { fingerprint } from './merge.ts';
import { newObject, redeclared } from './object-rules.ts';
import type { Declaration, ObjectTable, StoredObject } from './object-table.ts';

export interface Intake {
  readonly scan: Scan;
  readonly index: ManifestIndex;
  readonly table: ObjectTable;
  /** Files to be passed over for now: still being written, or about to be rewritten by the outbox. */
  readonly held: ReadonlySet<string>;
}

type Claim = IndexedDocument & { readonly identity: Identity };

/** Runs inside a transaction. */
export function takeIn(intake: Intake): void {
  const formerly = indexFiles(intake);
  const claims = claimsOf(intake.index);
  for (const sameIdentity of claims.values()) takeInObject(intake, sameIdentity);
  noteMissing(intake, claims, formerly);
  intake.index.setStale(false);
}

/** Brings the index up to the files. Returns where each identity was before. */
function indexFiles({ scan, index, held }: Intake): Map<string, string> {
  const formerly = new Map<string, string>();
  const before = index.documents();
  const known = new Map(index.files().map((file) => [file.path, file]));
  for (const [path, file] of scan.files) {
    if (!held.has(path) && known.get(path)?.hash !== file.hash) indexFile(index, path, file);
  }
  for (const path of known.keys()) {
    if (scan.files.has(path) || held.has(path)) continue;
    const failure = unreadableAbove(path, scan);
    if (failure !== undefined) index.putFile({ path, hash: '', error: `cannot be read: ${failure}` });
    else index.dropFile(path);
  }
  for (const { identity, path } of before) {
    if (identity !== undefined) formerly.set(identityKey(identity), path);
  }
  return formerly;
}

function indexFile(index: ManifestIndex, path: string, { hash, content }: ManifestFile): void {
  const { documents, error } = readFile(content);
  if (error !== undefined) index.putFile({ path, hash, error });
  else index.putFile({ path, hash }, documents);
}

/** Whatever is wrong with one file, the others are taken in. */
function readFile(content: ManifestFile['content']): { documents: ReturnType<typeof indexed>[]; error?: string } {
  try {
    const { documents, error } = content();
    return error === undefined ? { documents: documents.map(indexed) } : { documents: [], error };
  } catch (cause) {
    return { documents: [], error: `cannot be taken in: ${messageOf(cause)}` };
  }
}

export function indexed({
  identity,
  declaration,
  error,
}: ManifestDocument): Omit<IndexedDocument, 'path' | 'position'> {
  return { identity, fingerprint: declaration === undefined ? undefined : fingerprint(declaration), error };
}

/** Why a file cannot be seen, where that is so. */
export function unreadableAbove(path: string, scan: Scan): string | undefined {
  return [...scan.unreadable].find(([folder]) => path.startsWith(`${folder}/`))?.[1];
}

function claimsOf(index: ManifestIndex): Map<string, Claim[]> {
  const claims = new Map<string, Claim[]>();
  for (const document of index.documents()) {
    const { identity } = document;
    if (identity === undefined) continue;
    const key = identityKey(identity);
    claims.set(key, [...(claims.get(key) ?? []), { ...document, identity }]);
  }
  return claims;
}

export function identityKey({ kind, ref }: Identity): string {
  return `${kind}/${keyOf(ref)}`;
}

/** The first claim by path counts; the others are told. A file that seems to move is no double of itself. */
function takeInObject(intake: Intake, claims: readonly Claim[]): void {
  const { held, scan } = intake;
  const lying = claims.filter(({ path }) => scan.files.has(path) || !held.has(path));
  const [claim, ...others] = lying.length > 0 ? lying : claims;
  if (claim === undefined) return;
  const before = intake.table.find(claim.identity.kind, claim.identity.ref);
  if (before?.metadata.deletionTimestamp !== undefined) return;
  const fileError = intake.index.file(claim.path)?.error;
  const { after, error } =
    fileError === undefined ? judged(intake, claim, before) : { after: before, error: fileError };
  if (fileError === undefined && error !== claim.error) intake.index.setDocumentError(claim, error);
  if (after === undefined) return;
  const message = error === undefined ? duplicates(claim, others) : invalid(claim, error, after);
  const problem = message === undefined ? undefined : { reason: 'ManifestInvalid' as const, message };
  if (!isDeepStrictEqual(after.problem, problem)) intake.table.update(after, withProblem(after, problem));
}

/** The object after what its document says, or why that does not count. */
function judged(
  intake: Intake,
  claim: Claim,
  before: StoredObject | undefined,
): { after: StoredObject | undefined; error?: string | undefined } {
  if (before?.declaration !== undefined && fingerprint(before.declaration) === claim.fingerprint) {
    return { after: before };
  }
  try {
    const declaration = declarationAt(intake, claim);
    if (declaration === undefined) return { after: before, error: claim.error };
    return { after: declared(intake, claim, before, declaration) };
  } catch (error) {
    // A store that cannot be written is no fault of this file.
    if (error instanceof ApiError && !(error instanceof InvalidObjectError)) throw error;
    return { after: before, error: messageOf(error) };
  }
}

function declarationAt({ scan }: Intake, { path, position, fingerprint: wanted }: Claim): Declaration | undefined {
  const declaration = scan.files.get(path)?.content().documents[position]?.declaration;
  return declaration !== undefined && fingerprint(declaration) === wanted ? declaration : undefined;
}

/** The object as its manifest declares it. @throws InvalidObjectError where that is not allowed */
function declared(
  { table }: Intake,
  { identity: { kind, ref } }: Claim,
  before: StoredObject | undefined,
  declaration: Declaration,
): StoredObject {
  if (before === undefined) {
    const { labels, annotations, spec } = declaration;
    const metadata = { ...ref, labels, annotations };
    const manifest = parseManifest({ apiVersion: API_VERSION, kind, metadata, spec });
    return table.insert(newObject(manifest, spec, declaration));
  }
  return table.update(before, redeclared(before, declaration));
}

function withProblem({ problem: _old, ...object }: StoredObject, problem: StoredObject['problem']): StoredObject {
  return problem === undefined ? object : { ...object, problem };
}

function invalid({ path }: Claim, error: string, { kind, metadata }: StoredObject): string {
  return `the manifest ${path} does not count: ${error}; ${kind} ${keyOf(metadata)} stays as it was`;
}

function duplicates({ path, identity }: Claim, others: readonly Claim[]): string | undefined {
  if (others.length === 0) return undefined;
  const where = others.map((other) => (other.path === path ? `${path} again` : other.path)).join(', ');
  return `${identity.kind} ${keyOf(identity.ref)} is declared in ${path} and in ${where}: ${path} counts; remove the other`;
}

/** Objects whose manifest is nowhere live on, and say how to go on. */
function noteMissing(
  { table }: Intake,
  claims: ReadonlyMap<string, unknown>,
  formerly: ReadonlyMap<string, string>,
): void {
  const declarable = KINDS.filter((kind) => kind !== 'VirtualMachineMonitor');
  // All are read before the first is written.
  for (const row of declarable.flatMap((kind) => [...table.rows(kind)])) {
    const object = row.decode();
    const { kind, metadata, declaration, problem } = object;
    const key = identityKey({ kind, ref: metadata });
    if (declaration === undefined || metadata.deletionTimestamp !== undefined || claims.has(key)) continue;
    if (problem?.reason === 'ManifestMissing') continue;
    const message = missing(object, formerly.get(key));
    table.update(object, withProblem(object, { reason: 'ManifestMissing', message }));
  }
}

function missing({ kind, metadata }: StoredObject, path: string | undefined): string {
  const { namespace, name } = metadata;
  const words = `${KIND_INFO[kind].singular} ${name}${namespace === undefined ? '' : ` -n ${namespace}`}`;
  return (
    `the manifest${path === undefined ? '' : ` ${path}`} of ${kind} ${keyOf(metadata)} is gone and the object lives on: ` +
    `to delete it, \`qemu-operator delete ${words}\`; to keep it, restore the file, ` +
    `or write it anew from \`qemu-operator get ${words} -o yaml\``
  );
}
