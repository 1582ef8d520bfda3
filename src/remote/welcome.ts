/** The first login to a machine: whether it lets us in, which key it shows, and where VMs may lie there. */
import { oneLine } from '../api/errors.ts';
import { DEFAULT_VM_DIR } from '../api/host.ts';
import type { Attempt, Welcome } from '../api/host-ssh.ts';
import type { Login } from '../host/shell.ts';

const TIMEOUT_MS = 30_000;

/**
 * $1: the folder, or nothing; then the default one where the user may use it, else one of its own. Printed: the folder,
 * then the QEMU commands that are there.
 */
const WELCOME = `
dir=$1 usual=$2
if [ -z "$dir" ]; then
  if [ -w "$usual" ] || { ! [ -e "$usual" ] && [ -w "\${usual%/*}" ]; }; then dir=$usual
  else dir=\${XDG_DATA_HOME:-$HOME/.local/share}/qemu-operator; fi
fi
printf '@dir %s\\n' "$dir"
for name in qemu-system-x86_64 qemu-system-aarch64; do
  command -v "$name" >/dev/null 2>&1 && printf '@has %s\\n' "$name"
done
:
`;

/** @throws HostUnreachableError and its kin: CredentialsInvalidError, HostKeyRefusedError */
export async function welcome(
  open: (attempt: Attempt) => Login,
  attempt: Omit<Attempt, 'onNewKey'>,
  { vmDir, signal }: { readonly vmDir?: string | undefined; readonly signal: AbortSignal },
): Promise<Welcome> {
  const newKeys: string[] = [];
  const login = open({ ...attempt, onNewKey: (key) => void newKeys.push(key) });
  try {
    const { stdout } = await login.shell.run(WELCOME, [vmDir ?? '', DEFAULT_VM_DIR], { timeoutMs: TIMEOUT_MS, signal });
    const said = stdout.toString('utf8');
    const dir = /^@dir (\/.*)$/m.exec(said)?.[1];
    if (dir === undefined) throw new Error(`${attempt.name} gave no answer that makes sense: ${oneLine(said, 200)}`);
    return { vmDir: dir, user: await login.user(), newKeys, hasQemu: /^@has /m.test(said) };
  } finally {
    await login.close();
  }
}
