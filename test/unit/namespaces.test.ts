/** Whose VMs a Host runs: what selects a namespace, and what becomes of a VM whose namespace is not taken. */
import { describe, expect, test } from 'vitest';
import { type LabelSelector, selects } from '../../src/api/label-selector.ts';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import { decide } from '../../src/reconcile/decide.ts';
import { NAMES_ALONE, seenNamespace } from '../../src/reconcile/namespaces.ts';
import { type Given, GONE, HERE, noFile, ROOT, someHost, subject } from '../fakes/subjects.ts';

const requires = (
  key: string,
  operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist',
  ...values: string[]
): LabelSelector => ({ matchExpressions: [{ key, operator, ...(values.length > 0 && { values }) }] });

describe('a selector, as Kubernetes reads it', () => {
  const LABELS = { team: 'a', tier: 'db' };
  test.each<[string, LabelSelector, boolean]>([
    ['that is empty selects everything', {}, true],
    ['by a label', { matchLabels: { team: 'a' } }, true],
    ['by a label of another value', { matchLabels: { team: 'b' } }, false],
    ['by a label that is not there', { matchLabels: { owner: '' } }, false],
    ['by all of its labels', { matchLabels: { team: 'a', tier: 'web' } }, false],
    ['In', requires('team', 'In', 'a', 'b'), true],
    ['In, of others', requires('team', 'In', 'b'), false],
    ['In, of what is not there', requires('owner', 'In', 'a'), false],
    ['NotIn', requires('team', 'NotIn', 'b'), true],
    ['NotIn, of its own', requires('team', 'NotIn', 'a', 'b'), false],
    ['NotIn, of what is not there', requires('owner', 'NotIn', 'a'), true],
    ['Exists', requires('team', 'Exists'), true],
    ['Exists, of what is not there', requires('owner', 'Exists'), false],
    ['DoesNotExist', requires('owner', 'DoesNotExist'), true],
    ['DoesNotExist, of what is there', requires('team', 'DoesNotExist'), false],
    ['by both of its lists', { matchLabels: { team: 'a' }, ...requires('tier', 'In', 'web') }, false],
  ])('%s', (_what, selector, expected) => {
    expect(selects(selector, LABELS)).toBe(expected);
  });
});

test('without a cluster a namespace has the label of its name', async () => {
  const host = someHost({ allowedNamespaces: { selector: {} } });
  expect(await seenNamespace(subject().vm, host, NAMES_ALONE)).toEqual({
    kind: 'known',
    labels: { 'kubernetes.io/metadata.name': 'default' },
  });
});

describe('a VM of a namespace that its Host does not take', () => {
  const TAKES_OTHERS = { host: someHost({ allowedNamespaces: { names: ['team-a', 'team-b'] } }) };
  const NEW: Given = { ...TAKES_OTHERS, record: null, metadata: { annotations: {} }, files: { [ROOT]: noFile() } };
  const brief = (given: Given) => {
    const decision = decide(subject(given));
    return decision.kind === 'act' ? decision.action.type : `${decision.kind} ${decision.reason}`;
  };
  const REFUSED = 'blocked NamespaceNotAllowed';

  test.each<[string, Given, string]>([
    ['that is new: nothing is made', NEW, REFUSED],
    ['that is new and to be off: nothing is made', { ...NEW, spec: { powerState: 'PoweredOff' } }, REFUSED],
    [
      'that nobody has touched yet: neither is the object',
      { ...NEW, metadata: { finalizers: [], annotations: {} } },
      REFUSED,
    ],
    ['that runs: it runs on', TAKES_OTHERS, REFUSED],
    ['that has ended: it is not started again', { ...TAKES_OTHERS, process: GONE }, REFUSED],
    ['that runs and is to stop: it stops', { ...TAKES_OTHERS, spec: { powerState: 'PoweredOff' } }, 'stop'],
    [
      'that is off as it is to be: nothing is made of what is new',
      { ...TAKES_OTHERS, spec: { powerState: 'PoweredOff' }, process: GONE, launch: null },
      REFUSED,
    ],
    [
      'that is being deleted: it is stopped and removed',
      { ...TAKES_OTHERS, metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' }, process: GONE, launch: null },
      'remove-files',
    ],
    [
      'that its folder is known of: nothing more is noted',
      { ...TAKES_OTHERS, metadata: { annotations: { [ANNOTATIONS.provisioned]: HERE, [ANNOTATIONS.adopt]: 'x' } } },
      'remove-adopt',
    ],
  ])('%s', (_what, given, expected) => {
    expect(brief(given)).toBe(expected);
  });

  const sentence = (allowedNamespaces: object, seen: Given['seen'] = {}) => {
    const decision = decide(subject({ ...NEW, host: someHost({ allowedNamespaces }), seen }));
    return 'message' in decision ? decision.message : '';
  };

  test('is told which ones it takes', () => {
    const selector = { matchLabels: { vms: 'yes' } };
    const labelled = { namespace: { kind: 'known', labels: {} } } as const;
    expect(sentence({ names: ['team-a', 'team-b'] })).toBe(
      'Host localhost takes no VMs of namespace default; its allowedNamespaces take those of team-a, team-b',
    );
    expect(sentence({ names: ['team-a'], selector }, labelled)).toMatch(
      /take those of team-a and of namespaces with the labels that its selector names$/,
    );
    expect(sentence({ names: [] })).toMatch(/take none$/);
  });

  test('whose labels are not known waits, with the reason', () => {
    const seen = { namespace: { kind: 'unknown', message: 'forbidden' } } as const;
    expect(sentence({ selector: {} }, seen)).toBe(
      'whether Host localhost takes VMs of namespace default is not known: forbidden',
    );
    expect(sentence({ selector: {}, names: ['default'] }, seen)).not.toMatch(/not known/);
  });
});
