/**
 * kube-apiserver, etcd, kubectl and helm for the suites on a real API server: those of KUBEBUILDER_ASSETS where it is
 * set, as with envtest; else built once from pinned Go modules and kept in the cache. The first build takes the two
 * processors of a small machine a quarter of an hour, behind everything else in priority.
 *
 *   node test/cluster/binaries.mjs     builds them now where they are missing, and prints their folder
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MODULES = join(import.meta.dirname, 'assets');
const HELM = 'helm.sh/helm/v4/cmd/helm@v4.3.1';
const BINARIES = ['kube-apiserver', 'etcd', 'kubectl', 'helm'];
const PROGRESS_MS = 60_000;

const CACHE = join(homedir(), '.cache', 'qemu-operator');

/** Changes with every pinned version. */
function folderInCache() {
  const hash = createHash('sha256').update(HELM);
  for (const name of ['go.mod', 'go.sum']) hash.update(readFileSync(join(MODULES, name)));
  return join(CACHE, `kubernetes-${hash.digest('hex').slice(0, 12)}`);
}

const hasAll = (folder) => BINARIES.every((name) => existsSync(join(folder, name)));

/** Where they are; undefined while they are not. */
export function clusterBinaries() {
  const given = process.env['KUBEBUILDER_ASSETS'];
  if (given !== undefined && given !== '') {
    const missing = BINARIES.filter((name) => !existsSync(join(given, name)));
    if (missing.length > 0) throw new Error(`KUBEBUILDER_ASSETS is ${given}, which has no ${missing.join(', ')}`);
    return given;
  }
  const folder = folderInCache();
  return hasAll(folder) ? folder : undefined;
}

function goCommand() {
  const places = [...(process.env['PATH'] ?? '').split(':'), '/usr/local/go/bin', '/usr/lib/go/bin'];
  return places.map((place) => join(place, 'go')).find((path) => existsSync(path));
}

/** What the commands are told about their own version. */
function linkerFlags() {
  const version = /k8s\.io\/kubernetes v(1\.(\d+)\.\S+)/.exec(readFileSync(join(MODULES, 'go.mod'), 'utf8'));
  const base = 'k8s.io/component-base/version';
  const [, full, minor] = version ?? [];
  const values = { gitVersion: `v${full}`, gitMajor: '1', gitMinor: minor, gitTreeState: 'clean' };
  return ['-s', '-w', ...Object.entries(values).map(([name, value]) => `-X ${base}.${name}=${value}`)].join(' ');
}

/** Resolves to what went wrong, in a sentence; undefined where nothing did. */
function runGo(go, args, env, say) {
  return new Promise((resolve) => {
    const child = spawn('nice', ['-n', '19', go, ...args], { cwd: MODULES, env, stdio: ['ignore', 'ignore', 'pipe'] });
    const stop = () => child.kill('SIGTERM');
    process.once('SIGTERM', stop);
    let packages = 0;
    let tail = '';
    child.stderr.setEncoding('utf8').on('data', (text) => {
      packages += text.split('\n').length - 1;
      tail = (tail + text).slice(-2000);
    });
    const timer = setInterval(() => say(`  ${packages} Go packages so far`), PROGRESS_MS);
    child.once('error', (error) => resolve(String(error)));
    child.once('close', (code) => {
      clearInterval(timer);
      process.off('SIGTERM', stop);
      resolve(code === 0 ? undefined : `go ${args[0]} ended with ${code}: ${tail}`);
    });
  });
}

/** Builds what is missing. Resolves to what went wrong, in a sentence; undefined where nothing did. */
export async function buildClusterBinaries(say) {
  if (clusterBinaries() !== undefined) return undefined;
  const folder = folderInCache();
  const work = `${folder}.building`;
  const go = goCommand();
  if (go === undefined) return 'Go 1.26 is needed to build kube-apiserver, etcd, kubectl and helm: install it';
  mkdirSync(work, { recursive: true });
  // Go's caches lie with it: what an interrupted build has done is not done again, and at the end they go.
  const env = {
    ...process.env,
    CGO_ENABLED: '0',
    GOPATH: join(work, 'path'),
    GOCACHE: join(work, 'cache'),
    GOTMPDIR: work,
    GOFLAGS: '-modcacherw -buildvcs=false',
    GOBIN: work,
  };
  const build = (name, path, flags) => ['build', '-v', '-trimpath', '-ldflags', flags, '-o', join(work, name), path];
  const steps = [
    ['etcd', build('etcd', 'go.etcd.io/etcd/server/v3', '-s -w')],
    ['kube-apiserver', build('kube-apiserver', 'k8s.io/kubernetes/cmd/kube-apiserver', linkerFlags())],
    ['kubectl', build('kubectl', 'k8s.io/kubernetes/cmd/kubectl', linkerFlags())],
    ['helm', ['install', '-v', '-trimpath', '-ldflags', '-s -w', HELM]],
  ];
  for (const [name, args] of steps) {
    if (existsSync(join(folder, name))) continue;
    const from = Date.now();
    say(`Building ${name} of the test cluster; once, it is kept in ${CACHE}`);
    const error = await runGo(go, args, env, say);
    if (error !== undefined) return error;
    mkdirSync(folder, { recursive: true });
    renameSync(join(work, name), join(folder, name));
    const megabytes = Math.round(statSync(join(folder, name)).size / 1e6);
    say(`Built ${name}: ${megabytes} MB in ${Math.round((Date.now() - from) / 1000)} s`);
  }
  rmSync(work, { recursive: true, force: true });
  return undefined;
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const error = await buildClusterBinaries((line) => console.error(`==> ${line}`));
  if (error !== undefined) {
    console.error(error);
    process.exit(1);
  }
  console.log(clusterBinaries());
}
