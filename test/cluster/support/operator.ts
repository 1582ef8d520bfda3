/** The operator as a process of its own, as its container runs it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { MAIN, Running } from '../../e2e/support/cli-rig.ts';
import type { OnFinished } from '../../e2e/support/rig.ts';
import type { TestCluster } from './test-cluster.ts';

/**
 * @param words more of `run`
 * @param kubeconfig whose rights it has; default: an administrator's
 * @param main of other sources than these
 */
export async function startOperator(
  onFinished: OnFinished,
  cluster: TestCluster,
  words: readonly string[] = [],
  kubeconfig = cluster.kubeconfig,
  main = MAIN,
): Promise<Running> {
  // Others run beside it: no fixed ports unless asked for.
  const closed = ['--metrics-bind-address', '0', '--health-probe-bind-address', '0'];
  const place = ['--store', 'kubernetes', '--kubeconfig', kubeconfig];
  const run = Object.entries(process.env).filter(([name]) => name.startsWith('QEMU_OPERATOR_TEST'));
  const child = spawn(process.execPath, [main, ...place, 'run', '--log-format', 'json', ...closed, ...words], {
    cwd: '/',
    env: { ...Object.fromEntries(run), PATH: process.env['PATH'] ?? '', HOME: cluster.folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const operator = new Running(child, undefined);
  onFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  await operator.says(/controller started/);
  return operator;
}
