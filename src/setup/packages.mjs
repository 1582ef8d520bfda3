/** The npm packages: whether node_modules is what package-lock.json says, and `npm ci` when it is not. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Oldest Node that can run these set-up steps; the product itself runs on the pinned one. */
const SETUP_NODE_MAJOR = 16;

/** The Node that package-lock.json pins, as npm's `node` package. */
export function pinnedNode(root) {
  return join(root, 'node_modules', '.bin', 'node');
}

/** A sentence when this Node is too old even for the set-up, else undefined. */
export function nodeTooOld() {
  const major = Number(process.versions.node.split('.')[0]);
  if (major >= SETUP_NODE_MAJOR) return undefined;
  return `Node ${process.versions.node} is too old for the set-up: it needs Node ${SETUP_NODE_MAJOR} or newer with npm (https://nodejs.org).`;
}

function packagesIn(path) {
  return JSON.parse(readFileSync(path, 'utf8')).packages || {};
}

/**
 * Whether node_modules holds what package-lock.json says. npm writes what it installed to a hidden lock file; packages
 * for other platforms are not in it.
 */
export function packagesAreCurrent(root) {
  const hidden = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(hidden) || !existsSync(pinnedNode(root))) return false;
  const [wanted, installed] = [packagesIn(join(root, 'package-lock.json')), packagesIn(hidden)];
  const same = (path) => Boolean(wanted[path]) && wanted[path].integrity === installed[path].integrity;
  return (
    Object.keys(installed).every(same) &&
    Object.entries(wanted).every(
      ([path, entry]) => path === '' || entry.optional || entry.devOptional || installed[path],
    )
  );
}

/** Runs `npm ci` unless it is not needed. Returns undefined, or a sentence that says what failed. */
export function installPackages(root, say) {
  if (packagesAreCurrent(root)) return undefined;
  say('Installing the npm packages of package-lock.json with npm ci (they include the pinned Node)');
  // npm puts our own node_modules/.bin first: the Node there is about to be removed.
  const path = (process.env.PATH || '')
    .split(delimiter)
    .filter((folder) => !folder.startsWith(join(root, 'node_modules')));
  const done = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], {
    cwd: root,
    // `npm test --silent` would silence this one too, its errors included.
    env: { ...process.env, PATH: path.join(delimiter), npm_config_loglevel: 'error' },
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  if (done.status !== 0) return `npm ci failed:\n${done.error || done.stderr || done.stdout}`;
  const version = spawnSync(pinnedNode(root), ['--version'], { encoding: 'utf8' });
  if (version.status === 0) return undefined;
  return 'npm ci did not bring the pinned Node: are install scripts switched off (npm config get ignore-scripts)?';
}
