/** The official SDK's client on the real program: a temporary store and vmDir, and oracles that never ask our status. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

export interface Place {
  readonly root: string;
  readonly store: string;
  readonly vmDir: string;
  /** Ends every QEMU that was started below and removes the folder. */
  clear(): void;
}

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'main.ts');

export function makePlace(): Place {
  const root = mkdtempSync(join(tmpdir(), 'mcp-'));
  const place = { root, store: join(root, 'store'), vmDir: join(root, 'vms') };
  mkdirSync(place.vmDir);
  return {
    ...place,
    clear: () => {
      for (const name of readdirSync(place.vmDir)) {
        const pid = pidOf(place.vmDir, name);
        if (pid !== undefined) process.kill(pid, 'SIGKILL');
      }
      rmSync(root, { recursive: true, force: true });
    },
  };
}

export interface Answer {
  readonly success: boolean;
  readonly message: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests read what they expect
  readonly data: any;
  readonly isError: boolean;
}

export interface McpSession {
  readonly client: Client;
  readonly pid: number;
  readonly stderr: () => string;
  call(tool: string, args: Record<string, unknown>, options?: CallOptions): Promise<Answer>;
  close(): Promise<void>;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
  readonly onprogress?: (progress: {
    progress: number;
    total?: number | undefined;
    message?: string | undefined;
  }) => void;
}

export interface ServerOptions {
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Arguments of node that start the server. */
export function serverArguments({ store, vmDir }: Place, flags: readonly string[] = []): string[] {
  return [MAIN, 'mcp', '--store', store, '--vm-dir', vmDir, ...flags];
}

export async function openMcp(place: Place, { flags = [], env = {} }: ServerOptions = {}): Promise<McpSession> {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: serverArguments(place, flags),
    env: { PATH: process.env['PATH'] ?? '', HOME: place.root, LANG: 'C.UTF-8', ...env },
    stderr: 'pipe',
  });
  let stderr = '';
  transport.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const client = new Client({ name: 'test', version: '0' });
  await client.connect(transport);
  // The client validates structuredContent against the outputSchema of tools it has listed.
  await client.listTools();
  return {
    client,
    pid: transport.pid ?? 0,
    stderr: () => stderr,
    call: (tool, args, options = {}) => callTool(client, tool, args, options),
    close: () => client.close(),
  };
}

/** Text and structuredContent are the same, or it is a failure. */
export async function callTool(
  client: Client,
  name: string,
  args: Record<string, unknown>,
  options: CallOptions,
): Promise<Answer> {
  const result = await client.callTool({ name, arguments: args }, undefined, { timeout: 110_000, ...options });
  const [content] = result.content as { type: string; text: string }[];
  const answer = result.structuredContent as unknown as Answer;
  if (JSON.stringify(answer) !== JSON.stringify(JSON.parse(content?.text ?? '{}'))) {
    throw new Error(`text and structuredContent differ: ${content?.text}`);
  }
  return { ...answer, isError: result.isError === true };
}

/** The process that QEMU's own pidfile names, where it is alive. */
export function pidOf(vmDir: string, name: string): number | undefined {
  const file = join(vmDir, name, 'qemu.pid');
  if (!existsSync(file)) return undefined;
  const pid = Number(readFileSync(file, 'utf8'));
  return isAlive(pid) ? pid : undefined;
}

/** A process that ended and that nobody has waited for is none. */
export function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}

/** Asks QEMU itself, over the monitor that is kept for people. */
export async function askQemu(vmDir: string, name: string, command: string): Promise<Record<string, unknown>> {
  const socket = connect(join(vmDir, name, 'qmp-user.sock'));
  const lines = createInterface({ input: socket });
  try {
    await once(lines, 'line', { signal: AbortSignal.timeout(5_000) });
    socket.write('{"execute":"qmp_capabilities"}\n');
    await once(lines, 'line', { signal: AbortSignal.timeout(5_000) });
    socket.write(`${JSON.stringify({ execute: command })}\n`);
    for (;;) {
      const [line] = (await once(lines, 'line', { signal: AbortSignal.timeout(5_000) })) as [string];
      const answer = JSON.parse(line) as { return?: Record<string, unknown> };
      if (answer.return !== undefined) return answer.return;
    }
  } finally {
    lines.close();
    socket.destroy();
  }
}

export function imageInfo(path: string): { format: string; 'virtual-size': number } {
  return JSON.parse(execFileSync('qemu-img', ['info', '-U', '--output=json', path], { encoding: 'utf8' })) as never;
}

export async function until(condition: () => boolean, ms = 10_000): Promise<boolean> {
  const deadline = performance.now() + ms;
  while (performance.now() < deadline) {
    if (condition()) return true;
    await sleep(20);
  }
  return condition();
}
