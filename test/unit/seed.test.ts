/** The seed's bytes. That other readers read them is shown on real ones: test/e2e/cloud-init.test.ts. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { bootArchitectures } from '../../src/qemu/iso.ts';
import { seedImage } from '../../src/qemu/seed.ts';
import { type IsoFile, isoImage } from '../../src/qemu/seed-iso.ts';

const SECTOR = 2048;

/** The files of the Joliet directory, read as ECMA-119 says: descriptor, root record, entries. */
function read(image: Buffer): Map<string, Buffer> {
  expect(image.length % SECTOR).toBe(0);
  const joliet = 17 * SECTOR;
  expect(image.toString('latin1', joliet + 1, joliet + 6)).toBe('CD001');
  expect(image.readUInt32LE(joliet + 80) * SECTOR).toBe(image.length);
  const root = image.readUInt32LE(joliet + 156 + 2) * SECTOR;
  const files = new Map<string, Buffer>();
  for (let at = root; (image[at] ?? 0) > 0; at += image[at] ?? 0) {
    const [sector, bytes] = [image.readUInt32BE(at + 6), image.readUInt32BE(at + 14)];
    expect([image.readUInt32LE(at + 2), image.readUInt32LE(at + 10)]).toEqual([sector, bytes]);
    const name = Buffer.from(image.subarray(at + 33, at + 33 + (image[at + 32] ?? 0)));
    if ((image[at + 25] ?? 0) === 0)
      files.set(name.swap16().toString('utf16le'), image.subarray(sector * SECTOR, sector * SECTOR + bytes));
  }
  return files;
}

const volumeLabel = (image: Buffer) => image.toString('latin1', 16 * SECTOR + 40, 16 * SECTOR + 72).trimEnd();

test('what is written is read again, byte by byte, whatever the contents', () => {
  const contents = fc.array(fc.uint8Array({ maxLength: 3 * SECTOR }), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(contents, (list) => {
      const files: IsoFile[] = list.map((content, index) => ({ name: `file-${index}`, content }));
      const image = isoImage('cidata', files);
      expect(volumeLabel(image)).toBe('cidata');
      expect([...read(image)]).toEqual(files.map(({ name, content }) => [name, Buffer.from(content)]));
      expect(isoImage('cidata', files.toReversed())).toEqual(image);
    }),
    { numRuns: 50 },
  );
});

test('files at the edge of a sector do not touch', () => {
  const sizes = [0, 1, SECTOR - 1, SECTOR, SECTOR + 1];
  const files = sizes.map((bytes, index) => ({ name: `f${index}`, content: Buffer.alloc(bytes, index + 1) }));
  expect([...read(isoImage('cidata', files)).values()]).toEqual(files.map(({ content }) => content));
});

test('more files than a directory of one sector holds are an error, not a broken volume', () => {
  const files = Array.from({ length: 60 }, (_, index) => ({ name: `file-${index}`, content: Buffer.alloc(1) }));
  expect(() => isoImage('cidata', files)).toThrow(RangeError);
});

describe('the files', () => {
  const BASE = { instanceID: 'id-1', hostname: 'web-1', sshAuthorizedKeys: [] };
  const KEY = `ssh-ed25519 ${'A'.repeat(68)} "ada" \u2028 größer 🐧 \\`;
  const texts = (content: Parameters<typeof seedImage>[0]) =>
    Object.fromEntries([...read(seedImage(content))].map(([name, bytes]) => [name, bytes.toString('utf8')]));

  test('without user data: a #cloud-config with hostname and keys, and the same in the meta-data', () => {
    const files = texts({ ...BASE, sshAuthorizedKeys: [KEY] });
    expect(Object.keys(files)).toEqual(['meta-data', 'user-data']);
    expect(files['user-data']?.split('\n')[0]).toBe('#cloud-config');
    expect(parse(files['user-data'] ?? '')).toEqual({ hostname: 'web-1', ssh_authorized_keys: [KEY] });
    expect(parse(files['meta-data'] ?? '')).toEqual({
      'instance-id': 'id-1',
      'local-hostname': 'web-1',
      'public-keys': [KEY],
    });
  });

  test.each([
    ['ada', { hostname: 'web-1', user: { name: 'ada' } }],
    ['root', { hostname: 'web-1', user: { name: 'root' }, disable_root: false }],
  ])('the user %s, where nobody has user data of their own', (user, expected) => {
    expect(parse(texts({ ...BASE, user })['user-data'] ?? '')).toEqual(expected);
    expect(texts({ ...BASE, user, userData: 'x' })['user-data']).toBe('x');
  });

  test("a person's user data and network data as they are, the keys in the meta-data", () => {
    const userData = '#!/bin/sh\r\necho größer\r\n';
    const files = texts({ ...BASE, sshAuthorizedKeys: [KEY], userData, networkData: 'version: 2\n' });
    expect(files).toMatchObject({ 'user-data': userData, 'network-config': 'version: 2\n' });
    expect(parse(files['meta-data'] ?? '')).toMatchObject({ 'public-keys': [KEY] });
  });

  test('user data that is no text stays what it is', () => {
    const gzip = Buffer.from([0x1f, 0x8b, 8, 0, 0xff, 0xfe]);
    expect(read(seedImage({ ...BASE, userData: gzip })).get('user-data')).toEqual(gzip);
  });

  test.each(['on', '1e3', '0x10', 'null', '12.5', '1.2.3'])('a host that is called %s is called so', (hostname) => {
    const files = texts({ ...BASE, hostname });
    const old = (text = '') => parse(text, { version: '1.1' }) as Record<string, unknown>;
    expect(old(files['meta-data'])['local-hostname']).toBe(hostname);
    expect(old(files['user-data'])['hostname']).toBe(hostname);
  });

  test('a seed is as long as readers of labels look, however little is in it', () => {
    expect(seedImage(BASE).length).toBeGreaterThanOrEqual(68 * 1024);
  });

  test('a seed boots nothing', async () => {
    const image = seedImage(BASE);
    expect(image.readUInt16LE(510)).toBe(0);
    const readBytes = async (at: number, bytes: number) => image.subarray(at, at + bytes);
    expect(await bootArchitectures(readBytes)).toEqual([]);
  });
});
