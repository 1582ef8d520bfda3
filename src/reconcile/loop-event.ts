/** What a loop did, for logs, figures and tests. */
import type { Action } from './action.ts';

export type LoopEvent =
  | { readonly type: 'action'; readonly vm: string; readonly action: Action; readonly because: string }
  | { readonly type: 'done'; readonly vm: string; readonly action: Action; readonly ms: number }
  | {
      readonly type: 'failed';
      /** `*`: everything on the host. */
      readonly vm: string;
      readonly action?: Action;
      readonly error: unknown;
      readonly message: string;
    }
  | {
      readonly type: 'pass';
      readonly vms: number;
      readonly ms: number;
      /** Wake-ups that led to it, merged by VM. */
      readonly woken: number;
      /** Due already for the next one. */
      readonly waiting: number;
    };

/** Of the loop of one Host; `host` is empty where none is meant. */
export type ControllerEvent = { readonly host: string } & (LoopEvent | { readonly type: 'ended' });
