/** Manifests as text: what a YAML file declares, and how to change it so that people still know it as theirs. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { Document, isMap, isScalar, isSeq, parseAllDocuments, type YAMLMap, type YAMLSeq } from 'yaml';
import { parseManifest } from '../api/admission.ts';
import { messageOf, StoreUnavailableError } from '../api/errors.ts';
import { API_VERSION, KINDS, type Kind, type ObjectRef } from '../api/meta.ts';
import { fingerprint, isRecord, type JsonRecord } from './merge.ts';
import { normalRef, ownWords } from './object-rules.ts';
import type { Declaration } from './object-table.ts';

export interface Identity {
  readonly kind: Kind;
  readonly ref: ObjectRef;
}

/** One document of a file. Without identity nobody knows whom it means; without declaration it is invalid, see `error`. */
export interface ManifestDocument {
  readonly identity?: Identity | undefined;
  readonly declaration?: Declaration | undefined;
  readonly error?: string | undefined;
}

export interface ManifestText {
  readonly documents: readonly ManifestDocument[];
  /** The file is no YAML, or only half of it: nothing in it counts. */
  readonly error?: string | undefined;
}

/** Larger files are no manifests; parsing them would hold up everything. */
const MAX_LENGTH = 1_000_000;
const MAX_ALIASES = 100;

export function parseManifestText(text: string): ManifestText {
  if (text.length > MAX_LENGTH) return { documents: [], error: `has more than ${MAX_LENGTH} characters` };
  try {
    return readDocuments(parse(text));
  } catch (cause) {
    return { documents: [], error: unparsable(cause) };
  }
}

function readDocuments(documents: readonly Document.Parsed[]): ManifestText {
  const error = documents.flatMap((document) => document.errors)[0];
  if (error !== undefined) return { documents: [], error: error.message.split('\n')[0] ?? 'is no YAML' };
  const values = documents.map((document): unknown => document.toJS({ maxAliasCount: MAX_ALIASES }));
  return { documents: values.filter((value) => value !== null && value !== undefined).map(readDocument) };
}

/** The parser, and all who walk its result, go as deep as the text does. */
function unparsable(cause: unknown): string {
  if (!(cause instanceof RangeError)) return messageOf(cause);
  return 'cannot be parsed: it is nested too deeply, or a bracket, brace or quote is never closed';
}

function parse(text: string): Document.Parsed[] {
  const documents = parseAllDocuments(text, { version: '1.2', schema: 'core', uniqueKeys: true, stringKeys: true });
  return Array.isArray(documents) ? documents : [];
}

function readDocument(value: unknown): ManifestDocument {
  const identity = identityOf(value);
  try {
    const manifest = parseManifest(value);
    if (manifest.kind === 'VirtualMachineMonitor') {
      return { identity, error: 'a VirtualMachineMonitor is a request of the moment and no manifest' };
    }
    return { identity, declaration: declarationIn(value) };
  } catch (error) {
    return { identity, error: unparsable(error) };
  }
}

function identityOf(value: unknown): Identity | undefined {
  if (!isRecord(value) || value['apiVersion'] !== API_VERSION || !isRecord(value['metadata'])) return undefined;
  const kind = KINDS.find((known) => known === value['kind']);
  const { name, namespace } = value['metadata'];
  if (kind === undefined || typeof name !== 'string') return undefined;
  return { kind, ref: normalRef(kind, { name, namespace: typeof namespace === 'string' ? namespace : undefined }) };
}

function declarationIn(value: unknown): Declaration {
  const { metadata, spec } = value as { metadata: JsonRecord; spec: JsonRecord };
  return { labels: ownWords(metadata['labels']), annotations: ownWords(metadata['annotations']), spec };
}

export function isSameIdentity(a: Identity | undefined, b: Identity): boolean {
  return a?.kind === b.kind && a.ref.name === b.ref.name && a.ref.namespace === b.ref.namespace;
}

/** A new file for one object. */
export function manifestText({ kind, ref }: Identity, { labels, annotations, spec }: Declaration): string {
  const metadata = {
    name: ref.name,
    ...(ref.namespace === undefined ? {} : { namespace: ref.namespace }),
    ...(Object.keys(labels).length === 0 ? {} : { labels }),
    ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
  };
  return new Document({ apiVersion: API_VERSION, kind, metadata, spec }).toString({ lineWidth: 0 });
}

/**
 * The text with the object's document changed to say `declaration`, and with every comment kept.
 * @throws StoreUnavailableError where that cannot be done, for instance through a YAML anchor
 */
export function withDeclaration(text: string, identity: Identity, declaration: Declaration): string {
  const documents = parse(text);
  const at = documents.findIndex((document) => isSameIdentity(identityOf(document.toJS()), identity));
  const document = documents[at];
  if (document === undefined) throw unwritable('the document is not there any more');
  const before = declarationIn(document.toJS());
  if (isDeepStrictEqual(before, declaration)) return text;
  const [start, end] = segment(documents, at, text);
  const spliced = withScalars(text, document, before, declaration);
  if (spliced !== undefined && says(spliced, text, identity, declaration)) return spliced;
  editDeclaration(document, before, declaration);
  const written = document.toString({ lineWidth: 0, ...formatOf(text.slice(start, end)) });
  const result = text.slice(0, start) + written + text.slice(end);
  if (!says(result, text, identity, declaration)) {
    throw unwritable('it uses anchors or another form that only a person can change');
  }
  return result;
}

function unwritable(why: string): StoreUnavailableError {
  return new StoreUnavailableError(`the manifest cannot be rewritten: ${why}; edit it by hand`);
}

