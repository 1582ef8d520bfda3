/** Images that QEMU knows by their first bytes and that are no disk here: taken for raw, they would be lost. Source: QEMU's block drivers. */

const MAGICS: readonly (readonly [name: string, at: number, bytes: string])[] = [
  ['vmdk', 0, 'KDMV'],
  ['vmdk', 0, 'COWD'],
  ['vmdk', 0, '# Disk DescriptorFile'],
  ['vhdx', 0, 'vhdxfile'],
  ['vpc', 0, 'conectix'],
  ['vdi', 0x40, '\x7f\x10\xda\xbe'],
  ['qed', 0, 'QED\0'],
  ['luks', 0, 'LUKS\xba\xbe'],
  ['parallels', 0, 'WithoutFreeSpace'],
  ['parallels', 0, 'WithouFreSpacExt'],
  ['dmg', 0, 'koly'],
];

/** @param head the first KiB of the file */
export function foreignFormat(head: Buffer): string | undefined {
  const text = head.toString('latin1');
  return MAGICS.find(([, at, bytes]) => text.startsWith(bytes, at))?.[0];
}
