/** The MCP tools over HTTP: who a token is, and what is done for that user. */
import { join } from 'node:path';
import type { McpDoor, McpDoorOptions } from './cli/context.ts';
import type { ApiServer, Session } from './cli/session.ts';
import { version } from './installation.ts';
import { HttpSessions } from './mcp/http-sessions.ts';
import type { Loop } from './mcp/looks.ts';
import type { Remotes } from './mcp/remote-hosts.ts';
import { languageFrom } from './messages/language.ts';
import { effectiveLogin } from './remote/effective-login.ts';
import { loginOf } from './remote/ssh-routes.ts';
import { type McpPlace, openMcpDoor } from './serve/mcp-door.ts';
import { TOKEN_ROLES, TokenFiles } from './serve/token-files.ts';

/** Who may come, and what is known of the loop. */
interface Clientele extends Pick<McpPlace, 'admit'> {
  readonly loop: Loop;
  readonly tokenFiles: readonly string[];
}

/** @throws DoorError, TokenFileError */
export async function openMcpOverHttp(session: Session, { bind, names, told, log }: McpDoorOptions): Promise<McpDoor> {
  const { apiServer } = session;
  const { admit, loop, tokenFiles } = apiServer === undefined ? ofBox(session) : ofCluster(session, apiServer);
  const sessions = new HttpSessions({ loop, told, log, version: version(), language: languageFrom(process.env) });
  const door = await openMcpDoor(bind, { sessions, admit, names });
  return { ...door, tokenFiles, endSessions: () => sessions.close() };
}

/** Whoever can read a token file of its owner. */
function ofBox({ store, storeDir, loop, secrets, welcome }: Session): Clientele {
  const files = new TokenFiles(join(storeDir, '.state', 'mcp'));
  const remotes: Remotes = {
    secrets,
    loginOf: effectiveLogin,
    keyFiles: false,
    welcome: (attempt, signal) => welcome(attempt, { signal }),
  };
  const admit: Clientele['admit'] = async (token) => {
    const role = files.roleOf(token);
    if (role === undefined) return undefined;
    return { name: role, key: role, rights: { store, remotes, readOnly: role === 'view', noDelete: false } };
  };
  return { admit, loop, tokenFiles: TOKEN_ROLES.map((role) => files.path(role)) };
}

/** Users of the cluster. Who may register Hosts may name a machine that is none yet: it is asked before anything is tried. */
function ofCluster({ welcome }: Session, { userOf }: ApiServer): Clientele {
  const admit: Clientele['admit'] = async (token) => {
    const user = await userOf(token);
    if (user === undefined) return undefined;
    const { username, uid, store, secrets } = user;
    const remotes: Remotes = {
      secrets,
      // What ~/.ssh/config of the operator's machine says is nobody's business here.
      loginOf: (ssh) => Promise.resolve(loginOf(ssh, undefined)),
      keyFiles: false,
      welcome: async (attempt, signal) => {
        await user.requireHost(attempt.name);
        return welcome(attempt, { signal });
      },
    };
    const rights = { store, remotes, readOnly: false, noDelete: false };
    return { name: username, key: JSON.stringify([username, uid]), rights };
  };
  return { admit, loop: SHARED, tokenFiles: [] };
}

/** Replicas share the hosts: what one of them has seen says nothing of the others', and the objects say it all. */
const SHARED: Loop = {
  running: false,
  start: () => 'elsewhere',
  standBy: () => Promise.resolve(),
  onEvent: () => undefined,
};
