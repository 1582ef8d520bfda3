/** What a monitor says last is heard, whatever else happens at that moment. The sockets and the process are real. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { LocalShell } from '../../src/host/local-shell.ts';
import { Monitors } from '../../src/qemu/monitors.ts';

const PID = 4711;

/** Plays QEMU: greets, answers `qmp_capabilities`; told to end, it says SHUTDOWN and is gone, what was asked unread. */
const QEMU = `
const server = require('node:net').createServer((socket) => {
  const say = (message) => socket.write(JSON.stringify(message) + '\\r\\n');
  say({ QMP: { version: {}, capabilities: [] } });
  socket.once('data', (line) => {
    say({ return: {}, id: JSON.parse(line).id });
    socket.pause();
  });
  process.stdin.once('data', () => {
    const end = { event: 'SHUTDOWN', data: { guest: false, reason: 'host-qmp-quit' }, timestamp: { seconds: 1, microseconds: 0 } };
    socket.write(JSON.stringify(end) + '\\r\\n', () => process.exit());
  });
});
server.listen(process.argv[1], () => console.log('listening'));
`;

/** One that listens, and the monitors that know it. */
async function start(onFinished: (end: () => void) => void) {
  const folder = mkdtempSync(join(tmpdir(), 'qo-monitors-'));
  const monitors = new Monitors(new LocalShell());
  const qemu = spawn(process.execPath, ['-e', QEMU, join(folder, 'qmp.sock')], { stdio: ['pipe', 'pipe', 'inherit'] });
  onFinished(() => {
    monitors.close();
    qemu.kill('SIGKILL');
    rmSync(folder, { recursive: true });
  });
  await once(createInterface(qemu.stdout), 'line');
  const client = await monitors.get(folder, PID);
  return { folder, monitors, qemu, client };
}

test('an end that falls between two questions is heard all the same', async ({ onTestFinished }) => {
  const { folder, monitors, qemu, client } = await start(onTestFinished);
  await expect.poll(() => client.busy).toBe(false);
  const gone = once(qemu, 'exit');
  const before = client.execute('query-block');
  qemu.stdin.write('end\n');
  // Nothing is read meanwhile: the next question meets a closed socket before the answer to the last is looked for.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
  const after = client.execute('query-status');
  const answers = await Promise.allSettled([before, after]);
  await gone;
  await monitors.heardOut(folder, PID);
  expect(answers.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(monitors.heardEnd(folder)).toBe('StoppedExternally');
});

test('a look that tells of an end first waits for what the monitor says of it', async ({ onTestFinished }) => {
  const { folder, monitors, qemu } = await start(onTestFinished);
  qemu.stdin.write('end\n');
  await monitors.heardOut(folder, PID);
  expect(monitors.heardEnd(folder)).toBe('StoppedExternally');
});
