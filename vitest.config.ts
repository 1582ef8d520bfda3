/** One project per kind of suite, so that `npm run check` takes the fast ones and `npm test` takes all. */
import { existsSync, readdirSync } from 'node:fs';
import { defineConfig } from 'vitest/config';
import { filesAgain } from './test/versions/files.mjs';

const SECOND = 1000;

/** Suites without QEMU: many at once. The proofs repeat a life hundreds of times: `npm run check` leaves them out. */
const FAST = ['unit', 'property', 'proof'];

/** A folder without a test yet is no project: vitest fails a named project that finds nothing. */
function hasTests(folder: string): boolean {
  const path = new URL(`./test/${folder}`, import.meta.url);
  return existsSync(path) && readdirSync(path, { recursive: true }).some((file) => String(file).endsWith('.test.ts'));
}

function project(name: string) {
  const fast = FAST.includes(name);
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      setupFiles: ['test/hermetic.ts'],
      testTimeout: (fast ? 20 : 120) * SECOND,
      hookTimeout: (fast ? 20 : 300) * SECOND,
      // Suites that start QEMU mostly wait: two files at a time, after the fast ones, leave their deadlines honest.
      ...(fast ? {} : { maxWorkers: 2 }),
      sequence: { groupOrder: fast ? 0 : 1 },
    },
  };
}

/** The e2e body again, its host behind a real sshd. */
function overSsh() {
  const { test } = project('e2e');
  return {
    test: {
      ...test,
      name: 'over-ssh',
      include: filesAgain()
        .filter(({ ssh }) => ssh === 'yes')
        .map(({ file }) => file),
      setupFiles: [...test.setupFiles, 'test/over-ssh/environment.ts'],
      globalSetup: 'test/over-ssh/set-up.ts',
      sequence: { groupOrder: 2 },
    },
  };
}

// biome-ignore lint/style/noDefaultExport: vitest reads the default export
export default defineConfig({
  test: {
    passWithNoTests: false,
    allowOnly: false,
    projects: [...[...FAST, 'conformance', 'cluster', 'e2e'].filter(hasTests).map(project), overSsh()],
  },
});
