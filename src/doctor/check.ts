/** What a look at a machine found, one thing at a time: whether it is well, what that means, and how to mend it. */

export interface Check {
  /** Kebab-case, stable: scripts match on it. */
  readonly id: string;
  /** problem: something does not work. warning: it works, less well than it could. */
  readonly state: 'ok' | 'warning' | 'problem';
  readonly message: string;
  /** The command that mends it, or what to do where no command does. */
  readonly mend?: string;
}

export function ok(id: string, message: string): Check {
  return { id, state: 'ok', message };
}

export function warning(id: string, message: string, mend?: string): Check {
  return { id, state: 'warning', message, ...(mend === undefined ? {} : { mend }) };
}

export function problem(id: string, message: string, mend?: string): Check {
  return { id, state: 'problem', message, ...(mend === undefined ? {} : { mend }) };
}
