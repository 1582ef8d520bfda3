/** The import rules of docs/architecture.md, read from the sources as they are. */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { expect, test } from 'vitest';

const SRC = join(import.meta.dirname, '..', '..', 'src');

/** Which rooms each room may import from. A room that is not listed here does not exist. */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  api: [],
  kube: [],
  host: [],
  messages: ['api'],
  store: ['api', 'kube'],
  reconcile: ['api', 'store'],
  qemu: ['api', 'reconcile', 'host'],
  streams: ['api', 'host'],
  remote: ['api', 'host', 'store', 'reconcile'],
  doctor: ['api', 'host', 'qemu', 'reconcile'],
  mcp: ['api', 'store', 'messages', 'reconcile', 'streams'],
  takeover: ['api', 'host', 'qemu', 'reconcile'],
  cli: ['api', 'store', 'messages', 'reconcile', 'streams', 'doctor', 'takeover', 'host', 'serve'],
  serve: ['mcp', 'streams', 'api', 'store'],
  /** Plain scripts that run before anything is installed, and the sample guest: they import nothing of ours. */
  setup: [],
  sample: [],
};

/** The contract's errors are values, and what lies in files on a host has its one format here. */
const PLAIN_FILES: ReadonlySet<string> = new Set(['reconcile/driver.ts', 'reconcile/record.ts', 'reconcile/job.ts']);

/** Arrows that carry only part of a room: the import must match, and the sentence says what to do otherwise. */
const NARROW: readonly { from: string; to: string; allows: (found: Import) => boolean; advice: string }[] = [
  {
    from: 'reconcile',
    to: 'store',
    allows: ({ target }) => target === 'store/store.ts',
    advice: 'reconcile knows the store by its contract alone: import from store/store.ts',
  },
  {
    from: 'qemu',
    to: 'reconcile',
    allows: ({ typeOnly, target }) => typeOnly || PLAIN_FILES.has(target ?? ''),
    advice: 'qemu carries out decisions and makes none: use `import type`, or move the value to api/',
  },
  {
    from: 'remote',
    to: 'reconcile',
    allows: ({ typeOnly }) => typeOnly,
    advice: 'a way to a host decides nothing: use `import type`',
  },
  {
    from: 'doctor',
    to: 'reconcile',
    allows: ({ typeOnly }) => typeOnly,
    advice: 'the doctor reports and decides nothing: use `import type`',
  },
  {
    from: 'cli',
    to: 'host',
    allows: ({ typeOnly }) => typeOnly,
    advice: 'a command gets its Shell from the session: use `import type`',
  },
  {
    from: 'cli',
    to: 'serve',
    allows: ({ typeOnly }) => typeOnly,
    advice: 'a command gets its doors from the context: use `import type`',
  },
];

