/** The CLI's small pure parts: times, selectors, targets, columns, patches. */
import { describe, expect, test } from 'vitest';
import { ConflictError, InvalidObjectError, NotFoundError } from '../../src/api/errors.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { split } from '../../src/cli/annotate.ts';
import { headerOf, rowOf, valueAt } from '../../src/cli/columns.ts';
import { describeVm } from '../../src/cli/describe-vm.ts';
import { differenceOf } from '../../src/cli/difference.ts';
import { humanAge, parseDuration } from '../../src/cli/duration.ts';
import { exitCodeOf, sentenceOf } from '../../src/cli/exit-codes.ts';
import { outcomeOf } from '../../src/cli/outcome.ts';
import { listOf, yamlText } from '../../src/cli/output.ts';
import { parsePatch } from '../../src/cli/patch.ts';
import { kindOf, parseTargets, parseVmNames } from '../../src/cli/resources.ts';
import { matches, parseSelector } from '../../src/cli/selector.ts';
import { Table } from '../../src/cli/table.ts';
import { storedVm } from '../fakes/manifests.ts';

const S = 1000;
const M = 60 * S;
const H = 60 * M;
const D = 24 * H;
const Y = 365 * D;

// Expectations from k8s.io/apimachinery/pkg/util/duration/duration_test.go.
test.each([
  [-2 * S, '<invalid>'],
  [-2 * S + 1, '0s'],
  [0, '0s'],
  [S - 1, '0s'],
  [2 * M - 1, '119s'],
  [2 * M, '2m'],
  [2 * M + S, '2m1s'],
  [10 * M - 1, '9m59s'],
  [10 * M, '10m'],
  [3 * H - 1, '179m'],
  [3 * H, '3h'],
  [3 * H + M, '3h1m'],
  [8 * H - 1, '7h59m'],
  [8 * H, '8h'],
  [2 * D - 1, '47h'],
  [2 * D, '2d'],
  [2 * D + H, '2d1h'],
  [8 * D - 1, '7d23h'],
  [8 * D, '8d'],
  [2 * Y - 1, '729d'],
  [2 * Y, '2y'],
  [2 * Y + D, '2y1d'],
  [8 * Y - 1, '7y364d'],
  [8 * Y, '8y'],
])('an age of %d ms is %s', (ms, text) => {
  expect(humanAge(ms)).toBe(text);
});

test('times to wait are read as kubectl reads them, and nothing else is', () => {
  expect(['90', '90s', '1m30s', '1h', '500ms', '1.5m'].map(parseDuration)).toEqual([
    90_000,
    90_000,
    90_000,
    H,
    500,
    90_000,
  ]);
  for (const text of ['', '-1s', 's', '1d', '1 m', 'soon', '1m!'])
    expect(() => parseDuration(text)).toThrow(/is no time/);
});

describe('selectors', () => {
  const labels = { app: 'web', tier: 'front' };
  test.each([
    ['', true],
    ['app=web', true],
    ['app==web', true],
    ['app=web,tier=front', true],
    ['app=web,tier=back', false],
    ['app!=db', true],
    ['other!=x', true],
    ['app', true],
    ['!app', false],
    ['!owner', true],
    ['owner', false],
  ])('%s: %s', (text, expected) => {
    expect(matches(parseSelector(text), labels)).toBe(expected);
  });
  test('what is none is refused', () => expect(() => parseSelector('a in (b)')).toThrow(/no label selector/));
});

describe('targets', () => {
  test.each(['qvm', 'virtualmachine', 'virtualmachines', 'VirtualMachine', 'virtualmachines.qemu-operator.dev'])(
    '%s is the VirtualMachine',
    (word) => expect(kindOf(word)).toBe('VirtualMachine'),
  );
  test('a wrong type names the near ones', () =>
    expect(() => kindOf('virtualmachin')).toThrow(/did you mean virtualmachine/));
  test('in all of kubectl’s forms', () => {
    const web = { kind: 'VirtualMachine', ref: { namespace: 'prod', name: 'web' } };
    const host = { kind: 'Host', ref: { name: 'h' } };
    expect(parseTargets(['qvm'], 'prod')).toEqual({ kinds: ['VirtualMachine'], targets: [] });
    expect(parseTargets(['qvm', 'web'], 'prod').targets).toEqual([web]);
    expect(parseTargets(['qvm/web', 'qhost/h'], 'prod').targets).toEqual([web, host]);
    expect(parseTargets(['qvm,qhost'], undefined).kinds).toEqual(['VirtualMachine', 'Host']);
    expect(() => parseTargets(['qvm/web', 'h'], 'prod')).toThrow(/no need to mix/);
    expect(parseVmNames(['web', 'qvm/web'], 'prod')).toEqual([web, web]);
    expect(parseVmNames(['qvm', 'web'], 'prod')).toEqual([web]);
    expect(() => parseVmNames(['qhost/h'], 'prod')).toThrow(/no virtual machine/);
  });
});

