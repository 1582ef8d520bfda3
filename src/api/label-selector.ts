/** Label selectors as Kubernetes' own kinds have them. */
import { z } from 'zod';
import { type CelRule, map, type ObjectFactory, rules, setOf, text } from './schema.ts';

const MAX_KEY = 317;

const shortKeys: CelRule = {
  rule: `self.all(key, key.size() <= ${MAX_KEY})`,
  message: `keys of labels have at most ${MAX_KEY} characters`,
};

const valuesOfOperator: CelRule = {
  rule: "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
  message: 'In and NotIn need values, and the other operators take none',
};

const requirement = (object: ObjectFactory) =>
  object({
    key: text(MAX_KEY).min(1).describe('Key of a label.'),
    operator: z
      .enum(['In', 'NotIn', 'Exists', 'DoesNotExist'])
      .describe('In, NotIn: what its value is among; Exists, DoesNotExist: whether it is there.'),
    values: setOf(text(63), 32).optional().describe('Of In and NotIn, and of no other.'),
  }).meta(rules(valuesOfOperator));

/** An empty one selects everything. */
export const labelSelector = (object: ObjectFactory) =>
  object({
    matchLabels: map(text(MAX_KEY), text(63), 32)
      .meta(rules(shortKeys))
      .optional()
      .describe('Labels that it must have.'),
    matchExpressions: z.array(requirement(object)).max(16).optional().describe('Each of them must hold.'),
  });

export type LabelSelector = z.infer<ReturnType<typeof labelSelector>>;
type Requirement = NonNullable<LabelSelector['matchExpressions']>[number];

export function hasItsValues({ operator, values = [] }: Requirement): boolean {
  return (operator === 'In' || operator === 'NotIn') === values.length > 0;
}

export function selects(
  { matchLabels = {}, matchExpressions = [] }: LabelSelector,
  labels: Readonly<Record<string, string>>,
): boolean {
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every((requirement) => meets(requirement, labels))
  );
}

/** As Kubernetes has it, what is not there is in no list. */
function meets({ key, operator, values = [] }: Requirement, labels: Readonly<Record<string, string>>): boolean {
  const value = labels[key];
  const isListed = value !== undefined && values.includes(value);
  return { In: isListed, NotIn: !isListed, Exists: value !== undefined, DoesNotExist: value === undefined }[operator];
}
