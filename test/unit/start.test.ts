/** start asks for a launch only where no process is: a guest that runs unseen is not restarted later. */
import { expect, test } from 'vitest';
import { START } from '../../src/cli/power.ts';
import { storedVm } from '../fakes/manifests.ts';

const NOW = '2026-01-05T12:00:00Z';
const running = (status: 'True' | 'False' | 'Unknown') => ({
  conditions: [{ type: 'Running', status, reason: 'Stopped', message: '', lastTransitionTime: NOW }],
});

test.each([
  ['a VM that no look has seen', undefined, { powerState: 'PoweredOn', restartedAt: NOW }],
  ['a VM without a process', running('False'), { powerState: 'PoweredOn', restartedAt: NOW }],
  ['a VM that runs', { pid: 7, ...running('True') }, undefined],
  ['a VM whose guest is paused', { pid: 7, ...running('False') }, undefined],
  ['a VM whose record cannot be read while it runs', running('True'), { powerState: 'PoweredOn' }],
  ['a VM that cannot be seen', running('Unknown'), { powerState: 'PoweredOn' }],
] as const)('%s', (_what, status, expected) => {
  const vm = { ...storedVm({ powerState: 'PoweredOn' }), ...(status === undefined ? {} : { status }) };
  expect(START.patch(vm as never, NOW)).toEqual(expected);
});
