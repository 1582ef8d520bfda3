/**
 * Which of several replicas drives a Host: the one whose hash with the Host's name is highest. When a replica comes or
 * goes, only the Hosts that it gains or loses change hands. Pure.
 */
import { createHash } from 'node:crypto';

/** Whether this process drives a Host of this name; `''` stands for what belongs to no Host. */
export type Owns = (hostName: string) => boolean;

/** @param live replicas that live; `own` is among them */
export function ownedBy(own: string, live: readonly string[]): Owns {
  return (hostName) => {
    const mine = weight(own, hostName);
    return live.every((other) => other === own || weight(other, hostName) < mine);
  };
}

function weight(replica: string, hostName: string): string {
  return createHash('sha256').update(`${replica}\0${hostName}`).digest('hex');
}
