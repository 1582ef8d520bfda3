/** What a host can do: QEMU versions, firmware, KVM, size. Asked again only when the binaries change. */
import { randomBytes } from 'node:crypto';
import type { Architecture } from '../api/virtual-machine.ts';
import type { Shell } from '../host/shell.ts';
import type { HostFacts, QemuFacts } from '../reconcile/observed.ts';
import { TRAITS } from './architectures.ts';
import { probeKvm } from './kvm-probe.ts';
import { BRIDGE_HELPERS } from './probe-script.ts';

const SCRIPT = `
LC_ALL=C; export LC_ALL
nonce=$1; shift
s() { printf '@%s %s\\n' "$nonce" "$*"; }
s host; uname -srm; id -u; nproc; grep MemTotal /proc/meminfo
s os; grep '^PRETTY_NAME=' /etc/os-release 2>/dev/null
for c in qemu-system-x86_64 qemu-system-aarch64; do
  command -v $c >/dev/null || continue
  # Its greeting has the version: each start of a QEMU takes most of the time of the other.
  answers=$(printf '{"execute":"%s"}\\n' qmp_capabilities query-machines quit |
    timeout 5 $c -machine none -nodefaults -no-user-config -display none -qmp stdio 2>/dev/null)
  s machines $c; printf '%s\\n' "$answers"
  case $answers in *'"QMP"'*) ;; *) s version $c; $c -version </dev/null 2>&1 | head -n 1 ;; esac
done
command -v qemu-img >/dev/null && s qemu-img
for h in ${BRIDGE_HELPERS.join(' ')}; do [ -u $h ] && [ -x $h ] && { s helper; echo $h; }; done
s files; for f in "$@"; do [ -r "$f" ] && printf '%s\\n' "$f"; done
for f in /etc/qemu/firmware/*.json /usr/share/qemu/firmware/*.json; do
  [ -r "$f" ] && { s descriptor; cat "$f"; echo; }
done
s end
`;

const TIMEOUT_MS = 10_000;
const KIB = 1024;

export async function askFacts(shell: Shell, signal: AbortSignal): Promise<HostFacts> {
  const nonce = randomBytes(6).toString('hex');
  const known = Object.values(TRAITS).flatMap(({ knownFirmware }) =>
    knownFirmware.flatMap(({ code, variables }) => [code, variables]),
  );
  // At once: a host may be far away.
  const [result, kvm] = await Promise.all([
    shell.run(SCRIPT, [nonce, ...known], { timeoutMs: TIMEOUT_MS, signal }),
    probeKvm(shell, signal),
  ]);
  const facts = parseFacts(result.stdout.toString('utf8'), nonce);
  if (facts.architecture === 'x86_64' ? facts.qemu.x86_64 === undefined : facts.qemu.arm64 === undefined) {
    return {
      ...facts,
      kvm: {
        works: false,
        reason: `${facts.architecture === 'x86_64' ? 'qemu-system-x86_64' : 'qemu-system-aarch64'} is not installed`,
      },
    };
  }
  return { ...facts, kvm };
}

