/** docs/reference/manifests.md from the CRDs: every field with type, default, bounds and what a change does. */
import { crdOf } from '../src/api/crd.ts';
import { KIND_INFO } from '../src/api/kinds.ts';
import { API_VERSION, KINDS, type Kind } from '../src/api/meta.ts';
import { type CelRule, PATTERN_WORDS } from '../src/api/schema.ts';
import type { Structural } from '../src/api/structural.ts';

interface Row {
  readonly path: string;
  readonly schema: Structural;
  readonly required: boolean;
  /** Rules of the surrounding objects that speak of this field, and its own. */
  readonly rules: readonly CelRule[];
}

const INTRO = `# Manifest reference

Every field of every kind, from the schemas that also validate. \`apiVersion\` is \`${API_VERSION}\` throughout.

* A field without "required" and without a default may be left out; its description says what then holds.
* Sizes are Kubernetes quantities: \`2Gi\` is 2 × 1024³ bytes, \`2G\` is 2 × 1000³, a plain number counts bytes. They
  are rounded up.
* Unknown fields are refused, in manifests and by \`kubectl apply\` alike.
* \`status\` is written by the operator alone. A \`status\` in a manifest is ignored.
`;

/** Parts that several kinds have: told once, at the end. By the path that is shown, and by those that point to it. */
const SHARED = [
  {
    title: 'Condition',
    kind: 'VirtualMachine',
    path: 'status.conditions[]',
    also: ['status.conditions'],
  },
  {
    title: 'Sample',
    kind: 'VirtualMachine',
    path: 'status.metrics',
    also: ['status.metrics', 'status.samples[].sample'],
  },
] as const;

export function manifestReference(): string {
  return [INTRO, ...KINDS.map(sectionOf), ...SHARED.map(sharedSection)].join('\n');
}

function sharedSection({ title, kind, path }: (typeof SHARED)[number]): string {
  const { status } = partsOf(kind);
  const rows = rowsOf(status, 'status', []).filter((row) => row.path.startsWith(`${path}.`));
  const shown = rows.map((row) => ({ ...row, path: row.path.slice(path.length + 1) }));
  return [`## ${title}`, '', ...statusTable(shown), ''].join('\n');
}

function sharedBy(path: string): string | undefined {
  return SHARED.find(({ also }) => also.some((one) => one === path))?.title;
}

function isToldElsewhere({ path }: Row): boolean {
  return SHARED.some(({ also }) => also.some((one) => path.startsWith(`${one}.`) || path.startsWith(`${one}[]`)));
}

function partsOf(kind: Kind) {
  const schema = crdOf(kind).spec.versions[0]?.schema.openAPIV3Schema;
  const { spec, status } = schema?.properties ?? {};
  if (schema === undefined || spec === undefined || status === undefined) throw new Error(`${kind} has no schema`);
  return { schema, spec, status };
}

function sectionOf(kind: Kind): string {
  const info = KIND_INFO[kind];
  const { schema, spec, status } = partsOf(kind);
  const scope = info.namespaced ? 'namespaced' : 'cluster-scoped';
  const rootRules = schema['x-kubernetes-validations'] ?? [];
  return [
    `## ${kind}`,
    '',
    `${info.description} ${scope[0]?.toUpperCase()}${scope.slice(1)}; short name \`${info.shortNames.join('`, `')}\`.`,
    '',
    `\`metadata.name\`: ${cellOf(allowed(schema.properties?.['metadata']?.properties?.['name'] ?? {}))}.`,
    '',
    `### ${kind} spec`,
    '',
    ...tableOf(rowsOf(spec, 'spec', rootRules)),
    '',
    ...objectRules(spec),
    `### ${kind} status`,
    '',
    ...statusTable(rowsOf(status, 'status', []).filter((row) => !isToldElsewhere(row))),
    '',
  ].join('\n');
}

function rowsOf(schema: Structural, path: string, outer: readonly CelRule[]): Row[] {
  const own = schema['x-kubernetes-validations'] ?? [];
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const here = `${path}.${name}`;
    const rules = [
      ...own.filter(({ fieldPath }) => fieldPath === `.${name}`),
      ...outer.filter(({ fieldPath }) => fieldPath === `.${here}`),
      ...own.filter(({ fieldPath }) => fieldPath?.startsWith(`.${name}.`)).map((rule) => withinField(rule, name)),
    ];
    const mine = rules.filter(({ fieldPath }) => fieldPath === `.${name}` || fieldPath === `.${here}`);
    const inner = rules.filter((rule) => !mine.includes(rule));
    const valueRules = field['x-kubernetes-validations'] ?? [];
    const row: Row = {
      path: here,
      schema: field,
      required: schema.required?.includes(name) === true,
      rules: [...mine, ...valueRules.filter(({ fieldPath }) => fieldPath === undefined)],
    };
    return [row, ...nestedRows(withRules(field, inner), here)];
  });
}

