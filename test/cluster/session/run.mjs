/**
 * `npm run cluster`: a Kubernetes API server on this machine with the charts installed, the operator of their Deployment
 * and a Host behind an sshd of this machine, and a shell in which kubectl reaches them. It ends with the shell.
 *
 *   npm run cluster                    an interactive shell
 *   npm run cluster -- COMMAND...      a command instead
 *
 * Sets up what is missing as `npm test` does, then hands over to test/cluster/session/session.ts under the pinned Node.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { buildGuestImage } from '../../../src/setup/guest-image.mjs';
import { installPackages, nodeTooOld, pinnedNode } from '../../../src/setup/packages.mjs';
import { FOR_TESTS, install } from '../../../src/setup/prerequisites.mjs';
import { buildClusterBinaries } from '../binaries.mjs';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const say = (line) => console.error(`==> ${line}`);

const complaint =
  nodeTooOld() ||
  installPackages(root, say) ||
  install(FOR_TESTS, say) ||
  buildGuestImage(root, say) ||
  (await buildClusterBinaries(say));
if (complaint) {
  console.error(complaint);
  process.exit(1);
}

const session = fileURLToPath(new URL('session.ts', import.meta.url));
const child = spawn(pinnedNode(root), [session, ...process.argv.slice(2)], { stdio: 'inherit' });
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.on('exit', (code, signal) => process.exit(signal === null ? code : 1));
