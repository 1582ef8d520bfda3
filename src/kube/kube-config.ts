/** Which API server, as whom, in which namespace: by the rules of kubectl. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import { KubeConfigError } from './kube-error.ts';

/** Where a pod finds who it is. */
const SERVICE_ACCOUNT_TOKEN = '/var/run/secrets/kubernetes.io/serviceaccount/token';

export interface KubeConfigOptions {
  /** Path of a kubeconfig; absent: KUBECONFIG, else ~/.kube/config, else the pod's own service account. */
  readonly kubeconfig?: string | undefined;
  /** Name of a context in it; absent: the current one. */
  readonly context?: string | undefined;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/**
 * Reads it afresh at each call: whoever rotates credentials writes the files anew.
 * @throws KubeConfigError where there is none, or no such context
 */
export function loadKubeConfig(options: KubeConfigOptions = {}): KubeConfig {
  const config = new KubeConfig();
  const files = kubeconfigFiles(options);
  try {
    if (files.length > 0) merge(config, files);
    else if (existsSync(SERVICE_ACCOUNT_TOKEN)) config.loadFromCluster();
    else throw new KubeConfigError('there is no kubeconfig: name one with --kubeconfig or KUBECONFIG');
  } catch (error) {
    if (error instanceof KubeConfigError) throw error;
    throw new KubeConfigError(`${files.join(delimiter)} cannot be used: ${messageOf(error)}`, { cause: error });
  }
  if (options.context !== undefined) {
    if (config.getContextObject(options.context) === null) {
      const names = config.getContexts().map(({ name }) => name);
      throw new KubeConfigError(`no context "${options.context}" in the kubeconfig; there are ${names.join(', ')}`);
    }
    config.setCurrentContext(options.context);
  }
  if (config.getCurrentCluster() === null)
    throw new KubeConfigError('the kubeconfig has no current context with a cluster: choose one with --context');
  return config;
}

/** The namespace of the current context, where it names one. */
export function namespaceOf(config: KubeConfig): string | undefined {
  const namespace = config.getContextObject(config.getCurrentContext())?.namespace;
  return namespace === undefined || namespace === '' ? undefined : namespace;
}

function kubeconfigFiles({ kubeconfig, env = process.env }: KubeConfigOptions): string[] {
  if (kubeconfig !== undefined) return [kubeconfig];
  const named = (env['KUBECONFIG'] ?? '').split(delimiter).filter((path) => path !== '');
  if (named.length > 0) return named.filter((path) => existsSync(path) || named.length === 1);
  const own = join(env['HOME'] ?? homedir(), '.kube', 'config');
  return existsSync(own) ? [own] : [];
}

/** The first file that says something wins. */
function merge(config: KubeConfig, files: readonly string[]): void {
  const [first = '', ...more] = files;
  config.loadFromFile(first);
  for (const file of more) {
    const other = new KubeConfig();
    other.loadFromFile(file);
    config.mergeConfig(other);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
