/** The stages of `npm run check` and `npm test`: child processes with a name, a deadline and one line of report. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = join(import.meta.dirname, '..');

/** Node as pinned in package-lock.json, whatever the system has. */
export const NODE = join(ROOT, 'node_modules', '.bin', 'node');

const MINUTE = 60_000;

const tool = (...path) => join(ROOT, 'node_modules', ...path);

/** Ends a stage with everything it started: each one leads its own process group. */
function killGroup(child) {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It ended in the meantime.
  }
}

/**
 * Runs one stage and never throws: `ok` tells, `output` holds what it printed. With `live` the output also goes
 * to our own stdout as it comes.
 */
export function runStage({ name, command, args, live = false, deadlineMs = 5 * MINUTE, env = {} }) {
  const startedAt = Date.now();
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...(process.stdout.isTTY ? {} : { NO_COLOR: '1', FORCE_COLOR: undefined }), ...env },
    });
    let output = '';
    const collect = (chunk) => {
      output += chunk;
      if (live) process.stdout.write(chunk);
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    const timer = setTimeout(() => {
      collect(`\n${name} did not end within ${deadlineMs / 1000} s and was killed\n`);
      killGroup(child);
    }, deadlineMs);
    const stop = () => {
      killGroup(child);
      process.exit(130);
    };
    process.once('SIGINT', stop).once('SIGTERM', stop);
    const finish = (ok) => {
      clearTimeout(timer);
      process.off('SIGINT', stop).off('SIGTERM', stop);
      resolve({ name, ok, output, ms: Date.now() - startedAt });
    };
    child.once('error', (error) => {
      collect(`${command}: ${error.message}\n`);
      finish(false);
    });
    child.once('close', (code) => finish(code === 0));
  });
}

/** One line for a stage that passed; its whole output for one that did not. */
export function report({ name, ok, output, ms }) {
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${name} (${(ms / 1000).toFixed(1)} s)`);
  if (!ok) console.log(output.trimEnd().replace(/^/gm, '     '));
}

/** What needs no test runner: types, lint with formatting and floating promises, drift of generated files. */
export function staticStages() {
  const stages = [
    { name: 'types', command: tool('.bin', 'tsc'), args: ['-p', '.'] },
    { name: 'lint and format', command: tool('.bin', 'biome'), args: ['check', '--error-on-warnings', '.'] },
  ];
  if (existsSync(join(ROOT, 'test', 'generate.ts')))
    stages.push({ name: 'generated files', command: NODE, args: ['test/generate.ts', '--check'] });
  return stages;
}

/** A vitest run under the pinned Node. */
export function vitestStage(name, args, more = {}) {
  return { name, command: NODE, args: [tool('vitest', 'vitest.mjs'), 'run', ...args], ...more };
}
