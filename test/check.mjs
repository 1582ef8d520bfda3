/** `npm run check`: what every commit must pass, in under a minute. */
import { existsSync } from 'node:fs';
import { NODE, report, runStage, staticStages, vitestStage } from './stages.mjs';

if (!existsSync(NODE)) {
  console.error(
    'The packages are not installed: run `npm ci` first (npm test and npm run quickstart do it themselves).',
  );
  process.exit(1);
}

const tests = vitestStage('unit and property tests, import rules', ['--project', 'unit', '--project', 'property']);
const results = await Promise.all(
  [...staticStages(), tests].map(async (stage) => {
    const result = await runStage(stage);
    report(result);
    return result;
  }),
);
process.exit(results.every(({ ok }) => ok) ? 0 : 1);
