/** All suites, between two looks at the machine. The last line on stdout is `N passed, N failed`. */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { leftOver, pictureOfMachine, processesOf, RUN_VARIABLE, USERS_VARIABLE, usersIn } from './machine.mjs';
import { report, runStage, staticStages, vitestStage } from './stages.mjs';

const SUITES_DEADLINE_MS = 50 * 60_000;
const END_OF_PROCESSES_MS = 5_000;

const args = process.argv.slice(2);
const shared = args.includes('--shared');
const filters = args.filter((arg) => arg !== '--shared');
const counts = { passed: 0, failed: 0 };

function count(name, ok, details = []) {
  counts[ok ? 'passed' : 'failed'] += 1;
  if (!ok) console.log([`FAIL ${name}`, ...details].join('\n     '));
}

/** Adds vitest's own report. What did not run (skipped, todo, a file that does not load) is a failure here. */
function countSuites(path, ended) {
  let told;
  try {
    told = JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return count('vitest', false, ['it ended without a report']);
  }
  const before = counts.failed;
  for (const file of told.testResults) {
    if (file.assertionResults.length === 0) count(file.name, false, [file.message || 'has no tests']);
    // vitest has shown the whole of it; here it is a reminder near the end.
    for (const { status, fullName, failureMessages } of file.assertionResults)
      count(
        `${fullName} (${status})`,
        status === 'passed',
        failureMessages.map((message) => message.split('\n')[0]),
      );
  }
  if (told.testResults.length === 0) count('vitest', false, ['no test ran']);
  if (!ended.ok && counts.failed === before) count('vitest', false, ['it failed outside of any test, see above']);
}

function usersFile(scratch) {
  return join(scratch, 'users');
}

async function runSuites(scratch, run) {
  for (const result of await Promise.all(staticStages().map(runStage))) {
    report(result);
    counts[result.ok ? 'passed' : 'failed'] += 1;
  }
  const [json, folder] = [join(scratch, 'vitest.json'), join(scratch, 't')];
  const env = {
    TMPDIR: folder,
    [RUN_VARIABLE]: run,
    [USERS_VARIABLE]: usersFile(scratch),
    // vitest keeps a token there; the tests themselves do not see the variable (test/hermetic.ts).
    XDG_DATA_HOME: join(scratch, 'data'),
    // npm and tsc would leave one in the temporary folder.
    NODE_DISABLE_COMPILE_CACHE: '1',
  };
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${json}`];
  const stage = vitestStage('suites', [...reporters, ...filters], { live: true, deadlineMs: SUITES_DEADLINE_MS, env });
  countSuites(json, await runStage(stage));
}

/** What still runs after some patience, which is then ended: it is ours. */
async function countProcesses(run, uids) {
  let left = processesOf(run, uids);
  for (let waitedMs = 0; left.length > 0 && waitedMs < END_OF_PROCESSES_MS; waitedMs += 100) {
    await sleep(100);
    left = processesOf(run, uids);
  }
  count(
    'the suites leave no process',
    left.length === 0,
    left.map(({ what }) => what),
  );
  for (const { pid } of left) {
    try {
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It ended in the meantime.
    }
  }
}

function countLeftOver(before, after) {
  for (const { kind, items } of leftOver(before, after)) {
    const ok = items.length === 0;
    if (!ok && shared) console.log([`note: ${kind} that were not there before`, ...items].join('\n     '));
    count(`the suites leave no ${kind}`, ok || shared, items);
  }
}

const run = randomBytes(8).toString('hex');
const before = pictureOfMachine();
const scratch = mkdtempSync(join(tmpdir(), 'qot-'));
// Tests that become an ordinary user pass through it.
chmodSync(scratch, 0o755);
mkdirSync(join(scratch, 't'), { mode: 0o755 });
await runSuites(scratch, run);
await countProcesses(run, usersIn(usersFile(scratch)));
const inScratch = readdirSync(join(scratch, 't'));
count('the suites leave nothing in the temporary folder', inScratch.length === 0, inScratch);
rmSync(scratch, { recursive: true, force: true });
countLeftOver(before, pictureOfMachine());

console.log(`${counts.passed} passed, ${counts.failed} failed`);
process.exit(counts.failed === 0 && counts.passed > 0 ? 0 : 1);
