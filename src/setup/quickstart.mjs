/**
 * `npm run quickstart`: from a clean clone to a running VM. Installs what is missing, one line for each step, then
 * hands over to the product's own `quickstart` under the pinned Node.
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { buildGuestImage } from './guest-image.mjs';
import { installPackages, nodeTooOld, pinnedNode } from './packages.mjs';
import { FOR_QUICKSTART, install } from './prerequisites.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const args = process.argv.slice(2);
const say = (line) => console.log(`==> ${line}`);

function orExit(complaint) {
  if (complaint === undefined) return;
  console.error(complaint);
  process.exit(1);
}

orExit(nodeTooOld());
orExit(installPackages(root, say));
// Taking it away, or asking how it works, needs no QEMU.
if (!args.some((arg) => arg === '--remove' || arg === '--help' || arg === '-h')) {
  orExit(install(FOR_QUICKSTART, say));
  orExit(buildGuestImage(root, say));
}

const child = spawn(pinnedNode(root), [`${root}src/main.ts`, 'quickstart', ...args], { stdio: 'inherit' });
// The terminal sends Ctrl-C to both; the child decides what it means.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => child.kill('SIGTERM'));
child.on('exit', (code, signal) => process.exit(signal === null ? code : 1));
