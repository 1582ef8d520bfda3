/** Stands before an API server, passes everything on, and fails as networks, servers and proxies do. */

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { OnFinished } from '../../e2e/support/rig.ts';
import type { TestCluster } from './test-cluster.ts';

/** What happens to a watch that runs. */
export const WATCH_FAULTS = ['reset', 'end', 'expired', 'garbage', 'torn', 'freeze'] as const;
/** What happens to a request instead of an answer. */
export const CALL_FAULTS = ['reset', 'silence', '429', '500', '502'] as const;
export type WatchFault = (typeof WATCH_FAULTS)[number];
export type CallFault = (typeof CALL_FAULTS)[number];

const EXPIRED = JSON.stringify({
  type: 'ERROR',
  object: { kind: 'Status', apiVersion: 'v1', code: 410, reason: 'Expired', message: 'too old resource version' },
});

export class FaultyProxy {
  readonly server: string;
  /** Of watches, how many were begun. */
  watches = 0;
  readonly #cluster: TestCluster;
  readonly #running = new Map<ServerResponse, { frozen: boolean }>();
  #next: CallFault[] = [];

  private constructor(cluster: TestCluster, port: number) {
    this.#cluster = cluster;
    this.server = `http://127.0.0.1:${port}`;
  }

  static async start(onFinished: OnFinished, cluster: TestCluster): Promise<FaultyProxy> {
    const listener = createServer((question, answer) => proxy.#serve(question, answer));
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const proxy = new FaultyProxy(cluster, (listener.address() as AddressInfo).port);
    onFinished(async () => {
      listener.closeAllConnections();
      listener.close();
    });
    return proxy;
  }

  /** The next requests that are no watch meet these, one each. */
  failCalls(...faults: readonly CallFault[]): void {
    this.#next.push(...faults);
  }

  /** Every watch that runs now. */
  failWatches(fault: WatchFault): void {
    for (const [answer, state] of [...this.#running]) {
      if (fault === 'freeze') state.frozen = true;
      else {
        this.#running.delete(answer);
        if (fault === 'expired') answer.end(`${EXPIRED}\n`);
        else if (fault === 'garbage') answer.end('}{ this is no event\n');
        else if (fault === 'end') answer.end();
        else {
          if (fault === 'torn') answer.write('{"type":"MODIFIED","object":{"meta');
          setImmediate(() => answer.destroy());
        }
      }
    }
  }

  /** From now on all is well. */
  heal(): void {
    this.#next = [];
    for (const answer of this.#running.keys()) answer.destroy();
    this.#running.clear();
  }

  #serve(question: IncomingMessage, answer: ServerResponse): void {
    answer.on('error', () => undefined);
    const isWatch = question.url?.includes('watch=true') === true;
    const fault = isWatch ? undefined : this.#next.shift();
    if (fault !== undefined) {
      this.#fail(question, answer, fault);
      return;
    }
    const state = { frozen: false };
    if (isWatch) {
      this.watches += 1;
      this.#running.set(answer, state);
      answer.on('close', () => this.#running.delete(answer));
    }
    const [ca, cert, key] = ['ca.crt', 'admin.crt', 'admin.key'].map((name) => readFileSync(this.#cluster.path(name)));
    const url = new URL(question.url ?? '/', this.#cluster.server);
    const { host: _host, connection: _connection, ...headers } = question.headers;
    const onward = request(url, { method: question.method, headers, ca, cert, key, agent: false }, (answered) => {
      answer.writeHead(answered.statusCode ?? 500, answered.headers);
      answered.on('data', (chunk) => state.frozen || answer.writableEnded || answer.write(chunk));
      answered.on('end', () => state.frozen || answer.writableEnded || answer.end());
      answered.on('error', () => answer.destroy());
    });
    onward.on('error', () => answer.destroy());
    answer.on('close', () => onward.destroy());
    question.pipe(onward);
  }

  #fail(question: IncomingMessage, answer: ServerResponse, fault: CallFault): void {
    question.resume();
    const status = (code: number, reason: string) => JSON.stringify({ kind: 'Status', code, reason, message: reason });
    switch (fault) {
      case 'reset':
        answer.destroy();
        break;
      case 'silence':
        break;
      case '429':
        answer.writeHead(429, { 'retry-after': '1' }).end(status(429, 'TooManyRequests'));
        break;
      case '500':
        answer.writeHead(500).end(status(500, 'InternalError'));
        break;
      case '502':
        answer.writeHead(502, { 'content-type': 'text/html' }).end('<html><body>Bad Gateway</body></html>');
    }
  }
}
