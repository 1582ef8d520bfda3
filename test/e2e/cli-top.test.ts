/** top on real machines: one that burns its CPU and one that halts; /proc says what they use. */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { CliRig, MAIN } from './support/cli-rig.ts';
import { qemusBelow } from './support/process.ts';
import { until } from './support/wait.ts';

const SECTOR = 512;

/** A guest that runs in a circle: `jmp $`. */
function writeBurner(path: string): string {
  const disk = Buffer.alloc(1_048_576);
  disk.set([0xeb, 0xfe]);
  disk.set([0x55, 0xaa], SECTOR - 2);
  writeFileSync(path, disk);
  return path;
}

const rssKiB = (pid: number) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);

/** proc(5): utime. */
function cpuTicks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[11]);
}

async function twoMachines(): Promise<CliRig> {
  const rig = new CliRig(onTestFinished);
  await rig.controller(onTestFinished);
  const disks = [{ name: 'root', format: 'raw', path: writeBurner(rig.path('images', 'circle.raw')) }];
  await rig.ok([
    'apply',
    '-f',
    rig.manifest('quiet'),
    '-f',
    rig.manifest('burner', { disks, memory: '48Mi' }),
    '--wait',
  ]);
  // Past its firmware.
  const [pid = 0] = qemusBelow(rig.folder('burner'));
  await until(
    'it burns',
    () => cpuTicks(pid),
    (ticks) => ticks > 150,
  );
  return rig;
}

/** The cells of each machine's row, by column. */
function tableOf(text: string): Record<string, string>[] {
  const [header = '', ...rows] = text.split('\n\n')[0]?.trimEnd().split('\n') ?? [];
  const names = header.split(/ {2,}/);
  return rows.map((row) => Object.fromEntries(row.split(/ {2,}/).map((cell, i) => [names[i], cell])));
}

test('the busiest first, with true figures; nothing is left behind', async () => {
  const rig = await twoMachines();
  const { stdout, stderr } = await rig.ok(['top']);
  expect(stderr).toBe('');
  const [first, second] = tableOf(stdout);
  expect([first?.['NAME'], second?.['NAME']]).toEqual(['burner', 'quiet']);
  expect(Number.parseInt(first?.['CPU(cores)'] ?? '', 10)).toBeGreaterThan(100);
  expect(Number.parseInt(second?.['CPU(cores)'] ?? '', 10)).toBeLessThan(
    Number.parseInt(first?.['CPU(cores)'] ?? '', 10),
  );
  expect(first?.['AGE']).toMatch(/^\d+s$/);
  // Neither has a network.
  expect(first).toMatchObject({ 'NET RX': '-', 'NET TX': '-', 'DISK READ': expect.stringMatching(/B\/s$/) });
  const [pid = 0] = qemusBelow(rig.folder('burner'));
  const shownMiB = Number.parseInt(first?.['MEMORY(bytes)'] ?? '', 10);
  expect(Math.abs(shownMiB - rssKiB(pid) / 1024)).toBeLessThan(8);
  expect(stdout).toMatch(
    /\nHOST +MACHINES +CPU\(cores\) +CPU% +MEMORY\(bytes\) +MEMORY%\nlocalhost +2 +\d+m +\d+% +\d+Mi +\d+%\n$/,
  );
  expect((await rig.run(['get', 'qmon'])).stdout).toBe('');

  expect(tableOf((await rig.ok(['top', '--sort-by', 'name'])).stdout).map((row) => row['NAME'])).toEqual([
    'burner',
    'quiet',
  ]);
  expect(tableOf((await rig.ok(['top', 'quiet', '-n', 'default'])).stdout)).toHaveLength(1);
  expect((await rig.ok(['top', '-A'])).stdout).toMatch(/^NAMESPACE +NAME/);
  expect(await rig.run(['top', 'nobody'])).toMatchObject({ code: 3 });
  expect(await rig.run(['top', '--sort-by', 'luck'])).toMatchObject({ code: 2 });

  const lines = rig.start(['top', '-w']);
  await lines.says(/(burner [\s\S]*){3}/);
  const ended = await lines.stop('SIGINT');
  expect(ended.code).toBe(130);
  expect(ended.stdout.match(/NAME/g)).toHaveLength(1);
  expect(ended.stdout).not.toContain('\u001b');
  await until(
    'monitors are taken back',
    async () => (await rig.run(['get', 'qmon'])).stdout,
    (text) => text === '',
  );
});

test('without a controller: what was last seen, its age, and a warning; none runs: it says so', async () => {
  const rig = new CliRig(onTestFinished);
  const controller = await rig.controller(onTestFinished);
  expect(await rig.ok(['top'])).toMatchObject({
    stdout: '',
    stderr: 'No virtual machine runs in default namespace.\n',
  });
  await rig.ok(['apply', '-f', rig.manifest('quiet'), '--wait']);
  await controller.stop();
  const { stdout, stderr } = await rig.ok(['top']);
  expect(stderr).toContain('no controller runs on this store: this is what was last seen');
  expect(tableOf(stdout)).toMatchObject([{ NAME: 'quiet' }]);
  expect((await rig.run(['get', 'qmon'])).stdout).toBe('');
});

test.each([
  ['q', 'q'],
  ['Ctrl-C', '\u0003'],
])('on a terminal it is drawn in place until %s, and the terminal is as before', async (_name, key) => {
  const rig = await twoMachines();
  // A terminal by util-linux' script; stty tells how it was left.
  const command = `stty rows 30 cols 120; "${process.execPath}" "${MAIN}" top -w; echo "code=$?"; stty -a`;
  const child = spawn('script', ['-qec', command, '/dev/null'], { env: { ...rig.env, TERM: 'xterm' }, cwd: rig.root });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  const closed = new Promise((resolve) => child.on('close', resolve));
  await until(
    'it is drawn three times',
    () => text,
    (seen) => seen.split('\u001b[H').length > 3 && /burner +\d+m/.test(seen),
  );
  child.stdin.write(key);
  await closed;
  expect(text).toContain('\u001b[?1049h');
  const after = text.slice(text.lastIndexOf('\u001b[?25h\u001b[?1049l'));
  expect(after).toContain('code=0');
  expect(after).toMatch(/ icanon /);
  expect(after).toMatch(/ echo /);
  expect((await rig.run(['get', 'qmon'])).stdout).toBe('');
});
