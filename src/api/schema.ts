/**
 * The few building blocks that the kinds' schemas share. A schema is built twice from one definition: strict for
 * admission, where an unknown field is an error, and lenient for reading, where it is version skew and is dropped.
 * `.meta()` carries what only the CRD can say: CEL rules and list types. Every pattern is read by JavaScript and by
 * RE2 alike: no look-around, no back-references, no \u.
 */
import { z } from 'zod';
import { parseQuantity, QUANTITY_PATTERN, type Quantity } from './quantity.ts';

/** `z.strictObject`, or its lenient twin; both give the same TypeScript type. */
export type ObjectFactory = typeof z.strictObject;
export const strict: ObjectFactory = z.strictObject;
export const lenient = z.object as unknown as ObjectFactory;

/** A CEL rule of the CRD. Its twin for stores without CEL stands in spec-rules.ts; a test pairs them. */
export interface CelRule {
  readonly rule: string;
  readonly message?: string;
  readonly messageExpression?: string;
  readonly reason?: 'FieldValueInvalid' | 'FieldValueForbidden' | 'FieldValueRequired';
  /** As seen from the object that carries the rule: `.firmware.type`. */
  readonly fieldPath?: string;
}

export const rules = (...list: CelRule[]) => ({ 'x-kubernetes-validations': list });
export const listMap = (key: string) => ({ 'x-kubernetes-list-type': 'map', 'x-kubernetes-list-map-keys': [key] });

/** Each pattern in words: what a refusal and the manifest reference say instead of the expression. */
export const PATTERN_WORDS = new Map<string, string>();

function matching(maxLength: number, pattern: RegExp, words: string) {
  PATTERN_WORDS.set(pattern.source, words);
  return z.string().max(maxLength).regex(pattern, words);
}

export const text = (maxLength: number) => z.string().max(maxLength);

/** An RFC 1123 label, as Kubernetes names its parts. */
export const label = (maxLength: number) =>
  matching(
    maxLength,
    /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/,
    'lower case letters, digits and "-", beginning and ending with a letter or digit',
  ).min(1);

/** An RFC 1123 subdomain: labels joined by dots. */
export const subdomain = (maxLength: number) =>
  matching(
    maxLength,
    /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/,
    'lower case letters, digits, "-" and ".", each part beginning and ending with a letter or digit',
  ).min(1);

/** A name of a machine in the DNS: labels of at most 63 characters, joined by dots. */
export const hostname = () =>
  matching(
    253,
    /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$/,
    'a host name: lower case letters, digits and "-" in parts of at most 63 characters, joined by "."',
  ).min(1);

/** A user of a Linux guest, as useradd(8) takes them. */
export const userName = () =>
  matching(32, /^[a-z_][-a-z0-9_]*$/, 'lower case letters, digits, "-" and "_", beginning with a letter or "_"').min(1);

/** A key of a Secret, as Kubernetes has them. */
export const secretKey = () =>
  matching(
    253,
    /^([-_a-zA-Z0-9]|\.[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$/,
    'letters, digits, "-", "_" and ".", not beginning with ".."',
  ).min(1);

/** One public key as authorized_keys(5) has it. */
export const authorizedKey = () =>
  matching(
    8192,
    /^([^\x00-\x1f\x7f]* )?(ssh|ecdsa|sk)-[-a-z0-9@.]+ [A-Za-z0-9+/]{16,}={0,3}( [^\x00-\x1f\x7f]*)?$/,
    'a public key: one line such as "ssh-ed25519 AAAA... name"',
  ).min(1);

/** One key of a host as known_hosts has it, behind the names. */
export const hostKey = () =>
  matching(
    8192,
    /^(ssh|ecdsa)-[-a-z0-9@.]+ [A-Za-z0-9+/]{16,}={0,3}( [^\x00-\x1f\x7f]*)?$/,
    'a public key: one line such as "ssh-ed25519 AAAA..."',
  ).min(1);

/** A name, an IP address or an alias: nothing that a program would take for an option. */
export const sshAddress = () =>
  matching(
    253,
    /^[A-Za-z0-9_:][A-Za-z0-9_.:%-]*$/,
    'a name or an IP address: letters, digits, "_", ".", ":", "%" and "-", not beginning with "-" or "."',
  ).min(1);

export const sshUser = () =>
  matching(
    64,
    /^[A-Za-z0-9_][A-Za-z0-9_.@-]*$/,
    'a user: letters, digits, "_", ".", "@" and "-", beginning with a letter, a digit or "_"',
  ).min(1);

/** Text that is passed on as UTF-8. Half a surrogate pair has no bytes there. */
export const wholeText = (maxLength: number) =>
  text(maxLength)
    .min(1)
    .refine((value) => value.isWellFormed(), 'well-formed Unicode');

/** A name on a host: one path segment that is safe as a folder and as a word of a command line. */
export const VM_NAME = /^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
export const vmName = () =>
  matching(63, VM_NAME, '1 to 63 letters, digits, "_", "." and "-", beginning and ending with a letter or digit').min(
    1,
  );

export const uuid = () =>
  matching(36, /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/, 'a UUID in lower case');

export const mac = () =>
  matching(
    17,
    /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/,
    'a unicast MAC address in lower case such as 52:54:00:12:34:56',
  );

export const ipv4 = () =>
  matching(
    15,
    /^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])$/,
    'an IPv4 address such as 127.0.0.1',
  );

