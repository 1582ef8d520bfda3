/** What this installation is, and where this user's own files lie. */
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/** As package.json has it. */
export function version(): string {
  const text = readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

export function configFolder(): string {
  return join(absoluteOr(process.env['XDG_CONFIG_HOME'], join(homedir(), '.config')), 'qemu-operator');
}

/** The XDG base directory specification: a relative value counts as none. */
export function absoluteOr(value: string | undefined, otherwise: string): string {
  return value !== undefined && isAbsolute(value) ? value : otherwise;
}
