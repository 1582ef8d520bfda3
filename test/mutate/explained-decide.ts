/** Survivors of decide. */
import { explain } from './explanation.ts';

const DECISION = explain('src/reconcile/decide.ts', [
  ['const process = subject.seen.folder?.process', 'Never used: a VM that has a record has a folder.'],
  ['const process = seen.folder?.process', 'Never absent: a VM that has a record has a folder.'],
  ["if (process?.kind === 'present')", 'Never absent: a VM that has a record has a folder.', 'process?.kind'],
]);

const HOST = explain('src/reconcile/decide-host.ts', [
  [
    'if (hostUID === host.metadata.uid && subject.epoch',
    'Equivalent: no number is greater than undefined.',
    'subject.epoch !== undefined',
    'true',
  ],
  [
    'if (hostUID === host.metadata.uid && subject.epoch',
    'Equivalent: the same epoch was answered on the line above.',
    'epoch > subject.epoch',
    'epoch >= subject.epoch',
  ],
]);

const POWER = explain('src/reconcile/power.ts', [
  ['const process = subject.seen.folder?.process', 'Never absent: a VM that has a record has a folder.'],
  ['const cameUp =', 'Equivalent: it is asked where no process is present, and a VM that has a record has a folder.'],
  ["if (end?.reason === 'GuestPoweredOff')", 'Never absent: without an end nothing stays off.', 'end?.reason'],
  ["end?.reason ?? 'InternalError'", 'Never absent: without an end nothing stays off.'],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the mutated source's own text
  ["`${end?.message ?? 'ended'}", 'Never absent: without an end nothing stays off.'],
  ['? `starting again after', 'Never absent: byPolicy says that there is an end.'],
  [': `starting QEMU', 'Never absent: without QEMU of the architecture nothing is launched.'],
  ['const pending = record.launch === undefined', 'Equivalent: it is asked of launched processes alone.'],
  ["case 'running':", 'Equivalent: undefined is what the function returns in any case.'],
  ["case 'not-asked':", 'Equivalent: undefined is what the function returns in any case.'],
  ["case 'silent':", 'Equivalent: undefined is what the function returns in any case.'],
  [
    "if (file?.kind === 'present' && file.freeBytes !== undefined",
    'Equivalent: nothing is less than undefined, and an absent file has no free space.',
  ],
]);

const STOP = explain('src/reconcile/stop.ts', [
  ['const step =', 'Never used: every call with another reason says it.', "''"],
  ['const marker = folder?.stop', 'Never absent: a process was seen in the folder.', 'folder?.stop'],
]);

const ENDS = explain('src/reconcile/ends.ts', [
  ['return word !== undefined', 'Equivalent: no end has the name undefined.', 'word !== undefined', 'true'],
  ['const stop = folder?.stop', 'Never absent: the launch was read from the folder.'],
  ['const log =', 'Never absent: the launch was read from the folder.'],
  [
    "if (folder?.process.kind === 'absent'",
    'Equivalent: it is asked where no process is present, and the launch was read from the folder.',
  ],
  ["return oneLine(log.trimEnd().split('\\n')", 'Never used: a split text has a last part.'],
  ["StoppedByRequest: 'stopped'", 'Never used: this end is followed by no back-off.'],
  ['HostShutdown:', 'Never used: this end is followed by no back-off.'],
]);

const STORAGE = explain('src/reconcile/storage.ts', [
  [
    '.reduce((longest, name)',
    'Equivalent: no two names are the longest.',
    'name.length > longest.length',
    'name.length >= longest.length',
  ],
  // biome-ignore lint/suspicious/noTemplateCurlyInString: the mutated source's own text
  ['`cdrom ${name}: ${path} boots', 'Never used: an image that boots both architectures boots this one.', "' and '"],
  ['if (grown !== undefined', 'Equivalent: nothing is less than undefined.'],
  ['if (sizeBytes === undefined || bytes', 'Equivalent: nothing is less than undefined.', 'bytes === undefined'],
  ['const virtual =', 'Equivalent: an absent file has no size, and one that is noted was looked at.'],
  [
    'if (disk.sizeBytes !== undefined && virtual !== undefined',
    'Equivalent: nothing is less than undefined, and a raw disk that is too small was refused before.',
  ],
  [
    'if (disk.image !== undefined && awaitsImage',
    'Equivalent: nothing is awaited without an image.',
    'disk.image !== undefined',
    'true',
  ],
  ['const launched =', 'Never absent: it is asked of launched processes alone.'],
  ['if (!launched.has(disk.name)', 'Equivalent: nothing is less than undefined.'],
]);

const READINESS = explain('src/reconcile/readiness.ts', [
  ['if (maxVcpus !== undefined', 'Equivalent: nothing is greater than undefined.', 'maxVcpus !== undefined', 'true'],
]);

export const DECIDE = [...DECISION, ...HOST, ...POWER, ...STOP, ...ENDS, ...STORAGE, ...READINESS];
