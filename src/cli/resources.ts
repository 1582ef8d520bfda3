/** Which objects a person means, in kubectl's words: `qvm web-1 web-2`, `qvm/web-1`, `vm/web-1`, `hosts`. */
import { ForbiddenError, NotFoundError, namespaceMissing, nearNames } from '../api/errors.ts';
import { KIND_INFO, type ObjectOf } from '../api/kinds.ts';
import { DEFAULT_NAMESPACE, GROUP, KINDS, type Kind, type ObjectRef } from '../api/meta.ts';
import type { Store } from '../store/store.ts';
import { usageError } from './exit-codes.ts';

export interface Target<K extends Kind = Kind> {
  readonly kind: K;
  readonly ref: ObjectRef;
}

/** The kind of a word such as `qvm`, `virtualmachines` or `virtualmachine.qemu-operator.dev`. */
export function kindOf(word: string): Kind {
  const name = word.toLowerCase().replace(/\.(v1alpha1\.)?qemu-operator\.dev$/, '');
  const found = KINDS.find((kind) => namesOf(kind).includes(name));
  if (found !== undefined) return found;
  const known = KINDS.flatMap(namesOf);
  const near = nearNames(name, known);
  const advice = near.length > 0 ? `did you mean ${near.join(' or ')}?` : `there are ${known.join(', ')}`;
  throw usageError(`the server doesn't have a resource type "${word}"; ${advice}`);
}

function namesOf(kind: Kind): readonly string[] {
  const { plural, singular, shortNames } = KIND_INFO[kind];
  return [plural, singular, ...shortNames];
}

/** `virtualmachine.qemu-operator.dev`, as kubectl prints it. */
export function resourceOf(kind: Kind): string {
  return `${KIND_INFO[kind].singular}.${GROUP}`;
}

/** `virtualmachine.qemu-operator.dev/web-1` */
export function nameOf({ kind, ref }: Target): string {
  return `${resourceOf(kind)}/${ref.name}`;
}

/** `web-1 is settled`, `web-1, web-2 are settled` */
export function settledWords(targets: readonly Target[]): string {
  return `${targets.map(({ ref }) => ref.name).join(', ')} ${targets.length > 1 ? 'are' : 'is'} settled`;
}

/** The namespace counts only where the kind has one. */
export function refIn(kind: Kind, name: string, namespace: string | undefined): ObjectRef {
  return KIND_INFO[kind].namespaced ? { namespace: namespace ?? DEFAULT_NAMESPACE, name } : { name };
}

export interface Asked {
  readonly kinds: readonly Kind[];
  /** Empty: all of these kinds. */
  readonly targets: readonly Target[];
}

/** `KIND`, `KIND NAME...`, `KIND,KIND` or `KIND/NAME...`. */
export function parseTargets(words: readonly string[], namespace: string | undefined): Asked {
  const [first, ...names] = words;
  if (first === undefined) {
    throw usageError(`You must specify the type of resource: ${KINDS.map((kind) => namesOf(kind)[0]).join(', ')}`);
  }
  if (words.some((word) => word.includes('/'))) {
    const targets = words.map((word) => slashed(word, namespace));
    return { kinds: [...new Set(targets.map(({ kind }) => kind))], targets };
  }
  const kinds = [...new Set(first.split(',').map(kindOf))];
  const targets = kinds.flatMap((kind) => names.map((name) => ({ kind, ref: refIn(kind, name, namespace) })));
  return { kinds, targets };
}

/** In all namespaces, or where only one is open to the person, in that one. */
async function seenBeside<K extends Kind>(store: Store, kind: K, namespace: string | undefined) {
  try {
    return (await store.list(kind)).items;
  } catch (error) {
    if (!(error instanceof ForbiddenError)) throw error;
    return namespace === undefined ? [] : (await store.list(kind, { namespace })).items;
  }
}

function slashed(word: string, namespace: string | undefined): Target {
  const [type, name, more] = word.split('/');
  if (type === undefined || type === '' || name === undefined || name === '' || more !== undefined)
    throw usageError(`"${word}": there is no need to mix; write TYPE NAME... or TYPE/NAME...`);
  const kind = kindOf(type);
  return { kind, ref: refIn(kind, name, namespace) };
}

/** VMs by name alone, or as `qvm/NAME`. */
export function parseVmNames(words: readonly string[], namespace: string | undefined): Target<'VirtualMachine'>[] {
  // `start qvm web-1` is what kubectl taught.
  const [first] = words;
  const typed = words.length > 1 && first !== undefined && namesOf('VirtualMachine').includes(first.toLowerCase());
  return (typed ? words.slice(1) : words).map((word) => {
    const target = word.includes('/') ? slashed(word, namespace) : undefined;
    if (target !== undefined && target.kind !== 'VirtualMachine') throw usageError(`${word} is no virtual machine`);
    const ref = target?.ref ?? refIn('VirtualMachine', word, namespace);
    return { kind: 'VirtualMachine', ref };
  });
}

/** @throws NotFoundError with names that come near */
export async function requireObject<K extends Kind>(store: Store, { kind, ref }: Target<K>): Promise<ObjectOf<K>> {
  const object = await store.get(kind, ref);
  if (object === undefined) throw await notFound(store, { kind, ref });
  return object;
}

async function notFound(store: Store, { kind, ref }: Target): Promise<NotFoundError> {
  if (ref.namespace !== undefined && !(await store.hasNamespace(ref.namespace))) return namespaceMissing(ref.namespace);
  const items = await seenBeside(store, kind, ref.namespace);
  const here = items
    .filter(({ metadata }) => metadata.namespace === ref.namespace)
    .map(({ metadata }) => metadata.name);
  const near = nearNames(ref.name, here);
  const elsewhere = items.filter(({ metadata }) => metadata.name === ref.name && metadata.namespace !== ref.namespace);
  const advice =
    elsewhere.length > 0
      ? `; there is one in namespace ${elsewhere.map(({ metadata }) => metadata.namespace).join(', ')}`
      : near.length > 0
        ? `; did you mean ${near.join(' or ')}?`
        : '';
  return new NotFoundError(`${KIND_INFO[kind].plural}.${GROUP} "${ref.name}" not found${advice}`);
}
