/** MCP over Streamable HTTP: the sessions of all clients. They are few, and end. Who asks has been checked before. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { messageOf } from '../api/errors.ts';
import { HttpSession, type McpCaller, type SessionPlace } from './http-session.ts';
import { Looks, type Loop } from './looks.ts';

export type { McpCall, McpCaller } from './http-session.ts';

export interface HttpSessionsOptions extends Omit<SessionPlace, 'looks'> {
  readonly loop: Loop;
}

/** Most clients never end a session: the one that the user has not used for longest makes room. */
const MAX_OF_ONE_USER = 16;
const MAX_SESSIONS = 256;
/** How long one that nobody uses is kept. */
const IDLE_MS = 600_000;
/** How often open streams are asked about. */
const RECHECK_MS = 10_000;
/** How long the credentials of what is open may be unconfirmed, as while the API server is away. */
const MAX_UNKNOWN_MS = 60_000;

/** JSON-RPC's codes for answers of the transport, as the SDK has them. */
const REFUSED = -32000;
const NO_SESSION = -32001;

export class HttpSessions {
  readonly #place: SessionPlace;
  readonly #sessions = new Set<HttpSession>();
  readonly #timer: NodeJS.Timeout;
  #ended = false;

  constructor({ loop, ...place }: HttpSessionsOptions) {
    this.#place = { ...place, looks: new Looks(loop) };
    this.#timer = setInterval(() => void this.#tidy(), RECHECK_MS).unref();
  }

  /** Answers one request to the endpoint, whatever its method. */
  async serve(request: IncomingMessage, response: ServerResponse, caller: McpCaller): Promise<void> {
    if (this.#ended) return refuse(response, { status: 503, code: REFUSED, message: 'the server ends' });
    const id = request.headers['mcp-session-id'];
    if (id === undefined) return this.#open(request, response, caller);
    // Another user's is nobody's.
    const session = [...this.#sessions].find((one) => one.id === id && one.caller.key === caller.key);
    if (session === undefined)
      return refuse(response, { status: 404, code: NO_SESSION, message: 'Session not found: initialize a new one' });
    await session.serve(request, response, caller);
  }

  /** Ends all sessions. What was changed goes on; VMs live on. */
  async close(): Promise<void> {
    this.#ended = true;
    clearInterval(this.#timer);
    await Promise.all([...this.#sessions].map((session) => session.end()));
  }

  async #open(request: IncomingMessage, response: ServerResponse, caller: McpCaller): Promise<void> {
    if (!(await this.#makeRoom(caller)))
      return refuse(response, { status: 429, code: REFUSED, message: 'Too many sessions are in use: end one of them' });
    const session = new HttpSession(this.#place, caller);
    this.#sessions.add(session);
    try {
      await session.begin(() => this.#sessions.delete(session));
      await session.serve(request, response, caller);
    } finally {
      // It was no initialize, and has been refused.
      if (session.id === undefined) await session.end();
    }
  }

  async #makeRoom({ key }: McpCaller): Promise<boolean> {
    const own = [...this.#sessions].filter(({ caller }) => caller.key === key);
    if (own.length < MAX_OF_ONE_USER) return this.#sessions.size < MAX_SESSIONS;
    const [oldest] = own
      .flatMap((session) => (session.idleSince === undefined ? [] : [{ session, since: session.idleSince }]))
      .sort((a, b) => a.since - b.since);
    await oldest?.session.end();
    return oldest !== undefined;
  }

  async #tidy(): Promise<void> {
    const tidied = [...this.#sessions].map(async (session) => {
      const { idleSince } = session;
      if (idleSince === undefined) await session.recheck(MAX_UNKNOWN_MS);
      else if (performance.now() - idleSince > IDLE_MS) await session.end();
    });
    for (const one of await Promise.allSettled(tidied))
      if (one.status === 'rejected') this.#place.log(`mcp: ${messageOf(one.reason)}`);
  }
}

interface HttpRefusal {
  readonly status: number;
  readonly code: number;
  readonly message: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer of HTTP whose body is JSON-RPC, as clients expect it. */
export function refuse(response: ServerResponse, { status, code, message, headers = {} }: HttpRefusal): void {
  const body = JSON.stringify({ jsonrpc: '2.0', error: { code, message }, id: null });
  response.writeHead(status, { ...headers, 'Content-Type': 'application/json' }).end(body);
}
