/** The CustomResourceDefinition of a kind, from its schemas. */
import { KIND_INFO, type KindInfo } from './kinds.ts';
import { GROUP, type Kind, VERSION } from './meta.ts';
import { rules } from './schema.ts';
import { type Structural, structuralOf } from './structural.ts';

export interface CustomResourceDefinition {
  readonly apiVersion: 'apiextensions.k8s.io/v1';
  readonly kind: 'CustomResourceDefinition';
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly group: string;
    readonly names: Readonly<Record<string, string | readonly string[]>>;
    readonly scope: 'Namespaced' | 'Cluster';
    readonly versions: readonly CrdVersion[];
  };
}

interface CrdVersion {
  readonly name: string;
  readonly served: boolean;
  readonly storage: boolean;
  readonly subresources: { readonly status: Readonly<Record<string, never>> };
  readonly additionalPrinterColumns: readonly Readonly<Record<string, string | number>>[];
  readonly schema: { readonly openAPIV3Schema: Structural };
}

/** `kubectl get qemu` lists all kinds; `kubectl get all` stays as it was. */
const CATEGORIES = ['qemu'];

export function crdOf(kind: Kind): CustomResourceDefinition {
  const info = KIND_INFO[kind];
  const { plural, singular, shortNames, namespaced } = info;
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${GROUP}` },
    spec: {
      group: GROUP,
      names: { kind, listKind: `${kind}List`, plural, singular, shortNames, categories: CATEGORIES },
      scope: namespaced ? 'Namespaced' : 'Cluster',
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: info.columns.map(({ name, type, jsonPath, priority, description }) => ({
            name,
            type,
            jsonPath,
            ...(priority === 0 ? {} : { priority }),
            description,
          })),
          schema: { openAPIV3Schema: schemaOf(kind, info) },
        },
      ],
    },
  };
}

const NOT_YET_LOOKED_AT = { observedGeneration: 0 };

function schemaOf(kind: Kind, info: KindInfo): Structural {
  return {
    description: info.description,
    type: 'object',
    required: ['spec'],
    ...(info.rules.length === 0 ? {} : rules(...info.rules)),
    properties: {
      apiVersion: { type: 'string', maxLength: 253, description: 'Group and version of the kind.' },
      kind: { type: 'string', maxLength: 63, description: 'Name of the kind.' },
      // Kubernetes lets a CRD say no more of metadata than this.
      metadata: { type: 'object', properties: { name: structuralOf(info.name, `${kind}.metadata.name`) } },
      spec: { ...structuralOf(info.spec.lenient, `${kind}.spec`), description: 'What is wanted.' },
      // kstatus, by which Helm, Argo CD and Flux wait, takes an object without a status for one that is done.
      status: {
        ...structuralOf(info.status, `${kind}.status`),
        description: 'What was last seen. The operator alone writes it.',
        default: NOT_YET_LOOKED_AT,
      },
    },
  };
}
