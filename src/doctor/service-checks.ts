/** Whether the service is well: installed, active, enabled, with the loop in its hands. Pure. */
import { type Check, ok, problem, warning } from './check.ts';
import type { ServiceState, UnitState } from './service.ts';

/** Who runs the loop on a store. */
export interface Holder {
  readonly pid: number;
  readonly kind: 'run' | 'mcp' | 'command';
  /** RFC 3339. */
  readonly since: string;
}

/** @param invokedAs how a person calls qemu-operator */
export function serviceChecks(
  state: ServiceState,
  holder: Holder | undefined,
  { store, invokedAs }: { readonly store: string; readonly invokedAs: string },
): Check[] {
  const loop = loopCheck(state, holder, invokedAs);
  if (!state.systemd) {
    const message = 'systemd does not run this machine: nothing starts the controller or stops guests by itself';
    const mend = `have your init system run \`${invokedAs} run\`, and \`${invokedAs} service stop-guests\` at shutdown`;
    return [warning('service', message, mend), loop];
  }
  const install = `${invokedAs} service install`;
  if (!state.controller.installed) {
    return [
      warning('service', 'not installed: machines are watched only while a command runs the loop', install),
      loop,
    ];
  }
  return [
    unitCheck('service', state, state.controller) ?? storeCheck(state, store),
    unitCheck('service-guests', state, state.guests) ??
      ok('service-guests', 'guests are stopped in order when the machine shuts down'),
    ...(state.scope === 'user' ? [lingeringCheck(state)] : []),
    loop,
  ];
}

/** What is wrong with a unit; undefined where nothing is. */
function unitCheck(id: string, state: ServiceState, unit: UnitState): Check | undefined {
  const ctl = controlWords(state);
  if (!unit.installed) return problem(id, `${unit.name} is missing`, 'qemu-operator service install');
  if (unit.active !== 'active') {
    const journal = `journalctl ${state.scope === 'user' ? '--user ' : ''}-u ${unit.name} -n 20`;
    return problem(id, `${unit.name} is ${unit.active} (${unit.sub})`, `${ctl} start ${unit.name}; ${journal}`);
  }
  if (!unit.enabled) return problem(id, `${unit.name} is not started at boot`, `${ctl} enable ${unit.name}`);
  if (unit.stale) return warning(id, `${unit.name} was edited since systemd read it`, `${ctl} daemon-reload`);
  return undefined;
}

export function controlWords({ scope }: Pick<ServiceState, 'scope'>): string {
  return scope === 'user' ? 'systemctl --user' : 'systemctl';
}

function storeCheck({ controller, scope }: ServiceState, store: string): Check {
  const since = controller.since === undefined ? '' : ` since ${controller.since}`;
  if (controller.store !== undefined && controller.store !== store)
    return warning(
      'service',
      `the service runs on another store: ${controller.store}, and this is ${store}`,
      `qemu-operator --store ${controller.store} service status`,
    );
  return ok('service', `${controller.name} (${scope} unit) is active${since}, started at boot, store ${store}`);
}

function lingeringCheck({ lingering, user }: ServiceState): Check {
  return lingering
    ? ok('lingering', `units of ${user} run without a login`)
    : problem(
        'lingering',
        `without lingering the service and its machines end when ${user} logs out, and do not start at boot`,
        `loginctl enable-linger ${user}`,
      );
}

function loopCheck({ controller }: ServiceState, holder: Holder | undefined, invokedAs: string): Check {
  const active = controller.installed && controller.active === 'active';
  if (holder === undefined) {
    return active
      ? problem('loop', 'the service is active, but nobody runs the loop on this store', 'qemu-operator service status')
      : warning(
          'loop',
          'nobody runs the loop on this store: what is written there is not acted upon',
          `${invokedAs} run`,
        );
  }
  const who = `pid ${holder.pid} since ${holder.since}`;
  if (active && holder.pid === controller.mainPID) return ok('loop', `run by the service (${who})`);
  const stands = active ? '; the service stands by and takes over when it ends' : '';
  return holder.kind === 'command'
    ? warning('loop', `run by a command that will end (${who})${stands}`)
    : ok('loop', `run by \`${invokedAs} ${holder.kind}\` (${who})${stands}`);
}