test('a VM in full tells its guest and all of its addresses', () => {
  const vm: VirtualMachine = {
    ...storedVm({ hostName: 'h1' }),
    status: {
      guest: { os: 'Debian GNU/Linux 12', hostname: 'web', clockOffsetSeconds: -20 },
      interfaces: [
        { name: 'net0', mac: '52:54:00:00:00:01', ips: ['10.0.2.15', 'fec0::1'] },
        { name: 'net1', mac: '52:54:00:00:00:02' },
      ],
    },
  };
  const sheet = describeVm(vm, 0).join('\n');
  expect(sheet).toMatch(/System: +Debian GNU\/Linux 12\n +Host name: +web\n +Clock: +20 s behind the host's/);
  expect(sheet).toMatch(
    /net0 +52:54:00:00:00:01 +user +10\.0\.2\.15, fec0::1 +<none>\n +net1 +52:54:00:00:00:02 +user +<unknown> +<none>/,
  );
});

describe('columns', () => {
  const vm: VirtualMachine = {
    ...storedVm({ hostName: 'h1', memory: '1Gi' }, { labels: { app: 'web' } }),
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] } as VirtualMachine['status'],
  };
  const plain = { wide: false, withNamespace: false, showLabels: false, withType: false };
  test('are those of the CRD', () => {
    expect(headerOf('VirtualMachine', plain)).toEqual([
      'NAME',
      'PHASE',
      'READY',
      'HOST',
      'ARCH',
      'VCPUS',
      'MEMORY',
      'AGE',
    ]);
    expect(rowOf(vm, plain, Date.parse('2026-01-01T00:05:00Z'))).toEqual([
      'web-1',
      'Running',
      'True',
      'h1',
      'x86_64',
      '2',
      '1Gi',
      '5m',
    ]);
  });
  test('with namespace, type and labels where they are asked for', () => {
    const all = { wide: false, withNamespace: true, showLabels: true, withType: true };
    expect(headerOf('Host', all)[0]).toBe('NAME');
    const row = rowOf(vm, all, 0);
    expect(row.slice(0, 2)).toEqual(['default', 'virtualmachine.qemu-operator.dev/web-1']);
    expect(row.at(-1)).toBe('app=web');
  });
  test('a path to nowhere is nothing', () => {
    expect(valueAt(vm, '.status.conditions[?(@.type=="Ready")].status')).toBe('True');
    expect(valueAt(vm, '.status.conditions[?(@.type=="Gone")].status')).toBeUndefined();
    expect(valueAt(vm, '.status.metrics.cpu.percent')).toBeUndefined();
  });
  test('the address is the first of any interface', () => {
    const interfaces = [
      { name: 'net0', mac: '52:54:00:00:00:01' },
      { name: 'net1', mac: '52:54:00:00:00:02', ips: ['10.0.0.5', '10.0.0.6'] },
    ];
    const found = { ...vm, status: { ...vm.status, interfaces } };
    const wide = { ...plain, wide: true };
    const at = headerOf('VirtualMachine', wide).indexOf('IP');
    expect(rowOf(found, wide, 0)[at]).toBe('10.0.0.5');
    expect(rowOf(vm, wide, 0)[at]).toBe('<none>');
    expect(valueAt(found, '.status.interfaces[1].ips[1]')).toBe('10.0.0.6');
    expect(valueAt(found, '.status.interfaces[0].ips[0]')).toBeUndefined();
  });
  test('line up, and keep their widths for the rows that follow', () => {
    const table = new Table();
    expect(
      table.lines([
        ['NAME', 'AGE'],
        ['web-1', '5m'],
      ]),
    ).toEqual(['NAME    AGE', 'web-1   5m']);
    expect(table.lines([['a', '1s']])).toEqual(['a       1s']);
  });
});

