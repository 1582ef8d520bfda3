/**
 * The sample Linux guest with an SSH server: Debian's dropbear and its libraries laid over its first file system. As a
 * cloud image it knows nobody, and takes name, user, keys and a script from the NoCloud seed.
 */
import { execFile } from 'node:child_process';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { linuxGuest } from './linux.ts';

const run = promisify(execFile);
const PACKAGES = ['dropbear-bin', 'libtomcrypt1', 'libtommath1', 'libgmp10', 'zlib1g', 'libcrypt1', 'libc6'];
const NEEDED =
  /\/(dropbear|ld-linux-x86-64\.so\.2|lib(tomcrypt|tommath|gmp|z|crypt|c)\.so\.\d+)$|\/lib(gmp|z|crypt|tomcrypt|tommath)[.-][^/]*so[^/]*$|\/ld-[^/]*\.so[^/]*$|\/libc[.-][^/]*so[^/]*$/;

/** A file of an archive: its content and mode. */
interface Entry {
  readonly path: string;
  readonly mode: number;
  readonly content: Buffer;
}

const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;

/** The `newc` format, which Linux unpacks one after the other over its first file system. Source: cpio(5). */
function archive(entries: readonly Entry[]): Buffer {
  const field = (value: number) => value.toString(16).toUpperCase().padStart(8, '0');
  const padded = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
  const member = ({ path, mode, content }: Entry, inode: number) => {
    const name = Buffer.from(`${path}\0`);
    const numbers = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
    const head = Buffer.concat([Buffer.from(`070701${numbers.map(field).join('')}`), name]);
    return Buffer.concat([padded(head), padded(content)]);
  };
  const trailer = { path: 'TRAILER!!!', mode: 0, content: Buffer.alloc(0) };
  return Buffer.concat([...entries, trailer].map((entry, index) => member(entry, index + 1)));
}

const folder = (path: string, mode = 0o755): Entry => ({ path, mode: S_IFDIR | mode, content: Buffer.alloc(0) });
const file = (path: string, content: string | Buffer, mode = 0o644): Entry => ({
  path,
  mode: S_IFREG | mode,
  content: Buffer.from(content),
});

/** dropbear under its own loader and libraries, all in one folder: the guest has no others. */
function serverFiles(extracted: string): Entry[] {
  const found = readdirSync(extracted, { recursive: true, encoding: 'utf8' }).filter((path) => NEEDED.test(`/${path}`));
  const files = new Map<string, Buffer>();
  for (const path of found) {
    const name = path.slice(path.lastIndexOf('/') + 1);
    const real = realpathSync(join(extracted, path));
    if (statSync(real).isFile()) files.set(name, readFileSync(real));
  }
  return [folder('ssh'), ...[...files].map(([name, content]) => file(`ssh/${name}`, content, 0o755))];
}

/** dropbear runs itself anew for each connection: by the variable it finds its libraries then as well. */
const START = `#!/bin/sh
LD_LIBRARY_PATH=/ssh; export LD_LIBRARY_PATH
exec /ssh/ld-linux-x86-64.so.2 /ssh/dropbear -F -E -s -R -P /run/dropbear.pid
`;

/** As build-linux-guest.sh has it, and the server beside the shell; its host key is made anew at each boot. */
function inittab(...more: readonly string[]): Entry {
  const lines = ['::sysinit:/etc/rc', ...more, 'ttyS0::respawn:-/bin/sh', '::respawn:/ssh/start', ACPI, ''];
  return file('etc/inittab', lines.join('\n'));
}

const ACPI = '::respawn:/sbin/acpid -f -c /etc/acpi -a /etc/acpid.conf -l /var/log/acpid.log';
const SERVER = [file('ssh/start', START, 0o755), folder('etc/dropbear')];

function owned(publicKey: string): Entry[] {
  const keys = file('root/.ssh/authorized_keys', publicKey, 0o600);
  return [inittab(), ...SERVER, folder('root', 0o700), folder('root/.ssh', 0o700), keys];
}

