/** The lines of `run` on stderr. Each that is about an object has the keys of Kubernetes' components: kind, namespace, name. */
import { pino } from 'pino';
import type { ControllerEvent } from '../reconcile/loop-event.ts';
import type { McpCall } from '../serve/mcp-door.ts';
import type { ObjectProblem, SourceProblem } from '../store/store.ts';
import type { Context } from './context.ts';

export type Log = Pick<pino.Logger, 'info' | 'warn' | 'debug'>;
export type LogFormat = 'json' | 'text';
export const LOG_LEVELS = ['debug', 'info', 'warn'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export function logTo(stderr: Pick<Context['stderr'], 'write'>, format: LogFormat, level: LogLevel): Log {
  const write = (line: string) => void stderr.write(format === 'json' ? line : `${asText(line)}\n`);
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, { write });
}

export function logEvent(log: Log, event: ControllerEvent): void {
  switch (event.type) {
    case 'action':
      log.info({ ...keysOf(event), action: event.action.type, because: event.because }, 'acting');
      break;
    case 'done':
      log.info({ ...keysOf(event), action: event.action.type, ms: event.ms }, 'done');
      break;
    case 'failed':
      log.warn({ ...keysOf(event), action: event.action?.type, error: event.message }, 'failed');
      break;
    case 'pass':
      log.debug({ ...keysOf(event), vms: event.vms, ms: event.ms }, 'looked');
      break;
    case 'ended':
      log.info(keysOf(event), 'the loop of this host has ended');
  }
}

/** Who did what over MCP: the API server's audit log knows the operator alone. */
export function logCall(log: Log, { asked, ...call }: McpCall): void {
  log.info({ ...call, ...asked, ...(asked['name'] !== undefined && { kind: 'VirtualMachine' }) }, 'MCP call');
}

/** Of a VM its own keys and its host; of a whole host those of the Host; of nothing none. */
function keysOf({ host, vm = '*' }: { readonly host: string; readonly vm?: string }): object {
  const [namespace, name] = vm.split('/');
  if (name !== undefined) return { kind: 'VirtualMachine', namespace, name, ...(host !== '' && { host }) };
  return host === '' ? {} : { kind: 'Host', name: host };
}

/** Flat, as the other lines. */
export function keysOfProblem(problem: SourceProblem | ObjectProblem): object {
  if ('source' in problem) return { ...problem };
  const { kind, ref, reason, message } = problem;
  return { kind, ...ref, reason, message };
}

const LEVEL_WORDS: Readonly<Record<number, string>> = { 20: 'DEBUG', 30: 'INFO', 40: 'WARN' };

/** One line of JSON as a line for people: `INFO acting VirtualMachine default/web-1 host=rack1 action=launch`. */
function asText(line: string): string {
  const { level, time, msg, kind, ...all } = JSON.parse(line) as Record<string, unknown>;
  const { namespace, name, ...others } = all;
  const object = kind === undefined ? [] : [`${kind} ${namespace === undefined ? name : `${namespace}/${name}`}`];
  const rest = Object.entries(kind === undefined ? all : others).map(([key, value]) => `${key}=${shown(value)}`);
  return [String(time), LEVEL_WORDS[Number(level)] ?? String(level), String(msg), ...object, ...rest].join(' ');
}

function shown(value: unknown): string {
  return typeof value === 'string' && /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
}
