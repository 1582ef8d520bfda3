/** A web server for images that behaves as it is told: slow, cut, lying, redirecting, absent. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer as createHttp, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createHttps } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { OnFinished } from './rig.ts';

export interface ServedImage {
  body: Buffer;
  /** Bytes per tenth of a second; absent: all at once. */
  pace?: number;
  /** The connection is cut after so many bytes, so many times. */
  cutAfter?: number;
  cuts?: number;
  /** Said instead of the real length. */
  saidLength?: number;
  redirectTo?: string;
  status?: number;
  /** Answers a Range by the whole. */
  noRanges?: boolean;
}

export interface ImageServer {
  readonly url: string;
  readonly images: Map<string, ServedImage>;
  /** Path and Range header of every request. */
  readonly requests: string[];
}

export async function serveImages(onFinished: OnFinished, tls?: { key: Buffer; cert: Buffer }): Promise<ImageServer> {
  const images = new Map<string, ServedImage>();
  const requests: string[] = [];
  const listener: RequestListener = (request, response) => {
    const path = request.url ?? '';
    requests.push(`${path} ${request.headers.range ?? ''}`.trim());
    const image = images.get(path);
    if (image === undefined) response.writeHead(404).end('not here');
    else if (image.redirectTo !== undefined) response.writeHead(302, { location: image.redirectTo }).end();
    else if (image.status !== undefined) response.writeHead(image.status).end();
    else void serve(image, request.headers.range, response);
  };
  const server = tls === undefined ? createHttp(listener) : createHttps(tls, listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  const host = tls === undefined ? `http://127.0.0.1:${port}` : `https://localhost:${port}`;
  return { url: host, images, requests };
}

async function serve(image: ServedImage, range: string | undefined, response: ServerResponse): Promise<void> {
  const from = image.noRanges === true ? 0 : Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1] ?? 0);
  const body = image.body.subarray(from);
  if (from > 0 && body.length === 0) {
    response.writeHead(416).end();
    return;
  }
  const length = image.saidLength ?? body.length;
  response.writeHead(from > 0 ? 206 : 200, {
    'content-length': length,
    ...(from > 0 ? { 'content-range': `bytes ${from}-${image.body.length - 1}/${image.body.length}` } : {}),
  });
  const cut = image.cutAfter !== undefined && (image.cuts ?? 0) > 0;
  if (cut) image.cuts = (image.cuts ?? 0) - 1;
  const end = cut ? Math.min(body.length, image.cutAfter ?? 0) : body.length;
  const step = image.pace ?? body.length;
  for (let at = 0; at < end && !response.destroyed; at += step) {
    response.write(body.subarray(at, Math.min(end, at + step)));
    if (image.pace !== undefined) await new Promise((resolve) => setTimeout(resolve, 100));
  }
  // What was written reaches the client before the connection is cut.
  if (cut || length > body.length) setTimeout(() => response.destroy(), 200);
  else response.end();
}

/** A certificate that the system does not know. */
export function selfSigned(folder: string): { key: Buffer; cert: Buffer; certFile: string } {
  const [key, cert] = [join(folder, 'tls.key'), join(folder, 'tls.crt')];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  execFileSync(
    'openssl',
    ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-keyout', key, '-out', cert, ...subject],
    {
      stdio: 'ignore',
    },
  );
  return { key: readFileSync(key), cert: readFileSync(cert), certFile: cert };
}
