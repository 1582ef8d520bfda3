/** The MCP server of one client, and how it is served over stdio. The SDK stays behind this door. */
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import type { RequestHandlerExtra } from '@modelcontextprotocol/sdk/shared/protocol.js';
import {
  CallToolRequestSchema,
  ErrorCode,
  ListToolsRequestSchema,
  McpError,
  type ServerNotification,
  type ServerRequest,
} from '@modelcontextprotocol/sdk/types.js';
import { messageOf, oneLine } from '../api/errors.ts';
import { type Language, sentencesFor } from '../messages/language.ts';
import type { Store } from '../store/store.ts';
import { callTool } from './calls.ts';
import type { ToolResult } from './envelope.ts';
import { Looks, type Loop } from './looks.ts';
import type { Remotes } from './remote-hosts.ts';
import type { Tool, ToolContext } from './tool.ts';
import { listVms } from './tools/list-vms.ts';
import { manageVm } from './tools/manage-vm.ts';
import { monitorVmStatus } from './tools/monitor-vm-status.ts';

/** What the calls of one client may work with. */
export interface ClientRights {
  readonly store: Store;
  readonly remotes: Remotes;
  /** manage_vm is not listed, and refused when called all the same. */
  readonly readOnly: boolean;
  /** The action delete is refused. */
  readonly noDelete: boolean;
  /** Of what a call makes without naming one; absent: `default`. */
  readonly namespace?: string | undefined;
}

/** The same for all clients. */
export interface ServerPlace {
  readonly version: string;
  readonly language: Language;
  /** Lines for people; never on stdout. */
  readonly log: (line: string) => void;
}

export interface McpOptions extends ClientRights, ServerPlace {
  readonly loop: Loop;
  readonly stdin: Readable;
  readonly stdout: Writable;
  /** SIGINT and SIGTERM end the server as the end of stdin does. */
  readonly signal: AbortSignal;
}

/** The same order at every listing. */
export const TOOLS: readonly Tool[] = [listVms, manageVm, monitorVmStatus];

/** What is under way at the end of stdin may still finish; then it is told to stop; then nobody waits for it. */
const GRACE_MS = 250;

/** Serves until stdin ends, stdout breaks or the signal aborts; resolves within a second of that. VMs live on. */
export async function serveStdio(options: McpOptions): Promise<void> {
  const { loop, log, signal } = options;
  const ending = new AbortController();
  const looks = new Looks(loop);
  await runLoop(options, ending.signal);
  const calls = new Set<Promise<unknown>>();
  const place = { ...options, looks, runsHere: loop.running };
  const server = serverOf(place, { rights: () => options, calls, ending: ending.signal });
  server.onerror = (error) => log(`mcp: ${messageOf(error)}`);
  const ended = endOf(options);
  await server.connect(new StdioServerTransport(options.stdin, options.stdout));
  await ended;
  if (!signal.aborted) await Promise.race([Promise.allSettled(calls), sleep(GRACE_MS)]);
  ending.abort(new Error('the server ends'));
  await Promise.race([Promise.allSettled(calls), sleep(GRACE_MS)]);
  await server.close();
}

/** The loop runs here unless another process has it; should that one end, it runs here from then on. */
async function runLoop({ loop, log, language }: McpOptions, signal: AbortSignal): Promise<void> {
  const tell = () => log(`mcp: ${sentencesFor(language).nobodyWatches()}`);
  if (loop.start() === 'here') return tell();
  log('mcp: another process runs the reconcile loop on this store');
  loop.standBy(signal, tell).catch((error: unknown) => {
    if (!signal.aborted) log(`mcp: ${messageOf(error)}`);
  });
}

/** The first of: no more input, nobody reads, asked to end. */
function endOf({ stdin, stdout, signal }: McpOptions): Promise<void> {
  return new Promise((resolve) => {
    const end = () => resolve();
    stdin.once('end', end).once('close', end).once('error', end);
    stdout.once('error', end).once('close', end);
    signal.addEventListener('abort', end, { once: true });
    if (signal.aborted) resolve();
  });
}

