/** Manifests that people own: what verbs write into them, and what people's edits do. */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseManifest } from '../../src/api/admission.ts';
import { StoreUnavailableError } from '../../src/api/errors.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { host, vm } from '../conformance/store.ts';
import { eventually, manifest, problemOf, reasonSoon, StoreFolder, WEB } from './store-folder.ts';

let folder: StoreFolder;
let store: FileStore;

beforeEach(async () => {
  folder = new StoreFolder();
  store = await folder.open();
});
afterEach(() => folder.remove());

const web = () => store.get('VirtualMachine', WEB);
const vcpusSoon = (wanted: number) =>
  eventually(
    async () => (await web())?.spec.vcpus,
    (vcpus) => vcpus === wanted,
  );

describe('verbs', () => {
  test('create writes what was asked for, where it is found again, and nothing else', async () => {
    await store.create(vm('web-1', { memory: '4Gi', powerState: 'PoweredOff' }, { labels: { tier: 'web' } }), {
      undeclared: ['powerState'],
    });
    await store.create(host('rack1'));
    expect(folder.read('default/web-1.yaml')).toBe(
      [
        'apiVersion: qemu-operator.dev/v1alpha1',
        'kind: VirtualMachine',
        'metadata:',
        '  name: web-1',
        '  namespace: default',
        '  labels:',
        '    tier: web',
        'spec:',
        '  architecture: x86_64',
        '  memory: 4Gi',
        '',
      ].join('\n'),
    );
    expect(folder.read('hosts/rack1.yaml')).toContain('kind: Host');
    expect((await web())?.spec.powerState).toBe('PoweredOff');
    for (const [path, mode] of [
      ['default', 0o700],
      ['.state', 0o700],
      ['.state/secrets', 0o700],
      ['default/web-1.yaml', 0o600],
      ['.state/store.db', 0o600],
      ['.state/store.db-wal', 0o600],
    ] as const) {
      expect([path, statSync(folder.path(path)).mode & 0o777]).toEqual([path, mode]);
    }
    expect(folder.read('.state/.gitignore')).toBe('*\n');
    expect(readdirSync(folder.path('default'))).toEqual(['web-1.yaml']);
  });

  test('a name that is taken by another file gets a file beside it', async () => {
    folder.write('default/web-1.yaml', '# notes of mine\n');
    await store.create(vm('web-1'));
    expect(folder.read('default/web-1.yaml')).toBe('# notes of mine\n');
    expect(folder.read('default/web-1-2.yaml')).toContain('name: web-1');
  });

  test('a verb on a declared field changes that one value in the file, comments and format kept', async () => {
    const text = manifest(['memory: 2Gi    # grows', 'disks:', '- {name: root, size: 20Gi}', '', 'vcpus: 2']);
    folder.write('vms/web.yaml', text);
    store.sync();
    expect(await vcpusSoon(2)).toBe(2);
    chmodSync(folder.path('vms/web.yaml'), 0o640);
    const disks = [{ name: 'root', size: '40Gi', format: 'qcow2' }];
    await store.patch('VirtualMachine', WEB, { spec: { memory: '8Gi', disks } });
    expect(folder.read('vms/web.yaml')).toBe(text.replace('2Gi ', '8Gi ').replace('20Gi', '40Gi'));
    expect(statSync(folder.path('vms/web.yaml')).mode & 0o777).toBe(0o640);
    expect((await web())?.spec).toMatchObject({ memory: '8Gi', disks });
  });

  test('a new list entry or a removed field keeps the comments around', async () => {
    folder.write('web.yaml', manifest(['vcpus: 4', '# the system', 'disks:', '- name: root # boots', '  size: 1Gi']));
    expect(await vcpusSoon(4)).toBe(4);
    const disks = [
      { name: 'root', size: '1Gi' },
      { name: 'data', size: '5Gi' },
    ];
    await store.patch('VirtualMachine', WEB, { spec: { vcpus: null, disks } });
    const text = folder.read('web.yaml');
    for (const kept of ['# ours', '# the old server', '# the system', '- name: root # boots', '- name: data']) {
      expect(text).toContain(kept);
    }
    expect(text).not.toContain('vcpus');
    expect((await web())?.spec).toMatchObject({ vcpus: 2, disks });
  });

  test('a verb on an undeclared field leaves the file alone', async () => {
    await store.create(vm('web-1', { memory: '4Gi' }));
    const text = folder.read('default/web-1.yaml');
    await store.patch('VirtualMachine', WEB, { spec: { powerState: 'PoweredOff', vcpus: 8 } });
    expect(folder.read('default/web-1.yaml')).toBe(text);
    store.sync();
    expect((await web())?.spec).toMatchObject({ powerState: 'PoweredOff', vcpus: 8 });
  });

  test('a symbolic link stays one, other documents of the file stay as they are', async () => {
    const other = manifest(['vcpus: 1'], 'other');
    folder.write('.elsewhere/all.yaml', `${other}---\n${manifest(['vcpus: 4'])}---\n# the end\n`);
    symlinkSync('.elsewhere/all.yaml', folder.path('link.yaml'));
    expect(await vcpusSoon(4)).toBe(4);
    await store.patch('VirtualMachine', WEB, { spec: { vcpus: 6 } });
    expect(lstatSync(folder.path('link.yaml')).isSymbolicLink()).toBe(true);
    expect(folder.read('link.yaml')).toBe(`${other}---\n${manifest(['vcpus: 6'])}---\n# the end\n`);
  });

  test('a value behind an anchor is refused rather than changed for all who share it', async () => {
    const text = manifest(['vcpus: &n 4', 'disks:', '- {name: a, size: 1Gi}', 'powerOff: {gracePeriodSeconds: *n}']);
    folder.write('web.yaml', text);
    expect(await vcpusSoon(4)).toBe(4);
    await expect(store.patch('VirtualMachine', WEB, { spec: { vcpus: 8 } })).rejects.toThrow('edit it by hand');
    expect([folder.read('web.yaml'), (await web())?.spec.vcpus]).toEqual([text, 4]);
  });

  test('apply writes into the file where the object lies', async () => {
    folder.write('deep/er/web.yml', manifest(['vcpus: 4  # four']));
    expect(await vcpusSoon(4)).toBe(4);
    await store.apply(vm('web-1', { vcpus: 6 }));
    expect(folder.read('deep/er/web.yml')).toBe(manifest(['vcpus: 6  # four']));
    expect(folder.has('default/web-1.yaml')).toBe(false);
  });

  test('a dry run writes no file', async () => {
    await store.create(vm('web-1'), { dryRun: true });
    expect(folder.has('default')).toBe(false);
    await store.create(vm('web-1', { vcpus: 4 }));
    const text = folder.read('default/web-1.yaml');
    await store.patch('VirtualMachine', WEB, { spec: { vcpus: 6 } }, { dryRun: true });
    await store.apply(vm('web-1', { vcpus: 7 }), { dryRun: true });
    await store.create(vm('web-2'));
    expect(folder.read('default/web-1.yaml')).toBe(text);
    expect(readdirSync(folder.path('default')).sort()).toEqual(['web-1.yaml', 'web-2.yaml']);
  });

  test('a monitor is never a manifest', async () => {
    const monitor = {
      apiVersion: 'qemu-operator.dev/v1alpha1',
      kind: 'VirtualMachineMonitor',
      metadata: { name: 'm' },
      spec: { virtualMachineName: 'web-1', until: '2030-01-01T00:00:00Z' },
    };
    await store.create(parseManifest(monitor));
    expect(folder.has('default')).toBe(false);
    folder.write('m.yaml', JSON.stringify({ ...monitor, metadata: { name: 'n' } }));
    await eventually(
      () => store.problems().length,
      (count) => count > 0,
    );
    expect(await store.get('VirtualMachineMonitor', { name: 'n' })).toBeUndefined();
    store.sync();
    expect(store.problems().map(({ ref }) => ref.name)).toEqual(['n']);
  });
});

