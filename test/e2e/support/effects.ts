/** The effects on a host, told by what is sent to it. */
import { CANCEL_COPY, FINISH_COPY, START_COPY } from '../../../src/qemu/copy-job.ts';
import { LOCK_FILE } from '../../../src/qemu/effect-script.ts';
import * as scripts from '../../../src/qemu/scripts.ts';

/** A script that contains another one comes before it. */
const SCRIPTS: Readonly<Record<string, string>> = { START_COPY, FINISH_COPY, CANCEL_COPY, ...scripts };
const QMP_EFFECT = /"execute":"(quit|system_powerdown|cont|block_resize)"/;

/** The name of the effect that a script has; undefined: it only looks. */
export function effectOf(script: string): string | undefined {
  const name = Object.entries(SCRIPTS).find(([, body]) => script.includes(body))?.[0];
  if (name === undefined && script.includes(LOCK_FILE)) throw new Error('an effect that no script is known for');
  return name;
}

/** The QMP command with an effect in what is written to a monitor. */
export function qmpEffectOf(chunk: unknown): string | undefined {
  return QMP_EFFECT.exec(String(chunk))?.[1];
}
