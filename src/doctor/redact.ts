/**
 * What leaves the machine in a bug report: secrets go, addresses and the machine's identity become stand-ins that
 * are the same all over the report. Names that we know to be harmless stay; in doubt it is left out.
 */
import { GROUP } from '../api/meta.ts';

export const LEFT_OUT = '<left out>';

/** Fields whose value never leaves, whatever it is; names of Kubernetes, cloud-init and ours. */
const SECRET_FIELD =
  /cloudinit|userdata|networkdata|secret|passw|passphrase|token|credential|authorizedkeys|privatekey|apikey|sshkey|authorization|cookie|environment/i;

const TEXT_RULES: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN [^-]+-----[\s\S]*?(-----END [^-]+-----|$)/g, LEFT_OUT],
  [/\b(ssh-(rsa|dss|ed25519)|ecdsa-sha2-\S+|sk-\S+@openssh\.com) +[A-Za-z0-9+/=]{20,}( [^\s"']+)?/g, LEFT_OUT],
  // The query of a URL, which may be a signature, and then who signs in: what stands in has a blank, which ends a URL.
  [/\b([a-z][a-z0-9+.-]*:\/\/[^\s?"']*)\?[^\s"']*/gi, `$1?${LEFT_OUT}`],
  [/\b([a-z][a-z0-9+.-]*:\/\/)[^\s"']*@/gi, `$1${LEFT_OUT}@`],
  [/\b(bearer|basic) +[A-Za-z0-9._~+/=-]{8,}/gi, `$1 ${LEFT_OUT}`],
  [
    /(\b[\w-]*(?:passw(?:or)?d|passphrase|secret|token|api-?key|credential)[\w-]*["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;]+)/gi,
    `$1${LEFT_OUT}`,
  ],
];

const IPV4 = /(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])/g;
const IPV6 =
  /(?<![\w:])(?:(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}|(?:[0-9a-f]{1,4}:)+(?::[0-9a-f]{1,4})+|(?:[0-9a-f]{1,4}:)+:|::[0-9a-f]{1,4}(?::[0-9a-f]{1,4})*)(?![\w:])/gi;
/** Loopback, everywhere, and QEMU's own user-mode network: the same on every machine. */
const COMMON = /^(127\.|0\.0\.0\.0$|255\.|10\.0\.2\.|::1$)/;
const HEX_ID = /\b[0-9a-f]{32}\b/g;

export class Redactor {
  readonly #standIns = new Map<string, string>();
  readonly #home: string | undefined;

  /** @param home the user's folder, whose name may be a person's */
  constructor(home: string | undefined) {
    this.#home = home !== undefined && home.length > 1 && home !== '/root' ? home : undefined;
  }

  text(text: string): string {
    const plain = this.#home === undefined ? text : text.replaceAll(this.#home, '~');
    return TEXT_RULES.reduce((rest, [pattern, instead]) => rest.replace(pattern, instead), plain)
      .replace(HEX_ID, (id) => this.#standIn('id', id))
      .replace(IPV4, (address) => (COMMON.test(address) ? address : this.#standIn('ipv4', address)))
      .replace(IPV6, (address) => (COMMON.test(address) ? address : this.#standIn('ipv6', address)));
  }

  /** Plain data of the same shape. */
  value(value: unknown): unknown {
    if (typeof value === 'string') return this.text(value);
    if (Array.isArray(value)) return value.map((item) => this.value(item));
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, field]) => [this.text(key), this.#field(key, field)]));
  }

  #field(key: string, field: unknown): unknown {
    if (SECRET_FIELD.test(key)) return LEFT_OUT;
    // Others keep whole manifests in theirs, secrets included.
    if (key === 'annotations' && typeof field === 'object' && field !== null)
      return Object.fromEntries(
        Object.entries(field).map(([name, text]) => [name, name.startsWith(`${GROUP}/`) ? this.value(text) : LEFT_OUT]),
      );
    return this.value(field);
  }

  #standIn(kind: string, value: string): string {
    const count = [...this.#standIns.values()].filter((known) => known.startsWith(`<${kind}-`)).length;
    const known = this.#standIns.get(value) ?? `<${kind}-${count + 1}>`;
    this.#standIns.set(value, known);
    return known;
  }
}
