/** Runs a program of this machine for the person at the terminal: an editor, or a script that tells its progress. */
import { spawn } from 'node:child_process';

export interface ProgramOptions {
  /** terminal: the program has it to itself. progress: stdin is empty, stdout is returned, stderr goes to ours. */
  readonly as: 'terminal' | 'progress';
  readonly signal?: AbortSignal | undefined;
}

export interface ProgramEnd {
  /** 128 + n where signal n ended it, as shells have it. */
  readonly code: number;
  readonly stdout: string;
}

export type RunProgram = (command: string, args: readonly string[], options: ProgramOptions) => Promise<ProgramEnd>;

const SIGNALLED = 143;

/** @throws where the program cannot be started, and where the signal aborts: it is then told to end */
export const runProgram: RunProgram = (command, args, { as, signal }) =>
  new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const child = spawn(command, [...args], {
      stdio: as === 'terminal' ? 'inherit' : ['ignore', 'pipe', 'inherit'],
    });
    const stdout: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
    const onAbort = () => void child.kill('SIGTERM');
    signal?.addEventListener('abort', onAbort, { once: true });
    child.on('error', (error) => {
      signal?.removeEventListener('abort', onAbort);
      reject(new Error(`cannot run ${command}: ${error.message}`));
    });
    child.on('close', (code) => {
      signal?.removeEventListener('abort', onAbort);
      if (signal?.aborted === true) reject(signal.reason);
      else resolve({ code: code ?? SIGNALLED, stdout: Buffer.concat(stdout).toString('utf8') });
    });
  });
