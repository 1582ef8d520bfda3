/**
 * `npm run bench`: how fast the product is on this machine, each figure beside what was promised.
 *
 *   npm run bench                      all of one box and of SSH; writes docs/performance.md and, with --json FILE, the figures
 *   npm run bench -- --cluster         all of a Kubernetes API server, which is built first where it is not yet; writes
 *                                      docs/performance-cluster.md
 *   npm run bench -- --check           exits 1 where a bound is broken
 *   npm run bench -- --only NAME,NAME  some of it, by the names below; writes no page
 *   npm run bench -- --rounds N        pairs per ratio, default 15
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { benchClusterRest, benchDensity, benchHandOver } from './density.ts';
import { type Finding, verdictOf } from './figures.ts';
import { benchLaunch } from './launch.ts';
import { describeMachine, loadNow } from './machine.ts';
import { benchLook, benchSample } from './many.ts';
import { benchMemory } from './memory.ts';
import { Place } from './place.ts';
import { clusterPageOf, lineOf, pageOf } from './report.ts';
import { benchList, benchScale } from './scale.ts';
import { benchSshCreate, benchSshHosts, benchSshInventory, benchSshKill, benchSshLook, benchSshSample } from './ssh.ts';
import { benchGet, benchMcp } from './start-up.ts';
import { benchIdle, benchKill } from './status.ts';

const BENCHES: Readonly<Record<string, (place: Place) => Promise<Finding[]>>> = {
  launch: benchLaunch,
  look: benchLook,
  sample: benchSample,
  kill: benchKill,
  mcp: benchMcp,
  get: benchGet,
  idle: benchIdle,
  memory: benchMemory,
  'ssh-inventory': benchSshInventory,
  'ssh-look': benchSshLook,
  'ssh-sample': benchSshSample,
  'ssh-kill': benchSshKill,
  'ssh-create': benchSshCreate,
  'ssh-hosts': benchSshHosts,
  density: benchDensity,
  'cluster-rest': benchClusterRest,
  'hand-over': benchHandOver,
  scale: (place) => benchScale(place),
  list: (place) => benchList(place),
};
/** These share their machines; what comes after them has the host to itself again. */
const SHARED: readonly (readonly string[])[] = [
  ['launch'],
  ['look', 'sample'],
  ['kill'],
  ['mcp'],
  ['get'],
  ['idle'],
  ['memory'],
  ['ssh-inventory'],
  ['ssh-look', 'ssh-sample'],
  ['ssh-kill'],
  ['ssh-create'],
  ['ssh-hosts'],
];
/** On an API server of their own. */
const ON_A_CLUSTER: typeof SHARED = [
  ['density', 'cluster-rest', 'hand-over'],
  ['scale', 'list'],
];
const DOCS = join(import.meta.dirname, '..', '..', 'docs');

const { values } = parseArgs({
  options: {
    check: { type: 'boolean', default: false },
    cluster: { type: 'boolean', default: false },
    only: { type: 'string' },
    rounds: { type: 'string', default: '15' },
    json: { type: 'string' },
  },
});
const only = values.only?.split(',');
const unknown = only?.filter((name) => !(name in BENCHES)) ?? [];
if (unknown.length > 0) {
  console.error(`no bench is named ${unknown.join(', ')}; there are ${Object.keys(BENCHES).join(', ')}`);
  process.exit(2);
}

let place: Place | undefined;
for (const [name, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  process.once(name, () => void place?.end().finally(() => process.exit(code)));
}

async function runGroup(names: readonly string[]): Promise<Finding[]> {
  const findings: Finding[] = [];
  place = new Place(Number(values.rounds));
  try {
    for (const name of names) {
      const found = (await BENCHES[name]?.(place)) ?? [];
      for (const finding of found) console.log(lineOf(finding));
      findings.push(...found);
    }
  } finally {
    await place.end();
  }
  return findings;
}

const before = loadNow();
const findings: Finding[] = [];
const parts = values.cluster ? ON_A_CLUSTER : SHARED;
for (const names of only === undefined ? parts : [...SHARED, ...ON_A_CLUSTER]) {
  const chosen = names.filter((name) => only === undefined || only.includes(name));
  if (chosen.length > 0) findings.push(...(await runGroup(chosen)));
}
const machine = describeMachine([before, loadNow()]);
const results = { date: new Date().toISOString().slice(0, 10), machine, findings };
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, undefined, 2)}\n`);
if (only === undefined && values.cluster) writeFileSync(join(DOCS, 'performance-cluster.md'), clusterPageOf(results));
else if (only === undefined) writeFileSync(join(DOCS, 'performance.md'), pageOf(results));
const broken = findings.filter((finding) => verdictOf(finding) === 'broken');
console.log(`${findings.length} figures, ${broken.length} beyond their bound; load average ${machine.load}`);
process.exit(values.check && broken.length > 0 ? 1 : 0);
