/** What the API server refuses, as metav1.Status says it, and what keeps us from asking. */

/** One cause of a refusal. Source: metav1.StatusCause. */
export interface StatusCause {
  readonly reason?: string;
  readonly message?: string;
  readonly field?: string;
}

interface KubeErrorOptions extends ErrorOptions {
  readonly causes?: readonly StatusCause[] | undefined;
  readonly retryAfterMs?: number | undefined;
}

/** An answer of the API server that is none of success; also one that a proxy before it gave. */
export class KubeStatusError extends Error {
  override readonly name = 'KubeStatusError';
  /** HTTP status. */
  readonly code: number;
  /** metav1.StatusReason; empty where the answer was none of the API server's. */
  readonly reason: string;
  readonly causes: readonly StatusCause[];
  /** As the server asked for; absent where it did not. */
  readonly retryAfterMs: number | undefined;

  constructor(code: number, reason: string, message: string, options: KubeErrorOptions = {}) {
    super(message, options);
    this.code = code;
    this.reason = reason;
    this.causes = options.causes ?? [];
    this.retryAfterMs = options.retryAfterMs;
  }

  /** The resourceVersion is no longer, or not yet, one that a watch can begin from: list again. */
  get expired(): boolean {
    return this.code === 410 || this.reason === 'Expired' || /too large resource version/i.test(this.message);
  }
}

/** The API server was not reached, or did not answer in time. What a write did is not known. */
export class KubeUnreachableError extends Error {
  override readonly name = 'KubeUnreachableError';
}

/** No kubeconfig, or one that cannot be used. */
export class KubeConfigError extends Error {
  override readonly name = 'KubeConfigError';
}
