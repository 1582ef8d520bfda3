/** `npm run build`: dist/ as it ships. `--out DIR` builds elsewhere. */
import { chmodSync, cpSync, existsSync, readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ROOT, runStage } from './stages.mjs';

const SRC = join(ROOT, 'src');
const at = process.argv.indexOf('--out');
const out = at === -1 ? join(ROOT, 'dist') : resolve(process.argv[at + 1] ?? 'dist');

/** What is no TypeScript and belongs beside the code: scripts and manifests that the product reads at run time. */
function copyAssets() {
  // The set-up steps are for a clone; a package has been installed already.
  const assets = readdirSync(SRC, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => !path.startsWith(join(SRC, 'setup')));
  for (const path of assets) cpSync(path, path.replace(SRC, out));
  cpSync(join(SRC, 'setup', 'bin.js'), join(out, 'bin.js'));
  chmodSync(join(out, 'bin.js'), 0o755);
}

const tsc = join(ROOT, 'node_modules', '.bin', 'tsc');
if (!existsSync(tsc)) {
  console.error('The packages that build it are not installed: run `npm ci` first.');
  process.exit(1);
}
rmSync(out, { recursive: true, force: true });
const compiled = await runStage({
  name: 'compile',
  command: tsc,
  args: ['-p', 'tsconfig.build.json', '--outDir', out],
});
if (compiled.ok) copyAssets();
// On stderr: stdout belongs to `npm pack --json`.
else console.error(compiled.output.trimEnd());
process.exit(compiled.ok ? 0 : 1);
