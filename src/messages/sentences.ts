/** What the tools say to people and models, one function per outcome. en.ts and zh.ts fill it in; no logic anywhere. */
import type { Caveat, Foreseen, Why } from '../api/foreseen.ts';

export type Action = 'create' | 'start' | 'stop' | 'restart' | 'delete' | 'modify';
export type ListedStatus = 'running' | 'stopped' | 'all';

/** A refused argument, as far as words need it. */
export interface Complaint {
  readonly field: string;
  /** Quoted and bounded. */
  readonly value: string;
  readonly allowed: string;
}

export interface Sentences {
  // Outcomes.
  done(name: string, action: Action): string;
  restartedForModify(name: string): string;
  already(name: string, state: 'running' | 'stopped'): string;
  unfinished(name: string, action: Action, phase: string, why: string): string;
  failed(name: string, action: Action, why: string): string;
  listed(host: string, status: ListedStatus, count: number): string;
  sampled(name: string, count: number): string;
  sampledSoFar(name: string, count: number, wanted: number): string;
  endedWhileSampled(name: string, count: number): string;
  /** A condition's reason and message in words. */
  why(reason: string, message: string): string;
  nobodyWatches(): string;
  keptDisk(why: 'existed' | 'Retain' | 'foreign' | 'shared'): string;
  timeIsUp(): string;
  /** What a dry run found. */
  planned(name: string, action: Action, plan: Pick<Foreseen, 'outcome' | 'changes' | 'process'>): string;
  /** Why a foreseen change has its effect. */
  foreseen(why: Why, detail: string): string;
  caveat(caveat: Caveat): string;

  // Refusals. The advice is what to do next.
  unknownArgument(field: string, near: string, allowed: string): string;
  missingArgument(field: string, allowed: string): string;
  wrongChoice(complaint: Complaint): string;
  wrongForm(complaint: Complaint): string;
  argumentNotFor(field: string, action: Action, allowed: string): string;
  argumentNeeded(field: string, action: Action, allowed: string): string;
  alreadyExists(name: string, host: string): string;
  beingDeleted(name: string): string;
  notFound(name: string, host: string, near: string, known: string): string;
  unmanagedFolder(name: string, folder: string): string;
  ambiguousNamespace(name: string, namespaces: string): string;
  ambiguousHost(name: string, hosts: string): string;
  hostNeeded(hosts: string): string;
  hostUnknown(host: string, hosts: string): string;
  ambiguousAddress(address: string, hosts: string): string;
  hostIsLocal(host: string, field: string): string;
  /** @param command changes it */
  loginDiffers(host: string, field: string, command: string): string;
  loginNeeded(field: string): string;
  keyNotHere(): string;
  keyUnreadable(why: string): string;
  notLetIn(address: string, why: string): string;
  hostNotReady(host: string, why: string): string;
  hostNotSeen(host: string): string;
  notRunning(name: string, phase: string): string;
  nothingToChange(name: string, current: string): string;
  nothingAsked(): string;
  memorySyntax(): string;
  diskSizeSyntax(): string;
  diskSyntax(): string;
  diskPathNeeded(paths: string): string;
  diskUnknown(path: string, paths: string): string;
  diskSizeNeeded(): string;
  diskCannotShrink(path: string, size: string): string;
  rawDiskNotGrown(path: string, size: string, bytes: number): string;
  detachedDiskGoes(paths: string): string;
  protectedVm(name: string): string;
  readOnly(): string;
  deleteNotAllowed(): string;
  conflict(name: string): string;
  storeUnavailable(why: string): string;
  internal(id: string): string;
  cursorInvalid(): string;
  qemuMissing(command: string, packages: string): string;
  qemuTooOld(version: string): string;
}
