/** The binary: real things are wired here, and nowhere else. Running this file runs the command. */
import { basename, dirname, join, relative } from 'node:path';
import type { Context } from './cli/context.ts';
import { InterruptedError } from './cli/exit-codes.ts';
import { runCli } from './cli/program.ts';
import { runProgram } from './host/run-program.ts';
import { version } from './installation.ts';
import type { Remotes } from './mcp/remote-hosts.ts';
import type { StreamsPlace } from './serve/streams-service.ts';

const entry = process.argv[1] ?? '';

/** From a clone there is no command on PATH; from a folder with node_modules, npx finds it. */
function invokedAs(): string {
  if (basename(entry) === 'main.ts') return `${shortPath(process.execPath)} ${shortPath(entry)}`;
  const onPath = (process.env['PATH'] ?? '').split(':').includes(dirname(entry));
  const byNpx = process.env['npm_command'] === 'exec' || entry.includes('/node_modules/');
  return byNpx || !onPath ? 'npx qemu-operator' : 'qemu-operator';
}

/** Within the clone the short form will do; elsewhere advice has to hold after a cd as well. */
function shortPath(path: string): string {
  const clone = join(import.meta.dirname, '..');
  return process.cwd() === clone && path.startsWith(`${clone}/`) ? relative(clone, path) : path;
}

/** The first signal ends the command in order; a second one ends it at once. */
function interrupted(): AbortSignal {
  const abort = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => abort.abort(new InterruptedError(name)));
  }
  return abort.signal;
}

/** The MCP server ends in order where its client goes away: it takes its monitors back first. */
let servingMcp = false;

/** `... | head` closes our stdout: that is its reader's right, and no error. A full disk is one. */
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (servingMcp) return;
  if (error.code === 'EPIPE') process.exit(0);
  process.stderr.write(`error: cannot write to stdout: ${error.message}\n`);
  process.exit(1);
});

const context: Context = {
  openSession: async (options) => (await import('./runtime.ts')).openSession(options),
  defaultNamespace: async (options) => (await import('./runtime.ts')).defaultNamespace(options),
  machine: async () => (await import('./runtime.ts')).machine,
  serveMcp: async ({ store, loop, secrets, welcome }, limits, signal) => {
    servingMcp = true;
    const [{ serveStdio }, { effectiveLogin }, { languageFrom }] = await Promise.all([
      import('./mcp/server.ts'),
      import('./remote/effective-login.ts'),
      import('./messages/language.ts'),
    ]);
    const { stdin, stdout, stderr, env } = process;
    const log = (line: string) => void stderr.write(`${line}\n`);
    const language = languageFrom(env);
    const remotes: Remotes = {
      secrets,
      loginOf: effectiveLogin,
      keyFiles: true,
      welcome: (attempt, until) => welcome(attempt, { signal: until }),
    };
    await serveStdio({ store, loop, remotes, ...limits, version: version(), language, stdin, stdout, log, signal });
  },
  openDoors: async ({ store, loop, apiServer }, doors) => {
    const { openDoors } = await import('./serve/doors.ts');
    const { reach, requests } = apiServer ?? {};
    const onEvent = loop.onEvent.bind(loop);
    return openDoors({ store, reach, requests, onEvent, loopState: doors.loopState, version: version() }, doors);
  },
  openMcpDoor: async (session, options) => (await import('./mcp-over-http.ts')).openMcpOverHttp(session, options),
  openStreams: async ({ store, apiServer, shellFor }, { tell, ...options }) => {
    const [{ openStreamsDoor }, { hostStreams }] = await Promise.all([
      import('./serve/streams-door.ts'),
      import('./streams/host-streams.ts'),
    ]);
    if (apiServer === undefined) throw new Error('there is no API server in front');
    const findHost = (hostName: string) => store.get('Host', { name: hostName });
    const streamsOf: StreamsPlace['streamsOf'] = (vm, client, signal) =>
      hostStreams(vm, { findHost, shellFor, signal, client });
    return openStreamsDoor({ store, front: apiServer.front, streamsOf, tell }, options);
  },
  runProgram,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  invokedAs: invokedAs(),
  argv0: [process.execPath, entry],
  signal: interrupted(),
};

process.exitCode = await runCli(process.argv.slice(2), context, version());
