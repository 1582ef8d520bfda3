/**
 * The spec as a VM's record keeps it, so that an object can be made again from its host alone: contents that may
 * hold passwords are digests there, and are not to be had back.
 */
import { digestOf } from '../api/cloud-init.ts';
import { type VirtualMachineSpec, virtualMachineSpec } from '../api/virtual-machine.ts';

/** A spec as plain JSON. */
export type RecordedSpec = Readonly<Record<string, unknown>>;

const SECRET_FIELDS = ['userData', 'networkData'] as const;

export function recordedSpec(spec: VirtualMachineSpec): RecordedSpec {
  const { cloudInit } = spec;
  if (cloudInit === undefined) return spec;
  const digests = SECRET_FIELDS.flatMap((field) => {
    const content = cloudInit[field];
    return content === undefined ? [] : [[field, digestOf(content)] as const];
  });
  return { ...spec, cloudInit: { ...cloudInit, ...Object.fromEntries(digests) } };
}

export interface RestoredSpec {
  readonly spec: VirtualMachineSpec;
  /** Paths of contents that the record only has the digest of; they are not in the spec. */
  readonly lost: readonly string[];
}

/** undefined where this version cannot read it. */
export function restoredSpec(recorded: RecordedSpec): RestoredSpec | undefined {
  const spec = virtualMachineSpec.lenient.safeParse(recorded).data;
  if (spec?.cloudInit === undefined) return spec && { spec, lost: [] };
  const { userData, networkData, ...cloudInit } = spec.cloudInit;
  const given = { userData, networkData };
  const lost = SECRET_FIELDS.filter((field) => given[field] !== undefined).map((field) => `spec.cloudInit.${field}`);
  return { spec: { ...spec, cloudInit }, lost };
}
