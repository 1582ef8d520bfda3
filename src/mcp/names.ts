/** Names in a refusal: as many as a caller reads. */

export const MAX_NAMED = 20;

export function listed(names: readonly string[]): string {
  const more = names.length > MAX_NAMED ? `, … (${names.length})` : '';
  return `${names.slice(0, MAX_NAMED).join(', ')}${more}`;
}
