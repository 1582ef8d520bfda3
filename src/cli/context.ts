/** What every command is given. main.ts fills it with the real things. */
import type { Readable, Writable } from 'node:stream';
import type { Command } from 'commander';
import type { RunProgram } from '../host/run-program.ts';
import type { BindAddress, Door } from '../serve/door.ts';
import type { DoorAddresses, LoopState } from '../serve/doors.ts';
import type { McpCall } from '../serve/mcp-door.ts';
import type { StreamsDoorOptions } from '../serve/streams-door.ts';
import type { StreamsLog } from '../serve/streams-service.ts';
import { InterruptedError } from './exit-codes.ts';
import type { GlobalOptions, LoopRole, Machine, OpenSession, Session, SessionOptions } from './session.ts';

export interface McpOptions {
  readonly readOnly: boolean;
  readonly noDelete: boolean;
  /** Of what a call makes without naming one; absent: `default`. */
  readonly namespace?: string | undefined;
}

export interface DoorOptions extends DoorAddresses {
  readonly loopState: () => LoopState;
}

export interface McpDoorOptions {
  readonly bind: BindAddress;
  /** Names by which clients reach it, besides addresses and localhost. */
  readonly names: readonly string[];
  readonly told: (call: McpCall) => void;
  readonly log: (line: string) => void;
}

export interface McpDoor extends Door {
  /** Where the tokens of its clients lie; none in a cluster, whose API server knows its users. */
  readonly tokenFiles: readonly string[];
  /** No call works with the store any more when this resolves. */
  endSessions(): Promise<void>;
}

export interface StreamsOptions extends StreamsDoorOptions {
  readonly tell: StreamsLog;
}

export interface Context {
  readonly openSession: OpenSession;
  /** The namespace of the objects where -n does not say it; undefined: `default`. */
  readonly defaultNamespace: (options: GlobalOptions) => Promise<string | undefined>;
  readonly machine: () => Promise<Machine>;
  /** Serves the MCP tools on stdin and stdout until the client leaves or the signal aborts. */
  readonly serveMcp: (session: Session, options: McpOptions, signal: AbortSignal) => Promise<void>;
  /** Answers probes and Prometheus from now on. Fails where an address cannot be had; then nothing is open. */
  readonly openDoors: (session: Session, options: DoorOptions) => Promise<readonly Door[]>;
  /** Serves the MCP tools over HTTP from now on. Fails where the address or the tokens cannot be had. */
  readonly openMcpDoor: (session: Session, options: McpDoorOptions) => Promise<McpDoor>;
  /** Lets the API server of a cluster in, which passes on what its users ask of VMs. Fails as the others do. */
  readonly openStreams: (session: Session, options: StreamsOptions) => Promise<Door>;
  /** For an editor and for the script that builds the sample guest. */
  readonly runProgram: RunProgram;
  readonly stdin: Readable & { readonly isTTY?: boolean; readonly isRaw?: boolean; setRawMode?(raw: boolean): unknown };
  readonly stdout: Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number };
  readonly stderr: Writable & { readonly isTTY?: boolean };
  readonly env: Readonly<Record<string, string | undefined>>;
  /** How a person calls this program, for advice such as `qemu-operator get qvm`. */
  readonly invokedAs: string;
  /** The program and leading arguments that start it from anywhere, for other programs' configuration. */
  readonly argv0: readonly string[];
  /** Aborts with an InterruptedError at SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
}

/** The options that every command takes. */
export interface Globals extends GlobalOptions {
  /** Absent where it was not said: `default`. */
  readonly namespace?: string | undefined;
}

/** Adds arguments, options, examples and the action to a command that is about to run. */
export type Declare = (command: Command, context: Context, version: string) => void;

export function print(context: Context, line: string): void {
  context.stdout.write(`${line}\n`);
}

/** To people: progress, warnings, errors. Never what a script reads. */
export function tell(context: Context, line: string): void {
  context.stderr.write(`${line}\n`);
}

/** Opens the store for as long as the work takes. */
export async function withSession<T>(
  context: Context,
  options: SessionOptions,
  work: (session: Session) => Promise<T>,
  role: LoopRole = 'command',
): Promise<T> {
  const { store, vmDir, kubeconfig, context: kubeContext, operatorNamespace, allowLocalHost } = options;
  const place = { store, vmDir, kubeconfig, context: kubeContext, operatorNamespace, allowLocalHost };
  const session = await context.openSession({ ...place, role });
  try {
    return await work(session);
  } finally {
    await session.close();
  }
}

/** For what is about this machine. @throws CliError usage where the objects are a cluster's */
export async function requireFolder(context: Context, options: GlobalOptions): Promise<void> {
  (await context.machine()).storeDir(options);
}

/** @throws the InterruptedError where a signal came */
export function throwIfInterrupted({ signal }: Context): void {
  if (!signal.aborted) return;
  throw signal.reason instanceof Error ? signal.reason : new InterruptedError('SIGTERM');
}

/** Examples below a command's options, as kubectl has them. */
export function examples(command: Command, lines: readonly (readonly [comment: string, words: string])[]): void {
  const text = lines.map(([comment, words]) => `  # ${comment}\n  qemu-operator ${words}`).join('\n\n');
  command.addHelpText('after', `\nExamples:\n${text}`);
}
