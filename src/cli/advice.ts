/** What to type next, in words that work where the person is. */
import { type Context, print } from './context.ts';
import type { Session } from './session.ts';

/** Options that have to be repeated for the next command to find the same store. */
export function commandWords({ invokedAs }: Context, { store }: { readonly store?: string | undefined }): string {
  return store === undefined ? invokedAs : `${invokedAs} --store ${store}`;
}

const WIDTH = 28;

export function tellNextSteps(context: Context, { storeName }: Session, words: string): void {
  const steps: readonly (readonly [string, string])[] = [
    ['console quickstart', 'its console; Ctrl-] leaves it'],
    ['get qvm', 'all machines'],
    ['describe qvm quickstart', 'what it is, why, and where its files lie'],
    ['stop quickstart', 'start and restart likewise'],
    ['run', 'the controller: keeps all machines as they should be, until Ctrl-C'],
    ['quickstart --remove', 'takes the machine away'],
  ];
  print(context, 'What to type next:');
  for (const [command, what] of steps) print(context, `    ${words} ${command.padEnd(WIDTH)} # ${what}`);
  print(context, '');
  print(context, 'For an MCP client:');
  const [command, ...args] = context.argv0;
  const server = { command, args: [...args, 'mcp', '--store', storeName] };
  for (const line of JSON.stringify({ mcpServers: { qemu: server } }, undefined, 2).split('\n'))
    print(context, `    ${line}`);
}
