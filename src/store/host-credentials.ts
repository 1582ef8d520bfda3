/** The credentials of Hosts as Secrets of the operator's own namespace. */
import { CREDENTIAL_KEYS, type Credentials, OPERATOR_NAMESPACE } from '../api/host-ssh.ts';
import type { SecretReader, SecretStore } from './store.ts';

/** What a Secret has of them; empty where there is none of that name. */
export async function readCredentials(secrets: SecretReader, name: string): Promise<Credentials> {
  const values = await Promise.all(
    CREDENTIAL_KEYS.map(
      async (key) => [key, await secrets.read({ namespace: OPERATOR_NAMESPACE, name, key })] as const,
    ),
  );
  return Object.fromEntries(values.filter(([, value]) => value !== undefined));
}

/** Replaces all keys of the Secret: what stays of the former ones is nothing. */
export async function keepCredentials(secrets: SecretStore, name: string, credentials: Credentials): Promise<void> {
  const known = await secrets.list(OPERATOR_NAMESPACE);
  for (const [key, value] of Object.entries(credentials))
    await secrets.set({ namespace: OPERATOR_NAMESPACE, name, key }, value);
  for (const { key } of known.filter((one) => one.name === name && !(one.key in credentials)))
    await secrets.delete({ namespace: OPERATOR_NAMESPACE, name }, key);
}

export async function forgetCredentials(secrets: SecretStore, name: string): Promise<void> {
  await secrets.delete({ namespace: OPERATOR_NAMESPACE, name });
}
