/** The CRDs on a real API server: what it admits, and what kubectl does with the kinds. */
import { writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseManifest } from '../../src/api/admission.ts';
import { crdOf } from '../../src/api/crd.ts';
import { InvalidObjectError } from '../../src/api/errors.ts';
import { KIND_INFO } from '../../src/api/kinds.ts';
import { API_VERSION, GROUP, type Kind, VERSION } from '../../src/api/meta.ts';
import { loadKubeConfig } from '../../src/kube/kube-config.ts';
import { KubeStatusError } from '../../src/kube/kube-error.ts';
import { KubeTransport } from '../../src/kube/transport.ts';
import { clusterForFile } from './support/api.ts';
import { documentOf, twisted } from './support/objects-of-schema.ts';

const file = clusterForFile();

/** Of each kind; together more than 2,000 objects. */
const RUNS: Readonly<Record<Kind, number>> = { VirtualMachine: 1400, Host: 600, VirtualMachineMonitor: 200 };

describe('what admission takes, the API server takes, and the other way round', () => {
  test.each(Object.keys(RUNS) as Kind[])('%s', { timeout: 300_000 }, async (kind) => {
    const transport = new KubeTransport({
      load: () => loadKubeConfig({ kubeconfig: file.cluster.kubeconfig }),
      userAgent: 'test',
    });
    const { plural, namespaced } = KIND_INFO[kind];
    const path = `/apis/${GROUP}/${VERSION}/${namespaced ? 'namespaces/default/' : ''}${plural}`;
    const byServer = async (document: object): Promise<string | undefined> => {
      const query = { dryRun: 'All', fieldValidation: 'Strict' };
      try {
        await transport.json({ method: 'POST', path, query, body: document });
        return undefined;
      } catch (error) {
        if (error instanceof KubeStatusError && [400, 422].includes(error.code)) return error.message;
        throw error;
      }
    };
    const schema = crdOf(kind).spec.versions[0]?.schema.openAPIV3Schema.properties?.['spec'] ?? {};
    const spec = documentOf(schema);
    const either = spec.chain((value) => fc.oneof(fc.constant(value), twisted(value)));
    const seen = { admitted: 0, refused: 0 };
    await fc.assert(
      fc.asyncProperty(either, async (value) => {
        const document = { apiVersion: API_VERSION, kind, metadata: { name: 'some' }, spec: value };
        const [ours, theirs] = [byUs(document), await byServer(document)];
        seen[theirs === undefined ? 'admitted' : 'refused'] += 1;
        expect(ours === undefined, `here: ${ours ?? 'admitted'}; there: ${theirs ?? 'admitted'}`).toBe(
          theirs === undefined,
        );
      }),
      { numRuns: RUNS[kind] },
    );
    await transport.close();
    expect(Math.min(seen.admitted, seen.refused)).toBeGreaterThan(RUNS[kind] / 20);
  });
});

function byUs(document: unknown): string | undefined {
  try {
    parseManifest(document);
    return undefined;
  } catch (error) {
    if (error instanceof InvalidObjectError) return error.message;
    throw error;
  }
}

const vm = (name: string, spec: object = {}) => ({
  apiVersion: API_VERSION,
  kind: 'VirtualMachine',
  metadata: { name },
  spec: { architecture: 'x86_64', disks: [{ name: 'root', size: '20Gi' }], ...spec },
});

describe('kubectl', () => {
  test('explains each field, knows short names and the category, and leaves `all` alone', async () => {
    const { cluster } = file;
    const explained = await cluster.kubectl(['explain', 'qvm.spec.disks']);
    for (const word of ['reclaimPolicy', 'size', 'DESCRIPTION']) expect(explained).toContain(word);
    expect(explained).not.toContain('<no description>');
    for (const name of ['qvm', 'qhost', 'qmon']) {
      expect(await cluster.kubectl(['explain', name, '--recursive'])).toContain('spec');
      for (const place of [name, `${name}.spec`, `${name}.status`])
        expect(await cluster.kubectl(['explain', place])).not.toContain('<no description>');
    }
    await cluster.kubectl(['create', '-f', '-'], JSON.stringify(vm('listed')));
    expect(await cluster.kubectl(['get', 'qemu', '-o', 'name'])).toBe('virtualmachine.qemu-operator.dev/listed\n');
    expect(await cluster.kubectl(['get', 'all', '-o', 'name'])).not.toContain('listed');
    expect((await cluster.kubectl(['get', 'qvm', '-o', 'wide'])).split('\n')[0]).toMatch(
      /^NAME +PHASE +READY +HOST +ARCH +VCPUS +MEMORY +AGE +IP +CPU% .*LAST-EXIT +RESTART-REQUIRED +MESSAGE$/,
    );
    await cluster.kubectl(['delete', 'qvm', 'listed']);
  });

  test('applies, diffs, patches, edits and scales nothing away: list entries are met by name', async () => {
    const { cluster } = file;
    const manifest = JSON.stringify(vm('web'));
    await cluster.kubectl(['apply', '--server-side', '-f', '-'], manifest);
    expect((await cluster.tryKubectl(['diff', '--server-side', '-f', '-'], manifest)).code).toBe(0);
    const more = JSON.stringify(vm('web', { vcpus: 4 }));
    const diff = await cluster.tryKubectl(['diff', '--server-side', '-f', '-'], more);
    expect([diff.code, diff.stdout]).toEqual([1, expect.stringMatching(/^\+ {2}vcpus: 4$/m)]);
    // Another manager's entry of the list stays.
    const data = { ...vm('web'), spec: { architecture: 'x86_64', disks: [{ name: 'data', size: '1Gi' }] } };
    await cluster.kubectl(['apply', '--server-side', '--field-manager=other', '-f', '-'], JSON.stringify(data));
    await cluster.kubectl(['apply', '--server-side', '-f', '-'], more);
    const read = async () => JSON.parse(await cluster.kubectl(['get', 'qvm', 'web', '-o', 'json']));
    expect((await read()).spec.disks.map(({ name }: { name: string }) => name).sort()).toEqual(['data', 'root']);
    expect((await read()).spec).not.toHaveProperty('networks');
    const editor = cluster.path('editor.sh');
    writeFileSync(editor, '#!/bin/sh\nsed -i "s/vcpus: 4/vcpus: 6/" "$1"\n', { mode: 0o755 });
    const edited = await cluster.tryKubectl(['edit', 'qvm', 'web'], '', { KUBE_EDITOR: editor });
    expect(edited.stdout).toContain('edited');
    expect((await read()).spec.vcpus).toBe(6);
    await cluster.kubectl(['delete', 'qvm', 'web', '--wait=true']);
    expect((await cluster.tryKubectl(['get', 'qvm', 'web'])).stderr).toMatch(/NotFound/);
  });

  test.each([
    ['an unknown field', { vcpu: 2 }, 'unknown field "spec.vcpu"'],
    ['a changed architecture', { architecture: 'arm64' }, 'immutable'],
    [
      'a disk that shrinks',
      { disks: [{ name: 'root', size: '10Gi' }] },
      'disk grew to 20Gi; set size: 20Gi in your manifest',
    ],
    ['a word that YAML reads as a boolean', { powerState: true }, 'must be of type string'],
  ])('is told what is wrong with %s', async (_what, spec, sentence) => {
    const { cluster } = file;
    await cluster.kubectl(['apply', '-f', '-'], JSON.stringify(vm('told')));
    const refused = await cluster.tryKubectl(['apply', '-f', '-'], JSON.stringify(vm('told', spec)));
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining(sentence)]);
    await cluster.kubectl(['delete', 'qvm', 'told']);
  });
});
