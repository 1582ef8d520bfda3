/** What a person and a model wait for: a cold `get`, a server that is ready, and a VM by tool calls. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { byTurns, type Finding, median, spread, timed } from './figures.ts';
import { untilSettled } from './fleet.ts';
import { runCommand, startLive } from './live.ts';
import { type Place, stopChild } from './place.ts';

const GET_SECONDS = 0.4;
const MCP_SECONDS = 1;
const VMS = 20;

export async function benchGet(place: Place): Promise<Finding[]> {
  const live = await startLive(place, 'get');
  for (let i = 0; i < VMS; i += 1) await live.make(`vm-${i}`, { powerState: 'PoweredOff' });
  await untilSettled(live.store, VMS, 0);
  const times = await byTurns(place.rounds, {
    get: () =>
      timed(async () => {
        const lines = (await runCommand(place, 'get', ['get', 'qvm'])).split('\n').length;
        if (lines !== VMS + 2) throw new Error(`get printed ${lines} lines`);
      }),
    node: () => timed(() => place.run(process.execPath, ['-e', '0'])),
  });
  await live.end();
  const from = `${spread(times.get)}; a Node that does nothing ${spread(times.node)}; ${VMS} VMs, controller up, ${place.rounds} runs`;
  return [{ name: 'get, a new process each', figure: median(times.get) / 1000, unit: 's', bound: GET_SECONDS, from }];
}

export async function benchMcp(place: Place): Promise<Finding[]> {
  const live = await startLive(place, 'mcp');
  const ready: number[] = [];
  for (let i = 0; i < place.rounds; i += 1) {
    const from = performance.now();
    const client = await McpClient.start(place, 'mcp');
    ready.push(performance.now() - from);
    await client.end();
  }
  const client = await McpClient.start(place, 'mcp');
  const times: { create: number; start: number }[] = [];
  for (let i = 0; i < place.rounds; i += 1) times.push(await createAndStart(place, client, `vm-${i}`));
  await client.end();
  await live.end();
  const both = times.map(({ create, start }) => create + start);
  return [
    {
      name: 'MCP server ready',
      figure: median(ready) / 1000,
      unit: 's',
      bound: MCP_SECONDS,
      from: `${spread(ready)}; process started to initialize answered, ${ready.length} runs`,
    },
    {
      name: 'tool create, start, Running',
      figure: median(both) / 1000,
      unit: 's',
      from: `${spread(both)}; create ${spread(times.map(({ create }) => create))}; start ${spread(times.map(({ start }) => start))}; ${times.length} runs`,
    },
  ];
}

async function createAndStart(place: Place, client: McpClient, name: string) {
  const disk = `path=${writeSparseTiny(`${place.folder('mcp-disks')}/${name}.raw`)}`;
  const create = await timed(() =>
    client.manage({ name, action: 'create', arch: 'x86_64', memory: '32M', vcpus: 1, disk }),
  );
  const start = await timed(async () => {
    const { details } = await client.manage({ name, action: 'start' });
    if (details?.status !== 'running') throw new Error(`${name} is ${details?.status}`);
  });
  await client.manage({ name, action: 'stop', force: true });
  await client.manage({ name, action: 'delete' });
  return { create, start };
}

interface Answer {
  readonly success: boolean;
  readonly message: string;
  readonly data?: { readonly details?: { readonly status?: string } };
}

/** JSON-RPC, one line each: nothing of the SDK's own time is measured. */
class McpClient {
  readonly #child;
  readonly #answers;
  #id = 0;

  private constructor(place: Place, store: string) {
    const args = place.command(store, ['mcp']);
    this.#child = place.spawn(process.execPath, args, { cwd: '/', stdio: ['pipe', 'pipe', 'ignore'] });
    if (this.#child.stdout === null) throw new Error('no stdout');
    this.#answers = createInterface({ input: this.#child.stdout });
  }

  static async start(place: Place, store: string): Promise<McpClient> {
    const client = new McpClient(place, store);
    const clientInfo = { name: 'bench', version: '0' };
    await client.#ask('initialize', { protocolVersion: '2025-06-18', capabilities: {}, clientInfo });
    client.#send({ method: 'notifications/initialized' });
    return client;
  }

  async manage(args: object): Promise<NonNullable<Answer['data']>> {
    const result = (await this.#ask('tools/call', { name: 'manage_vm', arguments: args })) as {
      structuredContent?: Answer;
    };
    const answer = result.structuredContent;
    if (answer?.success !== true) throw new Error(answer?.message ?? JSON.stringify(result));
    return answer.data ?? {};
  }

  #send(message: object): void {
    this.#child.stdin?.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  }

  async #ask(method: string, params: object): Promise<unknown> {
    this.#id += 1;
    const id = this.#id;
    this.#send({ id, method, params });
    for (;;) {
      const [line] = (await once(this.#answers, 'line', { signal: AbortSignal.timeout(120_000) })) as [string];
      const message = JSON.parse(line) as { id?: number; result?: unknown; error?: unknown };
      if (message.id !== id) continue;
      if (message.error !== undefined) throw new Error(JSON.stringify(message.error));
      return message.result;
    }
  }

  end(): Promise<void> {
    return stopChild(this.#child);
  }
}
