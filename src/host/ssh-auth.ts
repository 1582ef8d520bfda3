/**
 * The order in which credentials are tried: keys, the agent, the password. Notes what became of each for the person
 * who has to mend it; no secret is ever in a note.
 */
import { hostText } from './host-text.ts';
import { CredentialsInvalidError, type SshCredentials, type SshRoute } from './ssh-route.ts';

/** A private key as ssh2 has read it. */
export type ParsedKey = object;

/** What ssh2 takes as its next attempt. */
export type AuthAttempt = { readonly username: string } & (
  | { readonly type: 'publickey'; readonly key: ParsedKey }
  | { readonly type: 'agent'; readonly agent: string }
  | { readonly type: 'password'; readonly password: string }
  | { readonly type: 'keyboard-interactive'; readonly prompt: Prompt }
);

type Prompt = (
  name: string,
  instructions: string,
  language: string,
  prompts: readonly { readonly prompt: string }[],
  answer: (answers: string[]) => void,
) => void;

type ParsePrivateKey = (privateKey: Uint8Array, passphrase: string | undefined) => ParsedKey;

interface Labelled {
  readonly label: string;
  readonly attempt: AuthAttempt;
}

export class AuthAttempts {
  readonly #route: SshRoute;
  readonly #from: string;
  readonly #waiting: Labelled[] = [];
  readonly #tried: string[] = [];
  #current: Labelled | undefined;
  #allowed: readonly string[] = [];
  #isRefused = false;

  constructor(route: SshRoute, credentials: SshCredentials, parse: ParsePrivateKey) {
    this.#route = route;
    this.#from = credentials.from;
    const username = route.user;
    for (const { privateKey, passphrase, from } of credentials.identities ?? []) {
      try {
        const key = parse(privateKey, passphrase);
        this.#waiting.push({ label: `publickey ${from}`, attempt: { type: 'publickey', username, key } });
      } catch (error) {
        const why = error instanceof Error ? hostText(error.message) : 'cannot be read';
        const locked = passphrase === undefined && /encrypted/i.test(why);
        this.#tried.push(
          `publickey ${from}: ${why}${locked ? '; --passphrase of host add or host credentials gives it' : ''}`,
        );
      }
    }
    const { agentSocket, password } = credentials;
    if (agentSocket !== undefined)
      this.#waiting.push({ label: 'publickey of the agent', attempt: { type: 'agent', username, agent: agentSocket } });
    if (password !== undefined) {
      this.#waiting.push({ label: 'password', attempt: { type: 'password', username, password } });
      // The same question, asked through PAM: some hosts allow only that.
      const prompt: Prompt = (_name, _instructions, _language, prompts, answer) => answer(prompts.map(() => password));
      this.#waiting.push({
        label: 'password (keyboard-interactive)',
        attempt: { type: 'keyboard-interactive', username, prompt },
      });
    }
  }

  /**
   * What to try next; false: there is nothing left.
   * @param allowed methods that the host would take; null before the first attempt
   * @param isPartial the last attempt was right, and another one is asked for
   */
  next(allowed: readonly string[] | null, isPartial: boolean | null): AuthAttempt | false {
    if (this.#current !== undefined)
      this.#tried.push(`${this.#current.label}: ${isPartial === true ? 'right, but more is asked for' : 'refused'}`);
    if (allowed !== null) this.#allowed = allowed;
    for (;;) {
      this.#current = this.#waiting.shift();
      if (this.#current === undefined) {
        this.#isRefused = true;
        return false;
      }
      if (allowed === null || isTaken(this.#current.attempt.type, allowed)) return this.#current.attempt;
      if (this.#current.attempt.type !== 'keyboard-interactive')
        this.#tried.push(`${this.#current.label}: not asked for there`);
    }
  }

  /**
   * The refusal, where the end of the connection was one: nothing was left to try, or the host had enough of it.
   * @param reason as the connection's end was told
   */
  refusal(reason: string): CredentialsInvalidError | undefined {
    if (!this.#isRefused && !/too many authentication failures/i.test(reason)) return undefined;
    const { name, user } = this.#route;
    const tried = this.#current === undefined ? this.#tried : [...this.#tried, `${this.#current.label}: refused`];
    const what = tried.length === 0 ? 'there was nothing to try' : tried.join('; ');
    const allowed = this.#allowed.length === 0 ? '' : ` It takes ${hostText(this.#allowed.join(', '))}.`;
    return new CredentialsInvalidError(`${name} does not let ${user} in with ${this.#from}: ${what}.${allowed}`, tried);
  }
}

/** Asked through PAM only where the plain form is not taken: each wrong password counts. */
function isTaken(type: AuthAttempt['type'], allowed: readonly string[]): boolean {
  if (type === 'keyboard-interactive') return allowed.includes(type) && !allowed.includes('password');
  return allowed.includes(type === 'agent' ? 'publickey' : type);
}
