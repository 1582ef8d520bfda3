/** All objects of a resource, page by page. */
import type { KubeList, KubeObject } from './objects.ts';
import type { KubeTransport, Query } from './transport.ts';

const PAGE = 500;

export interface ListRequest {
  readonly path: string;
  readonly query?: Query;
  readonly signal?: AbortSignal | undefined;
}

/** A consistent read. Where its pages expire under way the API server goes on with an inconsistent one: then anew. */
export async function listAll<T extends KubeObject>(
  transport: KubeTransport,
  { path, query, signal }: ListRequest,
): Promise<{ items: T[]; resourceVersion: string }> {
  const items: T[] = [];
  let next: string | undefined;
  for (;;) {
    const page: KubeList<T> = await transport.json({
      method: 'GET',
      path,
      query: { ...query, limit: String(PAGE), continue: next },
      signal,
    });
    items.push(...page.items);
    next = page.metadata.continue === '' ? undefined : page.metadata.continue;
    if (next === undefined) return { items, resourceVersion: page.metadata.resourceVersion };
  }
}
