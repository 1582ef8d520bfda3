/** describe: all that is known of an object, for people. */
import type { Command } from 'commander';
import type { AnyObject } from '../api/kinds.ts';
import { lookAtVm, type VmOnHost } from '../streams/vm-files.ts';
import { type Context, type Declare, examples, type Globals, print, withSession } from './context.ts';
import { describeHost } from './describe-host.ts';
import { describeMonitor } from './describe-monitor.ts';
import { describeVm } from './describe-vm.ts';
import { type Asked, parseTargets, refIn, requireObject } from './resources.ts';
import type { Session } from './session.ts';
import { tellProblems, tellUnlessWatched } from './warnings.ts';

export const declareDescribe: Declare = (command, context) => {
  command
    .argument('<target...>', 'TYPE [NAME...] or TYPE/NAME...')
    .action(async (words: string[], _options, self: Command) => {
      const options = self.optsWithGlobals<Globals>();
      const asked = parseTargets(words, options.namespace);
      await withSession(context, options, (session) => describeAll(context, session, asked, options));
    });
  examples(command, [
    ['What web-1 is, why, and where its files lie', 'describe qvm web-1'],
    ['The machine it runs on', 'describe qhost localhost'],
  ]);
};

export async function describeAll(context: Context, session: Session, asked: Asked, options: Globals): Promise<void> {
  const { store } = session;
  const objects: AnyObject[] = [];
  for (const target of asked.targets) objects.push(await requireObject(store, target));
  if (asked.targets.length === 0) {
    for (const kind of asked.kinds)
      objects.push(...(await store.list(kind, { namespace: refIn(kind, '', options.namespace).namespace })).items);
  }
  tellProblems(
    context,
    store,
    objects.map(({ kind, metadata }) => ({ kind, ref: metadata })),
  );
  if (objects.some(({ kind }) => kind === 'VirtualMachine')) tellUnlessWatched(context, session);
  const now = Date.now();
  const sheets: string[] = [];
  for (const object of objects) sheets.push(describe(object, now, await onHost(context, session, object)).join('\n'));
  print(context, sheets.join('\n\n\n'));
}

/** Asks the VM's host, for what no status holds; undefined where it does not answer, or not to this person. */
async function onHost({ signal }: Context, session: Session, object: AnyObject): Promise<VmOnHost | undefined> {
  if (object.kind !== 'VirtualMachine' || object.status?.folder === undefined) return undefined;
  try {
    const host = await session.store.get('Host', { name: object.spec.hostName ?? '' });
    return host && (await lookAtVm(session.shellFor(host), object.status.folder, signal));
  } catch {
    return undefined;
  }
}

function describe(object: AnyObject, now: number, host: VmOnHost | undefined): string[] {
  switch (object.kind) {
    case 'VirtualMachine':
      return describeVm(object, now, host);
    case 'Host':
      return describeHost(object, now);
    case 'VirtualMachineMonitor':
      return describeMonitor(object, now);
  }
}
