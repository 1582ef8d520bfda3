/** metadata as a person may write it. In a cluster the API server judges it; these are its rules for stores without one. */
import { z } from 'zod';
import { API_VERSION } from './meta.ts';
import { label, lenient, map, type ObjectFactory, text } from './schema.ts';

const QUALIFIED =
  /^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;

/** `prefix/name`, or a name alone. */
const qualifiedName = () =>
  text(317).regex(QUALIFIED, 'a name of letters, digits, "-", "_" and ".", with or without a DNS prefix and "/"');

const labelValue = () =>
  text(63).regex(
    /^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/,
    'letters, digits, "-", "_" and ".", beginning and ending with a letter or digit',
  );

/** All annotations of an object together, keys and values, in characters. Kubernetes' own limit. */
const MAX_ANNOTATIONS = 262_144;

const annotations = () =>
  map(qualifiedName(), z.string(), 1024).refine(
    (entries) => Object.entries(entries).reduce((sum, [k, v]) => sum + k.length + v.length, 0) <= MAX_ANNOTATIONS,
    `at most ${MAX_ANNOTATIONS} characters together`,
  );

/** What only the store fills is accepted, since `get -o yaml` shows it. */
export const metadata = (object: ObjectFactory, name: z.ZodString) =>
  object({
    name,
    namespace: label(63).optional(),
    labels: map(qualifiedName(), labelValue(), 64).optional(),
    annotations: annotations().optional(),
    generateName: text(253).optional(),
    uid: text(64).optional(),
    resourceVersion: text(64).optional(),
    generation: z.int().optional(),
    creationTimestamp: text(40).nullish(),
    deletionTimestamp: text(40).nullish(),
    deletionGracePeriodSeconds: z.int().nullish(),
    finalizers: z.array(qualifiedName()).max(32).optional(),
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
