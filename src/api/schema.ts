/**
 * The few building blocks that the kinds' schemas share. A schema is built twice from one definition: strict for
 * admission, where an unknown field is an error, and lenient for reading, where it is version skew and is dropped.
 * `.meta()` carries what only the CRD can say: CEL rules and list-map keys.
 */
import { z } from 'zod';
import { API_VERSION } from './meta.ts';
import { parseQuantity, QUANTITY_PATTERN } from './quantity.ts';

/** `z.strictObject`, or its lenient twin; both give the same TypeScript type. */
export type ObjectFactory = typeof z.strictObject;
export const strict: ObjectFactory = z.strictObject;
export const lenient = z.object as unknown as ObjectFactory;

/** A CEL rule and, for stores without CEL, its twin in TypeScript (see immutability in validate.ts). */
export interface CelRule {
  readonly rule: string;
  readonly message?: string;
  readonly messageExpression?: string;
  readonly reason?: 'FieldValueInvalid' | 'FieldValueForbidden' | 'FieldValueRequired';
  readonly fieldPath?: string;
}

export const rules = (...list: CelRule[]) => ({ 'x-kubernetes-validations': list });
export const listMap = (key: string) => ({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': [key] });

export const text = (maxLength: number) => z.string().max(maxLength);

/** An RFC 1123 label, as Kubernetes names its parts. */
export const label = (maxLength: number) =>
  z
    .string()
    .min(1)
    .max(maxLength)
    .regex(
      /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/,
      'lower case letters, digits and "-", beginning and ending with a letter or digit',
    );

/** An RFC 1123 subdomain: labels joined by dots. */
export const subdomain = (maxLength: number) =>
  z
    .string()
    .min(1)
    .max(maxLength)
    .regex(
      /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/,
      'lower case letters, digits, "-" and ".", beginning and ending with a letter or digit',
    );

/** A name on a host: one path segment that is safe as a folder and as a word of a command line. */
export const VM_NAME = /^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
export const vmName = () =>
  z
    .string()
    .min(1)
    .max(63)
    .regex(VM_NAME, '1 to 63 letters, digits, "_", "." and "-", beginning and ending with a letter or digit');

/** An absolute, normalised path without control characters: `..`, `//` and a trailing slash are refused. */
const ABSOLUTE_PATH =
  /^(\/([^/\u0000-\u001f\u007f.][^/\u0000-\u001f\u007f]*|\.[^/\u0000-\u001f\u007f.][^/\u0000-\u001f\u007f]*|\.\.[^/\u0000-\u001f\u007f]+))+$/;
export const absolutePath = () =>
  z
    .string()
    .max(1024)
    .regex(ABSOLUTE_PATH, 'an absolute path without "..", ".", "//", a trailing "/" or control characters');

/** The root itself is no file; as an allowed folder it means everything. */
export const absoluteFolder = () =>
  z
    .string()
    .max(1024)
    .regex(
      new RegExp(`^/$|${ABSOLUTE_PATH.source}`),
      'an absolute path without "..", ".", "//", a trailing "/" or control characters',
    );

export const quantity = () =>
  z
    .union([z.string().max(40).regex(new RegExp(QUANTITY_PATTERN), 'a quantity such as 2Gi, 512Mi or 20G'), z.int()])
    .refine((value) => parseQuantity(value) !== undefined, 'a quantity such as 2Gi, 512Mi or 20G')
    .meta({ 'x-kubernetes-int-or-string': true });

/** RFC 3339 with a zone, as Kubernetes writes its times. */
export const timestamp = () => z.iso.datetime({ offset: true }).max(40);

export const condition = (object: ObjectFactory) =>
  object({
    type: text(64).min(1),
    status: z.enum(['True', 'False', 'Unknown']),
    reason: text(64).min(1),
    message: text(1024),
    lastTransitionTime: timestamp(),
    observedGeneration: z.int().min(0).optional(),
  });

/** metadata as a person may write it; what only the store fills is accepted, since `get -o yaml` shows it. */
export const metadata = (object: ObjectFactory, name: z.ZodString) =>
  object({
    name,
    namespace: label(63).optional(),
    labels: z.record(text(317), text(63)).optional(),
    annotations: z.record(text(317), text(4096)).optional(),
    generateName: text(253).optional(),
    uid: text(64).optional(),
    resourceVersion: text(64).optional(),
    generation: z.int().optional(),
    creationTimestamp: text(40).nullish(),
    deletionTimestamp: text(40).nullish(),
    deletionGracePeriodSeconds: z.int().nullish(),
    finalizers: z.array(text(317)).max(32).optional(),
    ownerReferences: z
      .array(lenient({ apiVersion: text(128), kind: text(64), name: text(253), uid: text(64) }))
      .max(16)
      .optional(),
    managedFields: z.array(z.unknown()).optional(),
    selfLink: text(1024).optional(),
  });

export const typeMeta = <K extends string>(kind: K) => ({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal(kind),
});
