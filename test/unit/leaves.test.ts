/**
 * The table of test/e2e/leaves is whole: each leaf of each spec has one row that shows its effect on a real machine,
 * for every value of an enum; and what may not be changed later is refused.
 */
import { describe, expect, test } from 'vitest';
import type { Manifest } from '../../src/api/admission.ts';
import { InvalidObjectError } from '../../src/api/errors.ts';
import { ANNOTATIONS, API_VERSION, type Kind } from '../../src/api/meta.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { LEAVES } from '../e2e/leaves/leaf.ts';
import { ROWS } from '../e2e/leaves/rows.ts';

const sorted = (words: readonly string[]) => [...words].sort();

test('each leaf has one row, and each row a leaf', () => {
  expect(sorted(ROWS.map(({ leaf }) => leaf)), 'a new leaf needs its row in test/e2e/leaves').toEqual(
    sorted(LEAVES.map(({ path }) => path)),
  );
});

test('the rows of an enum show each of its values', () => {
  const shown = ROWS.flatMap(({ leaf, effect }) =>
    typeof effect === 'function' ? [] : [[leaf, sorted(Object.keys(effect))]],
  );
  const wanted = LEAVES.flatMap(({ path, values }) => (values === undefined ? [] : [[path, sorted(values)]]));
  expect(Object.fromEntries(shown)).toEqual(Object.fromEntries(wanted));
});

test('what a rule of the schema keeps as it is says so in its row', () => {
  const fixed = ROWS.filter((row) => row.fixed !== undefined).map(({ leaf }) => leaf);
  const ruled = LEAVES.filter((leaf) => leaf.fixed).map(({ path }) => path);
  // That a vmDir was claimed stands in an annotation, which no rule of a CRD sees.
  expect(sorted(fixed)).toEqual(sorted([...ruled, 'Host.spec.vmDir']));
});

const BASES: Readonly<Record<Kind, object>> = {
  VirtualMachine: { architecture: 'x86_64' },
  Host: { local: {} },
  VirtualMachineMonitor: { virtualMachineName: 'web', until: '2100-01-01T00:00:00Z' },
};

describe('a change is refused of', () => {
  test.for(ROWS.flatMap(({ leaf, fixed }) => (fixed === undefined ? [] : [{ leaf, ...fixed }])))(
    '$leaf',
    async ({ leaf, made, asked }) => {
      const kind = leaf.slice(0, leaf.indexOf('.')) as Kind;
      const ref = kind === 'Host' ? { name: 'web' } : { name: 'web', namespace: 'default' };
      const store = createMemoryStore();
      const metadata = { ...ref, annotations: { [ANNOTATIONS.claimed]: 'machine' } };
      const manifest = { apiVersion: API_VERSION, kind, metadata, spec: { ...BASES[kind], ...made } };
      await store.create(manifest as unknown as Manifest);
      const before = await store.get(kind, ref);
      const error = await store.patch(kind, ref, { spec: { ...asked } }).catch((reason: unknown) => reason);
      if (!(error instanceof InvalidObjectError)) throw new Error(`not refused: ${leaf}`);
      const [issue] = error.issues;
      const field = issue?.field.replaceAll(/\[.*?\]/g, '[]');
      expect(`${leaf}.`).toSatisfy((path: string) => path.startsWith(`${kind}.${field}.`));
      expect(await store.get(kind, ref)).toEqual(before);
      await store.close();
    },
  );
});
