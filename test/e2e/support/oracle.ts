/** What QEMU itself says over its second monitor, by a client that shares nothing with the product's. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

interface Message {
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

/** Runs one command on a connection of its own; QEMU closing it in answer to `quit` counts as an answer. */
export async function qmp<T = unknown>(folder: string, command: string, args: object = {}): Promise<T> {
  const socket = connect(join(folder, 'qmp-user.sock'));
  try {
    await once(socket, 'connect');
    socket.on('error', () => undefined);
    socket.write('{"execute":"qmp_capabilities","id":1}\n');
    socket.write(`${JSON.stringify({ execute: command, arguments: args, id: 2 })}\n`);
    for await (const line of createInterface({ input: socket })) {
      const message = JSON.parse(line) as Message;
      if (message.error !== undefined) throw new Error(`${command}: ${message.error.desc}`);
      if (message.id === 2) return message.return as T;
    }
    return undefined as T;
  } finally {
    socket.destroy();
  }
}

export async function runState(folder: string): Promise<string> {
  return (await qmp<{ status: string }>(folder, 'query-status')).status;
}

interface Block {
  readonly device?: string;
  readonly inserted?: { readonly file: string; readonly 'node-name': string; readonly image: Record<string, unknown> };
}

/** Size of a disk as the guest sees it. */
export async function guestDiskBytes(folder: string, file: string): Promise<number> {
  const blocks = await qmp<Block[]>(folder, 'query-block');
  const block = blocks.find(({ inserted }) => inserted?.image['filename'] === file || inserted?.file === file);
  return Number(block?.inserted?.image['virtual-size'] ?? 0);
}

/** The main window of a person's monitor, as text. */
export function humanMonitor(folder: string, line: string): Promise<string> {
  return qmp<string>(folder, 'human-monitor-command', { 'command-line': line });
}
