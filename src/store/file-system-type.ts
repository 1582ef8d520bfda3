/** SQLite's locks and its shared memory do not work over a network: two machines would write at once and lose data. */
import { statfsSync } from 'node:fs';

/** The magic numbers of statfs(2). FUSE and 9p are left out: they are as often a local disk of a container or a VM. */
const NETWORK_FILE_SYSTEMS: ReadonlyMap<number, string> = new Map([
  [0x6969, 'NFS'],
  [0x517b, 'SMB'],
  [0xff534d42, 'CIFS'],
  [0xfe534d42, 'SMB2'],
  [0x5346414f, 'AFS'],
  [0x6b414653, 'AFS'],
  [0x73757245, 'Coda'],
  [0x00c36400, 'Ceph'],
  [0x0bd00bd0, 'Lustre'],
  [0x47504653, 'GPFS'],
]);

/** The name of the network file system on which the folder lies; undefined for a local one. */
export function networkFileSystem(type: number): string | undefined {
  return NETWORK_FILE_SYSTEMS.get(type);
}

/** As statfs(2) tells it; the numbers mean what they say on Linux only. */
export function fileSystemType(path: string): number {
  return process.platform === 'linux' ? statfsSync(path).type : 0;
}
