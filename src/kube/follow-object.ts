/** One object of an API server, kept by list and watch: also where the right to it is one to its name alone. */
import { collectionPath, type KubeObject, type Resource } from './objects.ts';
import { Reflector } from './reflector.ts';
import type { KubeTransport } from './transport.ts';

export interface FollowOptions {
  readonly transport: KubeTransport;
  readonly resource: Resource;
  readonly ref: { readonly namespace: string; readonly name: string };
  readonly signal: AbortSignal;
  /** At first, and whenever something may have changed. Undefined: it does not exist. */
  readonly onChange: (object: KubeObject | undefined) => void;
  readonly onFailure: (error: unknown) => void;
}

/** Until the signal aborts. Never rejects. */
export async function followObject(options: FollowOptions): Promise<void> {
  const { transport, resource, ref, signal, onChange, onFailure } = options;
  const path = collectionPath(resource, ref.namespace);
  const query = { fieldSelector: `metadata.name=${ref.name}` };
  const reflector = new Reflector({ transport, path, query, read: (object) => object, onFailure });
  reflector.listen((delta) => {
    if (delta === undefined) onChange(reflector.get(`${ref.namespace}/${ref.name}`));
  });
  await reflector.run(signal);
}
