/** Known hosts, with ssh-keygen as the judge of what a file says. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { algorithmOrder, fingerprintOf, judge, keyInLine, keysInFile, lineOf } from '../../src/host/known-hosts.ts';

const TYPES = { ed25519: 'ed25519', rsa: 'rsa', ecdsa: 'ecdsa', other: 'ed25519' } as const;
const folder = mkdtempSync(join(tmpdir(), 'qo-known-hosts-'));
const line: Record<keyof typeof TYPES, string> = { ed25519: '', rsa: '', ecdsa: '', other: '' };
const key = (name: keyof typeof TYPES) => keyInLine(line[name]) ?? Buffer.alloc(0);

beforeAll(() => {
  for (const [name, type] of Object.entries(TYPES)) {
    execFileSync('ssh-keygen', ['-q', '-t', type, '-N', '', '-C', '', '-f', join(folder, name)]);
    line[name as keyof typeof TYPES] = readFileSync(join(folder, `${name}.pub`), 'utf8').trim();
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Whether `ssh-keygen -F` finds the name. */
function keygenFinds(text: string, name: string): boolean {
  const path = join(folder, 'known_hosts');
  writeFileSync(path, text);
  return spawnSync('ssh-keygen', ['-F', name, '-f', path]).status === 0;
}

function hashed(text: string): string {
  const path = join(folder, 'to-hash');
  writeFileSync(path, text);
  execFileSync('ssh-keygen', ['-H', '-f', path], { stdio: 'ignore' });
  return readFileSync(path, 'utf8');
}

/** Each row: what the file names, whom we ask for, and as ssh-keygen writes it. */
const NAMES: readonly (readonly [patterns: string, address: string, port: number, name: string])[] = [
  ['rack1', 'rack1', 22, 'rack1'],
  ['rack1', 'RACK1', 22, 'rack1'],
  ['rack1', 'rack10', 22, 'rack10'],
  ['rack1', 'rack1', 2222, '[rack1]:2222'],
  ['[rack1]:2222', 'rack1', 2222, '[rack1]:2222'],
  ['[rack1]:2222', 'rack1', 22, 'rack1'],
  ['[rack1]:*', 'rack1', 2222, '[rack1]:2222'],
  ['other,rack1,10.0.0.5', '10.0.0.5', 22, '10.0.0.5'],
  ['10.0.0.?', '10.0.0.5', 22, '10.0.0.5'],
  ['10.0.0.?', '10.0.0.55', 22, '10.0.0.55'],
  ['*.lab', 'a.lab', 22, 'a.lab'],
  ['*.lab', 'axlab', 22, 'axlab'],
  ['*.lab,!a.lab', 'a.lab', 22, 'a.lab'],
  ['!a.lab,*.lab', 'a.lab', 22, 'a.lab'],
  ['!a.lab,*.lab', 'b.lab', 22, 'b.lab'],
  ['!a.lab', 'b.lab', 22, 'b.lab'],
  ['fe80::1', 'fe80::1', 22, 'fe80::1'],
  ['[fe80::1]:2222', 'fe80::1', 2222, '[fe80::1]:2222'],
];

test.each(NAMES)('%s is found for %s port %i as ssh-keygen finds it', (patterns, address, port, name) => {
  const text = `# comment\n\n${patterns} ${line.ed25519} a comment\n`;
  expect(keysInFile(text, address, port).keys.length > 0).toBe(keygenFinds(text, name));
});

test.each(NAMES.filter(([patterns]) => !/[*?!]/.test(patterns)))(
  '%s, hashed by ssh-keygen, is found for %s port %i as ssh-keygen finds it',
  (patterns, address, port, name) => {
    const text = hashed(`${patterns} ${line.ed25519}\n`);
    expect(text).toMatch(/^\|1\|/);
    expect(keysInFile(text, address, port).keys.length > 0).toBe(keygenFinds(text, name));
  },
);

test('each verdict has its case', () => {
  const file = (text: string) => keysInFile(text, 'rack1', 22);
  const known = `rack1 ${line.ed25519}\nrack1 ${line.rsa}\n`;
  expect([
    judge(key('ed25519'), file(known)),
    judge(key('rsa'), file(known)),
    judge(key('other'), file(known)),
    judge(key('ecdsa'), file(known)),
    judge(key('ed25519'), file('')),
    judge(key('ed25519'), file(`${known}@revoked * ${line.ed25519}\n`)),
    judge(key('ed25519'), file(`@cert-authority * ${line.ed25519}\n`)),
    judge(key('ed25519'), file(`rack2 ${line.other}\n`)),
  ]).toEqual(['known', 'known', 'changed', 'changed', 'unknown', 'revoked', 'unknown', 'unknown']);
});

test('lines that make no sense are no keys', () => {
  const [type, base64] = line.ed25519.split(' ');
  const odd = [
    `rack1 ${type}`,
    `rack1 ssh-rsa ${base64}`,
    `rack1 ${type} AAAA`,
    'rack1',
    '@revoked',
    `rack1 ${type} !!!`,
  ];
  expect(keysInFile(odd.join('\n'), 'rack1', 22)).toEqual({ keys: [], revoked: [] });
  expect([keyInLine(''), keyInLine('ssh-ed25519'), keyInLine('ssh-ed25519 AAAA')]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
});

test('types that are known are asked for first, and never with SHA-1', () => {
  const order = (...names: (keyof typeof TYPES)[]) => algorithmOrder({ keys: names.map(key), revoked: [] });
  expect(order('rsa').slice(0, 3)).toEqual(['rsa-sha2-512', 'rsa-sha2-256', 'ssh-ed25519']);
  expect(order('ecdsa', 'rsa').slice(0, 3)).toEqual(['ecdsa-sha2-nistp256', 'rsa-sha2-512', 'rsa-sha2-256']);
  expect(order()).toEqual([...new Set(order('rsa'))].sort((a, b) => order().indexOf(a) - order().indexOf(b)));
  for (const names of [order(), order('rsa', 'ecdsa', 'ed25519')]) {
    expect(names).toHaveLength(6);
    expect(names).not.toContain('ssh-rsa');
  }
});

test('fingerprints are those of ssh-keygen, and a line is the key again', () => {
  for (const name of Object.keys(TYPES) as (keyof typeof TYPES)[]) {
    const printed = execFileSync('ssh-keygen', ['-l', '-f', join(folder, `${name}.pub`)], { encoding: 'utf8' });
    expect(printed).toContain(` ${fingerprintOf(key(name))} `);
    expect(lineOf(key(name))).toBe(line[name]);
  }
});
