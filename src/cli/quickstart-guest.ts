/** The sample Linux that quickstart runs: the image of its disk, built once for this user, and its manifest. */
import { existsSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { type Manifest, parseManifest } from '../api/admission.ts';
import type { Host } from '../api/host.ts';
import { API_VERSION, LABELS } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { inside } from '../reconcile/paths.ts';
import type { Context } from './context.ts';
import { readManifests, type Written } from './documents.ts';
import { CliError, EXIT } from './exit-codes.ts';

const SAMPLE = join(import.meta.dirname, '..', 'sample');

/** Path of the cached image. What takes the time is told on stderr. @throws CliError with what is missing */
export async function guestImage({ runProgram, signal }: Context): Promise<string> {
  const script = join(SAMPLE, 'build-linux-guest.sh');
  const { code, stdout } = await runProgram('/bin/sh', [script], { as: 'progress', signal });
  const image = stdout.trimEnd().split('\n').at(-1) ?? '';
  if (code === 0 && image !== '') return realpathSync(image);
  throw new CliError(
    EXIT.failed,
    'the sample Linux disk could not be built, see above. All that quickstart needs on Debian: ' +
      'sudo apt-get install --no-install-recommends qemu-system-x86 qemu-utils mtools syslinux',
  );
}

/** Before anything is made that would then wait for a person. @throws CliError */
export function requireAllowed({ metadata, spec }: Host, image: string): void {
  const roots = spec.allowedPaths ?? [spec.vmDir];
  if (roots.some((root) => inside(image, existsSync(root) ? realpathSync(root) : root))) return;
  throw new CliError(
    EXIT.failed,
    `the sample disk ${image} lies outside the allowedPaths of Host ${metadata.name} (${roots.join(', ')}): ` +
      `add its folder to spec.allowedPaths with "edit qhost ${metadata.name}", or set XDG_CACHE_HOME to an allowed folder`,
  );
}

export function isSample({ metadata }: VirtualMachine): boolean {
  return metadata.labels?.[LABELS.sample] !== undefined;
}

/** The sample's manifest, whose disk is made from this image. */
export async function sampleMachine(context: Context, image: string): Promise<Pick<Written, 'manifest' | 'spec'>> {
  const places = { filenames: [join(SAMPLE, 'linux.yaml')], recursive: false, stdin: context.stdin };
  const [sample] = await readManifests(places, undefined);
  if (sample === undefined) throw new CliError(EXIT.failed, `${places.filenames[0]} holds no manifest`);
  const { kind, metadata } = sample.manifest;
  const disks = (sample.spec['disks'] as readonly object[]).map((disk) => ({ ...disk, image: { path: image } }));
  const spec = { ...sample.spec, disks };
  return { manifest: parseManifest({ apiVersion: API_VERSION, kind, metadata, spec }) as Manifest, spec };
}
