/**
 * What happened to machines and hosts, as Events of the cluster: `kubectl describe` and `kubectl events` show them. One
 * for each new line of a VM's history, and for each reason of a Host's Ready; told by the replica that drives the Host.
 */
import { randomBytes } from 'node:crypto';
import { findCondition } from '../api/conditions.ts';
import { oneLine } from '../api/errors.ts';
import type { AnyObject } from '../api/kinds.ts';
import { DEFAULT_NAMESPACE, GROUP } from '../api/meta.ts';
import { collectionPath, type Resource } from '../kube/objects.ts';
import type { KubeTransport } from '../kube/transport.ts';
import type { WatchEvent } from './store.ts';

const EVENTS: Resource = { group: 'events.k8s.io', version: 'v1', plural: 'events' };
const REPORTER = `${GROUP}/operator`;
/** Events are news: what cannot be told soon is left out. */
const MOST_WAITING = 500;
/** The API's own limits. */
const MAX_NOTE = 1000;
const MAX_NAME = 200;
const MAX_INSTANCE = 128;

export interface EventsOptions {
  readonly transport: KubeTransport;
  /** Which of the replicas tells. */
  readonly instance: string;
  /** Whether this replica drives a Host of this name, `''` for none. */
  readonly owns: (hostName: string) => boolean;
  readonly onFailure: (error: unknown) => void;
  /** Nothing is told after it aborts. */
  readonly signal: AbortSignal;
}

interface News {
  readonly reason: string;
  readonly message: string;
}

/** Tells what happens from the first bookmark of a watch on: what was there before is no news. */
export class EventRecorder {
  readonly #owns: EventsOptions['owns'];
  readonly #queue: Queue;

  constructor(options: EventsOptions) {
    this.#owns = options.owns;
    this.#queue = new Queue(options);
  }

  /** For the events of one kind, in order; the watch may begin again. */
  listener(): (event: WatchEvent) => void {
    /** By uid, the newest line that is known. */
    const known = new Map<string, string>();
    let isNew = false;
    return (event) => {
      if (event.type === 'BOOKMARK') isNew = true;
      else if (event.type === 'DELETED') known.delete(event.object.metadata.uid);
      else {
        const { object } = event;
        const lines = linesOf(object);
        const fresh = newsIn(lines, known.get(object.metadata.uid));
        known.set(object.metadata.uid, textOf(lines.at(-1)));
        if (isNew && this.#owns(hostOf(object))) for (const line of fresh) this.#queue.add(object, line);
      }
    };
  }
}

/** @param last that is known; where it is no longer among them, much has happened, and the newest says most */
function newsIn(lines: readonly News[], last = ''): readonly News[] {
  const at = lines.findLastIndex((line) => textOf(line) === last);
  return at < 0 && last !== '' ? lines.slice(-1) : lines.slice(at + 1);
}

function hostOf(object: AnyObject): string {
  if (object.kind === 'Host') return object.metadata.name;
  return object.kind === 'VirtualMachine' ? (object.spec.hostName ?? '') : '';
}

function linesOf({ kind, status }: AnyObject): readonly News[] {
  if (kind === 'VirtualMachine') return (status as { history?: readonly News[] } | undefined)?.history ?? [];
  const ready = findCondition(status?.conditions, 'Ready');
  return ready === undefined ? [] : [ready];
}

/** A Host's sentence has figures that change: its reason alone is news. */
function textOf(line: (News & { readonly at?: string }) | undefined): string {
  return line === undefined ? '' : JSON.stringify([line.at, line.reason, line.at === undefined ? '' : line.message]);
}

/** One after the other, so that a flood of news is no flood of requests. */
class Queue {
  readonly #options: EventsOptions;
  readonly #waiting: object[] = [];
  #isSending = false;

  constructor(options: EventsOptions) {
    this.#options = options;
  }

  add(object: AnyObject, news: News): void {
    if (this.#waiting.length >= MOST_WAITING) this.#waiting.shift();
    this.#waiting.push(eventOf(object, news, this.#options.instance));
    if (!this.#isSending) void this.#send();
  }

  async #send(): Promise<void> {
    const { transport, signal, onFailure } = this.#options;
    this.#isSending = true;
    for (let body = this.#waiting.shift(); body !== undefined && !signal.aborted; body = this.#waiting.shift()) {
      const { namespace } = (body as { metadata: { namespace: string } }).metadata;
      try {
        await transport.json({
          method: 'POST',
          path: collectionPath(EVENTS, namespace),
          body,
          signal,
        });
      } catch (error) {
        if (!signal.aborted) onFailure(error);
      }
    }
    this.#isSending = false;
  }
}

function eventOf(object: AnyObject, { reason, message }: News, instance: string): object {
  const { apiVersion, kind, metadata } = object;
  const { name, uid, resourceVersion } = metadata;
  // Of what has no namespace they lie where those of nodes do.
  const namespace = metadata.namespace ?? DEFAULT_NAMESPACE;
  return {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { name: `${name.slice(0, MAX_NAME)}.${randomBytes(8).toString('hex')}`, namespace },
    eventTime: new Date().toISOString().replace(/Z$/, '000Z'),
    reportingController: REPORTER,
    reportingInstance: instance.slice(0, MAX_INSTANCE),
    action: 'Reconcile',
    reason,
    regarding: { apiVersion, kind, ...(metadata.namespace !== undefined && { namespace }), name, uid, resourceVersion },
    note: oneLine(message, MAX_NOTE),
    type: isTrouble(object) ? 'Warning' : 'Normal',
  };
}

const STOPPERS = ['Stalled', 'DeletionBlocked'] as const;
const TROUBLED: ReadonlySet<string> = new Set(['Failed', 'CrashLoopBackOff', 'Unknown']);

function isTrouble({ kind, status }: AnyObject): boolean {
  if (STOPPERS.some((type) => findCondition(status?.conditions, type)?.status === 'True')) return true;
  if (kind === 'Host') return findCondition(status?.conditions, 'Ready')?.status !== 'True';
  return TROUBLED.has((status as { phase?: string } | undefined)?.phase ?? '');
}
