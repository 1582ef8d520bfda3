import { posix } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseManifest, readSpec, validateUpdate } from '../../src/api/admission.ts';
import { crdOf } from '../../src/api/crd.ts';
import { effectiveSpec } from '../../src/api/effective-spec.ts';
import { InvalidObjectError } from '../../src/api/errors.ts';
import { parseQuantity } from '../../src/api/quantity.ts';
import type { VirtualMachineSpec } from '../../src/api/virtual-machine.ts';
import { storedVm, vmDocument } from '../fakes/manifests.ts';
import { complaint } from '../fakes/structural-validator.ts';

const label = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?$/);
const vmName = fc.stringMatching(/^[A-Za-z0-9]([A-Za-z0-9_.-]{0,20}[A-Za-z0-9])?$/);
const segment = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 12 })
  .filter((one) => /^[^/\p{Cc}]+$/u.test(one) && one !== '.' && one !== '..');
const path = fc.array(segment, { minLength: 1, maxLength: 4 }).map((parts) => `/${parts.join('/')}`);
const size = fc.oneof(
  fc
    .integer({ min: 1, max: 4096 })
    .chain((n) => fc.constantFrom('Mi', 'Gi', 'G', 'M').map((unit) => `${n + 1}${unit}`)),
  fc.integer({ min: 1_048_576, max: 2 ** 50 }),
);

const spec = fc
  .record(
    {
      architecture: fc.constantFrom('x86_64', 'arm64'),
      hostName: label,
      vmName,
      uuid: fc.uuid(),
      powerState: fc.constantFrom('PoweredOn', 'PoweredOff', 'ForcedOff'),
      restartPolicy: fc.constantFrom('Always', 'OnFailure', 'Never'),
      restartedAt: fc.string({ maxLength: 64 }),
      vcpus: fc.integer({ min: 1, max: 1024 }),
      memory: size.filter((one) => (parseQuantity(one) ?? 0) <= 2 ** 46),
      firmware: fc.constant({ type: 'UEFI' }),
      disks: fc.uniqueArray(
        fc.record(
          {
            name: label,
            size,
            format: fc.constantFrom('qcow2', 'raw'),
            path,
            reclaimPolicy: fc.constantFrom('Delete', 'Retain'),
          },
          { requiredKeys: ['name', 'path'] },
        ),
        { maxLength: 4, selector: (disk) => disk.name, comparator: (a, b) => a === b },
      ),
      networks: fc.uniqueArray(fc.record({ name: label, user: fc.constant({}) }), {
        maxLength: 3,
        selector: ({ name }) => name,
      }),
      graphics: fc.constantFrom({}, { vnc: {} }),
      powerOff: fc.record(
        { mode: fc.constantFrom('TrySoft', 'Soft', 'Hard'), gracePeriodSeconds: fc.integer({ min: 0, max: 3600 }) },
        { requiredKeys: [] },
      ),
      vmDir: path,
    },
    { requiredKeys: ['architecture'] },
  )
  .filter(({ disks = [] }) => new Set(disks.map((disk) => disk.path)).size === disks.length);

function refusal(document: unknown): InvalidObjectError | undefined {
  try {
    parseManifest(document);
    return undefined;
  } catch (error) {
    if (error instanceof InvalidObjectError) return error;
    throw error;
  }
}

describe('whatever comes', () => {
  const anything = fc.anything({ withBigInt: true, withNullPrototype: true, withObjectString: true });

  test('is admitted or refused in bounded, printable lines, and nothing else happens', () => {
    const document = fc.oneof(
      anything,
      fc.record({
        kind: fc.constantFrom('VirtualMachine', 'Host', 'VirtualMachineMonitor'),
        apiVersion: fc.constant('qemu-operator.dev/v1alpha1'),
        metadata: anything,
        spec: anything,
      }),
      anything.map((value) => vmDocument({ disks: value, networks: [value], memory: value, powerOff: value })),
      fc.dictionary(fc.string({ unit: 'binary' }), anything).map((fields) => vmDocument(fields, fields)),
    );
    fc.assert(
      fc.property(document, (value) => {
        const message = refusal(value)?.message ?? '';
        expect(message.length).toBeLessThan(12_000);
        expect(message).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/);
      }),
      { numRuns: 500 },
    );
  });
});

