import { expect, test } from 'vitest';
import { parseBindAddress } from '../../src/cli/bind-address.ts';
import { keysOfProblem, logCall, logEvent, logTo } from '../../src/cli/run-log.ts';
import type { ControllerEvent } from '../../src/reconcile/loop-event.ts';

function lines(format: 'json' | 'text', event: ControllerEvent): string[] {
  const said: string[] = [];
  const stderr = { write: (line: string) => Boolean(said.push(line)) };
  logEvent(logTo(stderr as never, format, 'debug'), event);
  return said;
}

const json = (event: ControllerEvent) => lines('json', event).map((line) => JSON.parse(line));
const text = (event: ControllerEvent) => lines('text', event).map((line) => line.replace(/^\S+Z /, ''));

const ACTION: ControllerEvent = {
  type: 'action',
  host: 'rack1',
  vm: 'default/web-1',
  action: { type: 'resume' },
  because: 'it was paused',
};
const failed = (host: string, vm: string): ControllerEvent => ({
  type: 'failed',
  host,
  vm,
  error: new Error('no'),
  message: 'no way',
});

test('a line about a VM has its kind, namespace, name and host', () => {
  expect(json(ACTION)).toEqual([
    {
      level: 30,
      time: expect.stringMatching(/Z$/),
      kind: 'VirtualMachine',
      namespace: 'default',
      name: 'web-1',
      host: 'rack1',
      action: 'resume',
      because: 'it was paused',
      msg: 'acting',
    },
  ]);
  expect(text(ACTION)).toEqual([
    'INFO acting VirtualMachine default/web-1 host=rack1 action=resume because="it was paused"\n',
  ]);
});

test('a line about a whole host is about the Host; one about no object has no keys of one', () => {
  expect(json(failed('rack1', '*'))[0]).toMatchObject({ level: 40, kind: 'Host', name: 'rack1', error: 'no way' });
  expect(json(failed('rack1', '*'))[0]).not.toHaveProperty('namespace');
  expect(text(failed('rack1', '*'))).toEqual(['WARN failed Host rack1 error="no way"\n']);
  expect(text({ type: 'pass', host: 'rack1', vms: 3, ms: 12, woken: 1, waiting: 0 })).toEqual([
    'DEBUG looked Host rack1 vms=3 ms=12\n',
  ]);
  expect(text({ type: 'ended', host: 'rack1' })).toEqual(['INFO the loop of this host has ended Host rack1\n']);
  expect(text(failed('', '*'))).toEqual(['WARN failed error="no way"\n']);
  expect(text(failed('', 'default/lost'))).toEqual(['WARN failed VirtualMachine default/lost error="no way"\n']);
});

test('problems of objects and of files', () => {
  const ref = { namespace: 'default', name: 'web-1' };
  expect(keysOfProblem({ kind: 'VirtualMachine', ref, reason: 'ManifestMissing', message: 'gone' })).toEqual({
    kind: 'VirtualMachine',
    ...ref,
    reason: 'ManifestMissing',
    message: 'gone',
  });
  expect(keysOfProblem({ source: 'a.yaml', message: 'bad' })).toEqual({ source: 'a.yaml', message: 'bad' });
});

test.each([
  [':8080', undefined, 8080],
  ['127.0.0.1:8080', '127.0.0.1', 8080],
  ['localhost:0', 'localhost', 0],
  ['[::1]:9', '::1', 9],
])('%s is an address', (given, host, port) => {
  expect(parseBindAddress('--flag', given)).toMatchObject({ flag: '--flag', text: given, port, ...(host && { host }) });
});

test.each(['0', ''])('%j is none', (given) => {
  expect(parseBindAddress('--flag', given)).toBeUndefined();
});

test.each(['8080', ':', ':65536', '::1:80', 'http://a:80', '1.2.3.4', ':80 ', '-1'])(
  '%j is refused by name',
  (given) => {
    expect(() => parseBindAddress('--flag', given)).toThrow(
      `--flag ${JSON.stringify(given)} is no address such as :8080`,
    );
  },
);

test('a call over MCP has its user, and the VM that it named', () => {
  const said: string[] = [];
  const log = logTo(
    { write: (line: string) => Boolean(said.push(line.replace(/^\S+Z /, ''))) } as never,
    'text',
    'info',
  );
  const call = { user: 'ann', tool: 'manage_vm', outcome: 'Forbidden', ms: 3 };
  logCall(log, { ...call, asked: { name: 'web-1', namespace: 'team-a', action: 'stop' } });
  logCall(log, { ...call, tool: 'list_vms', asked: { namespace: 'team-a' } });
  expect(said).toEqual([
    'INFO MCP call VirtualMachine team-a/web-1 user=ann tool=manage_vm outcome=Forbidden ms=3 action=stop\n',
    'INFO MCP call user=ann tool=list_vms outcome=Forbidden ms=3 namespace=team-a\n',
  ]);
});
