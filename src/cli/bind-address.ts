/** Where the operator listens, in the forms of controller-runtime's flags. Pure. */
import type { BindAddress } from '../serve/door.ts';
import { usageError } from './exit-codes.ts';

/**
 * `:8080`, `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`; `0` or nothing: not at all. Port 0 is any that is free.
 * Source: sigs.k8s.io/controller-runtime/pkg/metrics/server, Options.BindAddress.
 */
export function parseBindAddress(flag: string, text: string): BindAddress | undefined {
  if (text === '0' || text === '') return undefined;
  const [, v6, other = '', digits = ''] = /^(?:\[([0-9a-fA-F:.%a-z]+)\]|([^\s:[\]/]*)):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === '' || port > 65_535)
    throw usageError(`${flag} ${JSON.stringify(text)} is no address such as :8080, 127.0.0.1:8080 or 0 for none`);
  const host = v6 ?? other;
  return { flag, text, port, ...(host !== '' && { host }) };
}
