/**
 * `npm run test:versions`: what depends on the version of QEMU or of Node, once more under QEMU 10 (Debian 13's, in a
 * chroot) and under Node 22.19 (the oldest that the product supports). Sets up what is missing, then hands over to
 * suites.mjs, whose last line is `N passed, N failed`.
 *
 *   npm run test:versions                 all of it; needs root, for the chroot and its mounts
 *   npm run test:versions -- --shared     others work on this machine: what appears meanwhile is told, not failed
 *
 * What stays by design: what `npm test` leaves, and Debian 13 in ~/.cache/qemu-operator (about 900 MB).
 */
import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { buildGuestImage } from '../../src/setup/guest-image.mjs';
import { installPackages, nodeTooOld, pinnedNode } from '../../src/setup/packages.mjs';
import { FOR_TESTS, FOR_VERSIONS, install } from '../../src/setup/prerequisites.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const here = fileURLToPath(new URL('.', import.meta.url));
const say = (line) => console.log(`==> ${line}`);

/** Returns undefined, or a sentence that says what failed. */
function debian13(verb) {
  const done = spawnSync(`${here}debian-13.sh`, [verb], { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
  return done.status === 0 ? undefined : String(done.stderr || done.error);
}

function makeDebian13() {
  say('Looking for Debian 13 in the cache, fetching it with debootstrap when it is not there (some 400 MB)');
  return debian13('make');
}

function setUp() {
  return (
    nodeTooOld() ||
    debian13('check') ||
    installPackages(root, say) ||
    installPackages(`${here}node-22`, say) ||
    install([...FOR_TESTS, ...FOR_VERSIONS], say) ||
    buildGuestImage(root, say) ||
    makeDebian13()
  );
}

const complaint = setUp();
if (complaint !== undefined) {
  console.log(`FAIL set-up\n${complaint}\n0 passed, 1 failed`);
  process.exit(1);
}

const child = spawn(pinnedNode(root), [`${here}suites.mjs`, ...process.argv.slice(2)], { stdio: 'inherit' });
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.on('exit', (code, signal) => process.exit(signal === null ? code : 1));
