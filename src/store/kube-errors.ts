/** What an API server answers, as the errors of the Store contract. */
import {
  AlreadyExistsError,
  ApiError,
  ConflictError,
  ExpiredError,
  ForbiddenError,
  InvalidObjectError,
  messageOf,
  NotFoundError,
  namespaceMissing,
  StoreUnavailableError,
} from '../api/errors.ts';
import { KubeStatusError } from '../kube/kube-error.ts';

/** @param subject as in `VirtualMachine default/web-1` */
export function apiErrorOf(error: unknown, subject: string): Error {
  if (error instanceof ApiError || (error instanceof Error && error.name === 'AbortError')) return error;
  if (!(error instanceof KubeStatusError))
    return new StoreUnavailableError(`${messageOf(error)}; nothing else was changed`, { cause: error });
  const { code, reason, causes, message } = error;
  const options = { cause: error };
  if (error.expired) return new ExpiredError(message, options);
  const [, namespace] = /^namespaces "(.+)" not found$/.exec(message) ?? [];
  if (code === 404 && namespace !== undefined) return namespaceMissing(namespace);
  if (code === 404) return new NotFoundError(`${subject} not found`, options);
  if (reason === 'AlreadyExists') {
    const ending = message.includes('being deleted') ? ' and is being deleted' : '';
    return new AlreadyExistsError(`${subject} already exists${ending}`, options);
  }
  const isAnother = causes.some(({ field }) => field === 'metadata.uid');
  if (isAnother) return new ConflictError(`${subject} is another object now: its uid is not the one that was meant`);
  if (code === 409) return new ConflictError(`${subject}: ${message}`, options);
  if (code === 403) return new ForbiddenError(message, options);
  if (code === 422 || code === 400) {
    const issues = causes.map(({ field, message: why = '' }) => ({ field: field ?? 'object', message: why }));
    return new InvalidObjectError(subject, issues.length > 0 ? issues : [{ field: 'object', message }]);
  }
  return new StoreUnavailableError(`the API server answers ${code}: ${message}`, options);
}

/** @throws an ApiError about the subject for what the API server answers */
export async function asking<T>(subject: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw apiErrorOf(error, subject);
  }
}
