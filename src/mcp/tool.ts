/** What a tool is, free of the SDK: its published definition and what it does with validated arguments. */
import type { Language } from '../messages/language.ts';
import type { Sentences } from '../messages/sentences.ts';
import type { Store } from '../store/store.ts';
import type { Envelope } from './envelope.ts';
import type { Looks } from './looks.ts';
import type { Remotes } from './remote-hosts.ts';

export interface ToolContext {
  readonly store: Store;
  readonly say: Sentences;
  readonly language: Language;
  readonly looks: Looks;
  readonly remotes: Remotes;
  readonly noDelete: boolean;
  /** Of what a call makes without naming one; absent: `default`. */
  readonly namespace?: string | undefined;
  /** Aborts when the client cancels or goes away. It ends the waiting, never a change. */
  readonly signal: AbortSignal;
  /** Present where the client asked for progress. */
  readonly progress?: ((message: string, total?: number) => void) | undefined;
}

/** A tool as tools/list shows it. */
export interface ToolDefinition {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly inputSchema: JsonObjectSchema;
  readonly outputSchema: JsonObjectSchema;
  readonly annotations: {
    readonly title: string;
    readonly readOnlyHint: boolean;
    readonly destructiveHint: boolean;
    readonly idempotentHint: boolean;
    readonly openWorldHint: boolean;
  };
}

export interface JsonObjectSchema {
  readonly [key: string]: unknown;
  readonly type: 'object';
  readonly properties: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

export interface Tool {
  readonly definition: ToolDefinition;
  /** Whether it may change anything. */
  readonly changes: boolean;
  /** @throws Refusal, or an ApiError of the store */
  run(args: unknown, context: ToolContext): Promise<Envelope>;
}
