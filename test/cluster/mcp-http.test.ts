/** The MCP tools over HTTP in a cluster: the chart's operator with its own rights, and clients with tokens of users. */
import { execFileSync } from 'node:child_process';
import { createSign, generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { Host } from '../../src/api/host.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import type { Running } from '../e2e/support/cli-rig.ts';
import { logOf } from '../e2e/support/doors.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { bearer, curl, type HttpMcp, INITIALIZE, mcpAddress, message, openHttpMcp } from '../e2e/support/mcp-http.ts';
import { isAlive } from '../e2e/support/process.ts';
import { testFolder } from '../e2e/support/rig.ts';
import { Sshd } from '../e2e/support/sshd.ts';
import { until } from '../e2e/support/wait.ts';
import { ordinaryUser } from '../ordinary-user.mjs';
import {
  aggregateRoles,
  installCrds,
  installOperator,
  NAMESPACE,
  OPERATOR_USER,
  podTemplate,
  RELEASE,
  runPod,
} from './support/chart.ts';
import { TestCluster } from './support/test-cluster.ts';

const ends: (() => Promise<void>)[] = [];
const onFinished = (work: () => Promise<void>) => void ends.push(work);
let cluster: TestCluster;
let operator: Running;
let address: string;
let root: string;

const AUDIENCE = 'qemu-operator';
const HOST = 'rack1';
const TEAM = 'team-a';
const OTHER = 'team-b';
const PASSWORD = randomBytes(12).toString('hex');

beforeAll(async () => {
  cluster = await TestCluster.start(onFinished, { crds: false });
  root = testFolder(onFinished);
  const sshd = await Sshd.start(onFinished);
  await installCrds(cluster);
  const key = `--from-file=ssh-privatekey=${sshd.identity}`;
  await cluster.kubectl(['create', 'secret', 'generic', 'rack1-login', '-n', NAMESPACE, key]);
  const ssh = { address: '127.0.0.1', port: sshd.port, user: sshd.user };
  const spec = { ssh, vmDir: join(root, 'vms'), allowedPaths: [root] };
  const host = JSON.stringify({ existingSecret: 'rack1-login', spec });
  const names = ['--set', 'mcp.enabled=true', '--set', 'mcp.allowedHosts={mcp.example.org}'];
  await installOperator(cluster, ['--set-json', `hosts.${HOST}=${host}`, ...names]);
  await aggregateRoles(cluster);
  for (const namespace of [TEAM, OTHER]) await cluster.kubectl(['create', 'namespace', namespace]);
  await user('editor', 'edit');
  await user('viewer', 'view');
  operator = await runPod(onFinished, cluster, await podTemplate(cluster));
  address = await mcpAddress(operator);
  await cluster.kubectl(['wait', '--for=condition=Ready', `qhost/${HOST}`, '--timeout=60s']);
}, 1_800_000);

afterAll(async () => {
  for (const end of ends.reverse()) await end();
});

const nameOf = (account: string) => `system:serviceaccount:${TEAM}:${account}`;

/** An agent with an account of its own, a role in its team, and leave to see Hosts. */
async function user(account: string, role: string): Promise<void> {
  const subject = `--serviceaccount=${TEAM}:${account}`;
  await cluster.kubectl(['create', 'serviceaccount', account, '-n', TEAM]);
  await cluster.kubectl(['create', 'rolebinding', account, '-n', TEAM, `--clusterrole=${role}`, subject]);
  await cluster.kubectl(['create', 'clusterrolebinding', account, `--clusterrole=${RELEASE}-hosts-view`, subject]);
}

async function tokenOf(account: string, words = ['--audience', AUDIENCE]): Promise<string> {
  return (await cluster.kubectl(['create', 'token', account, '-n', TEAM, ...words])).trim();
}

async function client(account: string): Promise<HttpMcp> {
  const opened = await openHttpMcp(address, await tokenOf(account));
  onTestFinished(() => opened.client.close());
  return opened;
}

const get = async (name: string, namespace = TEAM) =>
  JSON.parse(
    await cluster.kubectl(['get', 'qvm', name, '-n', namespace, '-o', 'json', '--show-managed-fields']),
  ) as VirtualMachine & {
    metadata: { managedFields: { manager: string }[] };
  };

const disk = (name: string) => `path=${writeSparseTiny(join(root, `${name}.raw`))}`;
const machine = (name: string, namespace = TEAM) => ({
  ...{ name, namespace, host: HOST, arch: 'x86_64', memory: '32M', disk: disk(name) },
});

const initialize = (token: string, more: readonly string[] = []) =>
  curl(address, message(INITIALIZE, [...bearer(token), ...more]));

describe('users with rights', () => {
  test('edit: the life of a VM, as kubectl and the kernel have it', async () => {
    const { call } = await client('editor');
    expect(await call('manage_vm', { action: 'create', ...machine('web') })).toMatchObject({ success: true });
    expect((await get('web')).spec).toMatchObject({ hostName: HOST, vcpus: 2, powerState: 'PoweredOff' });
    expect((await get('web')).metadata.managedFields.map(({ manager }) => manager)).toContain('qemu-operator-cli');
    expect(await call('manage_vm', { action: 'start', name: 'web' })).toMatchObject({ success: true });
    const pid = (await get('web')).status?.pid ?? 0;
    expect(isAlive(pid)).toBe(true);
    const told: number[] = [];
    const onprogress = ({ progress }: { progress: number }) => void told.push(progress);
    const sampled = await call('monitor_vm_status', { name: 'web', interval: 1, count: 2 }, { onprogress });
    expect([sampled.success, told]).toEqual([true, [1, 2]]);
    expect(await call('manage_vm', { action: 'stop', name: 'web', force: true })).toMatchObject({ success: true });
    expect(isAlive(pid)).toBe(false);
    expect(await call('manage_vm', { action: 'modify', name: 'web', vcpus: 1 })).toMatchObject({ success: true });
    expect((await get('web')).spec.vcpus).toBe(1);
    expect(await call('manage_vm', { action: 'delete', name: 'web' })).toMatchObject({ success: true });
    expect((await cluster.tryKubectl(['get', 'qvm', 'web', '-n', TEAM])).stderr).toContain('(NotFound)');
    const logged = logOf(operator).filter(({ msg }) => msg === 'MCP call');
    expect(logged.find(({ action }) => action === 'delete')).toMatchObject({
      user: nameOf('editor'),
      tool: 'manage_vm',
      name: 'web',
      outcome: 'Success',
    });
  });

  test('view lists and samples; what it may not is refused in the words of kubectl', async () => {
    const editor = await client('editor');
    expect(await editor.call('manage_vm', { action: 'create', ...machine('seen') })).toMatchObject({ success: true });
    expect(await editor.call('manage_vm', { action: 'start', name: 'seen' })).toMatchObject({ success: true });
    const { call } = await client('viewer');
    const names = (await call('list_vms', {})).data.vms.map(({ name }: { name: string }) => name);
    expect(names).toEqual(['seen']);
    expect(await call('monitor_vm_status', { name: 'seen' })).toMatchObject({ success: true });
    const [before, qmon] = [(await get('seen')).metadata.generation, ['get', 'qmon', '-n', TEAM, '-o', 'name']];
    expect(await cluster.kubectl(qmon)).toBe('');

    const kubectl = async (...words: string[]) =>
      (await cluster.tryKubectl([...words, '-n', TEAM, '--as', nameOf('viewer')])).stderr;
    const patched = await call('manage_vm', { action: 'stop', name: 'seen' });
    expect(patched).toMatchObject({ isError: true, data: { error: { code: 'Forbidden' } } });
    expect(await kubectl('patch', 'qvm', 'seen', '--type=merge', '-p', '{"spec":{"vcpus":1}}')).toContain(
      patched.message,
    );
    const deleted = await call('manage_vm', { action: 'delete', name: 'seen' });
    expect(await kubectl('delete', 'qvm', 'seen')).toContain(deleted.message);
    const created = await call('manage_vm', { action: 'create', ...machine('mine') });
    expect(created.message).toMatch(/cannot create resource "virtualmachines" .* in the namespace "team-a"$/);
    expect((await get('seen')).metadata.generation).toBe(before);
    expect((await cluster.tryKubectl(['get', 'qvm', 'mine', '-n', TEAM])).stderr).toContain('(NotFound)');
  });

  test('another namespace is neither shown nor touched, and the refusal names the right', async () => {
    const object = { metadata: { name: 'theirs', namespace: OTHER }, spec: { hostName: HOST, architecture: 'x86_64' } };
    const manifest = { apiVersion: 'qemu-operator.dev/v1alpha1', kind: 'VirtualMachine', ...object };
    await cluster.kubectl(['apply', '-f', '-'], JSON.stringify(manifest));
    const { call } = await client('editor');
    const all = await call('list_vms', {});
    expect(all.data.vms.map(({ namespace }: { namespace: string }) => namespace)).toEqual([TEAM]);
    const kubectl = await cluster.tryKubectl(['get', 'qvm', '-n', OTHER, '--as', nameOf('editor')]);
    const listed = await call('list_vms', { namespace: OTHER });
    expect(listed).toMatchObject({ isError: true, data: { error: { code: 'Forbidden' } } });
    expect(kubectl.stderr).toContain(listed.message);
    expect(listed.message).toContain('cannot list resource "virtualmachines"');
    const made = await call('manage_vm', { action: 'create', ...machine('intruder', OTHER) });
    expect(made.message).toContain(`cannot create resource "virtualmachines" in API group "qemu-operator.dev"`);
    expect(made.message).toContain(`in the namespace "${OTHER}"`);
    for (const action of ['start', 'delete'])
      expect(await call('manage_vm', { action, name: 'theirs' })).toMatchObject({
        isError: true,
        data: { error: { code: 'NotFound' } },
      });
    const { metadata } = await get('theirs', OTHER);
    expect(metadata.deletionTimestamp).toBeUndefined();
    expect((await cluster.tryKubectl(['get', 'qvm', 'intruder', '-n', OTHER])).stderr).toContain('(NotFound)');
  });

  test('whoever may not see Hosts is told so', async () => {
    await cluster.kubectl(['create', 'serviceaccount', 'nobody', '-n', TEAM]);
    const { call } = await client('nobody');
    const refused = await call('list_vms', {});
    expect(refused.message).toBe(
      `hosts.qemu-operator.dev is forbidden: User "${nameOf('nobody')}" cannot list resource "hosts" in API group "qemu-operator.dev" at the cluster scope`,
    );
  });

  test('a machine that is no Host yet is reached by whoever may register it, and nobody else', async () => {
    const person = ordinaryUser();
    onFinished(async () => person.remove());
    execFileSync('chpasswd', { input: `${person.name}:${PASSWORD}\n` });
    const sshd = await Sshd.start(onTestFinished, { user: person.name });
    const login = { host: '127.0.0.1', ssh_port: sshd.port, ssh_user: person.name, ssh_pwd: PASSWORD };
    const forbidden = (what: string) => ({
      isError: true,
      message: expect.stringContaining(what),
      data: { error: { code: 'Forbidden' } },
    });
    const hosts = await cluster.kubectl(['get', 'qhost', '-o', 'name']);
    const { call } = await client('editor');
    expect(await call('list_vms', login)).toMatchObject(forbidden('cannot create resource "hosts"'));
    // Also with the right to Hosts alone, whose login would be kept nowhere.
    await cluster.kubectl([
      'create',
      'clusterrole',
      'registrar',
      '--verb=create',
      '--resource=hosts.qemu-operator.dev',
    ]);
    const subject = `--serviceaccount=${TEAM}:editor`;
    await cluster.kubectl(['create', 'clusterrolebinding', 'registrar', '--clusterrole=registrar', subject]);
    const mayMakeHosts = () =>
      cluster.tryKubectl(['auth', 'can-i', 'create', 'qhost', '--as', nameOf('editor')]).then(({ code }) => code === 0);
    await until('the right counts', mayMakeHosts, Boolean);
    await until(
      'what was answered before is forgotten',
      () => call('list_vms', login),
      ({ message }) =>
        message.includes(`cannot get resource "secrets" in API group "" in the namespace "${NAMESPACE}"`),
    );
    // A guess at the password of a registered Host is not even compared.
    expect(await call('list_vms', { host: HOST, ssh_pwd: 'a guess' })).toMatchObject(
      forbidden('cannot get resource "secrets"'),
    );
    expect(await cluster.kubectl(['get', 'qhost', '-o', 'name'])).toBe(hosts);
    expect(sshd.log()).not.toContain(person.name);

    const keeper = ['--verb=get,list,create,patch,delete', '--resource=secrets', '-n', NAMESPACE];
    await cluster.kubectl(['create', 'role', 'keeper', ...keeper]);
    await cluster.kubectl(['create', 'rolebinding', 'keeper', '--role=keeper', subject, '-n', NAMESPACE]);
    await until(
      'the rights count',
      () => call('list_vms', login),
      ({ success }) => success,
    );
    const { name, ...where } = { ...machine('passing'), ...login };
    expect(await call('manage_vm', { action: 'create', name, ...where, disk: undefined })).toMatchObject({
      success: true,
    });
    const { spec } = await get('passing');
    const made = JSON.parse(await cluster.kubectl(['get', 'qhost', spec.hostName ?? '', '-o', 'json'])) as Host;
    expect(made.spec.ssh).toMatchObject({
      address: '127.0.0.1',
      user: person.name,
      hostKeys: [sshd.hostKey()],
      credentialsSecretRef: { name: made.metadata.name },
    });
    const kept = await cluster.kubectl(['get', 'secret', made.metadata.name, '-n', NAMESPACE, '-o', 'json']);
    expect(JSON.parse(kept)).toMatchObject({ data: { password: Buffer.from(PASSWORD).toString('base64') } });
    expect(await call('manage_vm', { action: 'delete', name: 'passing', ...login })).toMatchObject({ success: true });
    const other = { ...login, ssh_pwd: 'another' };
    expect(await call('list_vms', other)).toMatchObject({ isError: true, data: { error: { field: 'ssh_pwd' } } });
    expect(await call('list_vms', { ...login, ssh_pwd: undefined, ssh_key: sshd.identity })).toMatchObject({
      isError: true,
      data: { error: { code: 'InvalidArgument', field: 'ssh_key' } },
    });
  });

  test('a right that is taken away ends what it served, within seconds', async () => {
    await user('passing', 'view');
    const { call } = await client('passing');
    const told: number[] = [];
    const onprogress = ({ progress }: { progress: number }) => void told.push(progress);
    const sampling = call('monitor_vm_status', { name: 'seen', interval: 1, count: 0 }, { onprogress });
    await until(
      'it samples',
      () => told.length,
      (count) => count > 0,
    );
    await cluster.kubectl(['delete', 'rolebinding', 'passing', '-n', TEAM]);
    const before = performance.now();
    expect((await sampling).message).toMatch(/is forbidden: User .* cannot \w+ resource "virtualmachinemonitors"/);
    expect(performance.now() - before).toBeLessThan(25_000);
  });
});

const encoded = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Seconds that an API server lets a token live longer, since clocks differ. Source: go-jose, jwt.DefaultLeeway. */
const LEEWAY = 60;

interface Claims {
  readonly aud?: readonly string[];
  readonly exp?: number;
}

/** A token as the API server signs them. @param key the cluster's own, or another one */
async function signed(account: string, { aud = [AUDIENCE], exp = 600 }: Claims, key?: string): Promise<string> {
  const uid = await cluster.kubectl(['get', 'sa', account, '-n', TEAM, '-o', 'jsonpath={.metadata.uid}']);
  const now = Math.floor(Date.now() / 1000);
  const whose = { namespace: TEAM, serviceaccount: { name: account, uid } };
  const times = { iat: now - 3600, nbf: now - 3600, exp: now + exp };
  const issuer = { iss: 'https://kubernetes.default.svc', sub: nameOf(account) };
  const text = `${encoded({ alg: 'RS256' })}.${encoded({ aud, ...issuer, ...times, 'kubernetes.io': whose })}`;
  const signature = createSign('RSA-SHA256').update(text);
  return `${text}.${signature.sign(key ?? readFileSync(cluster.path('sa.key'), 'utf8'), 'base64url')}`;
}

describe('tokens', () => {
  test('one that the cluster signed is let in', async () => {
    expect((await initialize(await signed('viewer', {}))).status).toBe(200);
  });

  const forger = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const forged = forger.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
  test.each<[string, () => Promise<string>]>([
    ['one for the API server', () => tokenOf('editor', [])],
    ['one for another service', () => tokenOf('editor', ['--audience', 'vault'])],
    ['an expired one', () => signed('editor', { exp: -LEEWAY - 60 })],
    ['a forged one', () => signed('editor', {}, forged)],
    [
      'one of a user who never was',
      async () => (await signed('editor', {})).replace(/^[^.]+/, encoded({ alg: 'none' })),
    ],
    ['garbage', async () => 'x'.repeat(500)],
    ['much garbage', async () => 'x'.repeat(15_000)],
  ])('%s: 401', async (_what, token) => {
    const { status, headers, text } = await initialize(await token());
    expect([status, headers['www-authenticate']]).toEqual([401, 'Bearer realm="qemu-operator", error="invalid_token"']);
    expect(text).not.toContain('forbidden');
  });

  test('of a ServiceAccount that is deleted: its sessions end', async () => {
    await user('leaving', 'view');
    const { streamEnded } = await client('leaving');
    const token = await tokenOf('leaving');
    const { headers } = await initialize(token);
    const session = [...bearer(token), '-H', `Mcp-Session-Id: ${headers['mcp-session-id']}`];
    await cluster.kubectl(['delete', 'sa', 'leaving', '-n', TEAM]);
    const list = () => curl(address, message({ id: 2, method: 'tools/list' }, session));
    await until('it is refused', list, ({ status }) => status === 401, 25_000);
    await streamEnded;
    // One of the same name is another user: the session is not its.
    await cluster.kubectl(['create', 'serviceaccount', 'leaving', '-n', TEAM]);
    const again = [...bearer(await tokenOf('leaving')), ...session.slice(2)];
    expect((await curl(address, message({ id: 2, method: 'tools/list' }, again))).status).toBe(404);
  });

  test('that expires: the stream that was opened with it ends', async () => {
    const { client: opened, streamEnded } = await openHttpMcp(address, await signed('viewer', { exp: 10 - LEEWAY }));
    await streamEnded;
    await expect(opened.listTools()).rejects.toThrow(/invalid_token|not valid/);
  }, 60_000);

  test("a session is its user's alone", async () => {
    const [token, other] = [await tokenOf('editor'), await tokenOf('viewer')];
    const { headers } = await initialize(token);
    const session = ['-H', `Mcp-Session-Id: ${headers['mcp-session-id']}`];
    const list = (whose: string) =>
      curl(address, message({ id: 2, method: 'tools/list' }, [...bearer(whose), ...session]));
    expect([(await list(other)).status, (await list(token)).status]).toEqual([404, 200]);
    // A fresh token of the same user goes on with it.
    expect((await list(await tokenOf('editor'))).status).toBe(200);
    expect((await curl(address, ['-X', 'DELETE', ...bearer(other), ...session])).status).toBe(404);
    expect((await curl(address, ['-X', 'DELETE', ...bearer(token), ...session])).status).toBe(200);
  });
});

test.each([
  [`Host: ${RELEASE}-mcp.${NAMESPACE}.svc:8082`, 200],
  [`Host: ${RELEASE}-mcp:8082`, 200],
  ['Host: mcp.example.org', 200],
  ['Host: evil.example', 403],
  ['Origin: https://mcp.example.org', 200],
  ['Origin: https://evil.example', 403],
])('%s: %i', async (header, status) => {
  expect((await initialize(await tokenOf('viewer'), ['-H', header])).status).toBe(status);
});

interface AuditEvent {
  readonly verb: string;
  readonly user: { readonly username: string };
  readonly requestURI: string;
  readonly objectRef?: { readonly apiGroup?: string; readonly resource?: string };
  readonly responseStatus?: { readonly code: number };
}

test('the operator used each right that MCP gives it, was refused nothing, and no token is told anywhere', async () => {
  const log = readFileSync(cluster.path('audit.log'), 'utf8').trim().split('\n');
  const events = log.map((line) => JSON.parse(line) as AuditEvent);
  const own = events.filter((event) => event.user.username === OPERATOR_USER);
  expect(own.filter(({ responseStatus }) => responseStatus?.code === 403).map((one) => one.requestURI)).toEqual([]);
  const used = new Set(own.map(({ verb, objectRef }) => `${verb} ${objectRef?.apiGroup ?? ''}/${objectRef?.resource}`));
  const roles = JSON.parse(await cluster.kubectl(['get', 'clusterrole,role', '-n', NAMESPACE, '-o', 'json'])) as {
    items: { metadata: { name: string }; rules: { apiGroups: string[]; resources: string[]; verbs: string[] }[] }[];
  };
  const rules = roles.items.flatMap((role) => (role.metadata.name === `${RELEASE}-mcp` ? role.rules : []));
  const granted = rules.flatMap(({ apiGroups, resources, verbs }) =>
    apiGroups.flatMap((group) => resources.flatMap((one) => verbs.map((verb) => `${verb} ${group}/${one}`))),
  );
  expect(granted.length).toBeGreaterThan(7);
  expect(granted.filter((right) => !used.has(right))).toEqual([]);

  const pid = operator.child.pid ?? 0;
  const seen = ['cmdline', 'environ'].map((file) => readFileSync(`/proc/${pid}/${file}`, 'utf8'));
  const objects = await cluster.kubectl(['get', 'qvm,qhost,qmon,events', '-A', '-o', 'json', '--show-managed-fields']);
  const all = [...seen, objects, operator.stderr, operator.stdout].join('\n');
  expect(all).toContain(nameOf('editor'));
  // Of a JSON web token the first letters are always these.
  expect(all).not.toMatch(/eyJ[A-Za-z0-9_-]{20}/);
  expect(all).not.toContain(PASSWORD);
});

test('while the API server is away nobody is let in, and told to come back', async () => {
  const token = await tokenOf('viewer');
  expect((await initialize(token)).status).toBe(200);
  await cluster.killApiServer();
  const fresh = `${token.slice(0, -4)}AAAA`;
  const { status, headers } = await initialize(fresh);
  expect([status, headers['retry-after']]).toEqual([503, '5']);
  await cluster.startApiServer();
  await cluster.untilServed();
  const again = await until(
    'it is let in again',
    () => initialize(token),
    ({ status: code }) => code !== 503,
  );
  expect(again.status).toBe(200);
});
