/** What a decision about on and off says, in full. */
import { describe, expect, test } from 'vitest';
import { decide } from '../../src/reconcile/decide.ts';
import { file, type Given, GONE, NOON, ROOT, someEnd, subject } from '../fakes/subjects.ts';

const ABSENT: Given = { launch: null, process: GONE };
const LEFT = { kind: 'absent', pidfileLeft: true } as const;

function launchedWith(fields: object): Given {
  const { wanted } = subject();
  return { launch: { spec: { ...structuredClone(wanted.launch), ...fields } as never } };
}

const end = (reason: Parameters<typeof someEnd>[0], fields: object = {}): Given => ({
  ...ABSENT,
  record: { end: someEnd(reason, fields) },
});

type Rows = readonly (readonly [sentence: string, given: Given])[];
function sentences(name: string, rows: Rows): void {
  describe(name, () => {
    test.each(rows)('%s', (sentence, given) => {
      expect(decide(subject(given)).message).toBe(sentence);
    });
  });
}

sentences('stopping', [
  ['powerState is PoweredOff: asking the guest to power down', { spec: { powerState: 'PoweredOff' } }],
  ['powerState is ForcedOff', { spec: { powerState: 'ForcedOff' } }],
  [
    'powerState is PoweredOff: the guest is powering down, QEMU quits at 2026-01-05T12:00:30Z',
    { spec: { powerState: 'PoweredOff' }, stop: { powerdownAt: NOON, at: NOON } },
  ],
  [
    'powerState is PoweredOff: the guest is powering down, QEMU waits for it',
    { spec: { powerState: 'PoweredOff', powerOff: { mode: 'Soft' } }, stop: { powerdownAt: NOON, at: NOON } },
  ],
  [
    'powerState is PoweredOff: the guest has ignored the power button since 2026-01-05T11:58:30Z and powerOff.mode is Soft; powerState: ForcedOff ends it',
    { spec: { powerState: 'PoweredOff', powerOff: { mode: 'Soft' } }, stop: { powerdownAt: NOON, at: NOON - 90_000 } },
  ],
  [
    'powerState is PoweredOff: the grace period is over, QEMU quits',
    { spec: { powerState: 'PoweredOff' }, stop: { powerdownAt: NOON, at: NOON - 90_000 } },
  ],
  ['powerState is ForcedOff: QEMU is ending', { spec: { powerState: 'ForcedOff' }, stop: { quitAt: NOON } }],
  [
    'powerState is ForcedOff: SIGTERM, since QEMU did not quit',
    { spec: { powerState: 'ForcedOff' }, stop: { quitAt: NOON - 5_000 } },
  ],
  ['powerState is ForcedOff: QEMU is ending', { spec: { powerState: 'ForcedOff' }, stop: { terminateAt: NOON } }],
  [
    'powerState is ForcedOff: SIGKILL, since SIGTERM did not end QEMU',
    { spec: { powerState: 'ForcedOff' }, stop: { terminateAt: NOON - 5_000 } },
  ],
  [
    'powerState is ForcedOff: SIGTERM, since the monitor does not answer',
    { spec: { powerState: 'ForcedOff' }, process: 'silent' },
  ],
  ['restarting as requested (restartedAt b): asking the guest to power down', { spec: { restartedAt: 'b' } }],
  ['restarting as requested (restartedAt removed): asking the guest to power down', { record: { nonce: 'a' } }],
  [
    'restarting for the change of spec.vcpus (updateStrategy Restart): asking the guest to power down',
    { ...launchedWith({ vcpus: 1 }), spec: { updateStrategy: { type: 'Restart' } } },
  ],
]);

