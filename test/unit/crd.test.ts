import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { crdOf } from '../../src/api/crd.ts';
import { KIND_INFO } from '../../src/api/kinds.ts';
import { KINDS } from '../../src/api/meta.ts';
import { PATTERN_WORDS } from '../../src/api/schema.ts';
import type { Structural } from '../../src/api/structural.ts';
import { generatedFiles } from '../generate.ts';

interface Node {
  readonly path: string;
  readonly schema: Structural;
  readonly parent: Structural | undefined;
}

function nodesOf(schema: Structural, path: string, parent?: Structural): Node[] {
  return [
    { path, schema, parent },
    ...Object.entries(schema.properties ?? {}).flatMap(([name, field]) => nodesOf(field, `${path}.${name}`, schema)),
    ...(schema.items === undefined ? [] : nodesOf(schema.items, `${path}[]`, schema)),
    ...(schema.additionalProperties === undefined ? [] : nodesOf(schema.additionalProperties, `${path}.*`, schema)),
  ];
}

const versions = KINDS.map((kind) => ({ kind, version: crdOf(kind).spec.versions[0] }));
const nodes = versions.flatMap(({ kind, version }) =>
  version === undefined ? [] : nodesOf(version.schema.openAPIV3Schema, kind),
);

/** Paths of the nodes that break a rule. */
function breaking(rule: (node: Node) => boolean): string[] {
  return nodes.filter(rule).map(({ path }) => path);
}

describe('names', () => {
  test.each(KINDS)('%s', (kind) => {
    const { metadata, spec } = crdOf(kind);
    expect(metadata.name).toBe(`${KIND_INFO[kind].plural}.qemu-operator.dev`);
    expect(spec.names).toMatchObject({ kind, categories: ['qemu'] });
    expect(spec.scope).toBe(kind === 'Host' ? 'Cluster' : 'Namespaced');
    expect(spec.versions).toHaveLength(1);
    expect(spec.versions[0]).toMatchObject({ name: 'v1alpha1', served: true, storage: true });
    expect(spec.versions[0]?.subresources).toEqual({ status: {} });
  });

  test('short names', () => {
    expect(KINDS.map((kind) => KIND_INFO[kind].shortNames)).toEqual([['qvm'], ['qhost'], ['qmon']]);
  });

  test('columns point into the schema', () => {
    for (const { version, kind } of versions) {
      const schema = version?.schema.openAPIV3Schema;
      for (const { jsonPath } of version?.additionalPrinterColumns ?? []) {
        const path = String(jsonPath).replaceAll(/\[(\?.*?|\*|\d+)\]/g, '[]');
        const known = path.startsWith('.metadata.') || nodes.some((node) => node.path === `${kind}${path}`);
        expect(known, `${kind} ${jsonPath}`).toBe(true);
      }
      expect(schema?.required).toEqual(['spec']);
    }
  });

  test('a date column never lies ahead: Kubernetes shows it as <invalid>', () => {
    const dates = versions.flatMap(({ version }) => version?.additionalPrinterColumns ?? []);
    const paths = dates.filter(({ type }) => type === 'date').map(({ jsonPath }) => jsonPath);
    expect(new Set(paths)).toEqual(new Set(['.metadata.creationTimestamp']));
  });
});

