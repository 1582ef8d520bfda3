/** Streams of VMs for users of an API server: each is asked for, opened on the VM's host, and ended in time. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { hostname } from 'node:os';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { messageOf, NotFoundError } from '../api/errors.ts';
import { GROUP } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Store } from '../store/store.ts';
import type { ConsoleClient } from '../streams/console.ts';
import { join } from '../streams/join.ts';
import {
  parseLogQuery,
  parseStreamPath,
  STREAM_GROUP,
  STREAM_VERBS,
  STREAM_VERSION,
  type StreamPath,
} from '../streams/paths.ts';
import { RefusedError, SUCCESS, statusOf } from '../streams/status.ts';
import type { GuestPort, VmStreams } from '../streams/vm-streams.ts';
import { ChannelServer } from '../streams/web-socket.ts';
import { type FrontProxy, type Subject, subjectOf } from './front-proxy.ts';
import { Guests } from './open-streams.ts';
import { SharedPorts } from './shared-ports.ts';
import { DISCOVERY } from './streams-discovery.ts';

export interface StreamsPlace {
  readonly store: Pick<Store, 'get'>;
  /** Asks the API server's authorizers. */
  readonly review: (
    spec: Review,
    signal: AbortSignal,
  ) => Promise<{ readonly allowed: boolean; readonly reason: string }>;
  readonly streamsOf: (vm: VirtualMachine, client: ConsoleClient, signal: AbortSignal) => Promise<VmStreams>;
  readonly tell: StreamsLog;
}

export type Review = Subject & { readonly resourceAttributes: object };
export type StreamsLog = (level: 'info' | 'warn', fields: object, message: string) => void;

interface Asked extends StreamPath {
  readonly subject: Subject;
  readonly vm: VirtualMachine;
  readonly params: URLSearchParams;
}

/** From the request to the first byte. */
const OPENING_MS = 40_000;
/** A follower asks the host so often. */
const FOLLOW_MS = 1_000;
const MAX_PORT = 65_535;

export class StreamsService {
  readonly #place: StreamsPlace;
  readonly #front: () => FrontProxy | undefined;
  readonly #channels = new ChannelServer();
  readonly #ports = new SharedPorts();
  readonly #guests: Guests;

  constructor(place: StreamsPlace, front: () => FrontProxy | undefined) {
    this.#place = place;
    this.#front = front;
    this.#guests = new Guests((vm) => place.store.get('VirtualMachine', vm.metadata));
  }

  /** Ends all that is open, each with the reason. */
  async close(): Promise<void> {
    await this.#guests.close(new RefusedError(503, 'the operator stops'));
    await this.#ports.close();
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      if (request.method !== 'GET') throw new RefusedError(405, `${request.method} is not served here: GET alone`);
      const document = DISCOVERY[pathOf(request).pathname];
      if (document === undefined) await this.#serve(await this.#admit(request), response);
      else {
        subjectOf(request, this.#front());
        sendJson(response, 200, document);
      }
    } catch (error) {
      if (response.headersSent) response.destroy();
      else sendJson(response, statusOf(error).code, statusOf(error));
    }
  }

  async upgrade(request: IncomingMessage, head: Buffer): Promise<void> {
    const { socket } = request;
    socket.on('error', () => undefined);
    try {
      const asked = await this.#admit(request);
      if (!this.#channels.speaks(request))
        throw new RefusedError(400, 'a stream speaks the WebSocket protocol v5.channel.k8s.io');
      await this.#guests.hold({ vm: asked.vm, ofProcess: true }, (ended) => this.#stream(asked, request, head, ended));
    } catch (error) {
      const status = statusOf(error);
      const body = JSON.stringify(status);
      const lines = [`HTTP/1.1 ${status.code} ${status.reason}`, 'Content-Type: application/json', 'Connection: close'];
      socket.end(`${[...lines, `Content-Length: ${Buffer.byteLength(body)}`].join('\r\n')}\r\n\r\n${body}`);
    }
  }

  /** @throws what it is refused for */
  async #admit(request: IncomingMessage): Promise<Asked> {
    const subject = subjectOf(request, this.#front());
    const { pathname, searchParams: params } = pathOf(request);
    const path = parseStreamPath(pathname);
    if (path === undefined) throw new NotFoundError('the server could not find the requested resource');
    await Promise.all(STREAM_VERBS[path.stream].map((verb) => this.#review(subject, path, verb)));
    const vm = await this.#place.store.get('VirtualMachine', path);
    if (vm === undefined) throw new NotFoundError(`virtualmachines.${GROUP} "${path.name}" not found`);
    return { ...path, subject, vm, params };
  }

  async #review(subject: Subject, { namespace, name, stream }: StreamPath, verb: string): Promise<void> {
    const deed = { group: STREAM_GROUP, version: STREAM_VERSION, resource: 'virtualmachines', subresource: stream };
    const resourceAttributes = { ...deed, namespace, name, verb };
    const { allowed, reason } = await this.#place.review(
      { ...subject, resourceAttributes },
      AbortSignal.timeout(OPENING_MS),
    );
    if (allowed) return;
    const words = `virtualmachines.${STREAM_GROUP} "${name}" is forbidden: User "${subject.user}" cannot ${verb} resource "virtualmachines/${stream}" in API group "${STREAM_GROUP}" in the namespace "${namespace}"`;
    throw new RefusedError(403, reason === '' ? words : `${words}: ${reason}`);
  }

  #streamsOf({ vm, subject }: Asked, signal: AbortSignal): Promise<VmStreams> {
    return this.#place.streamsOf(vm, { user: subject.user, pid: process.pid, from: hostname() }, signal);
  }

