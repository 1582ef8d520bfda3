/** Rows of what a VM reads and writes: disks, CD-ROMs, the seed; and of what it draws. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect } from 'vitest';
import { tinyDisk } from '../../guests/tiny.ts';
import { type ImageServer, serveImages } from '../support/image-server.ts';
import { imageInfo, readIso, writeTinyIso, writeTinyQcow2 } from '../support/images.ts';
import { guestDiskBytes } from '../support/oracle.ts';
import type { Row } from './leaf.ts';
import type { Guest, Place } from './place.ts';

const MIB = 1_048_576;
const AT = 1.5 * MIB;
const KEY = `ssh-ed25519 ${'A'.repeat(68)} ada@example.org`;

const data = (more: object = {}) => ({ disks: [{ name: 'data', size: '1Mi', ...more }] });
const image = (from: object) => ({ disks: [{ name: 'root', format: 'raw', image: from }] });
const sumOf = (body: Buffer) => `sha256:${createHash('sha256').update(body).digest('hex')}`;

/** Boots, and has these words in a place that its guest leaves alone. */
function bodyWith(words: string): Buffer {
  const body = tinyDisk(2 * MIB);
  body.write(words, AT);
  return body;
}

const wordsIn = (path: string, words: string) =>
  readFileSync(path)
    .subarray(AT, AT + words.length)
    .toString();

async function serve(place: Place, bodies: Readonly<Record<string, Buffer>>): Promise<ImageServer> {
  const server = await serveImages(place.onFinished);
  for (const [path, body] of Object.entries(bodies)) server.images.set(path, { body });
  return server;
}

async function hasFormat(place: Place, format: string): Promise<void> {
  const guest = await place.running(data({ format }));
  expect(imageInfo(join(guest.folder, `data.${format}`)).format).toBe(format);
}

const cdrom = (name: string, path: string) => ({ cdroms: [{ name, path }] });

/** A file of the seed that its guest reads. */
const seedFile = ({ folder }: Guest, name: string) =>
  readIso(join(folder, '.qemu-operator.seed.iso')).files[name]?.toString();

/** What cloudInit had before and has after the change, in one file of the seed. */
function seeds(before: object, after: object, file: string, contents: readonly [RegExp, RegExp]): Row['effect'] {
  return async (place) => {
    const guest = await place.running({ cloudInit: before });
    expect(seedFile(guest, file)).toMatch(contents[0]);
    await guest.restarted({ cloudInit: after });
    expect(seedFile(guest, file)).toMatch(contents[1]);
  };
}

/** Another part of the reference is another value. */
function secrets(one: object, other: object): Row['effect'] {
  return async (place) => {
    const refs = [one, other].map((part) => ({ name: 'leaf', key: 'one', ...part }));
    for (const ref of refs)
      await place.house.secrets.set(
        { namespace: 'default', ...ref },
        Buffer.from(`#!/bin/sh\n# ${Object.values(ref)}`),
      );
    const guest = await place.running({ cloudInit: { userDataSecretRef: refs[0] } });
    for (const [index, ref] of refs.entries()) {
      if (index > 0) await guest.restarted({ cloudInit: { userDataSecretRef: ref } });
      expect(seedFile(guest, 'user-data')).toBe(`#!/bin/sh\n# ${Object.values(ref)}`);
    }
  };
}

