import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseManifestText, withDeclaration, withoutDocument } from '../../src/store/manifest-text.ts';

const web = { kind: 'VirtualMachine', ref: { namespace: 'default', name: 'web-1' } } as const;

const TEXT = `# Our web servers.
apiVersion: qemu-operator.dev/v1alpha1
kind: VirtualMachine
metadata:
  name: web-1   # the first
  annotations: {tier: web}
spec:
  architecture: x86_64
  # As much as the old one had.
  memory: "4Gi"

  disks:
  - name: root # boots
    size: 20Gi
  powerOff: {mode: Hard}
---
# A stranger that is kept as it is.
apiVersion: v1
kind: Secret
metadata: {name: web-1}
`;

const comments = (text: string) => text.match(/#.*$/gm);
const declarationOf = (text: string) => {
  const { declaration } = parseManifestText(text).documents[0] ?? {};
  if (declaration === undefined) throw new Error('no declaration');
  return declaration;
};

describe('withDeclaration', () => {
  const before = declarationOf(TEXT);

  test('changes single values in place', () => {
    const after = { ...before, annotations: { tier: 'db' }, spec: { ...before.spec, memory: '8Gi' } };
    expect(withDeclaration(TEXT, web, after)).toBe(TEXT.replace('"4Gi"', '8Gi').replace('{tier: web}', '{tier: db}'));
  });

  test('a value that YAML would read as something else is quoted', () => {
    for (const note of ['yes: no', '0x10', 'true', '', 'a #b', '- x', 'two\nlines', '{', '"', 'é🙂']) {
      const after = { ...before, annotations: { tier: note } };
      expect(declarationOf(withDeclaration(TEXT, web, after)).annotations).toEqual({ tier: note });
    }
  });

  test('keeps every comment and every other document through any change', () => {
    const size = fc.integer({ min: 20, max: 99 }).map((gib) => `${gib}Gi`);
    const disk = fc.record({ name: fc.constantFrom('a', 'b', 'c'), size });
    const word = fc.string({ unit: 'grapheme-ascii', maxLength: 9 }).filter((text) => !text.includes('#'));
    const spec = fc.record(
      {
        memory: size,
        vcpus: fc.integer({ min: 1, max: 9 }),
        more: fc.uniqueArray(disk, { selector: ({ name }) => name, maxLength: 3 }),
        powerOff: fc.record({ mode: fc.constantFrom('Hard', 'Soft'), gracePeriodSeconds: fc.nat(60) }),
        annotations: fc.dictionary(fc.constantFrom('tier', 'zone'), word, {
          noNullPrototype: true,
        }),
      },
      { requiredKeys: ['memory', 'more', 'annotations', 'powerOff'] },
    );
    fc.assert(
      fc.property(spec, ({ more, annotations, ...rest }) => {
        const disks = [{ name: 'root', size: '20Gi' }, ...more];
        const after = { labels: {}, annotations, spec: { ...before.spec, ...rest, disks } };
        const text = withDeclaration(TEXT, web, after);
        expect(declarationOf(text)).toEqual(after);
        expect(comments(text)).toEqual(comments(TEXT));
        expect(text.slice(text.indexOf('---'))).toBe(TEXT.slice(TEXT.indexOf('---')));
        expect(withDeclaration(text, web, after)).toBe(text);
      }),
    );
  });
});

describe('withoutDocument', () => {
  test('leaves the others; nothing where none is left', () => {
    expect(withoutDocument(TEXT, web)).toBe(TEXT.slice(TEXT.indexOf('---')));
    expect(withoutDocument(TEXT.slice(0, TEXT.indexOf('---')), web)).toBeUndefined();
  });
});

/** 129 KB that the parser calls itself for, once per line. */
function endlessFlow(): string {
  const disks = Array.from({ length: 5_000 }, (_, at) => `{name: d${at}, size: 1Gi},\n`);
  return `spec: {disks: [\n${disks.join('')}]}\n`;
}

describe('parseManifestText', () => {
  test('any beginning of a file either says why it does not count, or declares less; it never throws', () => {
    for (let length = 0; length <= TEXT.length; length += 1) {
      const { documents, error } = parseManifestText(TEXT.slice(0, length));
      expect(error === undefined ? documents.length <= 2 : documents.length === 0).toBe(true);
    }
  });

  test.each([
    [
      'a bomb of aliases',
      `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefgh'
        .split('')
        .map((c, at) => `${c}: &${c} [${`*${'abcdefg'[at]},`.repeat(9)}]`)
        .join('\n')}`,
    ],
    ['more text than any manifest has', `# ${'x'.repeat(1_000_001)}`],
    ['a key twice', 'kind: a\nkind: b'],
    ['a key that is no text', '{[a]: b}'],
    ['a tab', 'a:\n\t- b'],
    ['a list that goes on at the margin', endlessFlow()],
    ['more nesting than a parser can follow', `a: ${'['.repeat(100_000)}`],
    ['nesting without end', `a: ${'['.repeat(20_000)}${']'.repeat(20_000)}`],
  ])('%s is refused', (_what, text) => {
    expect(parseManifestText(text)).toEqual({ documents: [], error: expect.any(String) });
  });

  test('an empty file, or one of comments, declares nothing and is no fault', () => {
    for (const text of ['', '# later\n', '---\n---\n']) expect(parseManifestText(text)).toEqual({ documents: [] });
  });
});
