/** `npm test`: every suite. Ends with one line, `N passed, N failed`. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { report, runStage, staticStages, vitestStage } from './stages.mjs';

const counts = { passed: 0, failed: 0 };
for (const result of await Promise.all(staticStages().map(runStage))) {
  report(result);
  counts[result.ok ? 'passed' : 'failed'] += 1;
}

const scratch = mkdtempSync(join(tmpdir(), 'qemu-operator-test-'));
const json = join(scratch, 'vitest.json');
const args = ['--reporter=default', '--reporter=json', `--outputFile.json=${json}`];
const suites = await runStage(vitestStage('suites', args, { live: true, deadlineMs: 50 * 60_000 }));
try {
  const told = JSON.parse(readFileSync(json, 'utf8'));
  counts.passed += told.numPassedTests;
  counts.failed += told.numTotalTests - told.numPassedTests;
  if (!suites.ok && told.numTotalTests === told.numPassedTests) counts.failed += 1;
} catch {
  counts.failed += 1;
}
rmSync(scratch, { recursive: true, force: true });

console.log(`${counts.passed} passed, ${counts.failed} failed`);
process.exit(counts.failed === 0 ? 0 : 1);
