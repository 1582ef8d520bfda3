/** The tests of one area, in one thread that keeps its modules: thousands of short runs. */
import { defineConfig } from 'vitest/config';
import { AREA_VARIABLE, areaOf } from './areas.ts';

// biome-ignore lint/style/noDefaultExport: vitest reads the default export
export default defineConfig({
  test: {
    include: [...areaOf(process.env[AREA_VARIABLE]).tests],
    setupFiles: ['test/hermetic.ts', 'test/mutate/same-each-time.ts'],
    isolate: false,
    testTimeout: 20_000,
  },
});
