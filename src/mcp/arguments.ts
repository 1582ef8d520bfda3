/** Arguments as a model sends them: the published schema, and refusals that say how to mend the call. */
import { z } from 'zod';
import { nearNames, oneLine, quoteValue } from '../api/errors.ts';
import { VM_NAME } from '../api/schema.ts';
import type { Sentences } from '../messages/sentences.ts';
import { Refusal } from './envelope.ts';
import type { JsonObjectSchema } from './tool.ts';

export const NAME_WORDS = '1 to 63 letters, digits, "_", "." and "-", beginning and ending with a letter or digit';

export const nameArgument = () => z.string().max(63).regex(VM_NAME, NAME_WORDS).describe('VM name, unique on its host');

export const ARCHITECTURE_WORDS = ['x86_64', 'arm64', 'amd64', 'aarch64'] as const;
export type ArchitectureWord = (typeof ARCHITECTURE_WORDS)[number];

export function architectureOf(word: ArchitectureWord): 'x86_64' | 'arm64' {
  return word === 'arm64' || word === 'aarch64' ? 'arm64' : 'x86_64';
}

/** Of all three tools. The names are fixed. */
export const hostArguments = {
  host: z.string().min(1).max(253).optional().describe('Registered host or SSH address; default localhost'),
  ssh_port: z.int().min(1).max(65_535).optional().describe('Of an address (22)'),
  ssh_user: z.string().min(1).max(64).optional().describe('Of an address that is not registered'),
  ssh_pwd: z.string().min(1).max(1024).optional().describe('Password; ssh_key wins'),
  ssh_key: z.string().min(1).max(1024).optional().describe('Path of a private key on this server'),
};

export const namespaceArgument = () =>
  z.string().min(1).max(63).optional().describe('Namespace; default: any (create: default)');

export const DEFAULT_WAIT_SECONDS = 50;
export const waitArgument = () =>
  z.int().min(0).max(3600).optional().describe('How long the answer may take, seconds (50)');

const SECRETS = new Set(['ssh_pwd', 'ssh_key']);

/** JSON Schema as published: flat, strict, no defaults, every bound written. */
export function publishedSchema(schema: z.ZodObject): JsonObjectSchema {
  const { $schema: _dialect, ...published } = z.toJSONSchema(schema, { io: 'input' });
  return published as unknown as JsonObjectSchema;
}

/** @throws Refusal with the first field at fault; its message names all of them */
export function parseArguments<S extends z.ZodObject>(schema: S, args: unknown, say: Sentences): z.infer<S> {
  const result = schema.safeParse(args ?? {}, { reportInput: true });
  if (result.success) return result.data;
  const known = Object.keys(schema.shape);
  const complaints = result.error.issues.flatMap((issue) => complaintsOf(issue, known, say)).slice(0, 8);
  const { message: _first, ...detail } = complaints[0] ?? { message: '', field: undefined };
  throw new Refusal(complaints.map(({ message }) => message).join('; '), { code: 'InvalidArgument', ...detail });
}

interface Found {
  readonly message: string;
  readonly field?: string | undefined;
  readonly value?: string | undefined;
  readonly allowed?: readonly string[] | undefined;
}

function complaintsOf(issue: z.core.$ZodIssue, known: readonly string[], say: Sentences): Found[] {
  if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => unknownArgument(key, known, say));
  const field = oneLine(issue.path.map(String).join('.'), 64) || 'arguments';
  const choices = issue.code === 'invalid_value' ? issue.values.map(String) : undefined;
  const allowed = choices ?? [allowedWords(issue)];
  if (issue.input === undefined) {
    return [{ field, allowed: choices, message: say.missingArgument(field, (choices ?? []).join(', ')) }];
  }
  const value = SECRETS.has(field) ? '"…"' : quoteValue(issue.input);
  const complaint = { field, value, allowed: allowed.join(', ') };
  return [{ field, value, allowed, message: choices ? say.wrongChoice(complaint) : say.wrongForm(complaint) }];
}

function unknownArgument(key: string, known: readonly string[], say: Sentences): Found {
  const near = nearNames(key, known).join(', ');
  const field = /^[A-Za-z0-9_-]{1,64}$/.test(key) ? key : quoteValue(key);
  return { field, allowed: known, message: say.unknownArgument(field, near, known.join(', ')) };
}

const TYPE_WORDS: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a whole number',
  string: 'text',
  boolean: 'true or false',
  object: 'an object of parameters',
};

function allowedWords(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return TYPE_WORDS[issue.expected] ?? issue.expected;
    case 'too_big':
      return issue.origin === 'string' ? `at most ${issue.maximum} characters` : `at most ${issue.maximum}`;
    case 'too_small':
      return issue.origin === 'string' ? `at least ${issue.minimum} character(s)` : `at least ${issue.minimum}`;
    default:
      return issue.message;
  }
}

/** What the caller named, for data of a refusal: bounded, and never a secret. */
export function askedFor(args: unknown, names: Readonly<Record<string, string>>): Record<string, string> {
  const given = typeof args === 'object' && args !== null ? (args as Record<string, unknown>) : {};
  return Object.fromEntries(
    Object.entries(names).flatMap(([from, to]) => {
      const value = given[from];
      return typeof value === 'string' ? [[to, oneLine(value, 64)]] : [];
    }),
  );
}
