/** The doors over real sockets, with a store and a loop that do as they are told. */
import { expect, onTestFinished, test } from 'vitest';
import { DoorError } from '../../src/serve/door.ts';
import { type DoorPlace, type LoopState, openDoors } from '../../src/serve/doors.ts';
import { ask } from '../e2e/support/doors.ts';
import { scrape } from '../e2e/support/exposition.ts';
import { listen } from '../e2e/support/sockets.ts';

const ANY = (flag: string) => ({ flag, text: '127.0.0.1:0', host: '127.0.0.1', port: 0 });
const EMPTY = async () => ({ items: [], resourceVersion: '1' });

async function opened(place: Partial<DoorPlace> = {}): Promise<{ health: string; metrics: string }> {
  const whole: DoorPlace = {
    store: { list: EMPTY },
    onEvent: () => undefined,
    loopState: () => 'running',
    version: '1.2.3',
    ...place,
  };
  const doors = await openDoors(whole, { health: ANY('--h'), metrics: ANY('--m') });
  onTestFinished(async () => void (await Promise.all(doors.map((door) => door.close()))));
  const [health, metrics] = doors.map(({ address }) => address);
  return { health: health ?? '', metrics: metrics ?? '' };
}

test.each([
  ['starting', 500, '[+]store ok\n[-]loop failed: it is starting\nreadyz check failed\n', 0],
  ['running', 200, 'ok', 1],
  ['standing by', 200, 'ok', 0],
  ['ending', 500, '[+]store ok\n[-]loop failed: it is ending\nreadyz check failed\n', 0],
] as const)('while the loop is %s', async (state: LoopState, status, text, driving) => {
  const { health, metrics } = await opened({ loopState: () => state });
  expect(await ask(health, '/readyz')).toEqual({ status, text });
  expect(await ask(health, '/healthz')).toEqual({ status: 200, text: 'ok' });
  expect((await scrape(metrics)).value('qemu_operator_loop_running')).toBe(driving);
});

test('a store whose first list never comes: not ready, and the scraper has the rest in time', async () => {
  const { health, metrics } = await opened({ store: { list: () => new Promise(() => undefined) } });
  const [answer, seen] = await Promise.all([ask(health, '/readyz'), scrape(metrics)]);
  expect(answer).toEqual({
    status: 500,
    text: '[-]store failed: no answer within 2 s\n[+]loop ok\nreadyz check failed\n',
  });
  expect(seen.value('qemu_operator_store_up')).toBe(0);
  expect(seen.value('qemu_operator_build_info', { version: '1.2.3' })).toBe(1);
});

test('a store that fails in the middle of a scrape: the text is cut, and no scraper takes it for whole', async () => {
  let lists = 0;
  const list = async () => {
    lists += 1;
    // The check before it has two.
    if (lists > 2) throw new Error('gone');
    return EMPTY();
  };
  const { metrics } = await opened({ store: { list } });
  await expect(fetch(`http://${metrics}/metrics`).then((answer) => answer.text())).rejects.toThrow();
  // And the door is there for the next one.
  expect((await ask(metrics, '/other')).status).toBe(404);
});

test('events reach the figures', async () => {
  let tell: Parameters<DoorPlace['onEvent']>[0] = () => undefined;
  const { metrics } = await opened({
    onEvent: (listener) => {
      tell = listener;
    },
  });
  tell({ type: 'failed', host: 'rack1', vm: '*' });
  expect((await scrape(metrics)).value('controller_runtime_reconcile_errors_total')).toBe(1);
});

test('where one cannot be opened, none stays open', async () => {
  const { server, port } = await listen();
  onTestFinished(() => void server.close());
  const free = await listen();
  free.server.close();
  const taken = { flag: '--m', text: `127.0.0.1:${port}`, host: '127.0.0.1', port };
  const place: DoorPlace = {
    store: { list: EMPTY },
    onEvent: () => undefined,
    loopState: () => 'running',
    version: '1',
  };
  const first = { ...ANY('--h'), port: free.port };
  const opening = openDoors(place, { health: first, metrics: taken });
  await expect(opening).rejects.toThrow(DoorError);
  await expect(opening).rejects.toThrow(`--m 127.0.0.1:${port} cannot be served: another process listens there`);
  await expect(fetch(`http://127.0.0.1:${free.port}/healthz`)).rejects.toThrow();
});
