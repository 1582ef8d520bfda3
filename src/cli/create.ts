/** create: a virtual machine from options, for those who want no manifest; one is written for them. */
import { readFileSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { type Manifest, parseManifest } from '../api/admission.ts';
import { messageOf, quoteValue } from '../api/errors.ts';
import { API_VERSION, DEFAULT_NAMESPACE } from '../api/meta.ts';
import { userName } from '../api/schema.ts';
import { ARCHITECTURES, type Architecture } from '../api/virtual-machine.ts';
import { afterChange } from './after-change.ts';
import { type Context, type Declare, examples, type Globals, print, tell, withSession } from './context.ts';
import { usageError } from './exit-codes.ts';
import { yamlText } from './output.ts';
import { nameOf, type Target } from './resources.ts';
import { addWaitOptions, type WaitOptions } from './wait-options.ts';

interface CreateOptions extends Globals, WaitOptions {
  readonly image?: string;
  readonly checksum?: string;
  readonly diskSize?: string;
  readonly iso?: string;
  readonly arch?: Architecture;
  readonly vcpus?: string;
  readonly memory?: string;
  readonly firmware?: string;
  readonly sshKey?: true | readonly string[];
  readonly user?: string;
  readonly userData?: string;
  readonly forward?: readonly string[];
  readonly bridge?: string;
  readonly host: string;
  readonly off?: boolean;
  readonly dryRun?: boolean;
}

/** In this order, as ssh itself prefers them. */
const OWN_KEYS = ['id_ed25519.pub', 'id_ecdsa.pub', 'id_rsa.pub'];
const DEFAULT_DISK_SIZE = '20Gi';
/** Far more than a public key has. */
const MAX_KEY_FILE = 65_536;

export const declareCreate: Declare = (command, context) => {
  command
    .argument('<name>', 'name of the virtual machine')
    .option('--image <url|path>', 'disk image to copy, qcow2 or raw: an https URL, or a file of the host')
    .option('--checksum <sum>', 'sha256:... or sha512:... of the image; required for http URLs')
    .option('--disk-size <size>', `size of the disk (default: the image's; without one ${DEFAULT_DISK_SIZE})`)
    .option('--iso <path>', 'installer or live ISO image on the host')
    .addOption(new Option('--arch <arch>', "guest architecture (default: this machine's)").choices(ARCHITECTURES))
    .option('--vcpus <count>', 'virtual CPUs (default: 2)')
    .option('--memory <size>', 'memory (default: 2Gi)')
    .addOption(new Option('--firmware <type>', "BIOS or UEFI (default: the architecture's)").choices(['BIOS', 'UEFI']))
    .option('--ssh-key [file...]', 'public keys that may log in, by cloud-init (default file: your own)')
    .option(
      '--user <name>',
      "user of the guest whom the keys let in (default: your own name; the image's with --user-data)",
    )
    .option('--user-data <file>', 'user data for cloud-init; - for stdin')
    .option('--forward <ports...>', 'ports of the host that lead to the guest: [[ADDRESS:]HOSTPORT:]GUESTPORT')
    .option('--bridge <name>', 'bridge of the host to join, instead of user networking')
    .addOption(new Option('--host <name>', 'Host that runs it').default('localhost'))
    .option('--off', 'leave it switched off')
    .option('--dry-run', 'print the manifest and write nothing');
  addWaitOptions(command, 'wait until it runs (default: only where no controller runs)');
  command.action(async (name: string, _options, self: Command) =>
    create(context, name, self.optsWithGlobals<CreateOptions>()),
  );
  examples(command, [
    [
      'A machine to log in to, with your own key and name: ssh web-1',
      'create web-1 --image https://example.org/debian-13.qcow2 --disk-size 20Gi --ssh-key',
    ],
    ['An empty disk and an installer', 'create win-1 --iso /data/iso/installer.iso --disk-size 64Gi --firmware UEFI'],
    ['Only the manifest', 'create web-1 --image /images/base.qcow2 --forward 8080:80 --dry-run > web-1.yaml'],
  ]);
};

async function create(context: Context, name: string, options: CreateOptions): Promise<void> {
  const spec = await specOf(context, options);
  const metadata = { name, namespace: options.namespace ?? DEFAULT_NAMESPACE };
  const document = { apiVersion: API_VERSION, kind: 'VirtualMachine', metadata, spec };
  const manifest = parseManifest(document) as Manifest<'VirtualMachine'>;
  if (options.dryRun === true) {
    context.stdout.write(yamlText(document));
    return;
  }
  await withSession(context, options, async (session) => {
    const vm = await session.store.create(manifest, { asWritten: spec });
    const target: Target = { kind: 'VirtualMachine', ref: vm.metadata };
    print(context, `${nameOf(target)} created`);
    await afterChange(context, session, [target], options);
    const who = vm.spec.cloudInit?.user === undefined ? 'USER@' : '';
    if (options.sshKey !== undefined && options.off !== true)
      tell(context, `to log in, also while the guest still boots: ${context.invokedAs} ssh ${who}${name}`);
  });
}

type Fields = Readonly<Record<string, unknown>>;

/** Only what was said: the defaults stay the API's. */
async function specOf(context: Context, options: CreateOptions): Promise<Fields> {
  const { image, checksum, diskSize, iso, vcpus, memory, firmware, host, off } = options;
  if (checksum !== undefined && image === undefined) throw usageError('--checksum is of an image: give --image too');
  const size = diskSize ?? (image === undefined ? DEFAULT_DISK_SIZE : undefined);
  const source = image === undefined ? undefined : { [/^[a-z]+:/i.test(image) ? 'url' : 'path']: image };
  return defined({
    hostName: host,
    architecture: options.arch ?? ownArchitecture(),
    powerState: off === true ? 'PoweredOff' : undefined,
    vcpus: vcpus !== undefined && /^\d+$/.test(vcpus) ? Number(vcpus) : vcpus,
    memory,
    firmware: firmware === undefined ? undefined : { type: firmware },
    disks: [defined({ name: 'root', size, image: source && defined({ ...source, checksum }) })],
    cdroms: iso === undefined ? undefined : [{ name: 'install', path: iso }],
    networks: networksOf(options),
    cloudInit: await cloudInitOf(context, options),
  });
}

function ownArchitecture(): Architecture {
  return process.arch === 'arm64' ? 'arm64' : 'x86_64';
}

function networksOf({ forward, bridge }: CreateOptions): readonly Fields[] | undefined {
  if (bridge !== undefined && forward !== undefined)
    throw usageError('--forward needs user networking: a guest on a bridge has an address of its own');
  if (bridge !== undefined) return [{ name: 'net0', bridge: { name: bridge } }];
  return forward && [{ name: 'net0', user: { hostForwards: forward.map(forwardOf) } }];
}

function forwardOf(words: string): Fields {
  const match = /^(?:(?:([0-9.]+):)?(\d{1,5}):)?(\d{1,5})(?:\/(tcp|udp))?$/i.exec(words);
  if (match === null)
    throw usageError(`--forward ${quoteValue(words)}: must be [[ADDRESS:]HOSTPORT:]GUESTPORT, such as 8080:80`);
  const [, hostAddress, hostPort, guestPort, protocol] = match;
  return defined({
    protocol: protocol?.toUpperCase(),
    hostAddress,
    hostPort: hostPort === undefined ? undefined : Number(hostPort),
    guestPort: Number(guestPort),
  });
}

async function cloudInitOf(context: Context, options: CreateOptions): Promise<Fields | undefined> {
  const { sshKey, userData, user = defaultUser(options) } = options;
  if (sshKey === undefined && userData === undefined && user === undefined) return undefined;
  return defined({
    user,
    userData: userData === undefined ? undefined : await textOf(context, '--user-data', userData),
    sshAuthorizedKeys: sshKey === undefined ? undefined : keysOf(sshKey === true ? [ownKey(context)] : sshKey),
  });
}

/** The person's own name, as ssh takes it; undefined where no guest would, and where their user data has users of its own. */
function defaultUser({ sshKey, userData }: CreateOptions): string | undefined {
  if (sshKey === undefined || userData !== undefined) return undefined;
  const own = ownName();
  return userName().safeParse(own).success ? own : undefined;
}

/** As the system has it; a container may run under a number that has no name. */
function ownName(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    return undefined;
  }
}

