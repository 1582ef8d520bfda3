/** The HTTP doors of a `run` that logs JSON. */
import type { Running } from './cli-rig.ts';

/** Free ports of the loopback. */
export const DOORS = ['--metrics-bind-address', '127.0.0.1:0', '--health-probe-bind-address', '127.0.0.1:0'];

export interface DoorsFound {
  readonly metrics: string;
  readonly health: string;
}

/** Lines of its log, as objects. */
export function logOf({ stderr }: Running): Record<string, unknown>[] {
  return stderr
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Where it listens, as it says itself. */
export async function doorsOf(running: Running): Promise<DoorsFound> {
  await running.says(/metrics-bind-address.*"msg":"serving"/);
  const said = (flag: string) => String(logOf(running).find((line) => line['flag'] === flag)?.['address']);
  return { metrics: said('--metrics-bind-address'), health: said('--health-probe-bind-address') };
}

export interface Answer {
  readonly status: number;
  readonly text: string;
}

export async function ask(address: string, path: string): Promise<Answer> {
  const answer = await fetch(`http://${address}${path}`);
  return { status: answer.status, text: await answer.text() };
}