  async #stream(asked: Asked, request: IncomingMessage, head: Buffer, ended: AbortSignal): Promise<void> {
    const opening = AbortSignal.any([ended, AbortSignal.timeout(OPENING_MS)]);
    const { stream, note, close } = await this.#opened(asked, await this.#streamsOf(asked, opening), opening);
    const { tell } = this.#place;
    const keys = { vm: `${asked.namespace}/${asked.name}`, stream: asked.stream, user: asked.subject.user };
    try {
      const channel = await this.#channels.accept(request, head);
      if (note !== undefined) channel.tell(note);
      tell('info', keys, 'stream opened');
      const status = await join(stream, channel, ended);
      tell('info', { ...keys, ...(status.message !== undefined && { message: status.message }) }, 'stream ended');
    } finally {
      stream.destroy();
      await close();
    }
  }

  async #opened(asked: Asked, streams: VmStreams, signal: AbortSignal) {
    switch (asked.stream) {
      case 'console':
        return { ...(await streams.console(signal)), note: undefined };
      case 'vnc': {
        const screen = await streams.screen(signal);
        const { password, expiresInSeconds, close } = screen;
        return { stream: await screen.dial(signal), note: { password, expiresInSeconds }, close };
      }
      case 'portforward': {
        const { dial, close } = await this.#port(asked, streams, signal);
        const stream = await dial(signal).catch(async (error: unknown) => {
          await close();
          throw error;
        });
        return { stream, note: undefined, close };
      }
      default:
        throw new RefusedError(400, `${asked.stream} is no stream: GET it without an upgrade`);
    }
  }

  #port({ vm, params }: Asked, streams: VmStreams, signal: AbortSignal): Promise<GuestPort> {
    const port = Number(params.get('port'));
    if (!Number.isInteger(port) || port < 1 || port > MAX_PORT)
      throw new RefusedError(400, `port=${params.get('port')}: a port is 1 to ${MAX_PORT}`);
    return this.#ports.take(`${vm.metadata.uid}/${vm.status?.pid}/${port}`, () => streams.guestPort(port, signal));
  }

  /** What is no stream of two directions. */
  async #serve(asked: Asked, response: ServerResponse): Promise<void> {
    await this.#guests.hold({ vm: asked.vm, ofProcess: false }, async (ended) => {
      const left = new AbortController();
      response.once('close', () => left.abort());
      const signal = AbortSignal.any([ended, left.signal]);
      const opening = AbortSignal.any([signal, AbortSignal.timeout(OPENING_MS)]);
      const streams = await this.#streamsOf(asked, opening);
      if (asked.stream === 'log') await sendLog(asked, streams, { signal, ended }, response);
      else if (asked.stream === 'screenshot')
        response.writeHead(200, { 'Content-Type': 'image/png', ...PLAIN }).end(await streams.screenshot(opening));
      else if (asked.stream === 'portforward') {
        await (await this.#port(asked, streams, opening)).close();
        sendJson(response, 200, SUCCESS);
      } else throw new RefusedError(400, `${asked.stream} is a stream: it needs a WebSocket`);
    });
  }
}

const PLAIN = { 'X-Content-Type-Options': 'nosniff', 'Cache-Control': 'no-store' };

function pathOf(request: IncomingMessage): URL {
  return new URL(request.url ?? '/', 'https://operator');
}

function sendJson(response: ServerResponse, code: number, document: object): void {
  response.writeHead(code, { 'Content-Type': 'application/json', ...PLAIN }).end(JSON.stringify(document));
}

/** A log that is followed until the operator stops is cut, so that its reader knows that there is more. */
async function sendLog(
  { params }: Asked,
  streams: VmStreams,
  { signal, ended }: { readonly signal: AbortSignal; readonly ended: AbortSignal },
  response: ServerResponse,
): Promise<void> {
  const query = parseLogQuery(params);
  if (query === undefined)
    throw new RefusedError(400, `${params}: of a log one says console, follow, previous, raw, tailLines`);
  const { console: isConsole, tailLines, ...more } = query;
  const source = isConsole === true ? 'console' : 'qemu';
  const lines = streams.log({
    source,
    signal,
    intervalMs: FOLLOW_MS,
    ...more,
    ...(tailLines !== undefined && { lines: tailLines }),
  });
  const pieces = lines[Symbol.asyncIterator]();
  // What is wrong with it is told before anything is sent.
  const first = query.follow === true ? undefined : await pieces.next();
  response.writeHead(200, { 'Content-Type': 'text/plain; charset=utf-8', ...PLAIN }).flushHeaders();
  async function* all() {
    if (first?.done === false) yield first.value;
    for (let next = await pieces.next(); next.done !== true; next = await pieces.next()) yield next.value;
    if (ended.reason instanceof RefusedError) throw new Error(messageOf(ended.reason));
  }
  await pipeline(Readable.from(all(), { highWaterMark: 1 }), response).catch(() => response.destroy());
}
