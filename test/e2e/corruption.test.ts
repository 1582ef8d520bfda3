/** Records and markers of running VMs are damaged: QEMU runs on, the file is named, and mended it counts again. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Damage, damages } from '../proof/damage.ts';
import { holds } from '../proof/known-seeds.ts';
import { isAlive, qemusBelow } from './support/process.ts';
import { Rig, readyOf } from './support/rig.ts';
import { until } from './support/wait.ts';

const RUNS = 20;
const MINUTE = 60_000;
const FILE = '.qemu-operator.json';

/** Whether the host's own figures are all that differs: they are seen on the host as well. */
function isHarmless(text: string, was: string): boolean {
  const rest = (line: string) =>
    JSON.stringify(
      JSON.parse(line, (name, value) => (/^(checksum|at|pid|startTicks|session)$/.test(name) ? undefined : value)),
    );
  try {
    return rest(text) === rest(was);
  } catch {
    return false;
  }
}

test('damage of what lies on the host', { timeout: 10 * MINUTE }, async ({ onTestFinished }) => {
  const rig = await Rig.start(onTestFinished);
  await rig.create('web-1', { restartPolicy: 'Always' });
  await rig.create('web-2', { restartPolicy: 'Always' });
  const pids = [await rig.untilRunning('web-1'), await rig.untilRunning('web-2')];
  const another = join(rig.folder('web-2'), FILE);

  const meet = async (path: string, { apply }: Damage) => {
    const was = readFileSync(path, 'utf8');
    const text = apply(was.trimEnd(), readFileSync(another, 'utf8').trimEnd());
    writeFileSync(path, `${text}\n`);
    await rig.anotherLook();
    if (text !== was.trimEnd() && !isHarmless(text, was)) {
      // A record is named by its folder, a marker by its path.
      const named = path.startsWith(`${rig.folder('web-1')}/`) ? rig.folder('web-1') : path;
      await until(
        `${path} is named`,
        () => rig.vm('web-1'),
        (vm) => readyOf(vm)?.message.includes(named) === true,
      );
    }
    expect([pids.every(isAlive), qemusBelow(rig.root).sort()]).toEqual([true, [...pids].sort()]);
    writeFileSync(path, was);
    await rig.anotherLook();
    expect([await rig.untilRunning('web-1'), await rig.untilRunning('web-2')]).toEqual(pids);
  };
  const files = fc.constantFrom(join(rig.folder('web-1'), FILE), join(rig.vmDir, FILE));
  const property = fc.asyncProperty(files, damages, meet);
  await holds('damage on real QEMU', property, RUNS);
});
