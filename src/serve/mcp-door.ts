/** The door for MCP over Streamable HTTP, at /mcp. Nobody gets further than here without a token that counts. */
import type { Express, RequestHandler, Response } from 'express';
import { messageOf } from '../api/errors.ts';
import { type HttpSessions, type McpCaller, refuse } from '../mcp/http-sessions.ts';
import { type BindAddress, type Door, openDoor } from './door.ts';
import { isOurHost, isOurOrigin } from './rebinding.ts';

export type { McpCall } from '../mcp/http-sessions.ts';

export interface McpPlace {
  readonly sessions: HttpSessions;
  /** Whose a token is; undefined: nobody's. Rejects where that cannot be known now. */
  readonly admit: (token: string) => Promise<Omit<McpCaller, 'isStillIn'> | undefined>;
  /** Names by which clients reach it, besides addresses and localhost. */
  readonly names: readonly string[];
}

const MCP_PATH = '/mcp';

const METHODS: readonly string[] = ['GET', 'POST', 'DELETE'];
const REFUSED = -32000;
const RETRY_SECONDS = '5';
/** RFC 6750. */
const BEARER = /^Bearer +([A-Za-z0-9._~+/-]+=*) *$/i;
const CHALLENGE = 'Bearer realm="qemu-operator"';

/** @throws DoorError */
export function openMcpDoor(bind: BindAddress, place: McpPlace): Promise<Door> {
  return openDoor(bind, (app) => addMcp(app, place));
}

function addMcp(app: Express, door: McpPlace): void {
  app.use(fromOurNames(door.names));
  app.all(MCP_PATH, async (request, response) => {
    if (!METHODS.includes(request.method))
      return refused(response, 405, 'Method not allowed', { Allow: METHODS.join(', ') });
    const [, token] = BEARER.exec(request.headers.authorization ?? '') ?? [];
    if (token === undefined)
      return refused(response, 401, 'a bearer token is needed: Authorization: Bearer TOKEN', {
        'WWW-Authenticate': CHALLENGE,
      });
    let caller: Awaited<ReturnType<McpPlace['admit']>>;
    try {
      caller = await door.admit(token);
    } catch (error) {
      return refused(response, 503, `the token cannot be checked now: ${messageOf(error)}`, {
        'Retry-After': RETRY_SECONDS,
      });
    }
    if (caller === undefined)
      return refused(response, 401, 'the token is not valid here: forged, expired, revoked, or for somebody else', {
        'WWW-Authenticate': `${CHALLENGE}, error="invalid_token"`,
      });
    const { key } = caller;
    const isStillIn = async () => (await door.admit(token))?.key === key;
    await door.sessions.serve(request, response, { ...caller, isStillIn });
  });
}

/** DNS rebinding, before anything else is looked at. Source: MCP 2025-11-25, transports, security warning. */
function fromOurNames(names: readonly string[]): RequestHandler {
  return ({ headers: { host, origin } }, response, next) => {
    if (!isOurHost(host, names)) return refused(response, 403, 'Host: not a name of this server');
    if (!isOurOrigin(origin, names)) return refused(response, 403, 'Origin: pages of other sites are not served');
    next();
  };
}

function refused(
  response: Response,
  status: number,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  refuse(response, { status, code: REFUSED, message, headers });
}
