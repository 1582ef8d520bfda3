/** Why a foreseen change has its effect, in English. */
import type { Caveat, ProcessFate, Why } from '../api/foreseen.ts';

export const whysEn: Readonly<Record<Why, (detail: string) => string>> = {
  'new-object': () => 'the object is new',
  'object-goes': () => 'the object goes once its process and its files are gone',
  'disk-goes': () => 'the file is deleted with the VM',
  'disk-stays': () => 'the file is kept',
  'host-assigned': (host) => `the VM is made on Host ${host}`,
  'restarts-now': () => 'needs another QEMU process: the VM is restarted at once',
  'waits-for-restart': () => 'needs another QEMU process: waits for the next restart (updateStrategy OnRestart)',
  'process-has-it': () => 'the running QEMU process has this value already',
  'no-process': () => 'used when the VM next starts',
  'no-other-process': () => 'in force without another QEMU process',
  'secrets-compared': () => 'the next look compares the values: another one needs another QEMU process',
  'disk-grows-live': () => 'the disk grows while the guest runs',
  'disk-grows': () => 'the disk grows at once',
  'disk-is-large-enough': () => 'the disk has at least this size already',
  'disk-not-made-yet': () => 'used when the disk is made or first looked at',
  'raw-by-hand': (command) => `a raw disk is grown by hand; with the VM stopped: ${command}`,
  'cannot-shrink': (size) => `a disk never shrinks; it has ${size}`,
  starts: () => 'the VM is started',
  'on-already': () => 'the VM is on already',
  stops: () => 'the VM is stopped as spec.powerOff says',
  'off-already': () => 'the VM has no process already',
  'restart-asked': () => 'asks for one restart: the VM is restarted at once',
  'next-end': () => 'used when the QEMU process next ends by itself',
  'next-stop': () => 'used when the VM is next stopped',
  'next-change': () => 'used for the next change that needs another QEMU process',
  'at-deletion': () => 'used when the VM is deleted',
  metadata: () => 'kept with the object; the QEMU process is not touched',
  'next-look': () => 'used from the next look on',
  'not-admitted': (words) => words,
};

export const caveatsEn: Readonly<Record<Caveat, string>> = {
  paused: 'an annotation pauses the VM or its Host: nothing happens until it is removed',
  stalled: 'the VM waits for a person now: describe says why; what is foreseen happens once that is mended',
  'not-seen-since-last-change': 'an earlier change has not been looked at yet: what is foreseen rests on an older look',
  'host-unreachable': 'the host cannot be reached: nothing happens until it can',
  'host-unknown': 'spec.hostName names no Host that exists: nothing happens until it does',
};

export const fatesEn: Readonly<Record<ProcessFate, string>> = {
  none: 'stays absent',
  kept: 'is kept',
  started: 'is started',
  stopped: 'is stopped',
  restarted: 'is restarted',
};
