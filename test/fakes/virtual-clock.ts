/** A scheduler whose time passes only when a test says so; between two timers all promises settle. */
import { setImmediate as allPromises } from 'node:timers/promises';
import { VirtualTimeScheduler } from 'rxjs';

export class VirtualClock extends VirtualTimeScheduler {
  constructor(startMs = Date.parse('2026-01-01T00:00:00Z')) {
    super();
    this.frame = startMs;
  }

  /** Timers that wait. */
  get pending(): number {
    return this.actions.length;
  }

  /** Lets `ms` pass: each timer that falls due runs in its turn, and what it began goes as far as it can. */
  async advance(ms: number, stop: () => boolean = () => false): Promise<void> {
    const end = this.frame + ms;
    await allPromises();
    for (let action = this.actions[0]; action !== undefined && action.delay <= end; action = this.actions[0]) {
      if (stop()) return;
      this.actions.shift();
      this.frame = Math.max(this.frame, action.delay);
      const error: unknown = action.execute(action.state, action.delay);
      if (error !== undefined) throw error;
      await allPromises();
    }
    this.frame = end;
  }
}

export { allPromises };
