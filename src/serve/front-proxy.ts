/**
 * Who asks, where an API server stands in front: it has authenticated the user, shows a certificate of its own, and says
 * in headers who it is. By what it is known it publishes itself. Sources: ConfigMap
 * kube-system/extension-apiserver-authentication, written by k8s.io/kubernetes/pkg/controlplane/controller/
 * clusterauthenticationtrust; k8s.io/apiserver/pkg/authentication/request/headerrequest.
 */
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { RefusedError } from '../streams/status.ts';

export interface FrontProxy {
  /** PEM. */
  readonly ca: string;
  /** Common names of its certificate; empty: any that the CA has signed. */
  readonly allowedNames: readonly string[];
  /** Of these the first that is there counts. */
  readonly userHeaders: readonly string[];
  readonly uidHeaders: readonly string[];
  readonly groupHeaders: readonly string[];
  readonly extraPrefixes: readonly string[];
}

export interface Subject {
  readonly user: string;
  readonly uid?: string | undefined;
  readonly groups: readonly string[];
  readonly extra: Readonly<Record<string, readonly string[]>>;
}

/**
 * @returns undefined where it names no CA or no header for users: then nobody can be believed
 * @throws for lists that are none: allowed names that are not understood must not be none
 */
export function frontProxyIn(data: Readonly<Record<string, string>>): FrontProxy | undefined {
  const list = (name: string) => listIn(data[`requestheader-${name}`]);
  const ca = data['requestheader-client-ca-file'] ?? '';
  const userHeaders = list('username-headers');
  const front: FrontProxy = {
    ca,
    allowedNames: list('allowed-names'),
    userHeaders,
    uidHeaders: list('uid-headers'),
    groupHeaders: list('group-headers'),
    extraPrefixes: list('extra-headers-prefix'),
  };
  return ca === '' || userHeaders.length === 0 ? undefined : front;
}

function listIn(text: string | undefined): string[] {
  if (text === undefined || text === '') return [];
  const value: unknown = JSON.parse(text);
  if (!Array.isArray(value) || !value.every((one) => typeof one === 'string'))
    throw new TypeError(`${text.slice(0, 100)} is no list of texts`);
  return value;
}

/** @throws RefusedError 401 where the connection is none of an API server, or names no user */
export function subjectOf(request: IncomingMessage, front: FrontProxy | undefined): Subject {
  const socket = request.socket as TLSSocket;
  const { allowedNames, ...headers } = front ?? refuse('the API server publishes no CA of its proxies yet');
  if (!socket.authorized) refuse('connections are taken from the API server alone');
  const name = socket.getPeerCertificate().subject?.CN;
  if (allowedNames.length > 0 && (typeof name !== 'string' || !allowedNames.includes(name)))
    refuse('the certificate is of none that may speak for users');
  const values = (names: readonly string[]) =>
    names.map((one) => request.headersDistinct[one.toLowerCase()] ?? []).find((found) => found.length > 0) ?? [];
  const [user] = values(headers.userHeaders).map(utf8);
  const [uid] = values(headers.uidHeaders).map(utf8);
  if (user === undefined || user === '') refuse('no user is named');
  const groups = values(headers.groupHeaders).map(utf8);
  return { user, groups, extra: extraOf(request, headers.extraPrefixes), ...(uid !== undefined && { uid }) };
}

function refuse(why: string): never {
  throw new RefusedError(401, `Unauthorized: ${why}`);
}

/** What follows the prefix is escaped as in a URL. */
function extraOf({ headersDistinct }: IncomingMessage, prefixes: readonly string[]): Subject['extra'] {
  const lower = prefixes.map((prefix) => prefix.toLowerCase());
  const found = Object.entries(headersDistinct).flatMap(([header, values = []]) => {
    const prefix = lower.find((one) => one !== '' && header.startsWith(one));
    return prefix === undefined ? [] : [[unescaped(header.slice(prefix.length)), values.map(utf8)] as const];
  });
  return Object.fromEntries(found);
}

function unescaped(key: string): string {
  try {
    return decodeURIComponent(key);
  } catch {
    return key;
  }
}

/** Go sends the bytes of a name; Node takes each for a character. */
const utf8 = (value: string) => Buffer.from(value, 'latin1').toString('utf8');
