/** One address that answers HTTP. All that this room serves hangs on express here. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Server } from 'node:net';
import express, { type ErrorRequestHandler, type Express } from 'express';
import { messageOf } from '../api/errors.ts';

export interface BindAddress {
  /** The option that names it. */
  readonly flag: string;
  /** As it was given, such as `:8080`. */
  readonly text: string;
  /** Absent: every address of the machine. */
  readonly host?: string | undefined;
  /** 0: any that is free. */
  readonly port: number;
}

export interface Door {
  readonly flag: string;
  /** Where it listens. */
  readonly address: string;
  /** No new request is taken; those under way have a moment. */
  close(): Promise<void>;
}

/** The option and the address that cannot be served, and why. */
export class DoorError extends Error {
  override readonly name = 'DoorError';
}

const CLOSING_MS = 2_000;
/** Until a request is there whole. Its answer may take longer. */
const REQUEST_MS = 10_000;

/** @throws DoorError */
export async function openDoor(bind: BindAddress, addRoutes: (app: Express) => void): Promise<Door> {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.use((_request, response, next) => {
    response.set({ 'X-Content-Type-Options': 'nosniff', 'Cache-Control': 'no-store' });
    next();
  });
  addRoutes(app);
  app.use((_request, response) => void response.status(404).type('text').send('404 page not found\n'));
  app.use(failed);
  const server = createServer({ requestTimeout: REQUEST_MS, connectionsCheckingInterval: REQUEST_MS / 2 }, app);
  const address = await listening(server, bind);
  return {
    flag: bind.flag,
    address,
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      const timer = setTimeout(() => server.closeAllConnections(), CLOSING_MS);
      await closed;
      clearTimeout(timer);
    },
  };
}

/** Resolves to where it listens. @throws DoorError */
export async function listening(server: Server, bind: BindAddress): Promise<string> {
  try {
    server.listen({ port: bind.port, ...(bind.host !== undefined && { host: bind.host }) });
    await once(server, 'listening');
  } catch (error) {
    throw new DoorError(`${bind.flag} ${bind.text} cannot be served: ${whyNot(error as NodeJS.ErrnoException)}`);
  }
  const { address, port, family } = server.address() as AddressInfo;
  return family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`;
}

const failed: ErrorRequestHandler = (error, _request, response, _next) => {
  if (response.headersSent) response.destroy();
  else
    response
      .status(500)
      .type('text')
      .send(`${messageOf(error)}\n`);
};

const WHY: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process listens there; choose another address, or 0 for none',
  EACCES: 'ports below 1024 are for root; choose another',
  EADDRNOTAVAIL: 'this machine does not have the address',
  ENOTFOUND: 'no such name',
};

function whyNot(error: NodeJS.ErrnoException): string {
  return WHY[error.code ?? ''] ?? error.message;
}
