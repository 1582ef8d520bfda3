/**
 * Properties whose failures are not forgotten: a seed that once failed is kept in known-seeds.json, printed, and run
 * first from then on.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';

interface Seed {
  readonly seed: number;
  /** Which run of that seed, as fast-check counts. */
  readonly run: string;
}

const FILE = join(import.meta.dirname, 'known-seeds.json');

function allSeeds(): Readonly<Record<string, readonly Seed[]>> {
  return JSON.parse(readFileSync(FILE, 'utf8')) as Record<string, Seed[]>;
}

/** Keeps what failed, for whoever mends it to commit. */
function keep(name: string, seed: Seed): void {
  const seeds = allSeeds();
  const known = seeds[name] ?? [];
  if (known.some((one) => one.seed === seed.seed && one.run === seed.run)) return;
  writeFileSync(FILE, `${JSON.stringify({ ...seeds, [name]: [...known, seed] }, undefined, 2)}\n`);
}

/**
 * Runs the known seeds, then `numRuns` new ones.
 * @throws with the seed and the smallest counterexample
 */
export async function holds<T>(name: string, property: fc.IAsyncProperty<T>, numRuns: number): Promise<void> {
  const known = allSeeds()[name] ?? [];
  for (const { seed, run } of known) await fc.assert(property, { seed, path: run, numRuns: 1 });
  const result = await fc.check(property, { numRuns });
  console.log(`proof: ${name}: ${known.length} known seeds, ${result.numRuns} runs of seed ${result.seed}`);
  if (!result.failed) return;
  const [run = '0'] = (result.counterexamplePath ?? '0').split(':');
  keep(name, { seed: result.seed, run });
  throw new Error(await fc.asyncDefaultReportMessage(result), { cause: result.errorInstance });
}
