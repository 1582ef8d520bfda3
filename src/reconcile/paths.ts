/** Which paths of a host a VM may have: inside allowedPaths, nobody else's, none of our own. */
import { FOLDER_FILES, MARKER_FILE } from '../api/effective-spec.ts';
import type { Decision, Subject } from './decision.ts';
import { blocked } from './decision.ts';

/** Names of the files that we keep in VM folders and vmDirs. */
export const OWN_FILES: ReadonlySet<string> = new Set<string>([...Object.values(FOLDER_FILES), MARKER_FILE]);
/** What we keep beside the VM folders of a vmDir. */
const OWN_PREFIX = '.qemu-operator.';

export function inside(path: string, folder: string): boolean {
  return folder === '/' || path === folder || path.startsWith(`${folder}/`);
}

/** allowedPaths as the host resolves them; absent = the vmDir. */
function allowedRoots({ host, seen, wanted }: Subject): string[] {
  const roots = host.spec.allowedPaths ?? [host.spec.vmDir];
  return [...roots, wanted.folder].map((root) => seen.files.get(root)?.resolved ?? root);
}

/** What forbids a VM this path; undefined where it may have it. */
export function pathProblem(subject: Subject, path: string, what: string): Decision | undefined {
  const { seen, host } = subject;
  const resolved = seen.files.get(path)?.resolved ?? path;
  const through = resolved === path ? path : `${path} (really ${resolved})`;
  const roots = allowedRoots(subject);
  if (!roots.some((root) => inside(resolved, root))) {
    const allowed = (host.spec.allowedPaths ?? [host.spec.vmDir]).join(', ');
    return blocked('PathNotAllowed', `${what}: ${through} lies outside the host's allowedPaths (${allowed})`);
  }
  const parts = resolved.split('/');
  if (OWN_FILES.has(parts.at(-1) ?? '') || parts.some((part) => part.startsWith(OWN_PREFIX))) {
    return blocked('PathNotAllowed', `${what}: ${through} has the name of a file that qemu-operator keeps for itself`);
  }
  const foreign = seen.otherFolderWith(resolved);
  if (foreign !== undefined)
    return blocked('PathNotAllowed', `${what}: ${through} lies in another VM's folder, ${foreign}`);
  const owner = seen.ownerOf(resolved);
  if (owner !== undefined) return blocked('DiskInUse', `${what}: ${through} is a disk of VM ${owner}`);
  return undefined;
}
