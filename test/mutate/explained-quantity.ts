/** Survivors of quantity. */
import { explain } from './explanation.ts';

export const QUANTITY = explain('src/api/quantity.ts', [
  ['const exponent =', "Equivalent: `Number('')` is 0 too."],
  ['return exponent >= 0', 'Equivalent: at 0 both ways divide or multiply by 1.'],
  ['const figure =', 'Equivalent: 10 is shown as 10 either way.', 'rest < 10'],
  ['const figure =', 'Equivalent: bytes are whole, tenths of them round to themselves.', 'step > 0'],
  ['const power =', 'Never used: the group takes part in every match.', "''"],
  ['const bytes = BigInt', 'Never used: the group takes part in every match.', "'0'"],
  ['return formatQuantity(bytes)', 'Equivalent: a quantity has one i at most, at its end.'],
]);
