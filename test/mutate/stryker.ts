/** Stryker over one area: a copy of the tree in a folder of our own, every mutant switched on in turn. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Stryker } from '@stryker-mutator/core';
import { AREA_VARIABLE, type Area } from './areas.ts';
import { type Mutant, oneBlank } from './mutant.ts';

type LogLevel = NonNullable<ConstructorParameters<typeof Stryker>[0]['logLevel']>;
type Result = Awaited<ReturnType<Stryker['runMutationTest']>>[number];

/** An endless loop is told from a slow machine by this much, on top of the time the tests took before. */
const PATIENCE_MS = 2_000;

/** @param options.changed only mutants whose line or tests have changed since the last run: what helpers do is not seen */
export async function mutantsOf(area: Area, folder: string, options: { changed: boolean }): Promise<Mutant[]> {
  process.env[AREA_VARIABLE] = area.name;
  // Before the run: somebody may edit meanwhile.
  const sources = new Map(area.files.map((file) => [file, readFileSync(file, 'utf8').split('\n')]));
  const stryker = new Stryker({
    testRunner: 'vitest',
    plugins: ['@stryker-mutator/vitest-runner'],
    vitest: { configFile: 'test/mutate/vitest.config.ts', related: false },
    mutate: [...area.files],
    coverageAnalysis: 'perTest',
    incremental: true,
    incrementalFile: `.cache/mutate/${area.name}.json`,
    force: !options.changed,
    concurrency: 2,
    timeoutMS: PATIENCE_MS,
    reporters: [],
    // No reporter is what is wanted, and the tool warns of it.
    logLevel: 'error' as LogLevel,
    // It holds nothing to rewrite, and TypeScript 7 has no API to read it with.
    tsconfigFile: 'none.json',
    tempDirName: folder,
    cleanTempDir: 'always',
    allowConsoleColors: false,
  });
  const results = await stryker.runMutationTest();
  return results.flatMap((result) => {
    const fate = FATES[result.status];
    const file = area.files.find((one) => result.fileName === one || result.fileName === join(process.cwd(), one));
    if (fate === undefined || file === undefined) throw new Error(`${result.fileName}: a mutant is ${result.status}`);
    return [mutant(result, fate, file, sources.get(file) ?? [])];
  });
}

/** A module that fails to load fails its tests. */
const FATES: Readonly<Partial<Record<Result['status'], Mutant['fate']>>> = {
  Killed: 'killed',
  RuntimeError: 'killed',
  Timeout: 'timeout',
  Survived: 'survived',
  NoCoverage: 'uncovered',
};

function mutant({ location, replacement }: Result, fate: Mutant['fate'], file: string, lines: string[]): Mutant {
  const { start, end } = location;
  const from = lines.slice(start.line - 1, end.line);
  from[from.length - 1] = (from.at(-1) ?? '').slice(0, end.column - 1);
  from[0] = (from[0] ?? '').slice(start.column - 1);
  return {
    file,
    line: start.line,
    source: (lines[start.line - 1] ?? '').trim(),
    from: oneBlank(from.join('\n')),
    to: oneBlank(replacement ?? ''),
    fate,
  };
}
