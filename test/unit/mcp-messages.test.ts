/** The words of the tools: complete in both languages, and the specification's own where it gives one. */
import { expect, test } from 'vitest';
import { REASONS } from '../../src/api/conditions.ts';
import { en } from '../../src/messages/en.ts';
import { languageFrom } from '../../src/messages/language.ts';
import { zh } from '../../src/messages/zh.ts';
import { zhReasons } from '../../src/messages/zh-reasons.ts';

test('every reason has its Chinese words', () => {
  expect(REASONS.filter((reason) => zhReasons[reason] === undefined)).toEqual([]);
});

test('both languages say the same things', () => {
  expect(Object.keys(zh)).toEqual(Object.keys(en));
});

test('the sentences of the specification', () => {
  expect(zh.done('ubuntu-vm', 'create')).toBe('虚拟机ubuntu-vm create成功');
  expect(zh.listed('localhost', 'running', 3)).toBe('成功获取本地运行中虚拟机，共3个');
  expect(zh.sampled('ubuntu-vm', 5)).toBe('成功获取ubuntu-vm 5次采样数据');
  expect(zh.alreadyExists('ubuntu-vm', 'localhost')).toBe('虚拟机已存在');
});

test.each([
  [{}, 'en'],
  [{ LANG: 'zh_CN.UTF-8' }, 'zh'],
  [{ LANG: 'de_DE.UTF-8' }, 'en'],
  [{ LANG: 'zh_CN.UTF-8', LC_ALL: 'C' }, 'en'],
  [{ LANG: 'C', LC_MESSAGES: 'zh_TW' }, 'zh'],
  [{ QEMU_OPERATOR_LANG: 'zh', LC_ALL: 'C' }, 'zh'],
  [{ QEMU_OPERATOR_LANG: 'en', LANG: 'zh_CN' }, 'en'],
  [{ QEMU_OPERATOR_LANG: '', LANG: 'zh_CN' }, 'zh'],
] as const)('%o is %s', (env, language) => {
  expect(languageFrom(env)).toBe(language);
});