describe('the schema is structural', () => {
  test('every node has one type, or is int-or-string', () => {
    expect(
      breaking(({ schema }) => (schema.type === undefined) !== (schema['x-kubernetes-int-or-string'] === true)),
    ).toEqual([]);
  });

  test('nothing that Kubernetes forbids or does not know', () => {
    const known = new Set([
      ...[
        'description',
        'type',
        'format',
        'default',
        'enum',
        'pattern',
        'minLength',
        'maxLength',
        'minimum',
        'maximum',
      ],
      ...['maxItems', 'maxProperties', 'required', 'properties', 'additionalProperties', 'items'],
      ...['x-kubernetes-int-or-string', 'x-kubernetes-list-type', 'x-kubernetes-list-map-keys'],
      'x-kubernetes-validations',
    ]);
    expect(breaking(({ schema }) => Object.keys(schema).some((key) => !known.has(key)))).toEqual([]);
    expect(
      breaking(({ schema }) => schema.properties !== undefined && schema.additionalProperties !== undefined),
    ).toEqual([]);
    expect(JSON.stringify(nodes[0])).not.toContain('$ref');
  });

  test('metadata says no more than a CRD may', () => {
    const metadata = nodes.filter(({ path }) => /^\w+\.metadata$/.test(path)).map(({ schema }) => schema);
    expect(metadata).toHaveLength(KINDS.length);
    for (const schema of metadata) {
      expect(Object.keys(schema)).toEqual(['type', 'properties']);
      expect(Object.keys(schema.properties ?? {})).toEqual(['name']);
    }
  });

  test('every string, list and map has a bound', () => {
    const unbounded = ({ schema }: Node) =>
      (schema.type === 'string' && schema.maxLength === undefined && schema.enum === undefined) ||
      (schema['x-kubernetes-int-or-string'] === true && schema.maxLength === undefined) ||
      (schema.type === 'array' && schema.maxItems === undefined) ||
      (schema.additionalProperties !== undefined && schema.maxProperties === undefined);
    expect(breaking(unbounded)).toEqual([]);
  });

  test('patterns are RE2, anchored, and told in words', () => {
    expect(breaking(({ schema }) => /\(\?[=!<]|\\[1-9]|\\u|\\[pPkKbB]/.test(schema.pattern ?? ''))).toEqual([]);
    expect(breaking(({ schema }) => schema.pattern !== undefined && !/^\^.*\$$/.test(schema.pattern))).toEqual([]);
    expect(breaking(({ schema }) => schema.pattern !== undefined && !PATTERN_WORDS.has(schema.pattern))).toEqual([]);
  });

  test('list-map keys are required strings, and such a list has no default', () => {
    const lists = nodes.filter(({ schema }) => schema['x-kubernetes-list-type'] === 'map');
    expect(lists.length).toBeGreaterThan(3);
    for (const { path, schema } of lists) {
      expect(schema.default, path).toBeUndefined();
      for (const key of schema['x-kubernetes-list-map-keys'] ?? []) {
        expect(schema.items?.required, path).toContain(key);
        expect(schema.items?.properties?.[key]?.type, path).toBe('string');
      }
    }
  });

  test('a default inside an object takes effect only where the object has one itself', () => {
    const inert = nodes.filter(
      ({ schema, parent, path }) =>
        path.includes('.spec.') &&
        schema.default !== undefined &&
        parent?.default === undefined &&
        !/\.spec\.[^.]+$/.test(path),
    );
    // Entries of a list exist by themselves.
    expect(inert.filter(({ path }) => !/\[\]\.[^.]+$/.test(path)).map(({ path }) => path)).toEqual([]);
  });

  test('whole numbers are int64 with bounds that say something', () => {
    const numbers = nodes.filter(({ schema }) => schema.type === 'integer');
    for (const { path, schema } of numbers) {
      expect(schema.format, path).toBe('int64');
      expect(Math.abs(schema.maximum ?? 0), path).toBeLessThan(2 ** 53 - 1);
    }
  });

  test('every field is described', () => {
    const silent = ({ path, schema }: Node) =>
      /\.(spec|status)\./.test(path) &&
      !/(\[\]|\.\*)$/.test(path) &&
      schema.description === undefined &&
      schema.enum === undefined;
    expect(breaking(silent)).toEqual([]);
  });
});

describe('rules', () => {
  const rules = nodes.flatMap(({ path, schema }) =>
    (schema['x-kubernetes-validations'] ?? []).map((rule) => ({ path, schema, rule })),
  );

  test('each has a message of one line, and a field that exists', () => {
    for (const { path, rule, schema } of rules) {
      expect(rule.message, path).toMatch(/^.{1,200}$/);
      const parts = (rule.fieldPath ?? '').split('.').slice(1);
      let node: Structural | undefined = schema;
      for (const part of parts) node = node?.properties?.[part];
      expect(node, `${path} ${rule.fieldPath}`).toBeDefined();
    }
  });

  test('an immutable field is guarded by its parent: a rule of its own is not run when it is taken away', () => {
    const own = rules.filter(({ rule, schema }) => rule.rule.includes('oldSelf') && schema.type !== 'object');
    expect(own).toEqual([]);
  });

  test('the message about a shrinking disk tells the size to write', () => {
    const growth = rules.find(({ rule }) => rule.messageExpression !== undefined);
    expect(growth?.rule.messageExpression).toBe(
      "'disk grew to ' + string(oldSelf.size) + '; set size: ' + string(oldSelf.size) + ' in your manifest'",
    );
  });
});

test('the files say the same to YAML 1.1, which kubectl reads, and to YAML 1.2', async () => {
  for (const [path, text] of await generatedFiles()) {
    if (!path.endsWith('.yaml')) continue;
    expect(parse(text, { version: '1.1' }), path).toEqual(parse(text));
    expect(text.length).toBeLessThan(200_000);
  }
});
