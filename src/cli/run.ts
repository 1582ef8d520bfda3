/** run: the controller, until a signal ends it. VMs live on. */
import { type Command, Option } from 'commander';
import { messageOf } from '../api/errors.ts';
import { API_VERSION } from '../api/meta.ts';
import type { Door } from '../serve/door.ts';
import type { LoopState } from '../serve/doors.ts';
import type { ObjectProblem, SourceProblem, Store } from '../store/store.ts';
import { parseBindAddress } from './bind-address.ts';
import {
  type Context,
  type Declare,
  type DoorOptions,
  examples,
  type Globals,
  type McpDoor,
  withSession,
} from './context.ts';
import { usageError } from './exit-codes.ts';
import {
  keysOfProblem,
  LOG_LEVELS,
  type Log,
  type LogFormat,
  type LogLevel,
  logCall,
  logEvent,
  logTo,
} from './run-log.ts';
import { KUBERNETES, type Session } from './session.ts';

const METRICS = '--metrics-bind-address';
const HEALTH = '--health-probe-bind-address';
const MCP = '--mcp-bind-address';
/** Of one box: whoever is meant to reach it from elsewhere is said so. */
const LOOPBACK = '127.0.0.1';
const STREAMS = '--streams-bind-address';

/** Of a pod, whose ports nobody else has, as controller-runtime's projects have them. */
const IN_CLUSTER = { metrics: ':8080', health: ':8081', streams: ':8443' };

interface RunOptions extends Globals {
  readonly logFormat?: LogFormat;
  readonly logLevel: LogLevel;
  readonly allowLocalHost?: boolean;
  readonly metricsBindAddress?: string;
  readonly healthProbeBindAddress?: string;
  readonly mcpBindAddress?: string;
  readonly mcpAllowedHost?: readonly string[];
  readonly streamsBindAddress?: string;
  readonly tlsCertFile?: string;
  readonly tlsPrivateKeyFile?: string;
}

export const declareRun: Declare = (command, context) => {
  command
    .addOption(
      new Option('--log-format <format>', 'on stderr (default: text on a terminal, else json)').choices([
        'json',
        'text',
      ]),
    )
    .addOption(new Option('--log-level <level>', 'least important lines to print').choices(LOG_LEVELS).default('info'))
    .option(
      `${METRICS} <address>`,
      `where Prometheus finds /metrics, such as 127.0.0.1:8080; 0: nowhere (default: 0, in a cluster ${IN_CLUSTER.metrics})`,
    )
    .option(
      `${HEALTH} <address>`,
      `where probes find /healthz and /readyz; 0: nowhere (default: 0, in a cluster ${IN_CLUSTER.health})`,
    )
    .option(
      `${MCP} <address>`,
      'where MCP clients with a token find /mcp; without a host the loopback, in a cluster every address (default: 0, nowhere)',
    )
    .option(
      `${STREAMS} <address>`,
      `in a cluster: where its API server finds consoles, screens, logs and ports of machines; 0: nowhere (default: ${IN_CLUSTER.streams} with the two files, else 0)`,
    )
    .option('--tls-cert-file <file>', 'certificate of this address, PEM; read again when it changes')
    .option('--tls-private-key-file <file>', 'its key, PEM')
    .option('--mcp-allowed-host <name...>', 'a name by which they reach it, besides addresses and localhost')
    .option('--allow-local-host', 'in a cluster: a Host may be the machine that the operator runs on')
    .action(async (_options, self: Command) => run(context, self.optsWithGlobals<RunOptions>()));
  examples(command, [
    ['Run the controller until Ctrl-C; machines live on when it ends', 'run'],
    ['Run it for the objects of a cluster', 'run --store kubernetes'],
    ['With figures for a Prometheus on this machine', 'run --metrics-bind-address 127.0.0.1:8080'],
    ['With the MCP tools for clients that show a token', 'run --mcp-bind-address 127.0.0.1:8082'],
    ['A second one on the same store stands by, and takes over when the first ends', 'run --log-format json'],
  ]);
};

async function run(context: Context, options: RunOptions): Promise<void> {
  const format = options.logFormat ?? (context.stderr.isTTY === true ? 'text' : 'json');
  const log = logTo(context.stderr, format, options.logLevel);
  let state: LoopState = 'starting';
  const doors: Door[] = [];
  try {
    await withSession(
      context,
      options,
      async (session) => {
        doors.push(...(await openDoors(context, session, { ...options, loopState: () => state }, log)));
        const mcp = await openMcpDoor(context, session, options, log);
        if (mcp !== undefined) doors.push(mcp);
        const streams = await openStreams(context, session, options, log);
        try {
          await drive(context, session, log, (now) => {
            state = now;
          });
        } finally {
          // While there is a store: what a call made for itself is taken back.
          await Promise.all([mcp?.endSessions(), streams?.close()]);
        }
      },
      'run',
    );
  } finally {
    // Last: until then a probe is told that it ends, and a scraper what was done.
    await Promise.all(doors.map((door) => door.close()));
  }
}

