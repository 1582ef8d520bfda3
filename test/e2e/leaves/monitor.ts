/** Rows of a VirtualMachineMonitor. */
import { expect } from 'vitest';
import type { Manifest } from '../../../src/api/admission.ts';
import type { VirtualMachineMonitor } from '../../../src/api/virtual-machine-monitor.ts';
import { manifest } from '../support/rig.ts';
import { until } from '../support/wait.ts';
import type { Effect, Row } from './leaf.ts';
import type { Place } from './place.ts';

const later = (seconds: number) => new Date(Date.now() + seconds * 1000).toISOString();
const MADE = { virtualMachineName: 'none', until: '2100-01-01T00:00:00Z' };

/** Resolves to its name. */
async function monitor({ rig, onFinished }: Place, name: string, spec: object): Promise<string> {
  const whole = { intervalSeconds: 1, until: later(600), ...spec };
  const object = manifest('VirtualMachineMonitor', { name, namespace: 'default' }, whole);
  await rig.store.create(object as Manifest<'VirtualMachineMonitor'>);
  onFinished(() => rig.store.delete('VirtualMachineMonitor', refOf(name)).then(undefined, () => undefined));
  return name;
}

const refOf = (name: string) => ({ namespace: 'default', name });
const read = ({ rig }: Place, name: string) => rig.store.get('VirtualMachineMonitor', refOf(name));
const samplesOf = (object: VirtualMachineMonitor | undefined) => object?.status?.samples ?? [];

/** Waits for so many samples. */
async function samples(place: Place, name: string, atLeast: number) {
  const sampled = await until(
    `${name} has ${atLeast} samples`,
    async () => samplesOf(await read(place, name)),
    ({ length }) => length >= atLeast,
  );
  return sampled.map(({ sample }) => sample);
}

/** Only this part of a sample is there. */
function measures(metric: string, part: string): Effect {
  return async (place) => {
    const guest = await place.running({ networks: [{ name: 'net0', user: {} }] });
    const name = await monitor(place, place.name(), { virtualMachineName: guest.name, metrics: [metric] });
    const [sample = {}] = await samples(place, name, 1);
    const parts = ['cpu', 'memory', 'disks', 'networks'].filter((field) => field in sample);
    expect(parts).toEqual([part]);
  };
}

export const MONITOR: readonly Row[] = [
  {
    leaf: 'VirtualMachineMonitor.spec.virtualMachineName',
    effect: async (place) => {
      for (const MiB of [32, 48]) {
        const { name } = await place.running({ memory: `${MiB}Mi` });
        const [sample] = await samples(place, await monitor(place, place.name(), { virtualMachineName: name }), 1);
        expect(sample?.memory?.allocatedBytes).toBe(MiB * 1_048_576);
      }
    },
    fixed: { made: MADE, asked: { virtualMachineName: 'other' } },
  },
  {
    leaf: 'VirtualMachineMonitor.spec.intervalSeconds',
    effect: async (place) => {
      const { name: virtualMachineName } = await place.running();
      const rare = await monitor(place, place.name(), { virtualMachineName, intervalSeconds: 3600 });
      const often = await monitor(place, place.name(), { virtualMachineName, intervalSeconds: 1 });
      await samples(place, often, 4);
      // The first is taken soon, whatever the interval.
      expect(samplesOf(await read(place, rare)).length).toBeLessThanOrEqual(1);
    },
    fixed: { made: MADE, asked: { intervalSeconds: 7 } },
  },
  {
    leaf: 'VirtualMachineMonitor.spec.metrics[]',
    effect: {
      cpu: measures('cpu', 'cpu'),
      memory: measures('memory', 'memory'),
      disk: measures('disk', 'disks'),
      network: measures('network', 'networks'),
    },
    fixed: { made: MADE, asked: { metrics: ['cpu'] } },
  },
  {
    leaf: 'VirtualMachineMonitor.spec.until',
    effect: async (place) => {
      const { name: virtualMachineName } = await place.running();
      const long = await monitor(place, place.name(), { virtualMachineName });
      const short = await monitor(place, place.name(), { virtualMachineName, until: later(3) });
      await until(
        'the short one is over',
        () => read(place, short),
        (object) => object === undefined,
      );
      expect(await read(place, long)).toBeDefined();
    },
    fixed: { made: MADE, asked: { until: '2100-01-02T00:00:00Z' } },
  },
];