/** Packages and built-ins that only one place may touch, so that they can be replaced there. */
const OWNED: readonly { specifier: RegExp; owner: RegExp; advice: string }[] = [
  {
    specifier: /^(node:)?child_process$/,
    owner: /^(host|setup)\//,
    advice: 'only host/ starts processes: take a Shell as a parameter',
  },
  {
    specifier: /^@modelcontextprotocol\//,
    owner: /^mcp\//,
    advice: 'only mcp/ knows the MCP SDK: export a function from mcp/ that hides it',
  },
  {
    specifier: /^ssh2(\/|$)/,
    owner: /^host\/ssh-client\.ts$/,
    advice: 'only host/ssh-client.ts knows ssh2: take a Shell as a parameter',
  },
  {
    specifier: /^(@kubernetes\/|undici$)/,
    owner: /^kube\//,
    advice: 'only kube/ knows the Kubernetes client: use the Store contract',
  },
  { specifier: /^ws(\/|$)/, owner: /^streams\/web-socket\.ts$/, advice: 'only streams/web-socket.ts speaks WebSocket' },
  { specifier: /^express(\/|$)/, owner: /^serve\//, advice: 'only serve/ speaks HTTP to the world: add a route there' },
];

const LINE_BUDGET = 300;

/** Files over the budget, each with the reason why splitting it would be worse. */
const LONG_FILES: Readonly<Record<string, string>> = {};

interface Import {
  /** File that imports, relative to src. */
  readonly file: string;
  readonly specifier: string;
  /** Imported file relative to src; absent for packages and built-ins. */
  readonly target?: string;
  readonly typeOnly: boolean;
}

const IMPORT =
  /(?:^|[\n;])\s*(import|export)\s+(type\s+)?(?:[\w*{}\s,$]+?\s+from\s+)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g;

function sourceFiles(): string[] {
  return readdirSync(SRC, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.(ts|mjs|js)$/.test(entry.name))
    .map((entry) => relative(SRC, join(entry.parentPath, entry.name)))
    .sort();
}

function text(file: string): string {
  return readFileSync(join(SRC, file), 'utf8');
}

function importsOf(file: string): Import[] {
  return [...text(file).matchAll(IMPORT)].map((match) => {
    const specifier = match[3] ?? match[4] ?? '';
    const found = { file, specifier, typeOnly: match[2] !== undefined };
    return specifier.startsWith('.') ? { ...found, target: join(dirname(file), specifier) } : found;
  });
}

/** First folder of a path below src; files at its root are the wiring (main.ts). */
function roomOf(file: string): string {
  return file.includes('/') ? (file.split('/')[0] ?? '') : 'main';
}

function complaintAboutArrow(found: Import): string | undefined {
  if (found.target === undefined) return undefined;
  const [from, to] = [roomOf(found.file), roomOf(found.target)];
  if (from === 'main' || from === to) return undefined;
  const where = `${found.file} imports ${found.target}`;
  if (!ARROWS[from]?.includes(to)) {
    return `${where}: ${from}/ may import ${ARROWS[from]?.join(', ') || 'nothing of ours'}; pass it in from main.ts`;
  }
  const narrow = NARROW.find((rule) => rule.from === from && rule.to === to);
  return narrow === undefined || narrow.allows(found) ? undefined : `${where}: ${narrow.advice}`;
}

function complaintAboutOwner(found: Import): string | undefined {
  const rule = OWNED.find(({ specifier }) => specifier.test(found.specifier));
  return rule === undefined || rule.owner.test(found.file)
    ? undefined
    : `${found.file} imports ${found.specifier}: ${rule.advice}`;
}

const files = sourceFiles();
const imports = files.flatMap(importsOf);

test('there are sources to judge, and their imports are seen', () => {
  expect(files).toContain('api/kinds.ts');
  expect(imports.some(({ target }) => target?.startsWith('api/'))).toBe(true);
});

test('every room is known', () => {
  const strangers = [...new Set(files.map(roomOf))].filter((room) => room !== 'main' && !(room in ARROWS));
  expect(strangers, 'a new folder below src needs its arrows in this test and in docs/architecture.md').toEqual([]);
});

test('imports follow the arrows', () => {
  expect(imports.map(complaintAboutArrow).filter((complaint) => complaint !== undefined)).toEqual([]);
});

test('packages and processes stay with their owners', () => {
  expect(imports.map(complaintAboutOwner).filter((complaint) => complaint !== undefined)).toEqual([]);
});

test('relative imports name a file that exists, with its extension', () => {
  const known = new Set(files);
  const lost = imports.filter(({ target }) => target !== undefined && /\.ts$/.test(target) && !known.has(target));
  expect(lost.map(({ file, specifier }) => `${file} imports ${specifier}, which is no file`)).toEqual([]);
});

test('files stay readable', () => {
  const long = files
    .map((file) => ({ file, lines: text(file).split('\n').length - 1 }))
    .filter(({ file, lines }) => lines > LINE_BUDGET && !(file in LONG_FILES))
    .map(({ file, lines }) => `${file} has ${lines} lines (budget ${LINE_BUDGET}): split it by idea, or list it here`);
  expect(long).toEqual([]);
  expect(
    Object.keys(LONG_FILES).filter((file) => !files.includes(file)),
    'listed files that are gone',
  ).toEqual([]);
});

test('no drawers without a name, no barrels, no default exports, no enums', () => {
  const complaints = files.flatMap((file) => {
    const source = text(file);
    const found: string[] = [];
    if (/^(utils?|types|lib|common|services|helpers?|index)$/.test(basename(file).replace(/\.\w+$/, '')))
      found.push(`${file}: name it after its idea`);
    if (/^export \* from/m.test(source)) found.push(`${file}: import from the file that has it, not through a barrel`);
    if (/^export default\b/m.test(source)) found.push(`${file}: export it by name`);
    if (/^\s*(export )?(declare )?(const )?enum \w/m.test(source)) found.push(`${file}: use a union of strings`);
    return found;
  });
  expect(complaints).toEqual([]);
});
