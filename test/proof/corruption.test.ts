/**
 * Whatever becomes of a file of ours, no guest loses a byte or its process, somebody is told which file it is, and with
 * the file mended all is as before.
 */
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { parseManifest } from '../../src/api/admission.ts';
import { type Damage, damages } from './damage.ts';
import { DamagedHouse, NAMES } from './damaged-house.ts';
import { holds } from './known-seeds.ts';

const MINUTE = 60_000;
let template: DamagedHouse;

beforeAll(async () => {
  template = await DamagedHouse.build();
  await template.begin();
  expect(await template.ready()).toEqual(NAMES);
  await template.stop();
});
afterAll(() => template.end());

interface Target {
  readonly name: string;
  readonly runs: number;
  readonly read: (house: DamagedHouse) => string;
  /** The same of another VM. */
  readonly other: (house: DamagedHouse) => string;
  readonly write: (house: DamagedHouse, text: string) => void;
  readonly mend: (house: DamagedHouse, text: string) => void;
  /** Only while nobody has the store open. */
  readonly offline?: true;
  /** What a person must be told. */
  readonly named: RegExp;
  /** Whether the damaged text means what the whole one meant, or is a wish of its own. */
  readonly harmless: (text: string, was: string) => boolean;
}

/** A row of the store. */
function cell(column: string, where: string, other: string, table = 'objects'): Target {
  return {
    name: `${table}.${column} of ${where}`,
    runs: 50,
    read: (house) => house.cell(table, column, where),
    other: (house) => house.cell(table, column, other),
    write: (house, text) => house.setCell(table, column, where, text),
    mend: (house) => house.restoreStore(),
    offline: true,
    named: /store\.db/,
    harmless: (text, was) => sameJson(text, was, ['sum']),
  };
}

const TARGETS: readonly Target[] = [
  {
    name: 'ownership record',
    runs: 150,
    read: (house) => house.record('web-1'),
    other: (house) => house.record('web-2'),
    write: (house, text) => house.setRecord('web-1', text),
    mend: (house, text) => house.setRecord('web-1', text),
    named: /\/vms\/web-1/,
    // The figures that the host fills in are no part of the checksum; what they say is seen on the host as well.
    harmless: (text, was) => sameJson(text, was, ['checksum', 'at', 'pid', 'startTicks']),
  },
  {
    name: 'marker of the vmDir',
    runs: 100,
    read: (house) => house.marker,
    other: (house) => house.record('web-2'),
    write: (house, text) => house.setMarker(text),
    mend: (house, text) => house.setMarker(text),
    named: /\/vms\/\.qemu-operator\.json/,
    harmless: (text, was) => sameJson(text, was, ['checksum', 'session', 'pid', 'startTicks']),
  },
  cell('json', "name = 'web-1'", "name = 'web-2'"),
  cell('json', "kind = 'Host'", "name = 'web-2'"),
  cell('declaration', "name = 'web-1'", "name = 'web-2'"),
  {
    name: 'manifest',
    runs: 100,
    read: (house) => house.manifest('web-1'),
    other: (house) => house.manifest('web-2'),
    write: (house, text) => house.setManifest('web-1', text),
    mend: (house, text) => house.setManifest('web-1', text),
    named: /web-1\.yaml/,
    harmless: isEdit,
  },
];

/** A manifest that is valid for the same VM is a person's edit, whatever made it. */
function isEdit(text: string): boolean {
  try {
    const { kind, metadata } = parseManifest(parse(text));
    return kind === 'VirtualMachine' && metadata.name === 'web-1';
  } catch {
    return false;
  }
}

/** The same JSON but for the fields that are named, at any depth. */
function sameJson(a: string, b: string, but: readonly string[]): boolean {
  const rest = (text: string): unknown => JSON.parse(text, (name, value) => (but.includes(name) ? undefined : value));
  try {
    return isDeepStrictEqual(rest(a), rest(b));
  } catch {
    return false;
  }
}

/** What is wrong with how a damage was met; empty where nothing is. */
async function complaintsOf(target: Target, { apply }: Damage, running: boolean): Promise<string[]> {
  const house = template.copy();
  const complaints: string[] = [];
  try {
    const before = house.guests();
    const was = target.read(house);
    if (running) await house.begin();
    if (running) await house.pass();
    const now = target.read(house);
    const text = apply(now, target.other(house));
    if (target.name === 'manifest' && isEdit(text)) return [];
    target.write(house, text);
    if (!running) await house.begin();
    await house.pass();
    const unharmed = (when: string) => {
      if (!isDeepStrictEqual(house.guests(), before)) complaints.push(`${when}: ${JSON.stringify(house.guests())}`);
    };
    unharmed('damaged');
    const told = await house.told();
    const harmless = text === now || target.harmless(text, now);
    if (!harmless && !told.some((one) => target.named.test(one))) complaints.push(`nobody is told: ${told.join('; ')}`);
    if (target.offline) await house.stop();
    target.mend(house, running ? now : was);
    if (target.offline) await house.begin();
    await house.pass();
    unharmed('mended');
    const ready = await house.ready();
    if (NAMES.some((name) => !ready.includes(name))) complaints.push(`mended, only ${ready} are ready`);
  } finally {
    await house.end();
  }
  return complaints;
}

describe.each(TARGETS)('damage of $name', (target) => {
  test('harms no guest, is told, and can be mended', { timeout: 10 * MINUTE }, async () => {
    const running = target.offline ? fc.constant(false) : fc.boolean();
    const property = fc.asyncProperty(damages, running, async (damage, whileRunning) => {
      expect(await complaintsOf(target, damage, whileRunning), damage.how).toEqual([]);
    });
    await holds(`damage of ${target.name}`, property, target.runs);
  });
});

test('they are enough', () => {
  expect(TARGETS.reduce((sum, { runs }) => sum + runs, 0)).toBeGreaterThanOrEqual(500);
});