function withinField(rule: CelRule, name: string): CelRule {
  return { ...rule, fieldPath: rule.fieldPath?.slice(name.length + 1) ?? '' };
}

function withRules(schema: Structural, more: readonly CelRule[]): Structural {
  return { ...schema, 'x-kubernetes-validations': [...(schema['x-kubernetes-validations'] ?? []), ...more] };
}

function nestedRows(field: Structural, path: string): Row[] {
  if (field.items !== undefined) return rowsOf(field.items, `${path}[]`, []);
  return rowsOf(field, path, []);
}

function tableOf(rows: readonly Row[]): string[] {
  return [
    '| field | type | default | allowed | change | meaning |',
    '|---|---|---|---|---|---|',
    ...rows.map(({ path, schema, required, rules }) => {
      const words = rules.map(({ message = '' }) => message);
      const bounds = [...(required ? ['required'] : []), ...allowed(schema), ...words.filter((one) => !isChange(one))];
      const change = words.filter(isChange).map(changeWords);
      const cells = [typeOf(schema), defaultOf(schema), cellOf(bounds), cellOf(change), cell(schema.description ?? '')];
      return `| \`${path}\` | ${cells.join(' | ')} |`;
    }),
  ];
}

/** Messages of rules between the old and the new object. */
function isChange(message: string): boolean {
  return changeWords(message) !== message;
}

function changeWords(message: string): string {
  if (message.endsWith('is immutable')) return 'immutable';
  if (message.endsWith('is immutable once set')) return 'may be set once';
  return message.startsWith('a disk only grows') ? 'only grows' : message;
}

function statusTable(rows: readonly Row[]): string[] {
  return [
    '| field | type | meaning |',
    '|---|---|---|',
    ...rows.map(({ path, schema }) => {
      const values = schema.enum === undefined ? '' : ` One of ${schema.enum.join(', ')}.`;
      const meaning = cell(`${schema.description ?? ''}${values}`.trim());
      const shared = sharedBy(path);
      const type = shared === undefined ? typeOf(schema) : typeOf(schema).replace('object', shared);
      return `| \`${path}\` | ${type} | ${meaning} |`;
    }),
  ];
}

/** Rules of a whole object, which belong to no field. */
function objectRules(spec: Structural): string[] {
  const rules = (spec['x-kubernetes-validations'] ?? []).filter(({ fieldPath }) => fieldPath === undefined);
  return rules.length === 0 ? [] : [...rules.map(({ message }) => `* ${message}`), ''];
}

function typeOf(schema: Structural): string {
  if (schema['x-kubernetes-int-or-string'] === true) return 'quantity';
  if (schema.format === 'date-time') return 'time';
  if (schema.items !== undefined) {
    const key = schema['x-kubernetes-list-map-keys']?.[0];
    return `list of ${typeOf(schema.items)}${key === undefined ? '' : ` by ${key}`}`;
  }
  if (schema.additionalProperties !== undefined) return `map of ${typeOf(schema.additionalProperties)}`;
  return schema.type ?? '';
}

function defaultOf(schema: Structural): string {
  return schema.default === undefined ? '' : `\`${JSON.stringify(schema.default)}\``;
}

/** Patterns that leave no choice of length. */
const FIXED_FORM = /^(a |1 to )/;

function allowed(schema: Structural): string[] {
  const form = schema.pattern === undefined ? undefined : PATTERN_WORDS.get(schema.pattern);
  const { minimum, maximum, maxLength, maxItems } = schema;
  const words = [
    schema.enum?.map((value) => `\`${value}\``).join(', '),
    form,
    ...(schema.items === undefined ? [] : allowed(schema.items)),
    minimum === undefined ? undefined : `at least ${minimum}`,
    maximum === undefined ? undefined : `at most ${maximum}`,
    maxLength === undefined || FIXED_FORM.test(form ?? '') ? undefined : `at most ${maxLength} characters`,
    maxItems === undefined ? undefined : `at most ${maxItems} entries`,
    schema['x-kubernetes-list-type'] === 'set' ? 'without repetition' : undefined,
  ];
  return words.filter((one) => one !== undefined);
}

function cellOf(words: readonly string[]): string {
  return cell(words.join('; '));
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
}