export const VOLUMES: readonly Row[] = [
  {
    leaf: 'VirtualMachine.spec.disks[].name',
    effect: async (place) => {
      const guest = await place.running(data());
      await guest.restarted(data({ name: 'other' }));
      const nodes = await guest.nodes();
      expect([nodes.has('disk-data'), nodes.get('disk-other')]).toEqual([false, join(guest.folder, 'other.qcow2')]);
    },
  },
  {
    leaf: 'VirtualMachine.spec.disks[].size',
    effect: async (place) => {
      const guest = await place.running(data({ size: '1Mi' }));
      await guest.changed(data({ size: '3Mi' }));
      expect(await guestDiskBytes(guest.folder, join(guest.folder, 'data.qcow2'))).toBe(3 * MIB);
    },
    fixed: { made: data({ size: '4Mi' }), asked: data({ size: '2Mi' }) },
  },
  {
    leaf: 'VirtualMachine.spec.disks[].format',
    effect: { qcow2: (place) => hasFormat(place, 'qcow2'), raw: (place) => hasFormat(place, 'raw') },
    fixed: { made: data({ format: 'raw' }), asked: data({ format: 'qcow2' }) },
  },
  {
    leaf: 'VirtualMachine.spec.disks[].path',
    effect: async (place) => {
      const path = place.path('.qcow2');
      const guest = await place.running(data({ path }));
      expect((await guest.nodes()).get('disk-data')).toBe(path);
      expect([imageInfo(path)['virtual-size'], existsSync(join(guest.folder, 'data.qcow2'))]).toEqual([MIB, false]);
    },
    fixed: { made: data({ path: '/srv/one.qcow2' }), asked: data({ path: '/srv/other.qcow2' }) },
  },
  {
    leaf: 'VirtualMachine.spec.disks[].image.url',
    effect: async (place) => {
      const [body, other] = [bodyWith('by URL'), bodyWith('another')];
      const server = await serve(place, { '/one': body, '/other': other });
      const guest = await place.running(image({ url: `${server.url}/one`, checksum: sumOf(body) }));
      expect(wordsIn(join(guest.folder, 'root.raw'), 'by URL')).toBe('by URL');
      expect(server.requests).toEqual(['/one']);
      await place.rig.untilPrinted(guest.name, 'TINY-UP');
    },
    fixed: { made: image({ url: 'https://example.org/one' }), asked: image({ url: 'https://example.org/other' }) },
  },
  {
    leaf: 'VirtualMachine.spec.disks[].image.path',
    effect: async (place) => {
      const path = place.path('.raw');
      const body = bodyWith('by path');
      writeFileSync(path, body);
      const guest = await place.running(image({ path }));
      expect(wordsIn(join(guest.folder, 'root.raw'), 'by path')).toBe('by path');
      await place.rig.untilPrinted(guest.name, 'TINY-IO');
      expect(readFileSync(path).equals(body)).toBe(true);
    },
    fixed: { made: image({ path: '/srv/one.raw' }), asked: image({ path: '/srv/other.raw' }) },
  },
  {
    leaf: 'VirtualMachine.spec.disks[].image.checksum',
    effect: async (place) => {
      const path = place.path('.raw');
      const body = bodyWith('verified');
      writeFileSync(path, body);
      const wrong = await place.create(image({ path, checksum: sumOf(bodyWith('another')) }));
      await place.rig.untilReason(wrong.name, 'ImageChecksumMismatch');
      expect([wrong.qemus(), existsSync(join(wrong.folder, 'root.raw'))]).toEqual([[], false]);
      await place.running(image({ path, checksum: sumOf(body) }));
    },
    fixed: {
      made: image({ path: '/srv/one.raw', checksum: `sha256:${'a'.repeat(64)}` }),
      asked: image({ path: '/srv/one.raw', checksum: `sha256:${'b'.repeat(64)}` }),
    },
  },
  {
    leaf: 'VirtualMachine.spec.disks[].reclaimPolicy',
    effect: {
      Delete: async (place) => {
        const path = writeTinyQcow2(place.path('.qcow2'));
        const guest = await place.running({ disks: [{ name: 'root', path, reclaimPolicy: 'Retain' }] });
        await guest.changed({ disks: [{ name: 'root', path, reclaimPolicy: 'Delete' }] });
        await place.rig.delete(guest.name);
        await place.rig.untilGone(guest.name);
        expect(existsSync(path)).toBe(false);
      },
      Retain: async (place) => {
        const guest = await place.running(data({ reclaimPolicy: 'Delete' }));
        await guest.changed(data({ reclaimPolicy: 'Retain' }));
        await place.rig.delete(guest.name);
        await place.rig.untilGone(guest.name);
        expect(imageInfo(join(guest.folder, 'data.qcow2'))['virtual-size']).toBe(MIB);
      },
    },
  },
  {
    leaf: 'VirtualMachine.spec.cdroms[].name',
    effect: async (place) => {
      const path = writeTinyIso(place.path('.iso'));
      const guest = await place.running(cdrom('one', path));
      await guest.restarted(cdrom('other', path));
      const nodes = await guest.nodes();
      expect([nodes.has('cdrom-one'), nodes.get('cdrom-other')]).toEqual([false, path]);
    },
  },
  {
    leaf: 'VirtualMachine.spec.cdroms[].path',
    effect: async (place) => {
      const [one, other] = [writeTinyIso(place.path('.iso')), writeTinyIso(place.path('.iso'))];
      const guest = await place.running(cdrom('cd', one));
      expect((await guest.nodes()).get('cdrom-cd')).toBe(one);
      await guest.restarted(cdrom('cd', other));
      expect((await guest.nodes()).get('cdrom-cd')).toBe(other);
    },
  },
  {
    leaf: 'VirtualMachine.spec.cloudInit.hostname',
    effect: seeds({ hostname: 'one' }, { hostname: 'other' }, 'meta-data', [/hostname: "one"/, /hostname: "other"/]),
  },
  {
    leaf: 'VirtualMachine.spec.cloudInit.user',
    effect: seeds({ user: 'ada' }, { user: 'root' }, 'user-data', [
      /^user:\n {2}name: "ada"$/m,
      /^user:\n {2}name: "root"\ndisable_root: false$/m,
    ]),
  },
  {
    leaf: 'VirtualMachine.spec.cloudInit.userData',
    effect: seeds({ userData: '#!/bin/one' }, { userData: '#!/bin/other' }, 'user-data', [/^#!\/bin\/one$/, /other$/]),
  },
  {
    leaf: 'VirtualMachine.spec.cloudInit.userDataSecretRef.name',
    effect: secrets({ name: 'leaf-one' }, { name: 'leaf-other' }),
  },
  {
    leaf: 'VirtualMachine.spec.cloudInit.userDataSecretRef.key',
    effect: secrets({ key: 'one' }, { key: 'other' }),
  },
  {
    leaf: 'VirtualMachine.spec.cloudInit.networkData',
    effect: seeds({ networkData: 'version: 1' }, { networkData: 'version: 2' }, 'network-config', [
      /^version: 1$/,
      /^version: 2$/,
    ]),
  },
  {
    leaf: 'VirtualMachine.spec.cloudInit.sshAuthorizedKeys[]',
    effect: seeds(
      { sshAuthorizedKeys: [`${KEY}.one`] },
      { sshAuthorizedKeys: [`${KEY}.one`, `${KEY}.other`] },
      'meta-data',
      [/ada@example.org.one"\n$/, /ada@example.org.one"\n.*ada@example.org.other"\n$/],
    ),
  },
  {
    leaf: 'VirtualMachine.spec.graphics.vnc',
    effect: async (place) => {
      const guest = await place.running({ graphics: {} });
      expect(await guest.qmp('query-vnc')).toEqual({ enabled: false });
      await guest.restarted({ graphics: { vnc: {} } });
      const viewer = connect(join(guest.folder, 'vnc.sock'));
      place.onFinished(async () => void viewer.destroy());
      const [greeting] = (await once(viewer, 'data')) as [Buffer];
      expect(greeting.toString()).toMatch(/^RFB 003\.00\d\n$/);
    },
  },
];
