/** What the quickstart shows of its machine: live figures, and the last lines of its console. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Manifest, parseManifest } from '../api/admission.ts';
import { NotFoundError } from '../api/errors.ts';
import { API_VERSION, DEFAULT_NAMESPACE } from '../api/meta.ts';
import type { Sample } from '../api/virtual-machine-monitor.ts';
import type { Shell } from '../host/shell.ts';
import { readLog } from '../streams/logs.ts';
import { type Context, print, throwIfInterrupted } from './context.ts';
import { CliError, EXIT } from './exit-codes.ts';
import type { Target } from './resources.ts';
import { sampleLines } from './sample-lines.ts';
import type { Session } from './session.ts';
import { waitFor } from './wait.ts';

const SAMPLES_MS = 30_000;
const LOOK_MS = 200;
const SHOWN_LINES = 9;
const PROMPT = /^linux:.*# ?$/;

/** The second sample of a monitor of its own: rates need two. */
export async function showFigures(context: Context, { store }: Session, vmName: string): Promise<void> {
  const name = `${vmName}-${randomBytes(3).toString('hex')}`;
  const target: Target<'VirtualMachineMonitor'> = {
    kind: 'VirtualMachineMonitor',
    ref: { namespace: DEFAULT_NAMESPACE, name },
  };
  const manifest = parseManifest({
    apiVersion: API_VERSION,
    kind: target.kind,
    metadata: target.ref,
    spec: {
      virtualMachineName: vmName,
      intervalSeconds: 1,
      until: new Date(Date.now() + 2 * SAMPLES_MS).toISOString(),
    },
  }) as Manifest<'VirtualMachineMonitor'>;
  await store.create(manifest);
  try {
    const sample = await waitFor<'VirtualMachineMonitor', Sample>(
      context,
      store,
      {
        target,
        judge: (monitor) => monitor?.status?.samples?.find(({ sequence }) => sequence > 1)?.sample,
        until: 'sampled twice',
        onStep: () => undefined,
      },
      SAMPLES_MS,
    );
    for (const line of sampleLines(sample)) print(context, `    ${line}`);
  } finally {
    await store.delete(target.kind, target.ref).catch((error: unknown) => {
      // Its VM was deleted meanwhile, and the monitor with it.
      if (!(error instanceof NotFoundError)) throw error;
    });
  }
}

export interface ConsolePlace {
  readonly shell: Shell;
  readonly folder: string;
}

/** Waits for the shell's prompt and shows what stands above it. @throws CliError timedOut */
export async function showConsole(
  context: Context,
  { shell, folder }: ConsolePlace,
  timeoutMs: number,
  advice: string,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    throwIfInterrupted(context);
    const text = await readLog(shell, folder, { source: 'console', signal: context.signal }).catch(logAbsent);
    const lines = text.trimEnd().split('\n');
    if (PROMPT.test(lines.at(-1) ?? '')) {
      for (const line of lines.slice(-SHOWN_LINES)) print(context, `    | ${line}`);
      return;
    }
    if (performance.now() > deadline)
      throw new CliError(EXIT.timedOut, `its shell did not come up within the time; see what it printed: ${advice}`);
    await sleep(LOOK_MS, undefined, { signal: context.signal }).catch(() => undefined);
  }
}

function logAbsent(error: unknown): string {
  if (error instanceof Error && error.name === 'LogAbsentError') return '';
  throw error;
}
