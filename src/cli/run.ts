/** run: the controller, until a signal ends it. VMs live on. */
import { type Command, Option } from 'commander';
import { pino } from 'pino';
import { messageOf } from '../api/errors.ts';
import { API_VERSION } from '../api/meta.ts';
import type { ControllerEvent } from '../reconcile/controller.ts';
import type { ObjectProblem, SourceProblem, Store } from '../store/store.ts';
import { type Context, type Declare, examples, type Globals, withSession } from './context.ts';
import type { Session } from './session.ts';

type Log = Pick<pino.Logger, 'info' | 'warn' | 'debug'>;
type Format = 'json' | 'text';
const LEVELS = ['debug', 'info', 'warn'] as const;

interface RunOptions extends Globals {
  readonly logFormat?: Format;
  readonly logLevel: (typeof LEVELS)[number];
  readonly operatorNamespace?: string;
  readonly allowLocalHost?: boolean;
}

export const declareRun: Declare = (command, context) => {
  command
    .addOption(
      new Option('--log-format <format>', 'on stderr (default: text on a terminal, else json)').choices([
        'json',
        'text',
      ]),
    )
    .addOption(new Option('--log-level <level>', 'least important lines to print').choices(LEVELS).default('info'))
    .option(
      '--operator-namespace <name>',
      'in a cluster: where the credentials of Hosts are kept (default: the namespace of the context)',
    )
    .option('--allow-local-host', 'in a cluster: a Host may be the machine that the operator runs on')
    .action(async (_options, self: Command) => run(context, self.optsWithGlobals<RunOptions>()));
  examples(command, [
    ['Run the controller until Ctrl-C; machines live on when it ends', 'run'],
    ['Run it for the objects of a cluster', 'run --store kubernetes'],
    ['A second one on the same store stands by, and takes over when the first ends', 'run --log-format json'],
  ]);
};

async function run(context: Context, options: RunOptions): Promise<void> {
  const log = logger(context, options);
  await withSession(context, options, (session) => serve(context, session, log), 'run');
}

async function serve(context: Context, session: Session, log: Log): Promise<void> {
  const { loop, storeName } = session;
  loop.onEvent((event) => logEvent(log, event));
  const ended = followProblems(session.store, log);
  const started = () => log.info({ store: storeName, api: API_VERSION, pid: process.pid }, 'controller started');
  if (loop.start() === 'here') started();
  else {
    log.info({ store: storeName }, 'another process runs the loop on this store: standing by');
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
    for (const [key, problem] of now) if (!told.has(key)) log.warn({ ...problem }, PROBLEM[kindOf(problem)].comes);
    for (const [key, problem] of told) if (!now.has(key)) log.info({ ...problem }, PROBLEM[kindOf(problem)].goes);
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

function logEvent(log: Log, event: ControllerEvent): void {
  const { host } = event;
  switch (event.type) {
    case 'action':
      log.info({ host, vm: event.vm, action: event.action.type, because: event.because }, 'acting');
      break;
    case 'done':
      log.info({ host, vm: event.vm, action: event.action.type, ms: event.ms }, 'done');
      break;
    case 'failed':
      log.warn({ host, vm: event.vm, action: event.action?.type, error: event.message }, 'failed');
      break;
    case 'pass':
      log.debug({ host, vms: event.vms, ms: event.ms }, 'looked');
  }
}

function logger({ stderr }: Context, { logFormat, logLevel }: RunOptions): Log {
  const format = logFormat ?? (stderr.isTTY === true ? 'text' : 'json');
  const write = (line: string) => void stderr.write(format === 'json' ? line : `${asText(line)}\n`);
  return pino({ level: logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime }, { write });
}

const LEVEL_WORDS: Readonly<Record<number, string>> = { 20: 'DEBUG', 30: 'INFO', 40: 'WARN' };

/** One line of JSON as a line for people. */
function asText(line: string): string {
  const { level, time, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const rest = Object.entries(fields).map(([key, value]) => `${key}=${shown(value)}`);
  return [String(time), LEVEL_WORDS[Number(level)] ?? String(level), String(msg), ...rest].join(' ');
}

function shown(value: unknown): string {
  return typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}
