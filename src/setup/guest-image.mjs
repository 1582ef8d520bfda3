/** The sample guest's disk, built ahead of its first use so that a person sees what takes the time. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { refreshPackageLists } from './prerequisites.mjs';

function build(root) {
  const script = join(root, 'src', 'sample', 'build-linux-guest.sh');
  return spawnSync(script, [], { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' });
}

/**
 * Builds the disk unless the cache has it. apt's lists may be absent or older than its mirror: then they are fetched
 * once. Returns undefined, or a sentence that says what failed.
 */
export function buildGuestImage(root, say) {
  say('Looking for the sample Linux disk, building it when it is not cached');
  let done = build(root);
  if (done.status !== 0) {
    const refused = refreshPackageLists(say);
    if (refused !== undefined) return `${done.stderr || done.error}\n${refused}`;
    done = build(root);
  }
  return done.status === 0 ? undefined : String(done.stderr || done.error);
}