describe("people's edits", () => {
  test('are taken in, and told to watches', async () => {
    const stop = new AbortController();
    const seen: string[] = [];
    const watching = (async () => {
      for await (const event of store.watch('VirtualMachine', { signal: stop.signal })) {
        if (event.type !== 'BOOKMARK') seen.push(`${event.type} ${event.object.spec.vcpus}`);
      }
    })();
    folder.write('a/web.yaml', manifest(['vcpus: 3']));
    await vcpusSoon(3);
    folder.write('a/web.yaml', manifest(['vcpus: 5']));
    await vcpusSoon(5);
    stop.abort();
    await watching;
    expect(seen).toEqual(['ADDED 3', 'MODIFIED 5']);
  });

  test('a field taken out falls back to its default, what no manifest said stays', async () => {
    folder.write('web.yaml', manifest(['vcpus: 4', 'memory: 4Gi']));
    await vcpusSoon(4);
    await store.patch('VirtualMachine', WEB, { spec: { powerState: 'PoweredOff' } });
    folder.write('web.yaml', manifest(['memory: 4Gi']));
    expect(await vcpusSoon(2)).toBe(2);
    expect((await web())?.spec).toMatchObject({ memory: '4Gi', powerState: 'PoweredOff' });
  });

  test('made while nobody looked are there when the store opens', async () => {
    await store.create(vm('web-1', { vcpus: 4 }));
    await store.close();
    folder.write('default/web-1.yaml', manifest(['vcpus: 6']));
    store = await folder.open();
    expect((await web())?.spec.vcpus).toBe(6);
  });

  test.each([
    ['half-written', manifest(['disks: [{name: root,']), 'does not count'],
    ['an unknown field', manifest(['vcpu: 8']), 'did you mean vcpus'],
    ['an immutable field', manifest([]).replace('x86_64', 'arm64'), 'spec.architecture'],
    ['the same field twice', manifest(['vcpus: 8', 'vcpus: 9']), 'unique'],
  ])('%s: no change, a problem that says why, and none once it is mended', async (_what, text, sentence) => {
    folder.write('web.yaml', manifest(['vcpus: 4']));
    await vcpusSoon(4);
    const { uid } = (await web())?.metadata ?? {};
    folder.write('web.yaml', text);
    expect(await reasonSoon(store, 'ManifestInvalid')).toBe('ManifestInvalid');
    expect(problemOf(store)?.message).toContain('web.yaml');
    expect(problemOf(store)?.message).toContain(sentence);
    expect((await web())?.spec.vcpus).toBe(4);
    // A verb on what the broken file declares is refused; on other fields it is not.
    await expect(store.patch('VirtualMachine', WEB, { spec: { vcpus: 8 } })).rejects.toThrow(StoreUnavailableError);
    await store.patch('VirtualMachine', WEB, { spec: { powerState: 'PoweredOff' } });
    expect(folder.read('web.yaml')).toBe(text);
    folder.write('web.yaml', manifest(['vcpus: 5']));
    expect(await vcpusSoon(5)).toBe(5);
    expect(await reasonSoon(store, undefined)).toBeUndefined();
    expect((await web())?.metadata.uid).toBe(uid);
  });

  test('a problem that comes or goes wakes watches', async () => {
    folder.write('web.yaml', manifest());
    await vcpusSoon(2);
    const { resourceVersion } = await store.list('VirtualMachine');
    const events = store.watch('VirtualMachine', { resourceVersion, signal: AbortSignal.timeout(5_000) });
    folder.write('web.yaml', 'apiVersion: [');
    for await (const event of events) {
      if (event.type === 'MODIFIED') break;
    }
    expect(problemOf(store)?.reason).toBe('ManifestInvalid');
  });

  test('a file that is still growing is not taken in', async () => {
    await store.close();
    store = await folder.open({ settleMs: 300 });
    folder.write('web.yaml', manifest(['vcpus: 1']));
    for (let n = 0; n < 5; n += 1) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect(await web()).toBeUndefined();
      folder.write('web.yaml', manifest([`vcpus: 1${'0'.repeat(n % 3)}`]));
    }
    expect(await vcpusSoon(10)).toBe(10);
    expect((await web())?.metadata.generation).toBe(1);
  });

  test('a file that no parser or decoder gets through is told, and the others count: when followed, and when opened', async () => {
    const deep = `spec: {disks: [\n${Array.from({ length: 5_000 }, (_, at) => `{name: d${at}, size: 1Gi},\n`).join('')}]}\n`;
    folder.write('big.yaml', deep);
    folder.write('latin1.yaml', '');
    writeFileSync(folder.path('latin1.yaml'), Buffer.from(manifest(['vcpus: 9  # f\xfcr'], 'latin'), 'latin1'));
    folder.write('web.yaml', manifest(['vcpus: 3']));
    expect(await vcpusSoon(3)).toBe(3);
    const told = () => Object.fromEntries(store.sourceProblems().map(({ source, message }) => [source, message]));
    const wanted = {
      'big.yaml': expect.stringMatching(/nested too deeply|never closed/),
      'latin1.yaml': 'is not UTF-8 text: save it in that encoding',
    };
    await expect.poll(told).toEqual(wanted);
    await store.close();
    folder.write('web.yaml', manifest(['vcpus: 4']));
    store = await folder.open();
    expect((await web())?.spec.vcpus).toBe(4);
    expect(told()).toEqual(wanted);
    expect(await store.get('VirtualMachine', { namespace: 'default', name: 'latin' })).toBeUndefined();
  });

  test('a manifest that was never good is told, and makes nothing', async () => {
    folder.write('bad.yaml', manifest(['vcpu: 8']));
    folder.write('worse.yaml', 'kind: [');
    folder.write('kustomization.yaml', 'resources: [bad.yaml]\n');
    await eventually(
      () => store.sourceProblems().length,
      (count) => count === 2,
    );
    expect(store.sourceProblems().map(({ source }) => source)).toEqual(['worse.yaml', 'kustomization.yaml']);
    expect(problemOf(store)).toMatchObject({ reason: 'ManifestInvalid', kind: 'VirtualMachine', ref: WEB });
    expect(await web()).toBeUndefined();
  });

  test('what the controller wrote is not theirs, even when they save `get -o yaml` as a manifest', async () => {
    const provisioned = 'qemu-operator.dev/provisioned';
    await store.create(vm('web-1'));
    await store.patch('VirtualMachine', WEB, { metadata: { annotations: { [provisioned]: 'm:/a' } } });
    folder.write('default/web-1.yaml', JSON.stringify({ ...(await web()), status: { phase: 'Running' } }));
    await new Promise((resolve) => setTimeout(resolve, 60));
    store.sync();
    await store.patch('VirtualMachine', WEB, { metadata: { annotations: { [provisioned]: 'm:/b' } } });
    expect(folder.read('default/web-1.yaml')).toContain('m:/a');
    expect((await web())?.metadata.annotations).toEqual({ [provisioned]: 'm:/b' });
  });
});

