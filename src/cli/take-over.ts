/** What on a host is nobody's, and the commands that take it over. Pure. */
import type { Host } from '../api/host.ts';
import { ARCHITECTURES } from '../api/virtual-machine.ts';
import { shellWord } from './shell-words.ts';

type Unclaimed = NonNullable<NonNullable<Host['status']>['unclaimed']>[number];
type Stranger = NonNullable<NonNullable<Host['status']>['strangers']>[number];

/** Empty where its record cannot be read. */
export function adoptCommand({ name, uid }: Unclaimed, host: Host): string {
  return uid === undefined ? '' : command('adopt', name, host);
}

/** Empty where no virtual machine can have its architecture. */
export function importCommand({ pid, architecture }: Stranger, host: Host): string {
  return ARCHITECTURES.some((one) => one === architecture) ? command('import', String(pid), host) : '';
}

function command(verb: 'adopt' | 'import', what: string, { metadata }: Host): string {
  const where = metadata.name === 'localhost' ? '' : ` --host ${metadata.name}`;
  return `${verb} ${shellWord(what)}${where}`;
}

/** One line for a host that has some of it; undefined where it has none. */
export function takeOverHint(host: Host, invokedAs: string): string | undefined {
  const adopts = (host.status?.unclaimed ?? []).map((one) => adoptCommand(one, host)).filter((words) => words !== '');
  const imports = (host.status?.strangers ?? []).map((one) => importCommand(one, host)).filter((words) => words !== '');
  const parts = [
    counted(adopts, 'VM folder without an object', 'VM folders without an object'),
    counted(imports, 'QEMU process started by others', 'QEMU processes started by others'),
  ].filter((part) => part !== '');
  if (parts.length === 0) return undefined;
  return `${host.metadata.name}: ${parts.join(', ')}; all of it: ${invokedAs} describe qhost ${host.metadata.name}`;
}

function counted(commands: readonly string[], one: string, many: string): string {
  return commands.length === 0 ? '' : `${commands.length} ${commands.length === 1 ? one : many} (${commands[0]})`;
}
