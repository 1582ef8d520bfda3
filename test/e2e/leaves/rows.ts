/** The table: how each leaf of each spec shows its effect. */
import { HOST } from './host.ts';
import { HOST_SSH } from './host-ssh.ts';
import type { Row } from './leaf.ts';
import { MONITOR } from './monitor.ts';
import { NETWORKS } from './networks.ts';
import { VIRTUAL_MACHINE } from './virtual-machine.ts';
import { VOLUMES } from './volumes.ts';

export const ROWS: readonly Row[] = [...VIRTUAL_MACHINE, ...VOLUMES, ...NETWORKS, ...HOST, ...HOST_SSH, ...MONITOR];