describe('files that move, double and go', () => {
  test('a moved manifest is followed without a word', async () => {
    await store.create(vm('web-1', { vcpus: 4 }));
    const before = await web();
    mkdirSync(folder.path('prod'));
    renameSync(folder.path('default/web-1.yaml'), folder.path('prod/renamed.yaml'));
    await new Promise((resolve) => setTimeout(resolve, 200));
    store.sync();
    expect(await web()).toEqual({ ...before, metadata: { ...before?.metadata, resourceVersion: expect.anything() } });
    expect(problemOf(store)).toBeUndefined();
    await store.patch('VirtualMachine', WEB, { spec: { vcpus: 6 } });
    expect(folder.read('prod/renamed.yaml')).toContain('vcpus: 6');
  });

  test('git checkout of a branch without it deletes nothing and says both ways out; checkout back heals it', async () => {
    folder.git('init', '-q');
    folder.git('commit', '-q', '--allow-empty', '-m', 'empty');
    folder.git('checkout', '-q', '-b', 'vms');
    await store.create(vm('web-1', { vcpus: 4 }, { finalizers: ['x/held'] }));
    folder.git('add', '-A');
    expect(folder.git('status', '--porcelain')).toBe('A  default/web-1.yaml\n');
    folder.git('commit', '-q', '-m', 'web-1');
    const before = await web();
    folder.git('checkout', '-q', 'main');
    expect(folder.has('default/web-1.yaml')).toBe(false);
    expect(await reasonSoon(store, 'ManifestMissing')).toBe('ManifestMissing');
    const { message = '' } = problemOf(store) ?? {};
    expect(message).toContain('default/web-1.yaml');
    expect(message).toContain('qemu-operator delete virtualmachine web-1 -n default');
    expect(message).toContain('qemu-operator get virtualmachine web-1 -n default -o yaml');
    expect((await web())?.spec).toEqual(before?.spec);
    expect((await web())?.metadata.deletionTimestamp).toBeUndefined();
    await store.patch('VirtualMachine', WEB, { spec: { vcpus: 6 } });
    expect(folder.has('default/web-1.yaml')).toBe(false);
    folder.git('checkout', '-q', 'vms');
    expect(await reasonSoon(store, undefined)).toBeUndefined();
    // What a manifest declares, the manifest owns.
    expect((await web())?.spec.vcpus).toBe(4);
    expect((await web())?.metadata.uid).toBe(before?.metadata.uid);
  });

  test('apply writes a missing manifest anew', async () => {
    await store.create(vm('web-1', { vcpus: 4 }));
    rmSync(folder.path('default/web-1.yaml'));
    expect(await reasonSoon(store, 'ManifestMissing')).toBe('ManifestMissing');
    await store.apply(vm('web-1', { vcpus: 4 }));
    expect(folder.read('default/web-1.yaml')).toContain('vcpus: 4');
    expect(problemOf(store)).toBeUndefined();
  });

  test('the same identity twice: the first by path counts, the other is told', async () => {
    folder.write('b.yaml', manifest(['vcpus: 4']));
    await vcpusSoon(4);
    folder.write('c.yaml', manifest(['vcpus: 8']));
    expect(await reasonSoon(store, 'ManifestInvalid')).toBe('ManifestInvalid');
    expect(problemOf(store)?.message).toMatch(/b\.yaml and in c\.yaml: b\.yaml counts/);
    expect((await web())?.spec.vcpus).toBe(4);
    folder.write('b.yaml', 'kind: [');
    await eventually(
      () => problemOf(store)?.message,
      (message) => message?.includes('does not count') === true,
    );
    expect((await web())?.spec.vcpus).toBe(4);
    rmSync(folder.path('c.yaml'));
    folder.write('b.yaml', manifest(['vcpus: 4']));
    expect(await reasonSoon(store, undefined)).toBeUndefined();
  });

  test('a folder that is gone refuses writes, keeps reads, and is whole when it is back', async () => {
    await store.create(vm('web-1', { vcpus: 4 }));
    const away = `${folder.dir}-away`;
    renameSync(folder.dir, away);
    try {
      const write = () => store.patch('VirtualMachine', WEB, { spec: { powerState: 'PoweredOff' } });
      await expect(write()).rejects.toThrow(/gone or was replaced/);
      expect((await web())?.spec.vcpus).toBe(4);
      mkdirSync(folder.dir);
      await expect(write()).rejects.toThrow(StoreUnavailableError);
      await new Promise((resolve) => setTimeout(resolve, 60));
      expect(() => store.sync()).toThrow(StoreUnavailableError);
      expect((await web())?.metadata.deletionTimestamp).toBeUndefined();
      rmSync(folder.dir, { recursive: true });
    } finally {
      renameSync(away, folder.dir);
    }
    store.sync();
    await store.patch('VirtualMachine', WEB, { spec: { powerState: 'PoweredOff' } });
    expect(problemOf(store)).toBeUndefined();
  });
});

