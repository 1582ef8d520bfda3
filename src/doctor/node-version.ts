/** Which Node runs us, and whether it may. bin.js says the same to a Node that cannot read this file. */
import { type Check, ok, problem } from './check.ts';

const NEEDED = [22, 19] as const;

/** @param version as in process.versions.node */
export function nodeCheck(version: string): Check {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const enough = major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1]);
  return enough
    ? ok('node', `Node ${version}`)
    : problem('node', `Node ${version} is too old: ${NEEDED.join('.')} or later is needed`, 'https://nodejs.org');
}
