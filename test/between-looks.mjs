/** Suites between two looks at the machine: what they tell is counted, and what they leave behind is a failure. */
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { leftOver, pictureOfMachine, processesOf, RUN_VARIABLE, USERS_VARIABLE, usersIn } from './machine.mjs';
import { runStage } from './stages.mjs';

const END_OF_PROCESSES_MS = 5_000;

/** What passed and what failed so far; a failure is printed at once. */
export class Tally {
  passed = 0;
  failed = 0;

  count(name, ok, details = []) {
    this[ok ? 'passed' : 'failed'] += 1;
    if (!ok) console.log([`FAIL ${name}`, ...details].join('\n     '));
  }

  /** Adds vitest's own report. What did not run (skipped, todo, a file that does not load) is a failure here. */
  countVitest(name, path, ended) {
    let told;
    try {
      told = JSON.parse(readFileSync(path, 'utf8'));
    } catch {
      return this.count(name, false, ['it ended without a report']);
    }
    const before = this.failed;
    for (const file of told.testResults) {
      if (file.assertionResults.length === 0) this.count(file.name, false, [file.message || 'has no tests']);
      // vitest has shown the whole of it; here it is a reminder near the end.
      for (const { status, fullName, failureMessages } of file.assertionResults)
        this.count(
          `${fullName} (${status})`,
          status === 'passed',
          failureMessages.map((message) => message.split('\n')[0]),
        );
    }
    if (told.testResults.length === 0) this.count(name, false, ['no test ran']);
    if (!ended.ok && this.failed === before) this.count(name, false, ['it failed outside of any test, see above']);
  }
}

/** What still runs after some patience, which is then ended: it is ours. */
async function countProcesses(tally, run, uids) {
  let left = processesOf(run, uids);
  for (let waitedMs = 0; left.length > 0 && waitedMs < END_OF_PROCESSES_MS; waitedMs += 100) {
    await sleep(100);
    left = processesOf(run, uids);
  }
  tally.count(
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

function countLeftOver(tally, shared, before, after) {
  for (const { kind, items } of leftOver(before, after)) {
    const ok = items.length === 0;
    if (!ok && shared) console.log([`note: ${kind} that were not there before`, ...items].join('\n     '));
    tally.count(`the suites leave no ${kind}`, ok || shared, items);
  }
}

/**
 * Runs `work(tally, vitest)`, looks at what it left, prints `N passed, N failed` as the last line and ends this
 * process. `vitest(stage)` runs one of `vitestStage` with the environment of the run and counts each test.
 *
 * @param {boolean} shared others work on this machine: what appears meanwhile is told, not failed
 */
export async function betweenLooks(shared, work) {
  const run = randomBytes(8).toString('hex');
  const before = pictureOfMachine();
  const scratch = mkdtempSync(join(tmpdir(), 'qot-'));
  // Tests that become an ordinary user pass through it.
  chmodSync(scratch, 0o755);
  const [folder, users] = [join(scratch, 't'), join(scratch, 'users')];
  mkdirSync(folder, { mode: 0o755 });
  const env = {
    TMPDIR: folder,
    [RUN_VARIABLE]: run,
    [USERS_VARIABLE]: users,
    // vitest keeps a token there; the tests themselves do not see the variable (test/hermetic.ts).
    XDG_DATA_HOME: join(scratch, 'data'),
    // The command is started thousands of times: compiled once, that is half of what all suites take. Beside the
    // temporary folder, where npm and tsc would leave one.
    NODE_COMPILE_CACHE: join(scratch, 'compile-cache'),
  };
  const tally = new Tally();
  await work(tally, async (stage) => {
    const json = join(scratch, 'vitest.json');
    rmSync(json, { force: true });
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${json}`];
    const ended = await runStage({
      ...stage,
      live: true,
      args: [...stage.args, ...reporters],
      env: { ...env, ...stage.env },
    });
    tally.countVitest(stage.name, json, ended);
  });
  await countProcesses(tally, run, usersIn(users));
  const inScratch = readdirSync(folder);
  tally.count('the suites leave nothing in the temporary folder', inScratch.length === 0, inScratch);
  rmSync(scratch, { recursive: true, force: true });
  countLeftOver(tally, shared, before, pictureOfMachine());

  console.log(`${tally.passed} passed, ${tally.failed} failed`);
  process.exit(tally.failed === 0 && tally.passed > 0 ? 0 : 1);
}
