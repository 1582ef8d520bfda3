/** The answers of /healthz and /readyz, in the words of Kubernetes' own components. */
import { messageOf } from '../api/errors.ts';

export interface Check {
  readonly name: string;
  /** Fails with the reason. */
  readonly run: (signal: AbortSignal) => Promise<unknown>;
}

export interface Verdict {
  readonly name: string;
  /** Absent: it is well. */
  readonly failure?: string;
}

/** A probe of the kubelet gives up soon after. */
const DEADLINE_MS = 2_000;

/** All checks at once; one that does not answer in time has failed. Never rejects. */
export function examine(checks: readonly Check[], deadlineMs = DEADLINE_MS): Promise<Verdict[]> {
  return Promise.all(checks.map((check) => verdictOf(check, deadlineMs)));
}

async function verdictOf({ name, run }: Check, deadlineMs: number): Promise<Verdict> {
  const abort = new AbortController();
  const late = new Error(`no answer within ${deadlineMs / 1000} s`);
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(late), deadlineMs);
  });
  try {
    await Promise.race([run(abort.signal), deadline]);
    return { name };
  } catch (error) {
    return { name, failure: messageOf(error) };
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}

/**
 * What a probe is told: `ok`, or with `?verbose` or where something failed a line for each check.
 * Source: k8s.io/apiserver/pkg/server/healthz, handleRootHealth; but the reason is told, not withheld.
 */
export function healthAnswer(
  path: 'healthz' | 'readyz',
  verdicts: readonly Verdict[],
  verbose: boolean,
): { readonly status: 200 | 500; readonly text: string } {
  const failed = verdicts.some(({ failure }) => failure !== undefined);
  if (!failed && !verbose) return { status: 200, text: 'ok' };
  const lines = verdicts.map(({ name, failure }) =>
    failure === undefined ? `[+]${name} ok\n` : `[-]${name} failed: ${failure}\n`,
  );
  const text = `${lines.join('')}${path} check ${failed ? 'failed' : 'passed'}\n`;
  return { status: failed ? 500 : 200, text };
}

/** One answer for all who ask at once, and for a moment after: probes are no load for what they ask about. */
export function shared<T>(work: () => Promise<T>, forMs: number): () => Promise<T> {
  let last: Promise<T> | undefined;
  return () => {
    if (last !== undefined) return last;
    const mine = work();
    last = mine;
    const forget = () =>
      setTimeout(() => {
        if (last === mine) last = undefined;
      }, forMs).unref();
    mine.then(forget, forget);
    return mine;
  };
}