test('YAML begins with what a person looks for, and several objects are a List', () => {
  const text = yamlText({ status: {}, spec: {}, metadata: { name: 'a' }, kind: 'Host', apiVersion: 'v' } as object);
  expect(text.split('\n').map((line) => line.split(':')[0])).toEqual([
    'apiVersion',
    'kind',
    'metadata',
    '  name',
    'spec',
    'status',
    '',
  ]);
  expect(listOf([])).toMatchObject({ apiVersion: 'v1', kind: 'List', items: [] });
});

describe('patches', () => {
  const parse = (text: string) => parsePatch({ source: 'the patch', text });
  test('in JSON and YAML', () => {
    expect(parse('{"spec":{"vcpus":4}}')).toEqual({ spec: { vcpus: 4 } });
    expect(parse('spec: {vcpus: 4}')).toEqual({ spec: { vcpus: 4 } });
  });
  test.each(['[]', '', 'spec', '{status: {}}', '{metadata: {uid: x}}', '{a: 1}'])('%s is refused', (text) =>
    expect(() => parse(text)).toThrow(),
  );
  test('between two values: what was changed, removed and added, lists whole', () => {
    const before = { a: 1, b: { c: 2, d: [1] }, e: 5 };
    expect(differenceOf(before, before)).toBeUndefined();
    expect(differenceOf(before, { a: 1, b: { c: 3, d: [1, 2] }, f: {} })).toEqual({
      b: { c: 3, d: [1, 2] },
      e: null,
      f: {},
    });
  });
  test('of annotations', () => {
    expect(split(['qvm', 'a', 'k=v=w', 'x/y-'])).toEqual({ names: ['qvm', 'a'], changes: { k: 'v=w', 'x/y': null } });
    for (const words of [
      ['qvm', 'a'],
      ['qvm', 'a', 'k=v', 'b'],
      ['qvm', 'a', '=v'],
      ['qvm', 'a', 'k=1', 'k-'],
    ])
      expect(() => split(words)).toThrow();
  });
});

describe('outcomes', () => {
  const at = (status: object): VirtualMachine => ({
    ...storedVm({}, { generation: 2 }),
    status: status as VirtualMachine['status'],
  });
  const ready = (status: string, more: object[] = []) => ({
    observedGeneration: 2,
    conditions: [{ type: 'Ready', status, reason: 'R', message: 'm' }, ...more],
  });
  test('only a look that knew this spec counts', () => {
    expect(outcomeOf(storedVm()).kind).toBe('waiting');
    expect(outcomeOf(at({ ...ready('True'), observedGeneration: 1 })).kind).toBe('waiting');
    expect(outcomeOf(at(ready('True')))).toEqual({ kind: 'settled', reason: 'R', message: 'm' });
    expect(outcomeOf(at(ready('False'))).kind).toBe('waiting');
    expect(outcomeOf(at(ready('False', [{ type: 'Stalled', status: 'True' }]))).kind).toBe('stalled');
    expect(outcomeOf(at(ready('Unknown', [{ type: 'ReconcilePaused', status: 'True' }]))).kind).toBe('stalled');
  });
});

test('errors end with the documented codes and kubectl’s words', () => {
  expect(exitCodeOf(new NotFoundError('x'))).toBe(3);
  expect(exitCodeOf(new ConflictError('x'))).toBe(4);
  expect(exitCodeOf(new Error('x'))).toBe(1);
  expect(sentenceOf(new NotFoundError('a "b" not found'))).toBe('Error from server (NotFound): a "b" not found');
  const issues = [
    { field: 'spec.a', message: 'must be b' },
    { field: 'spec.c', message: 'must be d' },
  ];
  expect(sentenceOf(new InvalidObjectError('VirtualMachine "x"', issues))).toBe(
    'error: VirtualMachine "x" is invalid: \n* spec.a: must be b\n* spec.c: must be d',
  );
});
