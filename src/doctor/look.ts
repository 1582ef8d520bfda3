/** One look at a machine for the doctor, over its shell. Changes nothing there. */
import type { Shell } from '../host/shell.ts';
import { askFacts } from '../qemu/facts.ts';
import type { Examined } from './checks.ts';
import { type MachineRequest, machineFacts } from './machine.ts';
import { serviceState } from './service.ts';

export async function lookAtMachine(
  shell: Shell,
  request: MachineRequest,
  signal: AbortSignal,
): Promise<Pick<Examined, 'machine' | 'facts' | 'service'>> {
  const [machine, facts, service] = await Promise.all([
    machineFacts(shell, request, signal),
    askFacts(shell, signal),
    serviceState(shell, signal),
  ]);
  return { machine, facts, service };
}
