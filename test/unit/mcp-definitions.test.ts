/** What tools/list publishes: small, strict, complete, and the same as was committed. */
import { expect, test } from 'vitest';
import { TOOLS } from '../../src/mcp/server.ts';

const definitions = TOOLS.map(({ definition }) => definition);

/** Tokens are bought with every session: 2,000 of them are about 8 KB of compact JSON. */
const BUDGET_BYTES = 8_000;

test('the three tools, always in the same order', () => {
  expect(definitions.map(({ name }) => name)).toEqual(['list_vms', 'manage_vm', 'monitor_vm_status']);
});

test('all definitions together stay within the budget', () => {
  expect(Buffer.byteLength(JSON.stringify({ tools: definitions }))).toBeLessThan(BUDGET_BYTES);
});

test('a definition changes only on purpose', async () => {
  await expect(`${JSON.stringify(definitions, null, 2)}\n`).toMatchFileSnapshot('__snapshots__/mcp-tools.snap');
});

test.each(definitions)('$name: flat, strict, described, bounded', ({ inputSchema, annotations, name, title }) => {
  expect(inputSchema).toMatchObject({ type: 'object', additionalProperties: false });
  for (const combinator of ['anyOf', 'oneOf', 'allOf', '$ref', '$defs', '$schema'])
    expect(inputSchema).not.toHaveProperty(combinator);
  expect(Object.keys(inputSchema.properties).length).toBeGreaterThan(5);
  for (const [field, schema] of Object.entries(inputSchema.properties)) {
    expect(field).toMatch(/^[a-z][a-z_]*$/);
    expect(schema, `${name}.${field}`).toHaveProperty('description');
    // A default that is published would be sent with every modify.
    expect(schema, `${name}.${field}`).not.toHaveProperty('default');
    if (schema['type'] === 'integer') {
      expect(schema).toHaveProperty('minimum');
      expect(schema['maximum']).toBeLessThan(1_000_000);
    }
    if (schema['type'] === 'string' && schema['enum'] === undefined) expect(schema).toHaveProperty('maxLength');
    expect(['string', 'integer', 'boolean']).toContain(schema['type']);
  }
  expect(title).not.toBe('');
  expect(Object.keys(annotations).sort()).toEqual(
    ['destructiveHint', 'idempotentHint', 'openWorldHint', 'readOnlyHint', 'title'].sort(),
  );
});

test.each(definitions)('$name: the output requires the envelope and nothing else', ({ outputSchema }) => {
  expect(outputSchema['required']).toEqual(['success', 'message', 'data']);
  expect(outputSchema.properties['data']).not.toHaveProperty('required');
  expect(outputSchema).not.toHaveProperty('additionalProperties');
});

test('names, parameters and values of the specification', () => {
  const schemaOf = (name: string) => definitions.find((one) => one.name === name)?.inputSchema;
  const host = ['host', 'ssh_port', 'ssh_user', 'ssh_pwd', 'ssh_key'];
  expect(Object.keys(schemaOf('manage_vm')?.properties ?? {})).toEqual(
    expect.arrayContaining(['name', 'action', 'arch', 'memory', 'disk', 'iso', 'vcpus', 'vm_dir', ...host]),
  );
  expect(schemaOf('manage_vm')).toMatchObject({
    required: ['name', 'action'],
    properties: {
      action: { enum: expect.arrayContaining(['create', 'start', 'stop', 'delete', 'modify', 'restart']) },
    },
  });
  expect(Object.keys(schemaOf('list_vms')?.properties ?? {})).toEqual(
    expect.arrayContaining(['status', 'arch', 'filter_name', 'vm_dir', ...host]),
  );
  expect(schemaOf('list_vms')).not.toHaveProperty('required');
  expect(schemaOf('monitor_vm_status')).toMatchObject({
    required: ['name'],
    properties: { metrics: { enum: ['cpu', 'memory', 'disk', 'network', 'all'] }, interval: { minimum: 1 } },
  });
  expect(schemaOf('manage_vm')?.properties['dry_run']).toMatchObject({ type: 'boolean' });
});
