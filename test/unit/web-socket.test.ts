/** Both ends of a stream over a real WebSocket of the loopback. */
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { Duplex, PassThrough, Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { WebSocket } from 'ws';
import { join } from '../../src/streams/join.ts';
import { RefusedError, SUCCESS } from '../../src/streams/status.ts';
import { ChannelServer, type ChannelStream, dialChannel } from '../../src/streams/web-socket.ts';

const never = new AbortController().signal;

/** Serves each connection with `serve`; resolves to where. */
async function served(serve: (stream: ChannelStream, request: IncomingMessage) => void): Promise<URL> {
  const channels = new ChannelServer();
  const server = createServer();
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', () => undefined);
    if (request.url === '/held') {
      const status = { ...SUCCESS, status: 'Failure', code: 409, message: 'somebody has it' };
      socket.end(`HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\n\r\n${JSON.stringify(status)}`);
    } else void channels.accept(request, head).then((stream) => serve(stream, request));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close().closeAllConnections());
  return new URL(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
}

const dial = (url: URL) => dialChannel({ url, headers: {}, agent: undefined }, never);

test('each way ends by itself, all bytes arrive, and how it ended is told', async () => {
  const url = await served((stream) => {
    const guest = Duplex.from(async function* (input: AsyncIterable<Buffer>) {
      yield Buffer.from(`${(await buffer(Readable.from(input))).length}`);
    });
    void join(guest, stream, never);
  });
  const stream = await dial(url);
  stream.end(Buffer.alloc(3_000_000, 'x'));
  expect(await text(stream)).toBe('3000000');
  await once(stream, 'close');
  expect(stream.errored).toBeNull();
});

test('what ends a stream is its error, with the reason; one that just breaks says that', async () => {
  const url = await served((stream, { url: path }) => {
    if (path === '/broken') stream.destroy();
    else stream.finish({ ...SUCCESS, status: 'Failure', message: 'the operator stops' });
  });
  const failure = async (path: string) => {
    const [error] = await once(await dial(new URL(path, url)), 'error').catch((reason: unknown) => [reason]);
    return (error as Error).message;
  };
  expect(await failure('/')).toBe('the operator stops');
  expect(await failure('/broken')).toMatch(/^the connection broke/);
});

test('a refusal is that of the server; no server, a signal: told as they are', async () => {
  const url = await served(() => undefined);
  await expect(dial(new URL('/held', url))).rejects.toEqual(new RefusedError(409, 'somebody has it'));
  await expect(dial(new URL('ws://127.0.0.1:1/'))).rejects.toThrow(/ECONNREFUSED/);
  const abort = new AbortController();
  const silent = createServer()
    .on('upgrade', () => undefined)
    .listen(0, '127.0.0.1');
  await once(silent, 'listening');
  onTestFinished(() => void silent.close().closeAllConnections());
  const nowhere = new URL(`ws://127.0.0.1:${(silent.address() as AddressInfo).port}`);
  const dialed = dialChannel({ url: nowhere, headers: {}, agent: undefined }, abort.signal);
  abort.abort(new Error('enough'));
  await expect(dialed).rejects.toThrow('enough');
});

test('notes are told beside the bytes', async () => {
  const url = await served((stream) => {
    stream.tell({ password: 'secret' });
    stream.write('RFB');
  });
  const stream = await dial(url);
  expect(await stream.note).toEqual({ password: 'secret' });
  expect(String((await once(stream, 'data'))[0])).toBe('RFB');
  stream.destroy();
});

test('what is none of ours is let pass; frames without an end are not', async () => {
  const heard = new PassThrough();
  const url = await served((stream) => void stream.pipe(heard));
  const client = new WebSocket(url, ['v5.channel.k8s.io']);
  await once(client, 'open');
  for (const frame of [[], [9, 1], [255], [255, 77], [0], [0, 111, 107]]) client.send(Buffer.from(frame));
  expect(String((await once(heard, 'data'))[0])).toBe('ok');
  client.send(Buffer.alloc(2 * 1024 * 1024));
  expect((await once(client, 'close'))[0]).toBe(1009);
});

test('a connection that is cut ends both sides', async () => {
  const ended: string[] = [];
  const url = await served((stream) => void stream.on('error', ({ message }) => ended.push(message)).resume());
  const socket = connect(Number(url.port), url.hostname);
  socket.write(
    'GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n',
  );
  await once(socket, 'data');
  socket.resetAndDestroy();
  await expect.poll(() => ended.length).toBe(1);
  expect(ended[0]).toMatch(/^the connection broke/);
});