sentences('off and ended', [
  ['the VM is stopped, as powerState wants', { ...ABSENT, spec: { powerState: 'PoweredOff' } }],
  [
    'the VM is stopped, as powerState wants; disk data is made from its image when it is switched on',
    {
      ...ABSENT,
      spec: {
        powerState: 'PoweredOff',
        disks: [
          { name: 'root', size: '1Gi' },
          { name: 'data', image: { url: 'https://images.example/a' } },
        ],
      },
    },
  ],
  ['noting that the VM is switched off', { ...end('Crashed'), spec: { powerState: 'PoweredOff' } }],
  [
    'GuestPoweredOff as noted; restartPolicy leaves it off',
    { ...end('GuestPoweredOff'), spec: { restartPolicy: 'OnFailure' } },
  ],
  [
    'Signaled as noted; restartPolicy Never leaves it off: start it, or change the policy',
    { ...end('Signaled'), spec: { restartPolicy: 'Never' } },
  ],
  ['stopped as requested', { process: GONE, stop: { reason: 'StoppedByRequest' } }],
  ['stopped because the host was shutting down', { process: GONE, stop: { reason: 'HostShutdown' } }],
  [
    'the guest kernel panicked; the paused VM was ended to start it again',
    { process: GONE, stop: { reason: 'GuestPanicked' } },
  ],
  [
    'QEMU met an internal error; the VM was ended to start it again',
    { process: GONE, stop: { reason: 'InternalError' } },
  ],
  ['QEMU ended without cleaning up; its log is empty', { process: LEFT }],
  [
    'QEMU ended without cleaning up; its log ends with: qemu: out of memory',
    { process: LEFT, folder: { logTail: 'one\nqemu: out of memory\n' } },
  ],
  ['the host was rebooted while the VM ran', { process: LEFT, seen: { bootID: 'boot-2' } }],
  [
    'QEMU was ended from outside: qemu: terminating on signal 15 from pid 1',
    { process: GONE, folder: { logTail: 'qemu: terminating on signal 15 from pid 1\n' } },
  ],
  [
    'somebody ended QEMU through its monitor, not this controller',
    { process: GONE, seen: { heard: 'StoppedExternally' } },
  ],
  ['the guest powered itself off', { process: GONE, seen: { heard: 'GuestPoweredOff' } }],
  ['the guest powered itself off (or a monitor command that nobody heard ended QEMU)', { process: GONE }],
]);

const again = { crashes: 2, at: NOON };
sentences('back-off', [
  ['QEMU crashed 2 times in a row; starts again at 2026-01-05T12:00:11Z', end('Crashed', again)],
  ['QEMU was killed 2 times in a row; starts again at 2026-01-05T12:00:11Z', end('Signaled', again)],
  ['the guest panicked 2 times in a row; starts again at 2026-01-05T12:00:11Z', end('GuestPanicked', again)],
  ['QEMU met an internal error 2 times in a row; starts again at 2026-01-05T12:00:11Z', end('InternalError', again)],
  [
    'QEMU was ended from outside 2 times in a row; starts again at 2026-01-05T12:00:11Z',
    end('StoppedExternally', again),
  ],
  ['ended by a host reboot 2 times in a row; starts again at 2026-01-05T12:00:11Z', end('HostRebooted', again)],
  [
    'the guest powered off 2 times in a row; starts again at 2026-01-05T12:00:11Z',
    { ...end('GuestPoweredOff', again), spec: { restartPolicy: 'Always' } },
  ],
]);

sentences('running, or nearly', [
  ['the guest is running', {}],
  [
    'the guest is running; 2 change(s) wait for a restart (updateStrategy OnRestart)',
    launchedWith({ vcpus: 1, memoryMiB: 1 }),
  ],
  ['QEMU (pid 77) runs, but its monitor does not answer; it is left alone', { process: 'silent' }],
  ['QEMU is about to run the guest', { process: 'starting' }],
  ['the guest is paused; resuming it, since powerState wants it on', { process: 'paused' }],
  ['the guest has shut down, QEMU is ending', { process: 'shutdown' }],
  ['the guest was paused by a disk error; resuming it', { process: 'io-error' }],
  [
    'the guest is paused by a disk error: the file system of disk root (/vms/web-1/root.qcow2) is full; it resumes by itself once there is space',
    { process: 'io-error', files: { [ROOT]: file({ freeBytes: 64 * 1024 * 1024 - 1 }) } },
  ],
  ['the guest panicked', { process: 'guest-panicked' }],
  [
    'the guest panicked and is paused for inspection; restartPolicy is Never: restart or stop it',
    { process: 'guest-panicked', spec: { restartPolicy: 'Never' } },
  ],
  ['QEMU met an internal error', { process: 'internal-error' }],
  [
    'QEMU met an internal error and paused the guest; restartPolicy is Never: restart or stop it',
    { process: 'internal-error', spec: { restartPolicy: 'Never' } },
  ],
]);
