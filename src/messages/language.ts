/** Which language to speak. */
import { en } from './en.ts';
import type { Sentences } from './sentences.ts';
import { zh } from './zh.ts';

export type Language = 'en' | 'zh';

/** QEMU_OPERATOR_LANG wins; then the POSIX order LC_ALL, LC_MESSAGES, LANG. Anything but Chinese is English. */
export function languageFrom(env: Readonly<Record<string, string | undefined>>): Language {
  const named = [env['QEMU_OPERATOR_LANG'], env['LC_ALL'], env['LC_MESSAGES'], env['LANG']].find(
    (value) => value !== undefined && value !== '',
  );
  return /^zh/i.test(named ?? '') ? 'zh' : 'en';
}

export function sentencesFor(language: Language): Sentences {
  return language === 'zh' ? zh : en;
}
