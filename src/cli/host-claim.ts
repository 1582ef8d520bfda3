/** host claim: a person's word on whose a VM folder is, or which machine a Host means. The controller acts on it. */
import type { Host } from '../api/host.ts';
import { ANNOTATIONS } from '../api/meta.ts';
import { afterChange } from './after-change.ts';
import { type Context, type Globals, print, withSession } from './context.ts';
import { CliError, EXIT, usageError } from './exit-codes.ts';
import { requireObject } from './resources.ts';
import type { Session } from './session.ts';
import type { WaitOptions } from './wait-options.ts';

export interface ClaimOptions extends Globals, WaitOptions {
  readonly takeOver?: boolean;
  readonly acceptMachine?: boolean;
}

const TIMEOUT_MS = 30_000;
/** Who claimed the folder: the store's uid, `none` where there is no marker; and which machine this is. */
const WHOSE = `
[ -d "$1" ] || { printf '%s does not exist\\n' "$1" >&2; return 1; }
uid=none
[ -e "$1/.qemu-operator.json" ] && uid=$(sed -n 's/.*"storeUID":"\\([^"]*\\)".*/\\1/p' "$1/.qemu-operator.json")
printf '@store %s\\n' "$uid"
printf '@machine %s\\n' "$(cat /etc/machine-id)"
`;

export async function claimHost(context: Context, name: string, options: ClaimOptions): Promise<void> {
  const { takeOver = false, acceptMachine = false } = options;
  if (!takeOver && !acceptMachine) throw usageError('say what to settle: --take-over or --accept-machine');
  await withSession(context, options, async (session) => {
    const { store } = session;
    const host = await requireObject(store, { kind: 'Host', ref: { name } });
    const { storeUID, machineID } = await whose(context, session, host);
    const annotations: Record<string, string> = {};
    if (acceptMachine) annotations[ANNOTATIONS.claimed] = machineID;
    if (takeOver && storeUID !== store.uid) annotations[ANNOTATIONS.takeOver] = storeUID;
    const changes = Object.entries(annotations).filter(([key, value]) => host.metadata.annotations?.[key] !== value);
    if (changes.length === 0) {
      print(context, `host/${name}: there is nothing to settle`);
      return;
    }
    await store.patch('Host', host.metadata, { metadata: { annotations } }, { uid: host.metadata.uid });
    if (acceptMachine) print(context, `host/${name}: machine ${machineID} is accepted`);
    if (ANNOTATIONS.takeOver in annotations)
      print(
        context,
        `host/${name}: ${host.spec.vmDir} is taken over${storeUID === 'none' ? ', without a marker' : ` from store ${storeUID}`}`,
      );
    await afterChange(context, session, [{ kind: 'Host', ref: { name } }], options);
  });
}

/** @throws CliError where the vmDir is not there, or its marker cannot be read */
export async function whose(
  { signal }: Pick<Context, 'signal'>,
  session: Pick<Session, 'shellFor'>,
  host: Host,
): Promise<{ readonly storeUID: string; readonly machineID: string }> {
  const { vmDir } = host.spec;
  const result = await session.shellFor(host).run(WHOSE, [vmDir], { timeoutMs: TIMEOUT_MS, signal });
  const said = result.stdout.toString('utf8');
  const [, storeUID] = /^@store (\S+)$/m.exec(said) ?? [];
  const [, machineID] = /^@machine (\S+)$/m.exec(said) ?? [];
  if (storeUID === undefined || machineID === undefined) {
    const why = result.stderr.toString('utf8').trim() || `the marker of ${vmDir} cannot be read`;
    throw new CliError(EXIT.failed, `host/${host.metadata.name}: ${why}`);
  }
  return { storeUID, machineID };
}