describe('delete', () => {
  test('takes the document out, and the file with the last one', async () => {
    folder.write('all.yaml', `${manifest()}---\n${manifest([], 'other')}`);
    await vcpusSoon(2);
    await store.delete('VirtualMachine', WEB);
    expect(folder.read('all.yaml')).toBe(`---\n${manifest([], 'other')}`);
    await store.delete('VirtualMachine', { ...WEB, name: 'other' });
    expect(folder.has('all.yaml')).toBe(false);
    store.sync();
    expect((await store.list('VirtualMachine')).items).toEqual([]);
  });

  test('takes every document of that identity: a double does not come to life', async () => {
    folder.write('a.yaml', manifest(['vcpus: 4']));
    folder.write('b.yaml', manifest(['vcpus: 8']));
    await vcpusSoon(4);
    await store.delete('VirtualMachine', WEB);
    store.sync();
    expect([folder.has('a.yaml'), folder.has('b.yaml'), await web()]).toEqual([false, false, undefined]);
  });

  test('is refused while a manifest of it cannot be changed', async () => {
    folder.write('a.yaml', manifest(['vcpus: 4']));
    await vcpusSoon(4);
    folder.write('a.yaml', `${manifest(['vcpus: 4'])}  - [`);
    await reasonSoon(store, 'ManifestInvalid');
    await expect(store.delete('VirtualMachine', WEB)).rejects.toThrow('mend it first, nothing was changed');
    expect((await web())?.metadata.deletionTimestamp).toBeUndefined();
  });

  test('a manifest put back while it lasts makes the object anew once it is over', async () => {
    const made = await store.create(vm('web-1', { vcpus: 4 }, { finalizers: ['x/held'] }));
    const text = folder.read('default/web-1.yaml');
    await store.delete('VirtualMachine', WEB);
    expect(folder.has('default/web-1.yaml')).toBe(false);
    folder.write('default/web-1.yaml', text);
    await new Promise((resolve) => setTimeout(resolve, 150));
    store.sync();
    expect((await web())?.metadata.deletionTimestamp).toBeDefined();
    await store.patch('VirtualMachine', WEB, { metadata: { finalizers: null } });
    const anew = await web();
    expect(anew?.metadata.deletionTimestamp).toBeUndefined();
    expect(anew?.metadata.uid).not.toBe(made.metadata.uid);
    expect(folder.read('default/web-1.yaml')).toBe(text);
  });
});
