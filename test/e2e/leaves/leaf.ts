/** What a manifest can say, as the schema has it: every leaf of a spec, whose effect a row must show. */
import { crdOf } from '../../../src/api/crd.ts';
import { KINDS, type Kind } from '../../../src/api/meta.ts';
import type { Structural } from '../../../src/api/structural.ts';
import type { Place } from './place.ts';

export interface Leaf {
  /** As `VirtualMachine.spec.disks[].image.url`. */
  readonly path: string;
  /** Of an enum. */
  readonly values?: readonly string[];
  /** A rule of the schema refuses some change of it, or of something that it is part of. */
  readonly fixed: boolean;
}

/** Changes the leaf on a real machine and sees what becomes of it through something that is not ours. */
export type Effect = (place: Place) => Promise<void>;

export interface Row {
  readonly leaf: string;
  /** For an enum: that of each of its values. */
  readonly effect: Effect | Readonly<Record<string, Effect>>;
  /** Specs with one value of the leaf, and with another to which it may then not be changed. */
  readonly fixed?: { readonly made: object; readonly asked: object };
}

interface Node {
  readonly schema: Structural;
  readonly path: string;
}

function nodesBelow({ schema, path }: Node): Node[] {
  const { properties = {}, items } = schema;
  const fields = Object.entries(properties).map(([name, field]) => ({ schema: field, path: `${path}.${name}` }));
  const below = items === undefined ? fields : [...fields, { schema: items, path: `${path}[]` }];
  return [{ schema, path }, ...below.flatMap(nodesBelow)];
}

/** Where a rule stands that compares with the former value. */
function fixedPaths({ schema, path }: Node): string[] {
  const rules = schema['x-kubernetes-validations'] ?? [];
  return rules.filter(({ rule }) => rule.includes('oldSelf')).map(({ fieldPath = '' }) => path + fieldPath);
}

function leavesOf(kind: Kind): Leaf[] {
  const schema = crdOf(kind).spec.versions[0]?.schema.openAPIV3Schema.properties?.['spec'];
  if (schema === undefined) throw new Error(`${kind} has no spec`);
  const nodes = nodesBelow({ schema, path: `${kind}.spec` });
  const fixed = nodes.flatMap(fixedPaths);
  return nodes
    .filter(({ path }) => !nodes.some((node) => node.path !== path && isWithin(node.path, path)))
    .map(({ schema: { enum: values }, path }) => ({
      path,
      ...(values === undefined ? {} : { values }),
      fixed: fixed.some((above) => isWithin(path, above)),
    }));
}

/** Whether a path is this one or leads further. */
function isWithin(path: string, above: string): boolean {
  return path === above || path.startsWith(`${above}.`) || path.startsWith(`${above}[`);
}

export const LEAVES: readonly Leaf[] = KINDS.flatMap(leavesOf);