/** A network interface as Linux names them, without what an option list or a path would understand. */
export const interfaceName = () =>
  matching(
    15,
    /^[A-Za-z0-9][A-Za-z0-9_.-]*$/,
    'a network interface: 1 to 15 letters, digits, "_", "." and "-", beginning with a letter or digit',
  ).min(1);

/** Names of interfaces, or all of them. */
export const interfaceOrAll = () =>
  matching(15, /^([A-Za-z0-9][A-Za-z0-9_.-]*|\*)$/, 'a network interface such as br0, or "*" for all of them').min(1);

/** One segment: anything but a slash and control characters, and neither `.` nor `..`. */
const SEGMENT =
  '([^/\\x00-\\x1f\\x7f.][^/\\x00-\\x1f\\x7f]*|\\.[^/\\x00-\\x1f\\x7f.][^/\\x00-\\x1f\\x7f]*|\\.\\.[^/\\x00-\\x1f\\x7f]+)';
const PATH_WORDS = 'an absolute path without "..", ".", "//", a trailing "/" or control characters';

function path(pattern: string) {
  return matching(1024, new RegExp(pattern), PATH_WORDS).refine((value) => value.isWellFormed(), PATH_WORDS);
}

/** An absolute, normalised path. Half a surrogate pair would be another path once written as UTF-8. */
export const absolutePath = () => path(`^(/${SEGMENT})+$`);

/** The root itself is no file; as an allowed folder it means everything. */
export const absoluteFolder = () => path(`^(/|(/${SEGMENT})+)$`);

/** No user and password: a URL is shown, logged and kept. */
export const imageUrl = () =>
  matching(
    2048,
    /^https?:\/\/([0-9A-Za-z.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(\/[!#-[\]-~]*)?$/,
    'an http or https URL without user, password, spaces, quotes and backslashes',
  );

export const checksum = () =>
  matching(
    136,
    /^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/,
    'sha256: with 64, or sha512: with 128 hexadecimal digits in lower case',
  );

const QUANTITY = new RegExp(QUANTITY_PATTERN);
export const QUANTITY_WORDS = 'a quantity such as 2Gi, 512Mi or 20G';

/** A Kubernetes quantity within bounds, both included and given as quantities. A number is whole bytes. */
export const quantity = (least: string, most: string) => {
  const inside = `quantity(string(self)).compareTo(quantity('${least}')) >= 0 && quantity(string(self)).compareTo(quantity('${most}')) <= 0`;
  return z
    .union([matching(40, QUANTITY, QUANTITY_WORDS), z.int()])
    .superRefine((value, context) => {
      const complaint = boundsComplaint(value, least, most);
      if (complaint !== undefined) context.addIssue(complaint);
    })
    .meta({
      'x-kubernetes-int-or-string': true,
      ...rules({
        rule: `!isQuantity(string(self)) || (${inside})`,
        message: `must be at least ${least} and at most ${most}; a plain number counts bytes`,
      }),
    });
};

function boundsComplaint(value: Quantity, least: string, most: string): string | undefined {
  if (typeof value === 'string' && !QUANTITY.test(value)) return undefined; // The pattern has said so.
  const plain = typeof value === 'number' && value >= 0 ? '; a plain number counts bytes' : '';
  const bytes = typeof value === 'number' && value < 0 ? -1 : (parseQuantity(value) ?? Number.POSITIVE_INFINITY);
  if (bytes < (parseQuantity(least) ?? 0)) return `at least ${least}${plain}`;
  return bytes > (parseQuantity(most) ?? 0) ? `at most ${most}${plain}` : undefined;
}

const isoTime = z.iso.datetime({ offset: true });
const TIME_WORDS = 'a time such as 2026-01-31T15:04:05Z';

const TIME =
  /^[1-9]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/;

/**
 * RFC 3339 with a zone, as Kubernetes writes its times. Without `format: date-time`: with it an API server takes lists
 * as well (measured with 1.37).
 */
export const timestamp = () =>
  matching(40, TIME, TIME_WORDS).refine((value) => isoTime.safeParse(value).success, TIME_WORDS);

/** What the pattern leaves open is the length of a month. */
export const TIME_RULE: CelRule = {
  rule: "timestamp(self) > timestamp('1000-01-01T00:00:00Z')",
  message: TIME_WORDS,
};

/** A list without order or repetition. */
export const setOf = <T extends z.ZodType<string>>(item: T, maxItems: number) =>
  z
    .array(item)
    .max(maxItems)
    .refine((list) => new Set(list).size === list.length, 'without repetition')
    .meta({ 'x-kubernetes-list-type': 'set' });

/** Free keys, as few as said. */
export const map = <K extends z.ZodString, V extends z.ZodType>(key: K, value: V, maxProperties: number) =>
  z
    .record(key, value)
    .refine((entries) => Object.keys(entries).length <= maxProperties, `a map of at most ${maxProperties} entries`)
    .meta({ maxProperties });

export const observedGeneration = () =>
  z.int().min(0).optional().describe('The metadata.generation that the last pass worked from.');

export const condition = (object: ObjectFactory) =>
  object({
    type: text(64).min(1).describe('What the condition speaks of.'),
    status: z.enum(['True', 'False', 'Unknown']),
    reason: text(64).min(1).describe('One word, stable; each is explained in docs/reference/reasons.md.'),
    message: text(1024).describe('One sentence: why, what is waited for, until when.'),
    lastTransitionTime: timestamp().describe('When status last changed.'),
    observedGeneration: observedGeneration(),
  });

export const conditions = (object: ObjectFactory) =>
  z.array(condition(object)).max(16).optional().meta(listMap('type')).describe('What the last pass found.');
