/** All suites, between two looks at the machine. The last line on stdout is `N passed, N failed`. */
import { betweenLooks } from './between-looks.mjs';
import { buildClusterBinaries } from './cluster/binaries.mjs';
import { report, runStage, staticStages, vitestStage } from './stages.mjs';

const SUITES_DEADLINE_MS = 50 * 60_000;

const args = process.argv.slice(2);
const filters = args.filter((arg) => !arg.startsWith('--'));
const say = (line) => console.log(`==> ${line}`);

const projectsOf = (...names) => names.flatMap((name) => ['--project', name]);

await betweenLooks(args.includes('--shared'), async (tally, vitest) => {
  const run = (projects) =>
    vitest(vitestStage('suites', [...projects, ...filters], { deadlineMs: SUITES_DEADLINE_MS }));
  if (args.includes('--cluster')) {
    const complaint = await buildClusterBinaries(say);
    if (complaint !== undefined) return tally.count('the test cluster is built', false, [complaint]);
    return run(projectsOf('cluster'));
  }
  for (const result of await Promise.all(staticStages().map(runStage))) {
    report(result);
    tally[result.ok ? 'passed' : 'failed'] += 1;
  }
  return run(projectsOf('unit', 'property', 'proof', 'conformance', 'e2e', 'over-ssh'));
});
