/**
 * The suites of files.md under QEMU 10 and under Node 22.19, between two looks at the machine. The last line on stdout
 * is `N passed, N failed`. versions.test.ts, which runs in both, asks QEMU and Node what they are.
 */
import { delimiter, dirname, join } from 'node:path';
import { pinnedNode } from '../../src/setup/packages.mjs';
import { betweenLooks } from '../between-looks.mjs';
import { ROOT, vitestStage } from '../stages.mjs';
import { filesAgain } from './files.mjs';

const DEADLINE_MS = 25 * 60_000;

const NODE_22 = pinnedNode(join(ROOT, 'test', 'versions', 'node-22'));

function underQemu10() {
  const files = filesAgain().filter(({ qemu }) => qemu === 'yes');
  const stage = vitestStage('QEMU 10', ['--project=e2e', ...files.map(({ file }) => file)]);
  return {
    ...stage,
    command: join(import.meta.dirname, 'debian-13.sh'),
    args: ['run', ROOT, stage.command, ...stage.args],
    env: { QEMU_OPERATOR_TEST_QEMU: '10' },
  };
}

function underNode22() {
  const files = filesAgain().filter(({ node }) => node === 'yes');
  const projects = ['unit', 'conformance', 'e2e'].map((name) => `--project=${name}`);
  const where = ['test/unit/', 'test/conformance/', ...files.map(({ file }) => file)];
  const stage = vitestStage('Node 22.19', [...projects, ...where]);
  // A script that says `#!/usr/bin/env node` gets it as well.
  const path = [dirname(NODE_22), process.env['PATH']].join(delimiter);
  // Node 22 calls its SQLite experimental on stderr, which tests compare (docs/decisions/0007).
  const env = { PATH: path, NODE_OPTIONS: '--disable-warning=ExperimentalWarning', QEMU_OPERATOR_TEST_NODE: '22.19.0' };
  return { ...stage, command: NODE_22, env };
}

await betweenLooks(process.argv.includes('--shared'), async (_tally, vitest) => {
  for (const stage of [underQemu10(), underNode22()]) {
    console.log(`==> ${stage.name}`);
    await vitest({ ...stage, deadlineMs: DEADLINE_MS });
  }
});
