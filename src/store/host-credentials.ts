/**
 * The credentials of Hosts as Secrets of the operator's own namespace. One that was made with a Host has its name and
 * a mark, and goes when that Host is gone and no other names it; any other Secret is a person's, and stays.
 */
import { readFileSync } from 'node:fs';
import { AlreadyExistsError } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { CREDENTIAL_KEYS, type Credentials } from '../api/host-ssh.ts';
import type { SecretReader, SecretStore, Store } from './store.ts';

/** Key of the mark: when the Secret was made with the Host of its name. */
const MARK = 'made-with-host-at';
/** A Secret is written before its Host. */
const BEFORE_ITS_HOST_MS = 10_000;

export interface CredentialsPlace {
  readonly store: Store;
  readonly secrets: SecretStore;
}

/** What a Secret has of them; empty where there is none of that name. */
export async function readCredentials(secrets: SecretReader, name: string): Promise<Credentials> {
  const values = await Promise.all(
    CREDENTIAL_KEYS.map(
      async (key) => [key, await secrets.read({ namespace: secrets.operatorNamespace, name, key })] as const,
    ),
  );
  return Object.fromEntries(values.filter(([, value]) => value !== undefined));
}

/**
 * Replaces all credentials of the Secret: what stays of the former ones is nothing. Where another machine reads them,
 * the key itself is kept and not its path.
 */
export async function keepCredentials(secrets: SecretStore, name: string, given: Credentials): Promise<void> {
  const credentials = secrets.readHere ? given : withKeyItself(given);
  for (const [key, value] of Object.entries(credentials))
    await secrets.set({ namespace: secrets.operatorNamespace, name, key }, value);
  for (const key of CREDENTIAL_KEYS.filter((one) => !(one in credentials)))
    await secrets.delete({ namespace: secrets.operatorNamespace, name }, key);
}

/** @throws what reading the file of the key throws */
export function withKeyItself({ 'ssh-privatekey-path': path, ...credentials }: Credentials): Credentials {
  if (path === undefined || credentials['ssh-privatekey'] !== undefined) return credentials;
  const file = Buffer.from(path).toString('utf8').trimEnd();
  return { ...credentials, 'ssh-privatekey': readFileSync(file) };
}

/** The Hosts that log in with a Secret. */
export async function usersOf({ store }: CredentialsPlace, secret: string): Promise<Host[]> {
  const { items } = await store.list('Host');
  return items.filter(({ spec }) => spec.ssh?.credentialsSecretRef?.name === secret);
}

/**
 * Keeps the credentials in a Secret that is the Host's own, and then makes the Host name it; where that fails and
 * there is no such Host, the Secret is taken away again.
 * @throws AlreadyExistsError where another Host or a person has a Secret of that name
 */
export async function withOwnCredentials<T>(
  place: CredentialsPlace,
  { host, credentials }: { readonly host: string; readonly credentials: Credentials },
  makeHost: () => Promise<T>,
): Promise<T> {
  await refuseForeign(place, host);
  try {
    const mark = { namespace: place.secrets.operatorNamespace, name: host, key: MARK };
    await place.secrets.set(mark, Buffer.from(new Date().toISOString()));
    await keepCredentials(place.secrets, host, credentials);
    return await makeHost();
  } catch (error) {
    // What cannot be taken away now, forgetLeftCredentials takes.
    await forgetOwnCredentials(place, host).catch(() => undefined);
    throw error;
  }
}

async function refuseForeign(place: CredentialsPlace, host: string): Promise<void> {
  const namespace = place.secrets.operatorNamespace;
  const what = `Secret ${host} in namespace ${namespace}`;
  const others = (await usersOf(place, host)).map(({ metadata }) => metadata.name).filter((name) => name !== host);
  if (others.length > 0)
    throw new AlreadyExistsError(
      `${what} is how Host ${others.join(', ')} logs in, and would be replaced: give this Host another name`,
    );
  const keys = (await place.secrets.list(namespace)).filter(({ name }) => name === host);
  if (keys.length > 0 && !keys.some(({ key }) => key === MARK))
    throw new AlreadyExistsError(
      `${what} exists and was made by a person: give this Host another name, or delete it first: qemu-operator secret delete ${host} -n ${namespace}`,
    );
}

/** Of a Host that is gone: deletes the Secret that was made with it, unless another Host names it. */
export async function forgetOwnCredentials(place: CredentialsPlace, host: string): Promise<void> {
  const { store, secrets } = place;
  const secret = { namespace: secrets.operatorNamespace, name: host };
  if ((await secrets.read({ ...secret, key: MARK })) === undefined) return;
  if ((await store.get('Host', { name: host })) !== undefined || (await usersOf(place, host)).length > 0) return;
  // The mark goes last: what is left of an end in the middle is found again.
  await keepCredentials(secrets, host, {});
  await secrets.delete(secret);
}

/** The same for all Hosts that are gone, however they went. */
export async function forgetLeftCredentials(place: CredentialsPlace, now: number): Promise<void> {
  const { secrets } = place;
  for (const { name, key } of await secrets.list(secrets.operatorNamespace)) {
    if (key !== MARK) continue;
    const madeAt = await secrets.read({ namespace: secrets.operatorNamespace, name, key });
    const age = now - Date.parse(Buffer.from(madeAt ?? '').toString('utf8'));
    // A clock that was set back makes it no younger.
    if (Math.abs(age) > BEFORE_ITS_HOST_MS) await forgetOwnCredentials(place, name);
  }
}

/** A person sets values of a Secret: one that a Host left becomes theirs. */
export async function handOver({ store, secrets }: CredentialsPlace, name: string): Promise<void> {
  if ((await store.get('Host', { name })) !== undefined) return;
  await secrets.delete({ namespace: secrets.operatorNamespace, name }, MARK);
}
