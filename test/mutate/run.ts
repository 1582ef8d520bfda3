/**
 * `npm run mutate -- [--changed] [AREA...]`: whether the tests notice when the code is wrong. All areas take about ten
 * minutes on two idle cores.
 */
import { rmSync } from 'node:fs';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AREAS, type Area, areaOf } from './areas.ts';
import { EXPLAINED } from './explained.ts';
import type { Mutant } from './mutant.ts';
import { describe, judge, page, scoreOf } from './report.ts';
import { mutantsOf } from './stryker.ts';

const PAGE = 'docs/mutation.md';

const args = process.argv.slice(2);
const changed = args.includes('--changed');
const names = args.filter((arg) => arg !== '--changed');
const areas = names.length === 0 ? AREAS : names.map(areaOf);

const scratch = await mkdtemp(join(tmpdir(), 'qo-mutate-'));
process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
// Thousands of runs begin with the same modules.
process.env['NODE_COMPILE_CACHE'] = join(scratch, 'cache');

const mutants = new Map<Area, readonly Mutant[]>();
for (const area of areas) {
  const startedAt = Date.now();
  mutants.set(area, await mutantsOf(area, join(scratch, area.name), { changed }));
  const { killed, mutants: all, perCent } = scoreOf(area.name, mutants.get(area) ?? []);
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(0);
  console.log(`${area.name}: ${killed} of ${all} mutants killed, ${perCent.toFixed(1)} % (${seconds} s)`);
}

const { unexplained, idle, below } = judge(mutants, EXPLAINED);
for (const mutant of unexplained) console.log(`unexplained: ${describe(mutant)}`);
for (const { file, line, why } of idle) console.log(`explains no survivor: ${file}: ${line}: ${why}`);
for (const { name, perCent } of below) console.log(`too few killed: ${name}, ${perCent.toFixed(1)} %`);
if (names.length === 0) await writeFile(PAGE, page(mutants, EXPLAINED));
process.exitCode = unexplained.length + idle.length + below.length === 0 ? 0 : 1;