async function openDoors(
  context: Context,
  session: Session,
  { metricsBindAddress, healthProbeBindAddress, loopState }: RunOptions & Pick<DoorOptions, 'loopState'>,
  log: Log,
): Promise<readonly Door[]> {
  const otherwise = session.storeName === KUBERNETES ? IN_CLUSTER : { metrics: '0', health: '0' };
  const metrics = parseBindAddress(METRICS, metricsBindAddress ?? otherwise.metrics);
  const health = parseBindAddress(HEALTH, healthProbeBindAddress ?? otherwise.health);
  if (metrics === undefined && health === undefined) return [];
  const doors = await context.openDoors(session, { metrics, health, loopState });
  for (const { flag, address } of doors) log.info({ flag, address }, 'serving');
  return doors;
}

async function openMcpDoor(
  context: Context,
  session: Session,
  { mcpBindAddress = '0', mcpAllowedHost = [] }: RunOptions,
  log: Log,
): Promise<McpDoor | undefined> {
  const address = parseBindAddress(MCP, mcpBindAddress);
  if (address === undefined) return undefined;
  const bind = session.storeName === KUBERNETES ? address : { host: LOOPBACK, ...address };
  const door = await context.openMcpDoor(session, {
    bind,
    names: mcpAllowedHost,
    told: (call) => logCall(log, call),
    log: (message) => log.warn({ message }, 'MCP'),
  });
  log.info({ flag: door.flag, address: door.address }, 'serving');
  for (const path of door.tokenFiles) log.info({ path }, 'clients of /mcp show the token in this file');
  return door;
}

/** Undefined: it stays closed. */
async function openStreams(
  context: Context,
  session: Session,
  options: RunOptions,
  log: Log,
): Promise<Door | undefined> {
  const { tlsCertFile: certFile, tlsPrivateKeyFile: keyFile, streamsBindAddress } = options;
  const files = certFile === undefined || keyFile === undefined ? undefined : { certFile, keyFile };
  const isSaid = [certFile, keyFile, streamsBindAddress].some((word) => word !== undefined);
  if (isSaid && session.storeName !== KUBERNETES)
    throw usageError(`${STREAMS} and its files are for --store kubernetes`);
  const bind = parseBindAddress(STREAMS, streamsBindAddress ?? (isSaid ? IN_CLUSTER.streams : '0'));
  if (bind === undefined) return undefined;
  if (files === undefined) throw usageError(`${STREAMS} needs --tls-cert-file and --tls-private-key-file`);
  const door = await context.openStreams(session, {
    ...{ bind, files },
    tell: (level, fields, message) => log[level](fields, message),
  });
  log.info({ flag: door.flag, address: door.address }, 'serving');
  return door;
}

async function drive(
  context: Context,
  session: Session,
  log: Log,
  tellState: (state: LoopState) => void,
): Promise<void> {
  const { loop, storeName } = session;
  context.signal.addEventListener('abort', () => tellState('ending'), { once: true });
  loop.onEvent((event) => logEvent(log, event));
  const ended = followProblems(session.store, log);
  const started = () => {
    tellState('running');
    log.info({ store: storeName, api: API_VERSION, pid: process.pid }, 'controller started');
  };
  if (loop.start() === 'here') started();
  else {
    log.info({ store: storeName }, 'another process runs the loop on this store: standing by');
    tellState('standing by');
    await loop.standBy(context.signal, started).catch((error: unknown) => {
      if (!context.signal.aborted) throw error;
    });
  }
  await aborted(context.signal);
  ended();
  log.info({ signal: String(context.signal.reason?.message ?? '') }, 'controller ends; virtual machines live on');
}

/**
 * Tells each problem once, when it comes, and when it has gone. A store that cannot be read is one of them: the
 * controller stays, and goes on when it is mended. Returns what ends it.
 */
function followProblems(store: Store, log: Log): () => void {
  let told = new Map<string, SourceProblem | ObjectProblem>();
  let unreadable = '';
  const look = () => {
    let problems: readonly (SourceProblem | ObjectProblem)[];
    try {
      problems = [...store.problems(), ...store.sourceProblems()];
      if (unreadable !== '') log.info({}, 'the store can be read again');
      unreadable = '';
    } catch (error) {
      const message = messageOf(error);
      if (message !== unreadable) log.warn({ message }, 'the store cannot be read; virtual machines live on');
      unreadable = message;
      return;
    }
    const now = new Map(problems.map((problem) => [JSON.stringify(problem), problem]));
    for (const [key, one] of now) if (!told.has(key)) log.warn(keysOfProblem(one), PROBLEM[kindOf(one)].comes);
    for (const [key, one] of told) if (!now.has(key)) log.info(keysOfProblem(one), PROBLEM[kindOf(one)].goes);
    told = now;
  };
  look();
  const timer = setInterval(look, PROBLEMS_MS);
  return () => clearInterval(timer);
}

const PROBLEMS_MS = 2_000;

const kindOf = (problem: SourceProblem | ObjectProblem) => ('source' in problem ? 'source' : 'object');

const PROBLEM = {
  object: { comes: 'a manifest or object does not count', goes: 'no longer so: a manifest or object does not count' },
  source: { comes: 'a file cannot be used', goes: 'no longer so: a file cannot be used' },
};

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
    // A signal listener alone does not keep a process alive, and a store that is idle may not either.
    const alive = setInterval(() => undefined, 2 ** 30);
    signal.addEventListener('abort', () => clearInterval(alive), { once: true });
  });
}
