/** What an API server and kubectl ask to learn what is served here. Source: metav1.APIGroupList, APIGroup, APIResourceList. */
import { STREAM_GROUP, STREAM_VERBS, STREAM_VERSION } from '../streams/paths.ts';

const groupVersion = `${STREAM_GROUP}/${STREAM_VERSION}`;
const version = { groupVersion, version: STREAM_VERSION };
const group = { name: STREAM_GROUP, versions: [version], preferredVersion: version };

const resources = Object.entries(STREAM_VERBS).map(([name, verbs]) => ({
  name: `virtualmachines/${name}`,
  singularName: '',
  namespaced: true,
  kind: 'VirtualMachine',
  verbs,
}));

/** By path. */
export const DISCOVERY: Readonly<Record<string, object>> = {
  '/apis': { kind: 'APIGroupList', apiVersion: 'v1', groups: [group] },
  [`/apis/${STREAM_GROUP}`]: { kind: 'APIGroup', apiVersion: 'v1', ...group },
  [`/apis/${groupVersion}`]: { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources },
};
