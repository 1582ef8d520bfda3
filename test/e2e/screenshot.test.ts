/** What a real guest draws, against the picture that QEMU itself gives; and what an old QEMU would give. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { screenshot } from '../../src/streams/screenshot.ts';
import { CliRig, MAIN } from './support/cli-rig.ts';
import { qmp } from './support/oracle.ts';
import { decodePng, type Picture } from './support/png.ts';
import { testFolder } from './support/rig.ts';
import { testHost } from './support/stand-ins.ts';
import { until } from './support/wait.ts';

/** A cell of VGA's text mode. */
const CELL = { width: 9, height: 16 };

/** Cells of the text grid that are not all of one colour: characters. */
function charactersOn({ width, height, rgb }: Picture): number {
  let count = 0;
  for (let top = 0; top + CELL.height <= height; top += CELL.height) {
    for (let left = 0; left + CELL.width <= width; left += CELL.width) {
      const colours = new Set<string>();
      for (let y = top; y < top + CELL.height; y += 1)
        for (let x = left; x < left + CELL.width; x += 1)
          colours.add(rgb.subarray((y * width + x) * 3, (y * width + x) * 3 + 3).toString('hex'));
      if (colours.size > 1) count += 1;
    }
  }
  return count;
}

/** The picture as PPM, by a monitor command of the test's own. */
async function byQemu(folder: string, file: string): Promise<Picture> {
  await qmp(folder, 'screendump', { filename: file });
  const bytes = readFileSync(file);
  const [head = '', width, height] = /^P6\n(\d+) (\d+)\n255\n/.exec(bytes.subarray(0, 40).toString('latin1')) ?? [];
  return { width: Number(width), height: Number(height), rgb: bytes.subarray(head.length) };
}

test('a picture of the screen, pixel by pixel what QEMU has', async () => {
  const rig = new CliRig(onTestFinished);
  await rig.controller(onTestFinished);
  await rig.ok(['apply', '-f', rig.manifest('web', { graphics: { vnc: {} } }), '--wait']);
  const file = rig.path('web.png');
  // The firmware draws its text in its own time.
  const picture = await until(
    'the guest draws',
    async () => {
      await rig.ok(['screenshot', 'web', '-o', file]);
      return decodePng(readFileSync(file));
    },
    (seen) => seen.width === 720 && charactersOn(seen) > 40,
  );
  expect(execFileSync('file', [file], { encoding: 'utf8' })).toMatch(/PNG image data, 720 x 400/);
  expect(picture.height).toBe(400);
  const oracle = await byQemu(rig.folder('web'), rig.path('web.ppm'));
  expect([oracle.width, oracle.height]).toEqual([720, 400]);
  // The cursor blinks.
  const different = picture.rgb.filter((byte, i) => byte !== oracle.rgb[i]).length;
  expect(different).toBeLessThanOrEqual(CELL.width * CELL.height * 3);
  // Nothing is left in the folder.
  expect(readdirSync(rig.folder('web')).filter((name) => name.startsWith('.screenshot'))).toEqual([]);

  const piped = join(rig.root, 'piped.png');
  execFileSync('bash', ['-c', `"$1" "$2" screenshot web >"$3"`, 'bash', process.execPath, MAIN, piped], {
    env: rig.env,
  });
  expect(decodePng(readFileSync(piped)).width).toBe(720);

  const diary = rig.path('diary.txt');
  writeFileSync(diary, 'dear diary');
  expect(await rig.run(['screenshot', 'web', '-o', diary])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('exists and is no PNG picture: it is not overwritten'),
  });
  expect(readFileSync(diary, 'utf8')).toBe('dear diary');
  expect(await rig.run(['screenshot', 'web', '-o', rig.path('no', 'where.png')])).toMatchObject({ code: 1 });
  await rig.ok(['stop', 'web', '--force']);
  expect(await rig.run(['screenshot', 'web', '-o', file])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('web has no screen now: it is not running (Stopped)'),
  });
  expect(decodePng(readFileSync(file)).width).toBe(720);
});

test('a machine without a screen says how to get one', async () => {
  const rig = new CliRig(onTestFinished);
  await rig.controller(onTestFinished);
  await rig.ok(['apply', '-f', rig.manifest('web'), '--wait']);
  const none = await rig.run(['screenshot', 'web', '-o', rig.path('web.png')]);
  expect(none).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/web has no screen: spec.graphics: \{vnc: \{\}\}/),
  });
  expect(existsSync(rig.path('web.png'))).toBe(false);
  await rig.ok(['patch', 'qvm', 'web', '-p', 'spec: {graphics: {vnc: {}}}', '--wait']);
  const waits = await rig.run(['screenshot', 'web', '-o', rig.path('web.png')]);
  expect(waits.stderr).toContain('web has no screen: it gets one at its next restart');
});

test('a QEMU that draws no PNG: its PPM becomes one; the file is for its owner alone', async () => {
  const folder = testFolder(onTestFinished);
  const pixels = Buffer.from([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
  const modes: string[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      for (const line of chunk.toString().trim().split('\n')) {
        const {
          id,
          execute,
          arguments: args = {},
        } = JSON.parse(line) as {
          id: number;
          execute: string;
          arguments?: { format?: string; filename?: string };
        };
        const refused = execute === 'screendump' && args.format !== undefined;
        if (args.filename !== undefined) modes.push((statSync(args.filename).mode & 0o777).toString(8));
        if (args.filename !== undefined && !refused)
          writeFileSync(args.filename, Buffer.concat([Buffer.from('P6\n3 2\n255\n'), pixels]));
        const error = { class: 'GenericError', desc: "Parameter 'format' is unexpected" };
        socket.write(`${JSON.stringify(refused ? { id, error } : { id, return: {} })}\n`);
      }
    });
  });
  mkdirSync(folder, { recursive: true });
  await new Promise<void>((resolve) => server.listen(join(folder, 'qmp-user.sock'), resolve));
  onTestFinished(() => void server.close());
  const shell = testHost();
  onTestFinished(() => shell.close());
  const png = await screenshot(shell, folder, new AbortController().signal);
  expect(decodePng(png)).toEqual({ width: 3, height: 2, rgb: pixels });
  expect(modes).toEqual(['600', '600']);
  expect(readdirSync(folder)).toEqual(['qmp-user.sock']);
});
