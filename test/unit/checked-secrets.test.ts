/** Secrets of a user: each step needs the right that the API server would ask for, and does nothing without it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { ForbiddenError } from '../../src/api/errors.ts';
import { CheckedSecrets } from '../../src/store/checked-secrets.ts';
import { Rights } from '../../src/store/rights.ts';
import { SecretFolder } from '../../src/store/secret-folder.ts';
import type { SecretStore } from '../../src/store/store.ts';

const REF = { namespace: 'ops', name: 'rack1', key: 'password' };
let secrets: SecretFolder;
let asked: Set<string>;

beforeEach(async () => {
  const folder = mkdtempSync(join(tmpdir(), 'checked-secrets-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  secrets = new SecretFolder(folder);
  asked = new Set();
  await secrets.set(REF, Buffer.from('kept'));
});

function as(may: (right: string) => boolean): CheckedSecrets {
  const rights = new Rights('ann', async ({ verb, group, resource, namespace = '*', name = '' }) => {
    const right = `${verb} ${group}${resource} ${namespace}/${name}`;
    asked.add(right);
    return may(right);
  });
  return new CheckedSecrets(secrets, rights);
}

const one = (...verbs: readonly string[]) => verbs.map((verb) => `${verb} secrets ops/rack1`);

const STEPS: readonly [step: string, work: (of: SecretStore) => Promise<unknown>, needs: readonly string[]][] = [
  ['read', (of) => of.read(REF), one('get')],
  ['set', (of) => of.set(REF, Buffer.from('new')), one('get', 'create', 'patch')],
  ['list', (of) => of.list('ops'), ['list secrets ops/']],
  ['list all', (of) => of.list(), ['list secrets */']],
  ['delete a key', (of) => of.delete(REF, 'password'), one('get', 'patch', 'delete')],
  ['delete all', (of) => of.delete(REF), one('delete')],
];

describe.each(STEPS)('%s', (_step, work, needs) => {
  test('is done for whoever may', async () => {
    await work(as((right) => needs.includes(right)));
    expect(asked).toEqual(new Set(needs));
  });

  test.each(needs)('is refused without the right to %s, and nothing has changed', async (lacking) => {
    await expect(work(as((right) => right !== lacking))).rejects.toThrow(ForbiddenError);
    expect(Buffer.from((await secrets.read(REF)) ?? '').toString()).toBe('kept');
  });
});
