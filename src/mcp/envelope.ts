/** The one form of every answer: success, message, data. The same JSON as text and as structuredContent. */
import { oneLine } from '../api/errors.ts';

export type Data = Readonly<Record<string, unknown>>;

export interface Envelope {
  readonly success: boolean;
  readonly message: string;
  readonly data: Data;
}

/** What data.error carries, so that a model can mend its call. */
export interface ErrorDetail {
  /** A documented reason: AlreadyExists, NotFound, InvalidArgument, NotRunning, QEMUNotInstalled, ... */
  readonly code: string;
  /** The argument at fault. */
  readonly field?: string | undefined;
  /** What stood there, quoted and bounded; never a secret. */
  readonly value?: string | undefined;
  readonly allowed?: readonly string[] | undefined;
  /** What to call next. */
  readonly next?: NextCall | undefined;
}

export interface NextCall {
  readonly tool: string;
  readonly arguments: Data;
}

/** A call that is answered with success false. */
export class Refusal extends Error {
  readonly detail: ErrorDetail;
  readonly data: Data;
  constructor(message: string, detail: ErrorDetail, data: Data = {}) {
    super(message);
    this.detail = detail;
    this.data = data;
  }
}

const MAX_MESSAGE = 2000;

export function succeeded(message: string, data: Data): Envelope {
  return { success: true, message: oneLine(message, MAX_MESSAGE), data: clean(data) };
}

/** @param asked what the caller named: host, vm_name, action */
export function refused(refusal: Refusal, asked: Data): Envelope {
  return {
    success: false,
    message: oneLine(refusal.message, MAX_MESSAGE),
    data: clean({ ...asked, ...refusal.data, error: refusal.detail }),
  };
}

/** As JSON holds it: absent fields are absent. */
function clean(data: Data): Data {
  return JSON.parse(JSON.stringify(data)) as Data;
}

/** What a tools/call answers. */
export interface ToolResult {
  readonly [key: string]: unknown;
  readonly content: { readonly type: 'text'; readonly text: string }[];
  readonly structuredContent: Record<string, unknown>;
  readonly isError: boolean;
}

export function toolResult(envelope: Envelope): ToolResult {
  return {
    content: [{ type: 'text', text: JSON.stringify(envelope) }],
    structuredContent: { ...envelope },
    isError: !envelope.success,
  };
}
