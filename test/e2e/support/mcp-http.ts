/** The MCP door of a `run` that logs JSON: the official SDK's client, and curl where its headers are to be chosen. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js';
import { type Answer, type CallOptions, callTool } from '../mcp-client.ts';
import type { Running } from './cli-rig.ts';
import { logOf } from './doors.ts';

const curlFile = promisify(execFile);

/** Where it listens, as it says itself. */
export async function mcpAddress(running: Running): Promise<string> {
  await running.says(/mcp-bind-address.*"msg":"serving"/);
  return String(logOf(running).find((line) => line['flag'] === '--mcp-bind-address')?.['address']);
}

export interface HttpMcp {
  readonly client: Client;
  readonly transport: StreamableHTTPClientTransport;
  /** Settled once its stream for notifications is over. */
  readonly streamEnded: Promise<void>;
  call(tool: string, args: Record<string, unknown>, options?: CallOptions): Promise<Answer>;
}

export async function openHttpMcp(address: string, token: string): Promise<HttpMcp> {
  const { promise: streamEnded, resolve: over } = Promise.withResolvers<void>();
  const transport = new StreamableHTTPClientTransport(new URL(`http://${address}/mcp`), {
    requestInit: { headers: { Authorization: `Bearer ${token}` } },
    reconnectionOptions: {
      maxRetries: 0,
      initialReconnectionDelay: 1,
      maxReconnectionDelay: 1,
      reconnectionDelayGrowFactor: 1,
    },
  });
  const client = new Client({ name: 'test', version: '0' });
  client.onerror = () => over();
  await client.connect(transport as Transport);
  // The client validates structuredContent against the outputSchema of tools it has listed.
  await client.listTools();
  return { client, transport, streamEnded, call: (tool, args, options = {}) => callTool(client, tool, args, options) };
}

export interface Curled {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

/** @param words of curl, after its address */
export async function curl(address: string, words: readonly string[], path = '/mcp'): Promise<Curled> {
  const { stdout } = await curlFile('curl', ['-s', '-i', '--max-time', '10', `http://${address}${path}`, ...words]);
  const [head = '', ...rest] = stdout.replace(/^HTTP\/1.1 100 Continue\r\n\r\n/, '').split('\r\n\r\n');
  const [first = '', ...lines] = head.split('\r\n');
  const headers = lines.map((line) => [line.split(':')[0]?.toLowerCase() ?? '', line.replace(/^[^:]*: */, '')]);
  return { status: Number(first.split(' ')[1]), headers: Object.fromEntries(headers), text: rest.join('\r\n\r\n') };
}

export const bearer = (token: string) => ['-H', `Authorization: Bearer ${token}`];

/** As a client posts a message. */
export const message = (body: object | string, more: readonly string[] = []) => [
  '-H',
  'Content-Type: application/json',
  '-H',
  'Accept: application/json, text/event-stream',
  '--data-binary',
  typeof body === 'string' ? body : JSON.stringify({ jsonrpc: '2.0', ...body }),
  ...more,
];

export const INITIALIZE = {
  id: 1,
  method: 'initialize',
  params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'curl', version: '0' } },
};