/** What these tests need of cloud-init. The user of the image is called debian. */
const SEED = `#!/bin/sh
mkdir -p /seed
# The kernel finds disks by and by.
for second in 1 2 3 4 5 6 7 8 9; do
  seed=$(findfs LABEL=cidata) && mount -o ro "$seed" /seed && break
  sleep 1
done
value() { sed -n "s/^$2: \\"\\(.*\\)\\"$/\\1/p" "/seed/$1"; }
hostname "$(value meta-data local-hostname)"
user=$(value user-data '  name'); user=\${user:-debian}
home=/home/$user
case $user in
  root) home=/root; grep -q '^disable_root: false$' /seed/user-data || exit 0 ;;
  *) echo "$user:x:1000:1000::$home:/bin/sh" >>/etc/passwd; echo "$user:x:1000:" >>/etc/group ;;
esac
mkdir -p "$home/.ssh"
sed -n '/^public-keys:/,$s/^  - "\\(.*\\)"$/\\1/p' /seed/meta-data >"$home/.ssh/authorized_keys"
chown -R "$user" "$home"
chmod -R go= "$home"
case $(head -c 2 /seed/user-data) in '#!') cp /seed/user-data /run/script; chmod 700 /run/script; /run/script ;; esac
`;

/** @param agent whether the guest agent runs */
function seeded(agent: boolean): Entry[] {
  const more = agent ? ['::once:/etc/agent'] : [];
  return [inittab('::sysinit:/etc/seed', ...more), ...SERVER, file('etc/seed', SEED, 0o755), folder('home')];
}

const SYSLINUX = `DEFAULT linux
PROMPT 0
LABEL linux
  KERNEL vmlinuz
  INITRD initrd.gz,server.gz,settings.gz
  APPEND console=ttyS0,115200 quiet panic=0 net.ifnames=0
`;

async function server(): Promise<string> {
  const cached = join(dirname(await linuxGuest()), 'dropbear-1.gz');
  try {
    statSync(cached);
    return cached;
  } catch {
    // Built below.
  }
  const work = mkdtempSync(join(tmpdir(), 'qo-ssh-'));
  try {
    await run('apt-get', ['-qq', '-o', 'APT::Sandbox::User=root', 'download', ...PACKAGES], { cwd: work });
    for (const name of readdirSync(work).filter((one) => one.endsWith('.deb')))
      await run('dpkg-deb', ['-x', join(work, name), join(work, 'all')]);
    const made = join(work, 'server.gz');
    writeFileSync(made, gzipSync(archive(serverFiles(join(work, 'all')))));
    await run('mv', [made, `${cached}.${process.pid}`]);
    renameSync(`${cached}.${process.pid}`, cached);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return cached;
}

/**
 * Makes the disk of a guest that lets the owner of the key in as root.
 * @param path the raw image to make
 */
export async function writeSshGuest(path: string, publicKey: string): Promise<void> {
  await write(path, owned(publicKey));
}

/**
 * Makes a cloud image: a guest that nobody knows until it has read its seed.
 * @param path the qcow2 image to make
 */
export async function writeCloudGuest(path: string, options: { readonly agent: boolean }): Promise<void> {
  await write(`${path}.raw`, seeded(options.agent));
  await run('qemu-img', ['convert', '-q', '-f', 'raw', '-O', 'qcow2', `${path}.raw`, path]);
  rmSync(`${path}.raw`);
}

async function write(path: string, settings: readonly Entry[]): Promise<void> {
  const [image, overlay] = [await linuxGuest(), await server()];
  await run('qemu-img', ['convert', '-q', '-O', 'raw', image, path]);
  const parts = { 'settings.gz': gzipSync(archive(settings)), 'syslinux.cfg': SYSLINUX };
  const env = { ...process.env, MTOOLS_SKIP_CHECK: '1' };
  await run('mcopy', ['-o', '-i', path, overlay, '::server.gz'], { env });
  for (const [name, content] of Object.entries(parts)) {
    writeFileSync(`${path}.part`, content);
    await run('mcopy', ['-o', '-i', path, `${path}.part`, `::${name}`], { env });
  }
  rmSync(`${path}.part`);
}