export type Extra = RequestHandlerExtra<ServerRequest, ServerNotification>;

export interface Client {
  /** Asked at each request: over HTTP each has its own credentials. */
  readonly rights: () => ClientRights;
  /** Calls under way. */
  readonly calls: Set<Promise<unknown>>;
  readonly ending: AbortSignal;
  /** Around the work of each call; the signal ends it beside the others. */
  readonly during?: ((call: CallAsked, work: CallWork) => Promise<ToolResult>) | undefined;
}

export interface CallAsked {
  readonly tool: string;
  readonly args: unknown;
  readonly extra: Extra;
}

export type CallWork = (signal?: AbortSignal) => Promise<ToolResult>;

/** A client that sends more at once waits for an answer first. */
const MAX_CALLS = 64;

export function serverOf(
  place: ServerPlace & { readonly looks: Looks; readonly runsHere: boolean },
  client: Client,
): Server {
  const server = new Server(
    { name: 'qemu-operator', title: 'qemu-operator', version: place.version },
    { capabilities: { tools: {} }, instructions: instructions(place.runsHere) },
  );
  server.setRequestHandler(ListToolsRequestSchema, () => ({
    tools: TOOLS.filter(({ changes }) => !(client.rights().readOnly && changes)).map(({ definition }) => ({
      ...definition,
    })),
  }));
  server.setRequestHandler(CallToolRequestSchema, ({ params }, extra) => {
    const tool = TOOLS.find(({ definition }) => definition.name === params.name);
    if (tool === undefined) {
      throw new McpError(ErrorCode.InvalidParams, `Unknown tool: ${oneLine(params.name, 64)}`);
    }
    if (client.calls.size >= MAX_CALLS)
      throw new McpError(ErrorCode.InvalidRequest, `${MAX_CALLS} calls are under way: wait for one of them`);
    const work: CallWork = (signal) => answerCall(tool, params.arguments, { place, client, extra, signal });
    const asked = { tool: params.name, args: params.arguments, extra };
    const call = client.during === undefined ? work() : client.during(asked, work);
    client.calls.add(call);
    const forget = () => client.calls.delete(call);
    call.then(forget, forget);
    return call;
  });
  return server;
}

interface Answering {
  readonly place: Pick<ServerPlace, 'language' | 'log'> & { readonly looks: Looks };
  readonly client: Client;
  readonly extra: Extra;
  readonly signal?: AbortSignal | undefined;
}

function answerCall(tool: Tool, args: unknown, { place, client, extra, signal }: Answering): Promise<ToolResult> {
  const { language, log, looks } = place;
  const { store, noDelete, readOnly, remotes, namespace } = client.rights();
  const ends = [extra.signal, client.ending, ...(signal === undefined ? [] : [signal])];
  const context: ToolContext = {
    store,
    language,
    noDelete,
    namespace,
    looks,
    remotes: readOnly ? { ...remotes, welcome: undefined } : remotes,
    say: sentencesFor(language),
    signal: AbortSignal.any(ends),
    progress: progressOf(extra, log),
  };
  return callTool(tool, args, context, { readOnly, log });
}

/** Progress only where it was asked for, always rising. */
function progressOf(extra: Extra, log: (line: string) => void): ToolContext['progress'] {
  const progressToken = extra._meta?.progressToken;
  if (progressToken === undefined) return undefined;
  let progress = 0;
  return (message, total) => {
    progress += 1;
    const params = { progressToken, progress, message, ...(total === undefined ? {} : { total }) };
    extra
      .sendNotification({ method: 'notifications/progress', params })
      .catch((error: unknown) => log(`mcp: ${messageOf(error)}`));
  };
}

/** For the model, at the beginning of a session. */
function instructions(runsHere: boolean): string {
  const watching = runsHere
    ? ' This server itself runs the reconcile loop: VMs live on after it ends, but nobody watches or restarts them then.'
    : '';
  return `Manages plain QEMU virtual machines. Call list_vms first to see names. manage_vm answers once the change was seen on the host; details.completed=false means it goes on without you. On an error, data.error says which argument to change and what to call next.${watching}`;
}
