/** Disks made from images: fetched once, verified, copied, converted, grown; every way a server can fail. */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { findCondition } from '../../src/api/conditions.ts';
import { IMAGES_FOLDER } from '../../src/api/effective-spec.ts';
import { tinyDisk } from '../guests/tiny.ts';
import { type ImageServer, selfSigned, serveImages } from './support/image-server.ts';
import { imageInfo } from './support/images.ts';
import { processesNaming } from './support/process.ts';
import { type OnFinished, Rig, readyOf } from './support/rig.ts';
import { pathWithout, TestShell } from './support/stand-ins.ts';
import { until } from './support/wait.ts';

const MIB = 2 ** 20;
const NEVER_SOON = { failureBackoffMs: { first: 300, max: 2_000 } };

function sum(body: Buffer, algorithm: 'sha256' | 'sha512' = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(body).digest('hex')}`;
}

/** The tiny guest with content behind it that nothing compresses. */
function bigImage(bytes = 4 * MIB): Buffer {
  const body = randomBytes(bytes);
  tinyDisk().copy(body, 0, 0, 512);
  return body;
}

/** What a guest would read, whatever the format. */
function rawOf(rig: Rig, path: string): Buffer {
  const out = rig.path(`raw-${randomBytes(4).toString('hex')}`);
  execFileSync('qemu-img', ['convert', '-U', '-O', 'raw', path, out]);
  return readFileSync(out);
}

function jobFiles(rig: Rig, name: string): string[] {
  return readdirSync(rig.folder(name)).filter((file) => file.startsWith('job.') || file.includes('.creating-'));
}

function kept(rig: Rig): string[] {
  const folder = join(rig.vmDir, IMAGES_FOLDER);
  return existsSync(folder) ? readdirSync(folder).filter((file) => !file.endsWith('.lock')) : [];
}

async function served(onFinished: OnFinished): Promise<{ rig: Rig; server: ImageServer }> {
  return { rig: await Rig.start(onFinished, { loop: NEVER_SOON }), server: await serveImages(onFinished) };
}

const root = (image: object, more: object = {}) => ({ disks: [{ name: 'root', image, ...more }] });

describe.concurrent('an image', () => {
  test('by URL is fetched, converted, grown and booted; a second VM has it from the host', async ({
    onTestFinished,
  }) => {
    const { rig, server } = await served(onTestFinished);
    const body = bigImage();
    server.images.set('/tiny.raw', { body });
    const image = { url: `${server.url}/tiny.raw`, checksum: sum(body) };
    await rig.create('web-1', root(image, { size: '16Mi' }));
    await rig.untilRunning('web-1');
    await rig.untilPrinted('web-1', 'TINY');
    const path = join(rig.folder('web-1'), 'root.qcow2');
    expect(imageInfo(path)).toMatchObject({ format: 'qcow2', 'virtual-size': 16 * MIB });
    expect(imageInfo(path)).not.toHaveProperty('backing-filename');
    await rig.create('web-2', root({ ...image, checksum: sum(body) }, { format: 'raw' }));
    await rig.untilRunning('web-2');
    expect(imageInfo(join(rig.folder('web-2'), 'root.raw'))).toMatchObject({ format: 'raw', 'virtual-size': 4 * MIB });
    expect(server.requests).toEqual(['/tiny.raw']);
    expect(kept(rig)).toEqual([sum(body).replace(':', '-')]);
    expect([jobFiles(rig, 'web-1'), jobFiles(rig, 'web-2')]).toEqual([['job.lock'], ['job.lock']]);
    const [second] = (await rig.vm('web-2')).status?.disks ?? [];
    expect(second).toMatchObject({ state: 'Created', virtualSize: '4Mi', reclaim: 'Delete' });
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect(existsSync(rig.folder('web-1'))).toBe(false);
  });

  test('by path is copied byte for byte and never touched, with sha512', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const body = bigImage();
    const base = rig.path('images', 'base.qcow2');
    writeFileSync(rig.path('images', 'base.raw'), body);
    execFileSync('qemu-img', ['convert', '-O', 'qcow2', '-c', rig.path('images', 'base.raw'), base]);
    const before = readFileSync(base);
    await rig.create('web-1', { ...root({ path: base, checksum: sum(before, 'sha512') }), powerState: 'PoweredOn' });
    await rig.untilRunning('web-1');
    await rig.edit('web-1', { powerState: 'ForcedOff' });
    await rig.untilSettled('web-1', 'Stopped');
    const copy = rawOf(rig, join(rig.folder('web-1'), 'root.qcow2'));
    expect(copy.subarray(MIB).equals(body.subarray(MIB))).toBe(true);
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect(readFileSync(base).equals(before)).toBe(true);
  });

  test('over https from a server that the host trusts; a redirection to http is not followed', async ({
    onTestFinished,
  }) => {
    const rig = await Rig.start(onTestFinished);
    const tls = selfSigned(rig.root);
    process.env['CURL_CA_BUNDLE'] = tls.certFile;
    const server = await serveImages(onTestFinished, tls);
    const plain = await serveImages(onTestFinished);
    const body = bigImage();
    server.images.set('/moved', { body, redirectTo: '/tiny.raw' });
    server.images.set('/tiny.raw', { body });
    server.images.set('/down', { body, redirectTo: `${plain.url}/tiny.raw` });
    plain.images.set('/tiny.raw', { body });
    await rig.create('web-1', root({ url: `${server.url}/moved` }));
    await rig.untilRunning('web-1');
    expect(server.requests).toEqual(['/moved', '/tiny.raw']);
    expect(kept(rig)).toEqual([sum(body).replace(':', '-')]);
    await rig.create('web-2', root({ url: `${server.url}/down` }));
    expect(readyOf(await rig.untilReason('web-2', 'ImageDownloadFailed'))?.message).toMatch(/http/);
    expect(plain.requests).toEqual([]);
  });

  test('many VMs of one image are one download', async ({ onTestFinished }) => {
    const { rig, server } = await served(onTestFinished);
    const body = bigImage();
    server.images.set('/tiny.raw', { body, pace: 512 * 1024 });
    const names = ['web-1', 'web-2', 'web-3'];
    for (const name of names) await rig.create(name, root({ url: `${server.url}/tiny.raw`, checksum: sum(body) }));
    for (const name of names) await rig.untilRunning(name);
    expect(server.requests).toEqual(['/tiny.raw']);
  });
});

describe.concurrent('a download', () => {
  test('shows how far it is, survives its controller, and is not begun again', async ({ onTestFinished }) => {
    const { rig, server } = await served(onTestFinished);
    const body = bigImage();
    server.images.set('/slow.raw', { body, pace: 64 * 1024 });
    await rig.create('web-1', root({ url: `${server.url}/slow.raw?token=hidden`, checksum: sum(body) }));
    server.images.set('/slow.raw?token=hidden', { body, pace: 64 * 1024 });
    const vm = await rig.until('web-1', 'progress', ({ status }) =>
      / of 4Mi, [1-9]\d* %\)/.test(findCondition(status?.conditions, 'Ready')?.message ?? ''),
    );
    expect([readyOf(vm)?.reason, vm.status?.phase]).toEqual(['ImageDownloading', 'Provisioning']);
    await rig.stopController();
    rig.startController();
    await rig.untilRunning('web-1');
    expect(server.requests).toEqual(['/slow.raw?token=hidden']);
    const history = (await rig.vm('web-1')).status?.history ?? [];
    expect(history.filter(({ message }) => / %/.test(message))).toEqual([]);
    expect(JSON.stringify(await rig.vm('web-1')).split('token=hidden')).toHaveLength(2);
  });

  test('that is cut goes on where it was; one that the host lost as well', async ({ onTestFinished }) => {
    const { rig, server } = await served(onTestFinished);
    const body = bigImage();
    server.images.set('/cut.raw', { body, cutAfter: MIB, cuts: 1 });
    await rig.create('web-1', root({ url: `${server.url}/cut.raw`, checksum: sum(body) }));
    await rig.untilRunning('web-1', 60_000);
    expect(server.requests).toEqual(['/cut.raw', `/cut.raw bytes=${MIB}-`]);
    server.images.set('/slow.raw', { body: bigImage(), pace: 128 * 1024 });
    const slow = server.images.get('/slow.raw')?.body ?? body;
    await rig.create('web-2', root({ url: `${server.url}/slow.raw`, checksum: sum(slow) }));
    await rig.until('web-2', 'it flows', (vm) => / of 4Mi/.test(readyOf(vm)?.message ?? ''));
    const job = JSON.parse(readFileSync(join(rig.folder('web-2'), 'job.json'), 'utf8')) as { pid: number };
    process.kill(-job.pid, 'SIGKILL');
    await rig.untilRunning('web-2', 60_000);
    expect(server.requests.at(-1)).toMatch(/^\/slow\.raw bytes=\d+-$/);
    expect(
      rawOf(rig, join(rig.folder('web-2'), 'root.qcow2'))
        .subarray(MIB)
        .equals(slow.subarray(MIB)),
    ).toBe(true);
  });

  test('from a server without ranges begins anew', async ({ onTestFinished }) => {
    const { rig, server } = await served(onTestFinished);
    const body = bigImage();
    server.images.set('/cut.raw', { body, cutAfter: MIB, cuts: 1, noRanges: true });
    await rig.create('web-1', root({ url: `${server.url}/cut.raw`, checksum: sum(body) }));
    await rig.untilRunning('web-1', 60_000);
    expect(server.requests.length).toBeGreaterThanOrEqual(2);
  });

  test.each([
    ['of another checksum', { body: bigImage() }, 'ImageChecksumMismatch', /its sha256 is [0-9a-f]{64}, the spec says/],
    ['that is not there', undefined, 'ImageNotFound', /404/],
    ['that is refused', { body: bigImage(), status: 403 }, 'ImageDownloadFailed', /403/],
    ['that is shorter than it says', { body: bigImage(), saidLength: 5 * MIB }, 'ImageDownloadFailed', /curl: \(18\)/],
  ] as const)('%s is %#: said, nothing kept, tried again by start', async (_what, image, reason, message) => {
    const finished: (() => Promise<void>)[] = [];
    const later: OnFinished = (work) => void finished.unshift(work);
    try {
      const { rig, server } = await served(later);
      const right = bigImage();
      if (image !== undefined) server.images.set('/bad.raw', { ...image });
      await rig.create('web-1', root({ url: `${server.url}/bad.raw`, checksum: sum(right) }));
      const vm = await rig.untilReason('web-1', reason);
      expect(readyOf(vm)?.message).toMatch(message);
      expect(vm.status?.nextAttemptAt).toMatch(/^20/);
      expect(existsSync(join(rig.folder('web-1'), 'root.qcow2'))).toBe(false);
      if (reason === 'ImageChecksumMismatch') expect(kept(rig)).toEqual([]);
      server.images.set('/bad.raw', { body: right });
      await rig.edit('web-1', { restartedAt: 'again' });
      await rig.untilRunning('web-1', 60_000);
    } finally {
      for (const work of finished) await work();
    }
  });

  test('ends with a stop: nothing of it stays; the next start fetches the image', async ({ onTestFinished }) => {
    const { rig, server } = await served(onTestFinished);
    const body = bigImage();
    server.images.set('/slow.raw', { body, pace: 8 * 1024 });
    await rig.create('web-1', root({ url: `${server.url}/slow.raw`, checksum: sum(body) }));
    await rig.until('web-1', 'it flows', (vm) => / of 4Mi/.test(readyOf(vm)?.message ?? ''));
    await rig.edit('web-1', { powerState: 'PoweredOff' });
    const vm = await rig.untilSettled('web-1', 'Stopped');
    expect(readyOf(vm)?.message).toContain('disk root is made from its image when it is switched on');
    expect([kept(rig), jobFiles(rig, 'web-1')]).toEqual([[], ['job.lock']]);
    await until(
      'the job ends',
      () => processesNaming(rig.folder('web-1')),
      (pids) => pids.length === 0,
    );
    server.images.set('/slow.raw', { body });
    await rig.edit('web-1', { powerState: 'PoweredOn' });
    await rig.untilRunning('web-1');
  });

  test('ends with the deletion of its VM', async ({ onTestFinished }) => {
    const { rig, server } = await served(onTestFinished);
    const body = bigImage();
    server.images.set('/slow.raw', { body, pace: 8 * 1024 });
    await rig.create('web-1', root({ url: `${server.url}/slow.raw`, checksum: sum(body) }));
    await rig.until('web-1', 'it flows', (vm) => / of 4Mi/.test(readyOf(vm)?.message ?? ''));
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect([existsSync(rig.folder('web-1')), kept(rig)]).toEqual([false, []]);
  });

  test('works with wget, and says what to install where neither is there', async ({ onTestFinished }) => {
    const server = await serveImages(onTestFinished);
    const body = bigImage();
    server.images.set('/tiny.raw', { body });
    const spec = root({ url: `${server.url}/tiny.raw`, checksum: sum(body) });
    const shell = new TestShell();
    const rig = await Rig.start(onTestFinished, { shell });
    shell.path = pathWithout(rig.path('no-curl'), /^(curl)$/);
    await rig.create('web-1', spec);
    await rig.untilRunning('web-1');
    const bare = new TestShell();
    const other = await Rig.start(onTestFinished, { shell: bare });
    bare.path = pathWithout(other.path('neither'), /^(curl|wget)$/);
    await other.create('web-1', spec);
    expect(readyOf(await other.untilReason('web-1', 'ImageDownloadFailed'))?.message).toMatch(
      /neither curl nor wget is on the host; install one/,
    );
  });
});

describe.concurrent('an image that is refused', () => {
  const make = (rig: Rig, name: string, ...args: string[]) => {
    const path = rig.path('images', name);
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', ...args, path, '4M']);
    return path;
  };

  test('refers to another file, or is larger than size', async ({ onTestFinished }) => {
    const { rig, server } = await served(onTestFinished);
    const base = make(rig, 'base.qcow2');
    const images: Record<string, string> = {
      backed: make(rig, 'backed.qcow2', '-b', base, '-F', 'qcow2'),
      external: make(rig, 'external.qcow2', '-o', `data_file=${rig.path('images', 'data.raw')}`),
    };
    for (const [name, path] of Object.entries(images)) {
      await rig.create(`${name}-path`, root({ path }));
      expect(readyOf(await rig.untilReason(`${name}-path`, 'ImageUnusable'))?.message).toMatch(/flatten it/);
      const body = readFileSync(path);
      server.images.set(`/${name}`, { body });
      await rig.create(`${name}-url`, root({ url: `${server.url}/${name}`, checksum: sum(body) }));
      expect(readyOf(await rig.untilReason(`${name}-url`, 'ImageUnusable'))?.message).toMatch(/flatten it/);
    }
    await rig.create('small-path', root({ path: base }, { size: '2Mi' }));
    expect(readyOf(await rig.untilReason('small-path', 'DiskCannotShrink'))?.message).toContain('4Mi');
    const body = readFileSync(base);
    server.images.set('/base', { body });
    await rig.create('small-url', root({ url: `${server.url}/base`, checksum: sum(body) }, { size: '2Mi' }));
    expect(readyOf(await rig.untilReason('small-url', 'ImageUnusable'))?.message).toMatch(/more than the size/);
  });

  test('is no image, is packed, is not there', async ({ onTestFinished }) => {
    const { rig, server } = await served(onTestFinished);
    const bodies: Record<string, Buffer> = {
      page: Buffer.from('<html>Log in to the network first</html>'),
      packed: execFileSync('gzip', ['-c'], { input: tinyDisk() }),
      nothing: Buffer.alloc(0),
    };
    for (const [name, body] of Object.entries(bodies)) {
      server.images.set(`/${name}`, { body });
      await rig.create(name, root({ url: `${server.url}/${name}`, checksum: sum(body) }));
      const vm = await rig.untilReason(name, 'ImageUnusable');
      expect(readyOf(vm)?.message).toMatch(/it is (no disk image|compressed as a whole)/);
    }
    await rig.create('absent', root({ path: rig.path('images', 'absent.qcow2') }));
    await rig.untilReason('absent', 'ImageNotFound');
    writeFileSync(rig.path('images', 'absent.qcow2'), readFileSync(make(rig, 'late.qcow2')));
    await rig.untilRunning('absent');
  });

  test('a disk that exists is attached, whatever its image says', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const disk = rig.tiny('web-1');
    await rig.create('web-1', { disks: [{ ...disk, image: { path: rig.path('images', 'none.qcow2') } }] });
    await rig.untilRunning('web-1');
    expect((await rig.vm('web-1')).status?.disks?.[0]?.state).toBe('Attached');
  });
});
