/** A Kubernetes API server with its etcd, on free ports of the loopback, and kubectl and helm for it. */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { OnFinished } from '../../e2e/support/rig.ts';
import { testFolder } from '../../e2e/support/rig.ts';
import { freePort } from '../../e2e/support/sockets.ts';
import { until } from '../../e2e/support/wait.ts';
import { clusterBinaries } from '../binaries.mjs';

const run = promisify(execFile);
const ROOT = join(import.meta.dirname, '..', '..', '..');
const MAX_OUTPUT = 64 * 1024 * 1024;

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class TestCluster {
  readonly folder: string;
  readonly server: string;
  /** Of an administrator. */
  readonly kubeconfig: string;
  readonly #binaries: string;
  readonly ports: { readonly etcd: number; readonly api: number };
  #etcd: ChildProcess | undefined;
  #api: ChildProcess | undefined;
  #second: ChildProcess | undefined;

  private constructor(folder: string, binaries: string, ports: { etcd: number; api: number }) {
    this.folder = folder;
    this.#binaries = binaries;
    this.ports = ports;
    this.server = `https://127.0.0.1:${ports.api}`;
    this.kubeconfig = this.path('admin.kubeconfig');
  }

  /** One that answers, with the CRDs of the product unless a chart is to bring them. It ends with the test. */
  static async start(onFinished: OnFinished, { crds = true } = {}): Promise<TestCluster> {
    const binaries = clusterBinaries();
    if (binaries === undefined)
      throw new Error('the API server of the tests is not built: node test/cluster/binaries.mjs');
    const ports = { etcd: await freePort(), api: await freePort() };
    const cluster = new TestCluster(testFolder(onFinished), binaries, ports);
    onFinished(() => cluster.#end());
    cluster.#makeCertificates();
    writeFileSync(cluster.path('audit.yaml'), AUDIT_POLICY);
    cluster.writeKubeconfig('admin.kubeconfig', cluster.administrator);
    await cluster.startEtcd();
    await cluster.startApiServer();
    if (!crds) return cluster;
    await cluster.kubectl(['apply', '--server-side', '-f', join(ROOT, 'crds')]);
    await cluster.untilServed();
    return cluster;
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** @param user fields of a kubeconfig's user. @returns its path */
  writeKubeconfig(
    name: string,
    user: object,
    namespace = 'default',
    cluster: object = { server: this.server, 'certificate-authority': this.path('ca.crt') },
  ): string {
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'test', cluster }],
      users: [{ name: 'user', user }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'user', namespace } }],
      'current-context': 'test',
    };
    writeFileSync(this.path(name), JSON.stringify(config), { mode: 0o600 });
    return this.path(name);
  }

  /** @throws where it fails */
  async kubectl(words: readonly string[], input?: string): Promise<string> {
    const { code, stdout, stderr } = await this.tryKubectl(words, input);
    if (code !== 0) throw new Error(`kubectl ${words.join(' ')}: ${stderr}`);
    return stdout;
  }

  tryKubectl(words: readonly string[], input?: string, env: Readonly<Record<string, string>> = {}): Promise<Ended> {
    return this.#run('kubectl', ['--kubeconfig', this.kubeconfig, ...words], input, env);
  }

  /** `kubectl apply` of them. @throws where it fails */
  apply(...objects: readonly object[]): Promise<string> {
    return this.kubectl(['apply', '-f', '-'], objects.map((object) => JSON.stringify(object)).join('\n---\n'));
  }

  /** Up to which changes there are. */
  async revision(): Promise<string> {
    const { metadata } = JSON.parse(await this.kubectl(['get', '--raw', '/api/v1/namespaces'])) as {
      metadata: { resourceVersion: string };
    };
    return metadata.resourceVersion;
  }

  /** Of an administrator, as a kubeconfig's user. */
  get administrator() {
    return { 'client-certificate': this.path('admin.crt'), 'client-key': this.path('admin.key') };
  }

  /** @throws where it fails */
  async helm(words: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.tryHelm(words);
    if (code !== 0) throw new Error(`helm ${words.join(' ')}: ${stderr}`);
    return stdout;
  }

  tryHelm(words: readonly string[]): Promise<Ended> {
    return this.#run('helm', ['--kubeconfig', this.kubeconfig, ...words]);
  }

  async #run(program: string, words: readonly string[], input?: string, more = {}): Promise<Ended> {
    const env = { PATH: process.env['PATH'] ?? '', HOME: this.folder, ...more };
    const child = run(join(this.#binaries, program), [...words], { env, maxBuffer: MAX_OUTPUT });
    child.child.stdin?.end(input ?? '');
    try {
      return { code: 0, ...(await child) };
    } catch (error) {
      const { code, stdout = '', stderr = String(error) } = error as Partial<Ended>;
      return { code: typeof code === 'number' ? code : 1, stdout, stderr };
    }
  }

  async startEtcd(): Promise<void> {
    const url = `http://127.0.0.1:${this.ports.etcd}`;
    this.#etcd = this.#spawn('etcd', [
      '--unsafe-no-fsync',
      `--listen-client-urls=${url}`,
      `--advertise-client-urls=${url}`,
      '--listen-peer-urls=http://127.0.0.1:0',
      `--data-dir=${this.path('etcd')}`,
    ]);
  }

  async startApiServer(): Promise<void> {
    this.#api = this.#spawnApiServer(this.ports);
    await this.untilReady();
  }

  /** Another one beside it, that serves the same once its CRDs are known to it. @param etcd port of the way to etcd */
  async startSecondApiServer(etcd: number): Promise<number> {
    const api = await freePort();
    this.#second = this.#spawnApiServer({ etcd, api });
    const server = `--server=https://127.0.0.1:${api}`;
    await until(
      'the second API server serves all kinds',
      () => this.tryKubectl([server, 'get', 'qvm,qhost,qmon', '--all-namespaces']),
      ({ code }) => code === 0,
    );
    return api;
  }

  #spawnApiServer({ etcd, api }: { readonly etcd: number; readonly api: number }): ChildProcess {
    const file = (name: string) => this.path(name);
    return this.#spawn('kube-apiserver', [
      `--etcd-servers=http://127.0.0.1:${etcd}`,
      '--bind-address=127.0.0.1',
      `--secure-port=${api}`,
      `--tls-cert-file=${file('server.crt')}`,
      `--tls-private-key-file=${file('server.key')}`,
      `--client-ca-file=${file('ca.crt')}`,
      '--service-account-issuer=https://kubernetes.default.svc',
      `--service-account-key-file=${file('sa.pub')}`,
      `--service-account-signing-key-file=${file('sa.key')}`,
      '--service-cluster-ip-range=10.0.0.0/24',
      '--authorization-mode=RBAC',
      // No controller makes service accounts here.
      '--disable-admission-plugins=ServiceAccount',
      `--requestheader-client-ca-file=${file('front.crt')}`,
      '--requestheader-allowed-names=front-proxy-client',
      '--requestheader-username-headers=X-Remote-User',
      '--requestheader-group-headers=X-Remote-Group',
      '--requestheader-extra-headers-prefix=X-Remote-Extra-',
      `--proxy-client-cert-file=${file('proxy.crt')}`,
      `--proxy-client-key-file=${file('proxy.key')}`,
      '--enable-aggregator-routing=true',
      `--audit-policy-file=${file('audit.yaml')}`,
      `--audit-log-path=${file('audit.log')}`,
    ]);
  }

  /** Established, kinds may still be refused: their storage is initializing. */
  async untilServed(): Promise<void> {
    await this.kubectl(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=30s']);
    await until(
      'all kinds are served',
      () => this.tryKubectl(['get', 'qvm,qhost,qmon', '--all-namespaces']),
      ({ code }) => code === 0,
    );
  }

  async untilReady(): Promise<void> {
    await until(
      'the API server is ready',
      async () => {
        const ended = this.#api === undefined || this.#api.exitCode !== null;
        if (ended) throw new Error(`the API server ended: ${this.log('kube-apiserver').slice(-2000)}`);
        return this.#answers('/readyz');
      },
      Boolean,
    );
  }

  /** Ends it at once. */
  async killApiServer(): Promise<void> {
    await end(this.#api);
    this.#api = undefined;
  }

  /** Compacts etcd, and takes the API server what it remembers itself. */
  async forgetHistory(): Promise<void> {
    const answer = await fetch(`http://127.0.0.1:${this.ports.etcd}/v3/kv/compaction`, {
      method: 'POST',
      body: JSON.stringify({ revision: await this.revision(), physical: true }),
    });
    if (!answer.ok) throw new Error(`etcd: ${await answer.text()}`);
    await this.killApiServer();
    await this.startApiServer();
    await this.untilServed();
  }

  /** What etcd holds, copied while it is stopped. @returns the folder */
  async backUp(name: string): Promise<string> {
    await this.#stopAll();
    cpSync(this.path('etcd'), this.path(name), { recursive: true });
    await this.#startAll();
    return this.path(name);
  }

  /** The past as a backup has it, and an API server that knows of nothing else. */
  async restore(backup: string): Promise<void> {
    await this.#stopAll();
    rmSync(this.path('etcd'), { recursive: true });
    cpSync(backup, this.path('etcd'), { recursive: true });
    await this.#startAll();
  }

  async #stopAll(): Promise<void> {
    await this.killApiServer();
    await end(this.#etcd);
  }

  async #startAll(): Promise<void> {
    await this.startEtcd();
    await this.startApiServer();
    await this.untilServed();
  }

  /** It holds its connections and says nothing more, until it is told to go on. */
  freezeApiServer(): void {
    const pid = this.#api?.pid;
    if (pid === undefined) return;
    process.kill(pid, 'SIGSTOP');
    const isStopped = () =>
      readdirSync(`/proc/${pid}/task`).every((task) =>
        / T /.test(readFileSync(`/proc/${pid}/task/${task}/stat`, 'utf8')),
      );
    while (!isStopped());
  }

  thawApiServer(): void {
    this.#api?.kill('SIGCONT');
  }

  /** What a program said on its stderr. */
  log(program: 'etcd' | 'kube-apiserver'): string {
    const path = this.path(`${program}.log`);
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  #spawn(program: string, args: readonly string[]): ChildProcess {
    mkdirSync(this.folder, { recursive: true });
    const log = openSync(this.path(`${program}.log`), 'a');
    return spawn(join(this.#binaries, program), [...args], { cwd: this.folder, stdio: ['ignore', log, log] });
  }

  #answers(path: string): Promise<boolean> {
    const [ca, cert, key] = ['ca.crt', 'admin.crt', 'admin.key'].map((name) => readFileSync(this.path(name)));
    return new Promise((resolve) => {
      get(`${this.server}${path}`, { ca, cert, key, agent: false }, (answer) => {
        answer.resume();
        resolve(answer.statusCode === 200);
      }).on('error', () => resolve(false));
    });
  }

  async #end(): Promise<void> {
    this.thawApiServer();
    await Promise.all([end(this.#api), end(this.#second), end(this.#etcd)]);
  }

  /** Those of a real cluster: its own CA, another one for who stands in front, and a key for service accounts. */
  #makeCertificates(): void {
    const openssl = (...words: readonly string[]) =>
      execFileSync('openssl', words, { cwd: this.folder, stdio: 'pipe' });
    const key = (name: string) =>
      openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', `${name}.key`);
    const authority = (name: string) => {
      key(name);
      openssl(
        'req',
        '-x509',
        '-new',
        '-key',
        `${name}.key`,
        '-subj',
        `/CN=${name}`,
        '-days',
        '2',
        '-out',
        `${name}.crt`,
      );
    };
    const signed = (name: string, by: string, subject: string, extension = '') => {
      key(name);
      openssl('req', '-new', '-key', `${name}.key`, '-subj', subject, '-out', `${name}.csr`);
      writeFileSync(this.path(`${name}.ext`), extension);
      const signer = ['-CA', `${by}.crt`, '-CAkey', `${by}.key`, '-CAcreateserial'];
      openssl(
        'x509',
        '-req',
        '-in',
        `${name}.csr`,
        ...signer,
        '-days',
        '2',
        '-extfile',
        `${name}.ext`,
        '-out',
        `${name}.crt`,
      );
    };
    authority('ca');
    authority('front');
    signed(
      'server',
      'ca',
      '/CN=kube-apiserver',
      'subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc',
    );
    signed('admin', 'ca', '/O=system:masters/CN=admin');
    signed('proxy', 'front', '/CN=front-proxy-client');
    openssl('genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', 'sa.key');
    openssl('pkey', '-in', 'sa.key', '-pubout', '-out', 'sa.pub');
  }
}

/** Who did what, without what was in it. */
const AUDIT_POLICY = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
`;

async function end(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
