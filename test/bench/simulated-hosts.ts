/**
 * Loaded before the operator (`node --import`): its hosts are simulated then, and everything else is the operator's own.
 */
import { registerHooks } from 'node:module';

const DRIVER = '/qemu/driver.js';

registerHooks({
  resolve: (specifier, context, next) =>
    next(specifier.endsWith(DRIVER) ? new URL('./simulated-driver.js', import.meta.url).href : specifier, context),
});