describe('an admitted spec', () => {
  test('is read from a store as it was admitted', () => {
    fc.assert(
      fc.property(spec, (fields) => {
        const admitted = parseManifest(vmDocument(fields)).spec;
        expect(readSpec('VirtualMachine', 'web-1', admitted)).toEqual(admitted);
        expect(parseManifest(vmDocument(admitted as object as Record<string, unknown>)).spec).toEqual(admitted);
      }),
    );
  });

  test('may follow itself', () => {
    fc.assert(
      fc.property(spec, (fields) => {
        const vm = storedVm(fields);
        validateUpdate(vm, vm.spec);
      }),
    );
  });

  test('keeps its folder inside its vmDir, and its disks at absolute, normalised paths', () => {
    const host = { spec: readSpec('Host', 'localhost', { local: {} }) };
    fc.assert(
      fc.property(spec, (fields) => {
        const { folder, vmDir, disks, launch } = effectiveSpec(storedVm(fields), host);
        expect(posix.dirname(folder)).toBe(vmDir);
        for (const disk of disks) expect(posix.resolve('/', disk.path)).toBe(disk.path);
        expect(new Set(launch.networks.map(({ mac }) => mac)).size).toBe(launch.networks.length);
        expect(launch.memoryMiB * 1_048_576).toBeGreaterThanOrEqual(
          parseQuantity((fields.memory ?? '2Gi') as string) ?? 0,
        );
      }),
    );
  });
});

test('a path is admitted exactly when it is absolute, normalised and printable', () => {
  const pieces = fc.array(fc.constantFrom('/', '.', '..', 'a', 'b c', '\n', '\u0000', '…', '~', '-'), { maxLength: 8 });
  fc.assert(
    fc.property(
      fc.oneof(
        pieces.map((parts) => parts.join('')),
        fc.string({ unit: 'binary' }),
      ),
      (value) => {
        const good =
          value.startsWith('/') &&
          value !== '/' &&
          posix.resolve('/', value) === value &&
          !/[\u0000-\u001f\u007f]/.test(value) &&
          value.isWellFormed();
        expect(
          refusal(vmDocument({ disks: [{ name: 'root', path: value }] })) === undefined,
          JSON.stringify(value),
        ).toBe(good);
      },
    ),
    { numRuns: 1000 },
  );
});

test('a disk may become exactly as large or larger', () => {
  const update = (from: unknown, to: unknown) => {
    const next = readSpec('VirtualMachine', 'web-1', { architecture: 'x86_64', disks: [{ name: 'root', size: to }] });
    validateUpdate(storedVm({ disks: [{ name: 'root', size: from }] }), next as VirtualMachineSpec);
  };
  fc.assert(
    fc.property(size, size, (from, to) => {
      const grows = (parseQuantity(to) ?? 0) >= (parseQuantity(from) ?? 0);
      if (grows) update(from, to);
      else expect(() => update(from, to)).toThrow(`disk grew to ${from}; set size: ${from} in your manifest`);
    }),
  );
});

describe('admission and the CRD say the same', () => {
  const schema = crdOf('VirtualMachine').spec.versions[0]?.schema.openAPIV3Schema.properties?.['spec'] ?? {};
  /** Rules that the CRD has in CEL: their twins are paired in spec-rules.test.ts. */
  const SAID_IN_CEL = /at (least|most) \d+[MTP]i|is the (path|mac) of|must be UEFI/;
  const twisted = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom(
      '',
      '0',
      '-1',
      '2GB',
      'a'.repeat(64),
      'A',
      '/a/',
      '/',
      '../x',
      'raw',
      'UEFI',
      -1,
      0,
      1025,
      1.5,
      true,
      null,
    ),
    fc.constantFrom([], {}, [{}], [{ name: 'a' }, { name: 'a' }], { type: 'BIOS' }, { mode: 'Hard', x: 1 }, [
      { name: 'a', user: {} },
    ]),
  );
  const field = fc.constantFrom(...Object.keys(schema.properties ?? {}), 'unknownField');

  test('of a spec with one field turned into something else', () => {
    fc.assert(
      fc.property(spec, field, twisted, (fields, name, value) => {
        const document = { ...fields, [name]: value };
        const structural = complaint(schema, document);
        const issues = refusal(vmDocument(document))?.issues.filter(({ message }) => !SAID_IN_CEL.test(message)) ?? [];
        expect(issues.length > 0, `${structural} against ${issues[0]?.field} ${issues[0]?.message}`).toBe(
          structural !== undefined,
        );
      }),
      { numRuns: 2000 },
    );
  });

  test('of a spec as it should be', () => {
    fc.assert(
      fc.property(spec, (fields) => {
        expect(refusal(vmDocument(fields))?.message).toBeUndefined();
        expect(complaint(schema, fields)).toBeUndefined();
      }),
    );
  });
});