async function textOf({ stdin }: Context, option: string, file: string): Promise<string> {
  if (file !== '-') return readWords(option, file);
  let text = '';
  for await (const chunk of stdin) text += String(chunk);
  return text;
}

function readWords(option: string, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw usageError(`${option}: ${messageOf(error)}`);
  }
}

/** Path of the person's own public key. */
function ownKey({ env }: Context): string {
  const folder = join(env['HOME'] ?? homedir(), '.ssh');
  const found = OWN_KEYS.map((file) => join(folder, file)).find((file) => isReadable(file));
  if (found !== undefined) return found;
  throw usageError(`--ssh-key: no ${OWN_KEYS.join(', ')} in ${folder}; name a file, or make a key: ssh-keygen`);
}

function isReadable(file: string): boolean {
  try {
    readFileSync(file);
    return true;
  } catch {
    return false;
  }
}

/** One key per line, as in authorized_keys. A private key must not get into a manifest. */
function keysOf(files: readonly string[]): string[] {
  return files.flatMap((file) => {
    const text = readWords('--ssh-key', file);
    if (text.includes('PRIVATE KEY'))
      throw usageError(`--ssh-key: ${file} is a private key; name the public one: ${file}.pub`);
    if (text.length > MAX_KEY_FILE) throw usageError(`--ssh-key: ${file} is too large for public keys`);
    return text
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '' && !line.startsWith('#'));
  });
}

function defined(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
