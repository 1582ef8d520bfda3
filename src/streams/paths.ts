/** The API of streams: where it lies on an API server, and which rights it asks for. */

/** Not the group of the kinds: an API server serves a group either from CRDs or from somebody else. */
export const STREAM_GROUP = 'subresources.qemu-operator.dev';
export const STREAM_VERSION = 'v1alpha1';

/**
 * By subresource, the verbs that one needs. The API server itself asks for `get`, as for every GET. Where somebody acts on
 * a machine `create` is asked as well: a role that may read everything is none that types at consoles. Source: so for
 * pods/exec since Kubernetes 1.35.
 */
export const STREAM_VERBS = {
  console: ['get', 'create'],
  vnc: ['get', 'create'],
  portforward: ['get', 'create'],
  screenshot: ['get'],
  log: ['get'],
} as const satisfies Record<string, readonly string[]>;

export type StreamName = keyof typeof STREAM_VERBS;

export interface StreamPath {
  readonly namespace: string;
  readonly name: string;
  readonly stream: StreamName;
}

const ROOT = `/apis/${STREAM_GROUP}/${STREAM_VERSION}`;

export function streamPath({ namespace, name, stream }: StreamPath): string {
  return `${ROOT}/namespaces/${encodeURIComponent(namespace)}/virtualmachines/${encodeURIComponent(name)}/${stream}`;
}

/** Undefined for any other. */
export function parseStreamPath(path: string): StreamPath | undefined {
  const words = /^\/namespaces\/([a-z0-9.-]+)\/virtualmachines\/([a-z0-9.-]+)\/([a-z]+)$/;
  const [, namespace = '', name = '', stream = ''] =
    (path.startsWith(ROOT) && words.exec(path.slice(ROOT.length))) || [];
  return Object.hasOwn(STREAM_VERBS, stream) ? { namespace, name, stream: stream as StreamName } : undefined;
}

/** What may be said of a log, in the words of pods/log; `console` and `raw` are ours. */
export interface LogQuery {
  readonly console?: boolean;
  readonly follow?: boolean;
  readonly previous?: boolean;
  readonly raw?: boolean;
  readonly tailLines?: number;
}

const FLAGS = ['console', 'follow', 'previous', 'raw'] as const;

export function logQuery(query: LogQuery): Record<string, string> {
  const said = Object.entries(query).filter(([, value]) => value !== undefined && value !== false);
  return Object.fromEntries(said.map(([name, value]) => [name, String(value)]));
}

/** Undefined where it is none. */
export function parseLogQuery(params: URLSearchParams): LogQuery | undefined {
  const known = new Set<string>([...FLAGS, 'tailLines']);
  const flags = FLAGS.map((name) => [name, params.get(name)] as const);
  const tail = params.get('tailLines');
  const isSound =
    [...params.keys()].every((name) => known.has(name)) &&
    flags.every(([, value]) => value === null || value === 'true' || value === 'false') &&
    (tail === null || /^\d{1,9}$/.test(tail));
  if (!isSound) return undefined;
  return {
    ...Object.fromEntries(flags.map(([name, value]) => [name, value === 'true'])),
    ...(tail !== null && { tailLines: Number(tail) }),
  };
}
