/** The MCP tools over HTTP: who a token is, and what is done for that user. */
import { join } from 'node:path';
import type { McpDoor, McpDoorOptions } from './cli/context.ts';
import type { ApiServer, Session } from './cli/session.ts';
import { version } from './installation.ts';
import { HttpSessions } from './mcp/http-sessions.ts';
import type { Loop } from './mcp/looks.ts';
import { languageFrom } from './messages/language.ts';
import { effectiveLogin } from './remote/effective-login.ts';
import { type McpPlace, openMcpDoor } from './serve/mcp-door.ts';
import { TOKEN_ROLES, TokenFiles } from './serve/token-files.ts';

type Admit = McpPlace['admit'];

/** @throws DoorError, TokenFileError */
export async function openMcpOverHttp(session: Session, options: McpDoorOptions): Promise<McpDoor> {
  const { apiServer, storeDir, loop } = session;
  const files = apiServer === undefined ? new TokenFiles(join(storeDir, '.state', 'mcp')) : undefined;
  const sessions = new HttpSessions({
    loop: files === undefined ? SHARED : loop,
    version: version(),
    language: languageFrom(process.env),
    log: options.log,
    told: options.told,
  });
  const admit = files === undefined ? usersOfCluster(session, apiServer as ApiServer) : ownersOfTokens(session, files);
  const door = await openMcpDoor(options.bind, { sessions, admit, names: options.names });
  return {
    ...door,
    tokenFiles: files === undefined ? [] : TOKEN_ROLES.map((role) => files.path(role)),
    endSessions: () => sessions.close(),
  };
}

/** Replicas share the hosts: what one of them has seen says nothing of the others', and the objects say it all. */
const SHARED: Loop = {
  running: false,
  start: () => 'elsewhere',
  standBy: () => Promise.resolve(),
  onEvent: () => undefined,
};

/** Of one box: whoever can read a token file of its owner. */
function ownersOfTokens({ store, secrets, welcome }: Session, files: TokenFiles): Admit {
  const remotes = {
    secrets,
    loginOf: effectiveLogin,
    logins: 'passwords',
    welcome: (attempt: Parameters<Session['welcome']>[0], signal: AbortSignal) => welcome(attempt, { signal }),
  } as const;
  return async (token) => {
    const role = files.roleOf(token);
    if (role === undefined) return undefined;
    return { name: role, key: role, rights: { store, remotes, readOnly: role === 'view', noDelete: false } };
  };
}

/** Of a cluster: its users. A Host is registered by whoever may, with kubectl; no call brings a login. */
function usersOfCluster({ secrets }: Session, { userOf }: ApiServer): Admit {
  const remotes = { secrets, loginOf: effectiveLogin, logins: 'none' } as const;
  return async (token) => {
    const user = await userOf(token);
    if (user === undefined) return undefined;
    const { username, uid, store } = user;
    const rights = { store, remotes, readOnly: false, noDelete: false };
    return { name: username, key: JSON.stringify([username, uid]), rights };
  };
}
