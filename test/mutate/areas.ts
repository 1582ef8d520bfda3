/** What is mutated, and which tests have to notice. The suites that start QEMU take part in none of it. */

export interface Area {
  readonly name: string;
  /** Files below src. */
  readonly files: readonly string[];
  /** Test files, as vitest's `include`. */
  readonly tests: readonly string[];
}

/** The least share of mutants that the tests of an area notice, in per cent. */
export const LEAST_KILLED = 85;

export const AREAS: readonly Area[] = [
  { name: 'quantity', files: ['src/api/quantity.ts'], tests: ['test/unit/quantity*.test.ts'] },
  { name: 'cmdline', files: ['src/qemu/cmdline.ts'], tests: ['test/unit/cmdline*.test.ts'] },
  {
    name: 'store',
    files: ['change-feed', 'merge', 'object-cache', 'object-reader', 'object-rules', 'object-table', 'table-store'].map(
      (name) => `src/store/${name}.ts`,
    ),
    tests: [
      'test/unit/{change-feed,merge,object-cache,object-reader,object-rules,object-table,table-store}*.test.ts',
      'test/unit/store-merge.test.ts',
      'test/conformance/memory-store.test.ts',
    ],
  },
  {
    name: 'decide',
    files: ['decide', 'decide-host', 'power', 'stop', 'ends', 'storage', 'readiness'].map(
      (name) => `src/reconcile/${name}.ts`,
    ),
    tests: [
      'test/unit/{decide,decide-host,power,stop,ends,storage,readiness}*.test.ts',
      'test/unit/{host-shutdown,images,network}.test.ts',
    ],
  },
  {
    name: 'status',
    files: ['status', 'guest-status', 'phase'].map((name) => `src/reconcile/${name}.ts`),
    tests: ['test/unit/{status,phase}*.test.ts'],
  },
];

/** The area that a run is about, for vitest.config.ts in the processes of the runner. */
export const AREA_VARIABLE = 'QEMU_OPERATOR_MUTATED_AREA';

export function areaOf(name: string | undefined): Area {
  const area = AREAS.find((one) => one.name === name);
  if (area === undefined) throw new Error(`no area ${name}: one of ${AREAS.map((one) => one.name).join(', ')}`);
  return area;
}
