/** The official SDK's client on the real program, on a cluster. */
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { MAIN } from '../../e2e/support/cli-rig.ts';
import type { OnFinished } from '../../e2e/support/rig.ts';

export interface Answer {
  readonly success: boolean;
  readonly message: string;
  readonly data: unknown;
  readonly isError: boolean;
}

export interface ToolsClient {
  call(tool: string, args: Record<string, unknown>): Promise<Answer>;
}

/** @param env of a person with a kubeconfig. @param flags more of `mcp` */
export async function callTools(
  onFinished: OnFinished,
  env: Record<string, string>,
  flags: readonly string[],
): Promise<ToolsClient> {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [MAIN, 'mcp', ...flags],
    env,
    stderr: 'ignore',
  });
  const client = new Client({ name: 'test', version: '0' });
  await client.connect(transport);
  onFinished(() => client.close());
  // The client validates structuredContent against the outputSchema of tools it has listed.
  await client.listTools();
  return {
    call: async (name, args) => {
      const result = await client.callTool({ name, arguments: args }, undefined, { timeout: 110_000 });
      return { ...(result.structuredContent as Omit<Answer, 'isError'>), isError: result.isError === true };
    },
  };
}
