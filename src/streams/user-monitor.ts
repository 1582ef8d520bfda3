/**
 * A few commands to a VM's second monitor, the one for people: connect, ask, leave. The controller's own monitor
 * stays undisturbed, since a monitor serves one client at a time. Source: QEMU's docs/interop/qmp-spec.rst.
 */
import type { Duplex } from 'node:stream';
import { FOLDER_FILES } from '../api/effective-spec.ts';
import { oneLine } from '../api/errors.ts';
import type { Shell } from '../host/shell.ts';

export interface MonitorCommand {
  readonly execute: string;
  readonly arguments?: object;
}

/** The monitor does not answer, or QEMU refuses a command. The message never holds the arguments. */
export class UserMonitorError extends Error {
  override name = 'UserMonitorError';
}

const TIMEOUT_MS = 5_000;
const MAX_BYTES = 1024 * 1024;

/** Runs the commands in order; resolves to what each returned. @throws UserMonitorError, DialError where the VM is not running */
export async function tellMonitor(
  shell: Shell,
  folder: string,
  commands: readonly MonitorCommand[],
  signal: AbortSignal,
): Promise<unknown[]> {
  const stream = await shell.dial(`${folder}/${FOLDER_FILES.userMonitor}`, { timeoutMs: TIMEOUT_MS, signal });
  try {
    const [, ...answers] = await converse(stream, [{ execute: 'qmp_capabilities' }, ...commands], signal);
    return answers;
  } finally {
    stream.destroy();
  }
}

interface Answer {
  readonly id?: unknown;
  readonly return?: unknown;
  readonly error?: { readonly desc?: unknown };
}

function converse(stream: Duplex, commands: readonly MonitorCommand[], signal: AbortSignal): Promise<unknown[]> {
  return new Promise((resolve, reject) => {
    let rest = '';
    const answers: unknown[] = [];
    const settle = (error?: Error) => {
      clearTimeout(deadline);
      signal.removeEventListener('abort', onAbort);
      if (error === undefined) resolve(answers);
      else reject(error);
    };
    const fail = (message: string) => settle(new UserMonitorError(message));
    const onAbort = () => fail('aborted');
    const deadline = setTimeout(
      () => fail(`the monitor for people does not answer; another program may be connected to it`),
      TIMEOUT_MS,
    );
    signal.addEventListener('abort', onAbort, { once: true });
    stream.on('error', () => fail('the connection to the monitor broke'));
    stream.on('close', () => fail('the monitor closed the connection'));
    stream.on('data', (chunk: Buffer) => {
      const lines = `${rest}${chunk.toString('latin1')}`.split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > MAX_BYTES) fail('the monitor sends no lines');
      for (const answer of lines.map(parseLine)) {
        if (typeof answer?.id !== 'number') continue;
        const command = commands[answer.id]?.execute ?? 'a command';
        if (answer.error !== undefined) fail(`${command}: ${oneLine(String(answer.error.desc), 300)}`);
        else answers[answer.id] = answer.return;
        if (answer.id === commands.length - 1) settle();
      }
    });
    for (const [id, command] of commands.entries()) stream.write(`${JSON.stringify({ ...command, id })}\n`);
  });
}

/** Events and what is no JSON carry no answer. */
function parseLine(line: string): Answer | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
