/** Whether somebody may do something: the API server's own authorizers are asked. Source: authorization.k8s.io/v1. */
import type { KubeTransport } from './transport.ts';

/** Spec of a SubjectAccessReview. */
export interface AccessReview {
  readonly user: string;
  readonly uid?: string | undefined;
  readonly groups?: readonly string[] | undefined;
  readonly extra?: Readonly<Record<string, readonly string[]>> | undefined;
  readonly resourceAttributes: object;
}

export interface Verdict {
  readonly allowed: boolean;
  /** Of the authorizer; often empty. */
  readonly reason: string;
}

/** @throws what KubeTransport.json throws */
export async function reviewAccess(
  transport: KubeTransport,
  spec: AccessReview,
  signal?: AbortSignal,
): Promise<Verdict> {
  const path = '/apis/authorization.k8s.io/v1/subjectaccessreviews';
  const body = { apiVersion: 'authorization.k8s.io/v1', kind: 'SubjectAccessReview', spec };
  const { status } = await transport.json<{ status?: Partial<Verdict> }>({ method: 'POST', path, body, signal });
  return { allowed: status?.allowed === true, reason: status?.reason ?? '' };
}
