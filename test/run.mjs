/**
 * `npm test`: every suite, from a clean clone with nothing but Node and npm. Sets up what is missing, then hands over
 * to test/suites.mjs under the pinned Node, whose last line is `N passed, N failed`.
 *
 *   npm test                  all of it but the suites on a Kubernetes API server
 *   npm run test:cluster      those: kube-apiserver, etcd, kubectl and helm are built first, where they are not yet
 *   npm test -- --shared      others work on this machine and in this tree: what appears meanwhile is told, not failed
 *   npm test -- FILTER...     only test files whose path contains a filter
 *
 * What stays by design: node_modules, packages of the system, and in ~/.cache/qemu-operator the guest's disk and the
 * programs of the test cluster, which its first run builds with Go in a quarter of an hour.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { buildGuestImage } from '../src/setup/guest-image.mjs';
import { installPackages, nodeTooOld, pinnedNode } from '../src/setup/packages.mjs';
import { FOR_TESTS, install } from '../src/setup/prerequisites.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const say = (line) => console.log(`==> ${line}`);

function setUp() {
  return nodeTooOld() || installPackages(root, say) || install(FOR_TESTS, say) || buildGuestImage(root, say);
}

const complaint = setUp();
if (complaint !== undefined) {
  console.log(`FAIL set-up\n${complaint}\n0 passed, 1 failed`);
  process.exit(1);
}

const child = spawn(pinnedNode(root), [`${root}test/suites.mjs`, ...process.argv.slice(2)], { stdio: 'inherit' });
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.on('exit', (code, signal) => process.exit(signal === null ? code : 1));
