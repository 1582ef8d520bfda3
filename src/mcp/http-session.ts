/**
 * One session over Streamable HTTP: a server of its own, that belongs to whoever opened it. Nothing is resumed: whose
 * connection is gone gets no answer any more, so what waits for one ends; a change that was begun goes on.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import { askedFor } from './arguments.ts';
import type { ToolResult } from './envelope.ts';
import type { Looks } from './looks.ts';
import { type CallAsked, type CallWork, type ClientRights, type ServerPlace, serverOf } from './server.ts';

/** Who asks, as the request before has been checked. */
export interface McpCaller {
  /** As logs name the user. */
  readonly name: string;
  /** Tells users apart. */
  readonly key: string;
  readonly rights: ClientRights;
  /** Whether the same credentials would be let in now. Rejects where that cannot be known. */
  readonly isStillIn: () => Promise<boolean>;
}

/** One call, for the log. */
export interface McpCall {
  readonly user: string;
  readonly tool: string;
  /** What the call named: host, namespace, name, action. */
  readonly asked: Readonly<Record<string, string>>;
  /** `Success`, a code of the answer's data.error, or `Cancelled`. */
  readonly outcome: string;
  readonly ms: number;
}

export interface SessionPlace extends ServerPlace {
  readonly looks: Looks;
  readonly told: (call: McpCall) => void;
}

/** Arguments of the tools are small. */
const MAX_BODY = 256 * 1024;
/** A call that waits or samples longer ends, and the client calls again. */
const MAX_CALL_MS = 3_600_000;
/** What a call has made for itself it takes back. */
const ENDING_MS = 1_000;

/** What one HTTP request carries, from its door to the calls in it. */
interface Exchange {
  /** Aborts where the client left before its answer. */
  readonly gone: AbortSignal;
  calls: number;
}

export class HttpSession {
  readonly #transport: StreamableHTTPServerTransport;
  readonly #server: Server;
  readonly #ending = new AbortController();
  readonly #calls = new Set<Promise<unknown>>();
  readonly #told: SessionPlace['told'];
  #caller: McpCaller;
  #open = 0;
  #usedAt = performance.now();
  #trustedAt = performance.now();

  constructor(place: SessionPlace, caller: McpCaller) {
    this.#caller = caller;
    this.#told = place.told;
    this.#transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      maxRequestBodySize: MAX_BODY,
    });
    this.#server = serverOf(
      { ...place, runsHere: false },
      {
        rights: () => this.#caller.rights,
        calls: this.#calls,
        ending: this.#ending.signal,
        during: (call, work) => this.#during(call, work),
      },
    );
  }

  /** Undefined until a client has initialized it. */
  get id(): string | undefined {
    return this.#transport.sessionId;
  }

  get caller(): McpCaller {
    return this.#caller;
  }

  /** Since when nobody uses it, by performance.now(); undefined while a request or a stream is open. */
  get idleSince(): number | undefined {
    return this.#open > 0 ? undefined : this.#usedAt;
  }

  async serve(request: IncomingMessage, response: ServerResponse, caller: McpCaller): Promise<void> {
    this.#caller = caller;
    this.#trustedAt = performance.now();
    this.#open += 1;
    const gone = new AbortController();
    response.once('close', () => {
      this.#open -= 1;
      this.#usedAt = performance.now();
      if (!response.writableFinished) gone.abort(new Error('the client went away'));
    });
    const exchange: Exchange = { gone: gone.signal, calls: 0 };
    const auth = { token: '', clientId: caller.name, scopes: [], extra: { exchange } };
    await this.#transport.handleRequest(Object.assign(request, { auth }), response);
  }

  /** @throws where it cannot begin */
  async begin(onEnd: () => void): Promise<void> {
    // What clients do wrong they are told themselves.
    this.#server.onerror = () => undefined;
    this.#server.onclose = () => {
      this.#ending.abort(new Error('the session has ended'));
      onEnd();
    };
    // Its optional properties are declared without undefined.
    await this.#server.connect(this.#transport as Transport);
  }

  /** Ends what is open where its credentials no longer count, or have not been confirmed for a while. */
  async recheck(maxUnknownMs: number): Promise<void> {
    try {
      if (await this.#caller.isStillIn()) this.#trustedAt = performance.now();
      else await this.end();
    } catch {
      if (performance.now() - this.#trustedAt > maxUnknownMs) await this.end();
    }
  }

  /** What is under way is told to stop, and has had its moment when this resolves. */
  async end(): Promise<void> {
    this.#ending.abort(new Error('the session has ended'));
    const calls = Promise.allSettled([...this.#calls]);
    await this.#server.close();
    await Promise.race([calls, sleep(ENDING_MS, undefined, { ref: false })]);
  }

  async #during({ tool, args, extra }: CallAsked, work: CallWork): Promise<ToolResult> {
    const exchange = extra.authInfo?.extra?.['exchange'] as Exchange;
    exchange.calls += 1;
    const started = performance.now();
    const over = new AbortController();
    const timer = setTimeout(() => over.abort(new Error('the call has lasted an hour: call again')), MAX_CALL_MS);
    let outcome = 'Cancelled';
    try {
      const result = await work(AbortSignal.any([exchange.gone, over.signal]));
      outcome = outcomeOf(result);
      return result;
    } finally {
      clearTimeout(timer);
      exchange.calls -= 1;
      const asked = askedFor(args, { host: 'host', namespace: 'namespace', name: 'name', action: 'action' });
      const ms = Math.round(performance.now() - started);
      this.#told({ user: this.#caller.name, tool, asked, outcome, ms });
      // A call that was cancelled gets no answer, and nothing else would end its stream.
      if (extra.signal.aborted && exchange.calls === 0)
        setImmediate(() => this.#transport.closeSSEStream(extra.requestId));
    }
  }
}

function outcomeOf({ structuredContent, isError }: ToolResult): string {
  if (!isError) return 'Success';
  const { error } = structuredContent['data'] as { error?: { code?: string } };
  return error?.code ?? 'Failed';
}
