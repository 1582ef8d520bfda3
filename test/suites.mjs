/** All suites, between two looks at the machine. The last line on stdout is `N passed, N failed`. */
import { betweenLooks } from './between-looks.mjs';
import { buildClusterBinaries } from './cluster/binaries.mjs';
import { report, runStage, staticStages, vitestStage } from './stages.mjs';

const SUITES_DEADLINE_MS = 50 * 60_000;

const args = process.argv.slice(2);
const filters = args.filter((arg) => arg !== '--shared');

await betweenLooks(args.includes('--shared'), async (tally, vitest) => {
  for (const result of await Promise.all(staticStages().map(runStage))) {
    report(result);
    tally[result.ok ? 'passed' : 'failed'] += 1;
  }
  // Beside the suites: those that need it are the last, and wait for it.
  const wanted = filters.length === 0 || filters.some((filter) => filter.includes('cluster'));
  const built = wanted ? buildClusterBinaries((line) => console.log(`==> ${line}`)) : undefined;
  await vitest(vitestStage('suites', filters, { deadlineMs: SUITES_DEADLINE_MS }));
  const complaint = await built;
  if (complaint !== undefined) tally.count('the test cluster is built', false, [complaint]);
});
