/** Manifests as people give them: files, folders, stdin, several documents in one, a List. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { parseAllDocuments } from 'yaml';
import { type Manifest, parseManifest } from '../api/admission.ts';
import { InvalidObjectError, messageOf } from '../api/errors.ts';
import { DEFAULT_NAMESPACE, isNamespaced } from '../api/meta.ts';
import { CliError, EXIT, Judge, usageError } from './exit-codes.ts';

export interface Written {
  /** A path, or `stdin`. */
  readonly source: string;
  readonly manifest: Manifest;
  /** The spec as it was written, before defaults. */
  readonly spec: Readonly<Record<string, unknown>>;
}

interface Text {
  readonly source: string;
  readonly text: string;
}

const EXTENSIONS = /\.(ya?ml|json)$/;
const MAX_ALIASES = 100;

export interface Places {
  readonly filenames: readonly string[];
  readonly recursive: boolean;
  readonly stdin: Readable;
}

/** @throws CliError and InvalidObjectError, before anything is written */
export async function readManifests(places: Places, namespace: string | undefined): Promise<Written[]> {
  const judge = new Judge();
  const found = await judgeManifests(places, namespace, judge);
  judge.throwIfRefused();
  return found;
}

/** Those that can be read; what is wrong with the others is with the judge. @throws CliError where there are none at all */
export async function judgeManifests(places: Places, namespace: string | undefined, judge: Judge): Promise<Written[]> {
  if (places.filenames.length === 0) throw usageError('must specify -f FILE, -f FOLDER or -f -');
  const texts = (await Promise.all(places.filenames.map((name) => textsOf(name, places)))).flat();
  const found: Written[] = [];
  for (const { source, text } of texts) {
    for (const value of (await judge.judge(() => valuesIn({ source, text }))) ?? []) {
      const written = await judge.judge(() => admit(source, value, namespace));
      if (written !== undefined) found.push(written);
    }
  }
  if (found.length === 0) judge.throwIfRefused();
  if (found.length === 0) throw new CliError(EXIT.failed, 'no objects passed to apply');
  return found;
}

async function textsOf(name: string, { recursive, stdin }: Places): Promise<Text[]> {
  if (name === '-') return [{ source: 'stdin', text: await readAll(stdin) }];
  try {
    if (!statSync(name).isDirectory()) return [{ source: name, text: readFileSync(name, 'utf8') }];
    return readdirSync(name, { recursive, withFileTypes: true })
      .filter((entry) => entry.isFile() && EXTENSIONS.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
      .map((path) => ({ source: path, text: readFileSync(path, 'utf8') }));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT')
      throw new CliError(EXIT.failed, `the path "${name}" does not exist`);
    throw new CliError(EXIT.failed, messageOf(error));
  }
}

async function readAll(stdin: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stdin) chunks.push(Buffer.from(chunk as Buffer | string));
  return Buffer.concat(chunks).toString('utf8');
}

/** The documents of a YAML or JSON text as plain values; a List gives its items. @throws CliError */
export function valuesIn({ source, text }: Text): unknown[] {
  const documents = parseAllDocuments(text, { version: '1.2', schema: 'core', uniqueKeys: true, stringKeys: true });
  if (!Array.isArray(documents)) return [];
  return documents.flatMap((document) => {
    const [error] = document.errors;
    if (error !== undefined) throw new CliError(EXIT.failed, `${source}: ${error.message.split('\n')[0]}`);
    try {
      const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
      return value === null || value === undefined ? [] : itemsOf(value);
    } catch (cause) {
      throw new CliError(EXIT.failed, `${source}: ${messageOf(cause)}`);
    }
  });
}

function itemsOf(value: unknown): unknown[] {
  const { apiVersion, kind, items } = value as { apiVersion?: unknown; kind?: unknown; items?: unknown };
  return apiVersion === 'v1' && kind === 'List' && Array.isArray(items) ? items : [value];
}

function admit(source: string, value: unknown, namespace: string | undefined): Written {
  try {
    const manifest = inNamespace(parseManifest(value), namespace);
    return { source, manifest, spec: (value as { spec: Written['spec'] }).spec };
  } catch (error) {
    if (!(error instanceof InvalidObjectError)) throw error;
    throw Object.assign(error, { message: `${source}: ${error.message}` });
  }
}

function inNamespace(manifest: Manifest, asked: string | undefined): Manifest {
  if (!isNamespaced(manifest.kind)) return manifest;
  const { namespace: own } = manifest.metadata;
  if (own !== undefined && asked !== undefined && own !== asked) {
    throw new CliError(
      EXIT.failed,
      `the namespace from the provided object "${own}" does not match the namespace "${asked}"; ` +
        `you must pass '--namespace=${own}' to perform this operation`,
    );
  }
  return { ...manifest, metadata: { ...manifest.metadata, namespace: own ?? asked ?? DEFAULT_NAMESPACE } };
}