export function parseFacts(text: string, nonce: string): HostFacts {
  const sections = text
    .split(`@${nonce} `)
    .slice(1)
    .map((section) => {
      const end = section.indexOf('\n');
      return { name: section.slice(0, end), body: section.slice(end + 1) };
    });
  const body = (name: string) => sections.find((section) => section.name === name)?.body ?? '';
  const [uname = '', uid = '', cpus = '', memory = ''] = body('host').split('\n');
  const words = uname.split(' ');
  const [helper = ''] = body('helper').split('\n');
  const readable = new Set(body('files').split('\n'));
  const descriptors = sections.filter(({ name }) => name === 'descriptor').map((section) => section.body);
  const qemu: Partial<Record<Architecture, QemuFacts>> = {};
  for (const [architecture, { command }] of Object.entries(TRAITS) as [Architecture, (typeof TRAITS)[Architecture]][]) {
    const answers = body(`machines ${command}`).split('\n');
    const version =
      greetedVersion(answers[0] ?? '') ?? /version (\d+\.\d+(?:\.\d+)?)/.exec(body(`version ${command}`))?.[1];
    if (version !== undefined)
      qemu[architecture] = {
        command,
        version,
        maxVcpus: maxVcpusOf(answers.find((line) => line.includes('"cpu-max"')) ?? '', TRAITS[architecture].machine),
        uefi: firmwareOf(architecture, readable, descriptors),
      };
  }
  return {
    os: (/PRETTY_NAME="?([^"\n]*)/.exec(body('os'))?.[1] ?? '').slice(0, 128),
    kernel: words.slice(0, 2).join(' ').slice(0, 128),
    architecture: words.at(-1) ?? '',
    cpus: Number(cpus),
    memoryBytes: Number(/(\d+)/.exec(memory)?.[1] ?? 0) * KIB,
    uid: Number(uid),
    qemu,
    qemuImg: sections.some(({ name }) => name === 'qemu-img'),
    ...(helper === '' ? {} : { bridgeHelper: helper }),
    kvm: { works: false, reason: 'not tried yet' },
  };
}

/** Of QMP's greeting; undefined where there is none. */
function greetedVersion(greeting: string): string | undefined {
  try {
    const { major, minor, micro } = (
      JSON.parse(greeting) as { QMP: { version: { qemu: Record<'major' | 'minor' | 'micro', number> } } }
    ).QMP.version.qemu;
    return [major, minor, micro].every(Number.isInteger) ? `${major}.${minor}.${micro}` : undefined;
  } catch {
    return undefined;
  }
}

/** QMP's answer to query-machines; undefined where QEMU gave none that can be read. */
function maxVcpusOf(answer: string, machine: string): number | undefined {
  try {
    const machines = (JSON.parse(answer) as { return: { name: string; alias?: string; 'cpu-max': number }[] }).return;
    return machines.find(({ name, alias }) => alias === machine || name === machine)?.['cpu-max'];
  } catch {
    return undefined;
  }
}

/** Known places first: descriptors rank secure-boot builds, which refuse unsigned guests, before plain ones. */
function firmwareOf(
  architecture: Architecture,
  readable: ReadonlySet<string>,
  descriptors: readonly string[],
): QemuFacts['uefi'] {
  const known = TRAITS[architecture].knownFirmware.find(
    ({ code, variables }) => readable.has(code) && readable.has(variables),
  );
  if (known !== undefined) return { ...known, format: 'raw' };
  for (const text of descriptors) {
    const firmware = fromDescriptor(text, TRAITS[architecture].qemuName);
    if (firmware !== undefined) return firmware;
  }
  return undefined;
}

interface FirmwareDescriptor {
  readonly 'interface-types'?: readonly string[];
  readonly features?: readonly string[];
  readonly targets?: readonly { readonly architecture?: string }[];
  readonly mapping?: {
    readonly device?: string;
    readonly executable?: { readonly filename?: string; readonly format?: string };
    readonly 'nvram-template'?: { readonly filename?: string };
  };
}

/** Source: QEMU's docs/interop/firmware.json. */
function fromDescriptor(text: string, target: string): QemuFacts['uefi'] {
  let descriptor: FirmwareDescriptor;
  try {
    descriptor = JSON.parse(text) as FirmwareDescriptor;
  } catch {
    return undefined;
  }
  const { mapping, features, targets } = descriptor;
  if (!descriptor['interface-types']?.includes('uefi') || !targets?.some(({ architecture }) => architecture === target))
    return undefined;
  if (features?.includes('secure-boot') || features?.includes('requires-smm') || mapping?.device !== 'flash')
    return undefined;
  const code = mapping.executable?.filename;
  const variables = mapping['nvram-template']?.filename;
  return code === undefined || variables === undefined
    ? undefined
    : { code, variables, format: mapping.executable?.format ?? 'raw' };
}
