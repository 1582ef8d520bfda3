/**
 * Whose a bearer token is, and what its user may do, as the API server itself judges: TokenReview and
 * SubjectAccessReview. What it said is remembered for a few seconds, so a right that was taken away ends soon.
 */
import { createHash } from 'node:crypto';
import { reviewAccess } from './access-review.ts';
import { KubeUnreachableError } from './kube-error.ts';
import type { KubeTransport } from './transport.ts';

/** Source: authentication.k8s.io/v1 UserInfo. */
export interface KubeUser {
  readonly username: string;
  readonly uid?: string;
  readonly groups?: readonly string[];
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}

/** Source: authorization.k8s.io/v1 ResourceAttributes. */
export interface ResourceAttributes {
  readonly verb: string;
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  /** Absent: all of them, or a resource without namespaces. */
  readonly namespace?: string | undefined;
  readonly name?: string | undefined;
}

interface TokenReview {
  readonly status?: {
    readonly authenticated?: boolean;
    readonly user?: KubeUser;
    readonly audiences?: readonly string[];
  };
}

const REMEMBERED_MS = 10_000;
const MAX_REMEMBERED = 1_000;
/** Whoever sends garbage shall not take the operator's way to the API server. */
const MAX_REVIEWS = 32;
/** No token of Kubernetes or of an OIDC provider is longer. */
const MAX_TOKEN = 16_384;

export class KubeUsers {
  readonly #transport: KubeTransport;
  readonly #audience: string;
  readonly #users = new Memory<KubeUser | undefined>();
  readonly #rights = new Memory<boolean>();
  #reviewing = 0;

  /** @param audience what a token must have been issued for */
  constructor(transport: KubeTransport, audience: string) {
    this.#transport = transport;
    this.#audience = audience;
  }

  /** Undefined: forged, expired, revoked, or issued for somebody else. @throws KubeUnreachableError, KubeStatusError */
  userOf(token: string): Promise<KubeUser | undefined> {
    if (token.length > MAX_TOKEN) return Promise.resolve(undefined);
    return this.#users.get(digestOf(token), () => this.#review(token));
  }

  async #review(token: string): Promise<KubeUser | undefined> {
    if (this.#reviewing >= MAX_REVIEWS) throw new KubeUnreachableError('too many tokens are being reviewed');
    this.#reviewing += 1;
    try {
      const spec = { token, audiences: [this.#audience] };
      const { status = {} } = await this.#transport.json<TokenReview>({
        method: 'POST',
        path: '/apis/authentication.k8s.io/v1/tokenreviews',
        body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec },
      });
      // An authenticator that knows no audiences names none: its tokens were issued for the API server.
      const isForUs = status.audiences?.includes(this.#audience) === true;
      return status.authenticated === true && isForUs ? status.user : undefined;
    } finally {
      this.#reviewing -= 1;
    }
  }

  /** @throws KubeUnreachableError, KubeStatusError */
  allows(user: KubeUser, attributes: ResourceAttributes): Promise<boolean> {
    return this.#rights.get(digestOf(JSON.stringify([user, attributes])), async () => {
      const { username, uid, groups, extra } = user;
      const spec = { user: username, uid, groups, extra, resourceAttributes: attributes };
      return (await reviewAccess(this.#transport, spec)).allowed;
    });
  }
}

function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('base64');
}

/** Answers for a few seconds. A failure is none. */
class Memory<T> {
  readonly #answers = new Map<string, { readonly answer: Promise<T>; readonly until: number }>();

  get(key: string, ask: () => Promise<T>): Promise<T> {
    const known = this.#answers.get(key);
    if (known !== undefined && known.until > performance.now()) return known.answer;
    const answer = ask();
    this.#answers.delete(key);
    this.#answers.set(key, { answer, until: performance.now() + REMEMBERED_MS });
    // The oldest goes first.
    for (const old of this.#answers.keys()) if (this.#answers.size > MAX_REMEMBERED) this.#answers.delete(old);
    answer.catch(() => this.#answers.get(key)?.answer === answer && this.#answers.delete(key));
    return answer;
  }
}
