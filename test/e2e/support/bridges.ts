/** Bridges of this machine, made for a test and seen by the kernel's own files. Only root may make one. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { OnFinished } from './rig.ts';
import { until } from './wait.ts';

export const NET = '/sys/class/net';

/** Where this fails, what needs them stays unproved: that is no success. */
export function requireRoot(): void {
  if (process.getuid?.() !== 0) throw new Error('only root may make bridges and users: run this suite as root');
}

export const ip = (...words: readonly string[]) => execFileSync('ip', words, { stdio: ['ignore', 'pipe', 'pipe'] });

/** A name of its own, free, and free again after the test. */
export function bridgeName(onFinished: OnFinished): string {
  const name = `qobr${randomBytes(4).toString('hex')}`;
  onFinished(async () => {
    if (existsSync(join(NET, name))) ip('link', 'delete', name);
  });
  return name;
}

export const makeBridge = (name: string) => ip('link', 'add', name, 'mtu', '1400', 'type', 'bridge');
export const portsOf = (bridge: string) => readdirSync(join(NET, bridge, 'brif'));

/** The one interface that is joined to it. */
export async function untilJoined(bridge: string): Promise<string> {
  const ports = await until(
    `a guest is joined to ${bridge}`,
    () => portsOf(bridge),
    ({ length }) => length === 1,
  );
  return ports[0] ?? '';
}
