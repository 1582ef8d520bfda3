/** A certificate and its key from files, read again when they change: as a Secret that is mounted, or a person renews them. */
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { messageOf } from '../api/errors.ts';
import { DoorError } from './door.ts';

export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

/** A link that is put in another's place tells nobody: Secrets are mounted so. */
const LOOK_MS = 5_000;

/** @throws DoorError */
export function readKeyPair({ certFile, keyFile }: TlsFiles): KeyPair {
  try {
    const pair = { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
    createSecureContext(pair);
    return pair;
  } catch (error) {
    throw new DoorError(`--tls-cert-file ${certFile}, --tls-private-key-file ${keyFile}: ${messageOf(error)}`);
  }
}

/**
 * @param onChange with a pair that fits; one of which only a half is there yet is waited for
 * @param onFailure told once for each thing that is wrong
 * @returns what ends it
 */
export function followKeyPair(
  files: TlsFiles,
  first: KeyPair,
  { onChange, onFailure }: { onChange: (pair: KeyPair) => void; onFailure: (error: unknown) => void },
): () => void {
  let known = JSON.stringify(first);
  let told = '';
  const timer = setInterval(() => {
    try {
      const pair = readKeyPair(files);
      const now = JSON.stringify(pair);
      told = '';
      if (now === known) return;
      known = now;
      onChange(pair);
    } catch (error) {
      if (messageOf(error) !== told) onFailure(error);
      told = messageOf(error);
    }
  }, LOOK_MS);
  return () => clearInterval(timer);
}
