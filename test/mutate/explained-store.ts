/** Survivors of store. */
import { explain } from './explanation.ts';

const FEED = explain('src/store/change-feed.ts', [
  ['const more =', 'Equivalent but for one more read, which finds nothing.'],
]);

const MERGE = explain('src/store/merge.ts', [
  [
    'if (!(key in after))',
    'Equivalent: a field that is declared again is then set as declared, on top of what is left of it.',
  ],
  ['} catch {', 'Equivalent: undefined is as false.'],
  [
    ".update(JSON.stringify(sorted(value)) ?? '')",
    'Equivalent: any text will do for what has none, as long as it is no JSON.',
  ],
  ['.sort(([a], [b])', 'Equivalent: keys are unique, and any order will do that is always the same.'],
  ["if (typeof value === 'object'", 'Equivalent: what is no object counts as frozen.'],
]);

const CACHE = explain('src/store/object-cache.ts', [
  ['return grown ?', 'Equivalent: keys are unique.', 'a < b', 'a <= b'],
  ["function keyOfRef({ namespace = ''", 'Equivalent: of one kind all objects have a namespace, or none has.'],
  [
    'return known.revision === revision',
    'Equivalent: the text holds the number, and the checksum is of the text.',
    'known.revision === revision',
    'true',
  ],
]);

const RULES = explain('src/store/object-rules.ts', [
  [
    'if (isDeepStrictEqual(before.spec, after.spec)) return;',
    'Equivalent but for the work: what is the same may follow itself.',
  ],
  ['return isRecord(specPatch)', 'Equivalent: admit reads the whole spec after a change in any case.'],
]);

const TABLE = explain('src/store/object-table.ts', [
  ["return this.#meta('uid')", 'Never used: the line above it has made one.', "''"],
  ['const value = this.#db.get', 'Equivalent: it asks for rows that every store has.'],
  [
    "return typeof value === 'string'",
    'Equivalent: the column holds texts alone, and no row gives undefined.',
    "typeof value === 'string'",
    'true',
  ],
  ['if (before === after)', 'Equivalent: a shorter way to the same.'],
  [
    'const seen = encodeObject(before) !==',
    'Equivalent: a shorter way to the same.',
    'encodeObject(before) !== encodeObject(after)',
    'true',
  ],
  ['const revision =', 'Equivalent: the row is there in every store.'],
  [
    'if (through <= 0)',
    'Equivalent: at 0 nothing is older, and 0 is what is written already.',
    'through <= 0',
    'through < 0',
  ],
  ["const [head = '', sum]", 'Never used: where there is no sum, nothing is cut off.', "''"],
  ["const [head = '', sum]", 'Never used: where there is no sum, nothing is cut off.', '[]'],
  ["checksum: crc32(String(row['problem'] ?? '')", 'Equivalent: any text will do for no problem.', "''"],
  ['if (!isRecord(metadata)', 'The cause of another error; only its being there matters.', "'metadata is missing'"],
]);

const STORE = explain('src/store/table-store.ts', [
  [
    'if (after.declaration !== undefined',
    'Equivalent: a declaration does not go away by a patch, and two absent ones are the same.',
  ],
]);

export const STORE_SURVIVORS = [...FEED, ...MERGE, ...CACHE, ...RULES, ...TABLE, ...STORE];
