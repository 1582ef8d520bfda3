/** Secrets on real files: their modes, their bounds, and that a name never becomes another path. */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { MAX_SECRET_BYTES } from '../../src/api/cloud-init.ts';
import { InvalidObjectError, StoreUnavailableError } from '../../src/api/errors.ts';
import { SecretFolder } from '../../src/store/secret-folder.ts';

const REF = { namespace: 'default', name: 'web-1', key: 'user-data' };
let root: string;
let secrets: SecretFolder;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'qo-secrets-'));
  secrets = new SecretFolder(root);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const bytes = (text: string) => Buffer.from(text);
const all = () => readdirSync(root, { recursive: true }).map(String).sort();

test('a value is kept byte by byte, in a private file, and replaced', async () => {
  const value = Buffer.from([0, 255, 13, 10, 0xc3]);
  expect(await secrets.set(REF, value)).toBe('created');
  expect(await secrets.set(REF, value)).toBe('unchanged');
  expect(await secrets.read(REF)).toEqual(value);
  expect(await secrets.set(REF, bytes('x'))).toBe('configured');
  expect(await secrets.read(REF)).toEqual(bytes('x'));
  expect(all()).toEqual(['default', 'default/web-1', 'default/web-1/user-data']);
  const modes = all().map((path) => statSync(join(root, path)).mode & 0o777);
  expect(modes).toEqual([0o700, 0o700, 0o600]);
});

test('what is not there is undefined, and no error', async () => {
  expect(await secrets.read(REF)).toBeUndefined();
  await secrets.set(REF, bytes('x'));
  expect(await secrets.read({ ...REF, key: 'other' })).toBeUndefined();
  expect(await secrets.read({ ...REF, namespace: 'other' })).toBeUndefined();
});

test('the list has names and sizes; a namespace sees its own', async () => {
  await secrets.set(REF, bytes('hunter2'));
  await secrets.set({ ...REF, key: '.a' }, bytes('x'));
  await secrets.set({ ...REF, namespace: 'b' }, bytes('yy'));
  writeFileSync(join(root, '.cut-off'), 'half a value');
  expect(await secrets.list()).toEqual([
    { namespace: 'b', name: 'web-1', key: 'user-data', bytes: 2 },
    { namespace: 'default', name: 'web-1', key: '.a', bytes: 1 },
    { namespace: 'default', name: 'web-1', key: 'user-data', bytes: 7 },
  ]);
  expect(await secrets.list('b')).toHaveLength(1);
  expect(await secrets.list('nowhere')).toEqual([]);
});

test('a key goes alone, a Secret with all its keys', async () => {
  for (const key of ['a', 'b', 'c']) await secrets.set({ ...REF, key }, bytes(key));
  expect(await secrets.delete(REF, 'nothing')).toBe(0);
  expect(await secrets.delete(REF, 'b')).toBe(1);
  expect((await secrets.list()).map(({ key }) => key)).toEqual(['a', 'c']);
  expect(await secrets.delete(REF)).toBe(2);
  expect(await secrets.delete(REF)).toBe(0);
  expect(all()).toEqual(['default']);
});

describe('bounds', () => {
  test('of a value', async () => {
    await secrets.set(REF, Buffer.alloc(MAX_SECRET_BYTES, 1));
    await expect(secrets.set(REF, Buffer.alloc(MAX_SECRET_BYTES + 1))).rejects.toThrow('at most 262144 are kept');
    await expect(secrets.set(REF, Buffer.alloc(0))).rejects.toThrow('must not be empty');
    expect((await secrets.read(REF))?.length).toBe(MAX_SECRET_BYTES);
  });

  test('of a whole Secret', async () => {
    for (const key of ['a', 'b', 'c', 'd']) await secrets.set({ ...REF, key }, Buffer.alloc(MAX_SECRET_BYTES));
    await expect(secrets.set({ ...REF, key: 'e' }, bytes('x'))).rejects.toThrow('one too many');
    expect(await secrets.set({ ...REF, key: 'a' }, bytes('x'))).toBe('configured');
  });

  test('of what somebody else put there', async () => {
    await secrets.set(REF, bytes('x'));
    writeFileSync(join(root, 'default/web-1/user-data'), Buffer.alloc(MAX_SECRET_BYTES + 1));
    await expect(secrets.read(REF)).rejects.toThrow(StoreUnavailableError);
  });
});

test.each([
  { namespace: '..' },
  { namespace: '' },
  { name: '../x' },
  { name: '/etc' },
  { name: '.' },
  { key: '..' },
  { key: '../../x' },
  { key: 'a/b' },
  { key: 'a\0b' },
])('%j is no name, and no path', async (part) => {
  const ref = { ...REF, ...part };
  await expect(secrets.read(ref)).rejects.toThrow(InvalidObjectError);
  await expect(secrets.set(ref, bytes('x'))).rejects.toThrow(InvalidObjectError);
  if (!('key' in part)) await expect(secrets.delete(ref)).rejects.toThrow(InvalidObjectError);
  expect(all()).toEqual([]);
});

test('a link is not followed, a folder is no value', async () => {
  const other = join(root, '.other');
  writeFileSync(other, 'hunter2');
  mkdirSync(join(root, 'default/web-1/folder'), { recursive: true });
  symlinkSync(other, join(root, 'default/web-1/user-data'));
  await expect(secrets.read(REF)).rejects.toThrow('ELOOP');
  await expect(secrets.read({ ...REF, key: 'folder' })).rejects.toThrow('is no file');
});

test('a value that cannot be written leaves the one before, and nothing half done', async () => {
  await secrets.set(REF, bytes('first'));
  // A file where a folder should be made: whoever runs this, root included.
  writeFileSync(join(root, 'blocked'), '');
  await expect(secrets.set({ ...REF, namespace: 'blocked' }, bytes('x'))).rejects.toThrow(StoreUnavailableError);
  expect(all()).toEqual(['blocked', 'default', 'default/web-1', 'default/web-1/user-data']);
  expect(readFileSync(join(root, 'default/web-1/user-data'), 'utf8')).toBe('first');
});

test('whoever follows hears of a value that is set, replaced or deleted by anybody', async () => {
  const heard = vi.fn();
  const end = secrets.follow(heard);
  const another = new SecretFolder(root);
  for (const [index, change] of [
    () => another.set(REF, bytes('a')),
    () => another.set(REF, bytes('b')),
    () => another.delete(REF),
  ].entries()) {
    await change();
    await vi.waitFor(() => expect(heard.mock.calls.length).toBeGreaterThan(index), { timeout: 5_000 });
  }
  end();
  rmSync(root, { recursive: true, force: true });
});

test('the command that sets it says the namespace where it is not the default', () => {
  expect(secrets.setCommand(REF)).toBe('qemu-operator secret set web-1 user-data < FILE');
  expect(secrets.setCommand({ ...REF, namespace: 'b' })).toBe('qemu-operator secret set web-1 user-data -n b < FILE');
});