/** Whether the new text declares just that of the object, and of all others what the old text did. */
function says(text: string, old: string, identity: Identity, declaration: Declaration): boolean {
  const now = parseManifestText(text);
  const before = parseManifestText(old).documents;
  return (
    now.error === undefined &&
    now.documents.length === before.length &&
    now.documents.every((document, at) =>
      isSameIdentity(document.identity, identity)
        ? fingerprint(document.declaration) === fingerprint(declaration)
        : isDeepStrictEqual(document, before[at]),
    )
  );
}

/** The text without any document of the object; undefined where no document is left. */
export function withoutDocument(text: string, identity: Identity): string | undefined {
  const documents = parse(text);
  const kept = documents.map((document) => !isSameIdentity(identityOf(document.toJS()), identity));
  const hasMore = documents.some((document, at) => kept[at] === true && document.toJS() !== null);
  if (!hasMore) return undefined;
  return documents.map((_, at) => (kept[at] === true ? text.slice(...segment(documents, at, text)) : '')).join('');
}

/** Where a document lies in its file, comments and separator included. */
function segment(documents: readonly Document.Parsed[], at: number, text: string): [number, number] {
  return [at === 0 ? 0 : (documents[at]?.range[0] ?? 0), documents[at + 1]?.range[0] ?? text.length];
}

/** The two habits that `yaml` does not keep by itself. */
function formatOf(text: string): { indentSeq: boolean; flowCollectionPadding: boolean } {
  return {
    indentSeq: !/^( *)[^\s#-][^\n]*:[ \t]*(#[^\n]*)?\n\1- /m.test(text),
    flowCollectionPadding: !/[{[][^\s}\]]/.test(text),
  };
}

interface Splice {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/** The text with single values replaced in place; undefined where more than that changes. */
function withScalars(
  text: string,
  document: Document.Parsed,
  before: Declaration,
  after: Declaration,
): string | undefined {
  const splices: Splice[] = [];
  const parts = [
    [['spec'], before.spec, after.spec],
    [['metadata', 'labels'], before.labels, after.labels],
    [['metadata', 'annotations'], before.annotations, after.annotations],
  ] as const;
  for (const [path, from, to] of parts) {
    if (!isDeepStrictEqual(from, to) && !collect(document.getIn(path, true), from, to, splices)) return undefined;
  }
  return splices
    .sort((a, b) => b.start - a.start)
    .reduce((result, { start, end, text: value }) => result.slice(0, start) + value + result.slice(end), text);
}

function collect(node: unknown, before: unknown, after: unknown, splices: Splice[]): boolean {
  if (isDeepStrictEqual(before, after)) return true;
  if (isRecord(before) && isRecord(after) && isMap(node)) {
    return (
      isDeepStrictEqual(Object.keys(before).sort(), Object.keys(after).sort()) &&
      Object.keys(after).every((key) => collect(node.get(key, true), before[key], after[key], splices))
    );
  }
  if (Array.isArray(before) && Array.isArray(after) && isSeq(node)) {
    return (
      before.length === after.length &&
      after.every((entry, at) => collect(node.get(at, true), before[at], entry, splices))
    );
  }
  if (!isScalar(node) || !node.range || typeof after === 'object') return false;
  splices.push({
    start: node.range[0],
    end: node.range[1],
    text: new Document(after).toString({ lineWidth: 0 }).trim(),
  });
  return true;
}

function editDeclaration(document: Document.Parsed, before: Declaration, after: Declaration): void {
  editField(document, ['spec'], before.spec, after.spec);
  editField(document, ['metadata', 'labels'], before.labels, after.labels);
  editField(document, ['metadata', 'annotations'], before.annotations, after.annotations);
}

function editField(document: Document.Parsed, path: readonly string[], before: JsonRecord, after: JsonRecord): void {
  if (isDeepStrictEqual(before, after)) return;
  const node = document.getIn(path, true);
  if (isMap(node)) editMap(document, node, before, after);
  else document.setIn(path, document.createNode(after));
}

function editMap(document: Document, node: YAMLMap, before: JsonRecord, after: JsonRecord): void {
  for (const key of Object.keys(before)) if (!(key in after)) node.delete(key);
  for (const [key, value] of Object.entries(after)) {
    if (isDeepStrictEqual(before[key], value)) continue;
    if (!editValue(document, node.get(key, true), before[key], value)) node.set(key, document.createNode(value));
  }
}

/** Changes the node itself where it has the new value's form, so that its comments stay. */
function editValue(document: Document, node: unknown, before: unknown, after: unknown): boolean {
  if (isMap(node) && isRecord(before) && isRecord(after)) editMap(document, node, before, after);
  else if (isSeq(node) && Array.isArray(before) && Array.isArray(after)) editSeq(document, node, before, after);
  else if (isScalar(node) && typeof after !== 'object') node.value = after;
  else return false;
  return true;
}

/** Entries are matched by name where they have one, else by place. */
function editSeq(document: Document, node: YAMLSeq, before: readonly unknown[], after: readonly unknown[]): void {
  const items = [...node.items];
  node.items = after.map((entry, at) => {
    const name = isRecord(entry) ? entry['name'] : undefined;
    const from = name === undefined ? at : before.findIndex((one) => isRecord(one) && one['name'] === name);
    const item = items[from];
    if (item === undefined) return document.createNode(entry);
    const kept = isDeepStrictEqual(before[from], entry) || editValue(document, item, before[from], entry);
    return kept ? item : document.createNode(entry);
  });
}
