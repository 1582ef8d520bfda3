/**
 * A port of the host that leads to a guest for as long as somebody needs it: a rule of QEMU's user-mode network, made
 * and taken away over the monitor for people. It listens on an address of the loopback that spells the pid of its
 * owner's session on the host, so that one whose owner was killed is known by whoever comes next, and taken away.
 */
import { oneLine } from '../api/errors.ts';
import type { Shell, TcpAddress } from '../host/shell.ts';
import { tellMonitor, UserMonitorError } from './user-monitor.ts';

export interface TemporaryForward extends TcpAddress {
  close(): Promise<void>;
}

export interface TemporaryForwardOptions {
  /** Name of the user-mode network in the spec. */
  readonly network: string;
  readonly guestPort: number;
  readonly signal: AbortSignal;
}

const TIMEOUT_MS = 5_000;

/** The session is this script's parent: this process, or the server's end of an SSH connection. $@: pids; the dead ones are printed. */
const SESSION = `
echo "@session $PPID"
for pid; do [ -d "/proc/$pid" ] || echo "@dead $pid"; done
`;

interface Rule {
  readonly address: string;
  readonly port: number;
  readonly guestPort: number;
}

/** @throws UserMonitorError, DialError where the VM is not running */
export async function temporaryForward(
  shell: Shell,
  folder: string,
  { network, guestPort, signal }: TemporaryForwardOptions,
): Promise<TemporaryForward> {
  const tell = async (words: readonly string[], until = signal) => {
    const commands = words.map((line) => ({
      execute: 'human-monitor-command',
      arguments: { 'command-line': line },
    }));
    return (await tellMonitor(shell, folder, commands, until)).map(String);
  };
  const remove = (rules: readonly Rule[]) =>
    rules.map(({ address, port }) => `hostfwd_remove net-${network} tcp:${address}:${port}`);
  const before = rulesOf(network, (await tell(['info usernet']))[0] ?? '');
  const { pid, dead } = await sessionOf(
    shell,
    before.flatMap(({ address }) => pidOf(address) ?? []),
    signal,
  );
  const address = addressOf(pid);
  const left = before.filter((rule) => dead.has(pidOf(rule.address) ?? -1));
  const [said = '', after = ''] = (
    await tell([...remove(left), `hostfwd_add net-${network} tcp:${address}:0-:${guestPort}`, 'info usernet'])
  ).slice(-2);
  if (said.trim() !== '') throw new UserMonitorError(oneLine(said, 300));
  const made = rulesOf(network, after).find(
    (rule) =>
      rule.address === address &&
      rule.guestPort === guestPort &&
      !before.some((known) => known.address === address && known.port === rule.port),
  );
  if (made === undefined) throw new UserMonitorError(`network ${network} does not show the port that it opened`);
  return {
    host: address,
    port: made.port,
    // Past the caller's signal: an interrupted command still tidies up. A VM that has ended has none left.
    close: async () => void (await tell(remove([made]), AbortSignal.timeout(TIMEOUT_MS)).catch(() => undefined)),
  };
}

/** Lines of `info usernet` below the network's own: `TCP[HOST_FORWARD]  12  127.0.3.4 43093  10.0.2.15  22  0  0`. */
function rulesOf(network: string, text: string): Rule[] {
  let here = false;
  return text.split('\n').flatMap((line) => {
    const owner = /\(([^()]*)\):\s*$/.exec(line)?.[1];
    if (owner !== undefined) here = owner === `net-${network}`;
    const match = here ? /^\s*TCP\[HOST_FORWARD\]\s+\d+\s+(\S+)\s+(\d+)\s+\S+\s+(\d+)\s/.exec(line) : null;
    return match === null ? [] : [{ address: match[1] ?? '', port: Number(match[2]), guestPort: Number(match[3]) }];
  });
}

/** 127, and the pid's three bytes: it has 22 bits at most. */
function addressOf(pid: number): string {
  return `127.${(pid >> 16) & 255}.${(pid >> 8) & 255}.${pid & 255}`;
}

/** Undefined for an address that no session spells: 127.0.0.1 is everybody's. */
function pidOf(address: string): number | undefined {
  const [first, a, b, c] = address.split('.').map(Number);
  const pid = ((a ?? 0) << 16) + ((b ?? 0) << 8) + (c ?? 0);
  return first === 127 && pid > 1 ? pid : undefined;
}

async function sessionOf(
  shell: Shell,
  pids: readonly number[],
  signal: AbortSignal,
): Promise<{ readonly pid: number; readonly dead: ReadonlySet<number> }> {
  const { stdout } = await shell.run(SESSION, pids.map(String), { timeoutMs: TIMEOUT_MS, signal });
  const told = [...stdout.toString('utf8').matchAll(/^@(session|dead) (\d+)$/gm)];
  const of = (word: string) => told.filter(([, kind]) => kind === word).map(([, , pid]) => Number(pid));
  return { pid: of('session')[0] ?? 1, dead: new Set(of('dead')) };
}
