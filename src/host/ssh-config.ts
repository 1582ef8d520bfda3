/**
 * What the user's own SSH configuration says of an address, which may be an alias: asked of OpenSSH itself, since it
 * alone knows what Include, Match and tokens come to.
 */
import { execFile } from 'node:child_process';
import { hostname, userInfo } from 'node:os';
import { hostText } from './host-text.ts';

export interface SshConfig {
  readonly hostName: string;
  readonly port: number;
  readonly user: string;
  /** Paths, in the order of trying; some may not exist. */
  readonly identityFiles: readonly string[];
  readonly agentSocket?: string;
  /** The user's and the system's; some may not exist. */
  readonly knownHosts: readonly string[];
  /** The name that known_hosts has for the host, where it is another than its address. */
  readonly hostKeyAlias?: string;
  /** Keys that are not known are refused. */
  readonly isStrict: boolean;
  /** A program leads there, and no hop of `jumps`. */
  readonly hasProxyCommand: boolean;
  /** The hops before the host, the nearest first; each may be an alias itself. */
  readonly jumps: readonly SshJump[];
}

export interface SshJump {
  readonly address: string;
  readonly user?: string;
  readonly port?: number;
}

const TIMEOUT_MS = 10_000;
const MAX_OUTPUT_BYTES = 1024 * 1024;

/**
 * @param ssh the program and words before ours, for a configuration of its own
 * @returns undefined where OpenSSH is not installed
 * @throws where the address begins like an option, or OpenSSH refuses it or its own configuration
 */
export async function readSshConfig(
  address: string,
  signal: AbortSignal,
  ssh: readonly [string, ...string[]] = ['ssh'],
): Promise<SshConfig | undefined> {
  if (address.startsWith('-')) throw new Error(`an address cannot begin with "-": ${hostText(address)}`);
  const [program, ...words] = ssh;
  const text = await outputOf(program, [...words, '-G', '--', address], signal);
  return text === undefined ? undefined : configIn(text, address);
}

function outputOf(program: string, args: readonly string[], signal: AbortSignal): Promise<string | undefined> {
  const limits = { timeout: TIMEOUT_MS, killSignal: 'SIGKILL', maxBuffer: MAX_OUTPUT_BYTES, signal } as const;
  return new Promise((resolve, reject) => {
    const child = execFile(program, [...args], limits, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else if (error.code === 'ENOENT') resolve(undefined);
      else reject(new Error(`ssh -G: ${hostText(stderr) || hostText(error.message)}`));
    });
    child.stdin?.end();
  });
}

function configIn(text: string, alias: string): SshConfig {
  const values = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const at = line.indexOf(' ');
    if (at > 0) values.set(line.slice(0, at), [...(values.get(line.slice(0, at)) ?? []), line.slice(at + 1)]);
  }
  const one = (key: string) => values.get(key)?.[0];
  const hostName = one('hostname') ?? alias;
  const [port, user] = [Number(one('port') ?? 22), one('user') ?? userInfo().username];
  const tokens: Tokens = { h: hostName, n: alias, p: String(port), r: user };
  // Names with blanks are printed without quotes, so that such a name is lost here.
  const known = [one('userknownhostsfile'), one('globalknownhostsfile')].flatMap((files) => files?.split(' ') ?? []);
  const agentSocket = agentIn(one('identityagent'), tokens);
  return {
    hostName,
    port,
    user,
    identityFiles: (values.get('identityfile') ?? []).filter(isGiven).map((path) => expanded(path, tokens)),
    ...(agentSocket === undefined ? {} : { agentSocket }),
    knownHosts: known.filter(isGiven).map((path) => expanded(path, tokens)),
    ...(isGiven(one('hostkeyalias') ?? '') ? { hostKeyAlias: one('hostkeyalias') ?? '' } : {}),
    isStrict: one('stricthostkeychecking') === 'true' || one('stricthostkeychecking') === 'yes',
    hasProxyCommand: isGiven(one('proxycommand') ?? ''),
    jumps: (one('proxyjump') ?? '').split(',').filter(isGiven).map(jumpIn),
  };
}

function isGiven(value: string): boolean {
  return value !== '' && value !== 'none';
}

/** ssh_config(5), IdentityAgent: a socket, the name of a variable, or none. */
function agentIn(value: string | undefined, tokens: Tokens): string | undefined {
  if (value === undefined || value === 'SSH_AUTH_SOCK') return process.env['SSH_AUTH_SOCK'] || undefined;
  if (value.startsWith('$')) return process.env[value.slice(1)] || undefined;
  return isGiven(value) ? expanded(value, tokens) : undefined;
}

/** `[user@]host[:port]` or `ssh://` before it; IPv6 in brackets. */
function jumpIn(text: string): SshJump {
  const [, user, inBrackets, plain = '', port] =
    /^(?:ssh:\/\/)?(?:(.*)@)?(?:\[([^\]]+)\]|([^:]*))(?::(\d+))?\/?$/.exec(text) ?? [];
  return {
    address: inBrackets ?? plain,
    ...(user === undefined ? {} : { user }),
    ...(port === undefined ? {} : { port: Number(port) }),
  };
}

/** Of the host, as ssh_config(5) names them. */
type Tokens = Readonly<Record<'h' | 'n' | 'p' | 'r', string>>;

/** `~` and tokens, which `ssh -G` leaves in paths. */
function expanded(path: string, tokens: Tokens): string {
  const { homedir, username, uid } = userInfo();
  const all: Readonly<Record<string, string>> = {
    ...tokens,
    '%': '%',
    d: homedir,
    i: String(uid),
    l: hostname(),
    u: username,
  };
  return path.replace(/^~(?=\/|$)/, homedir).replace(/%(.)/g, (token, name: string) => all[name] ?? token);
}
