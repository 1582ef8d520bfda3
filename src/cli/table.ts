/** Rows as columns that line up. */

const GAP = 3;

/** Columns keep their widths over several calls: a watch prints row by row. */
export class Table {
  readonly #widths: number[] = [];

  /** Lines without trailing blanks. */
  lines(rows: readonly (readonly string[])[]): string[] {
    for (const row of rows) {
      for (const [i, text] of row.entries()) this.#widths[i] = Math.max(this.#widths[i] ?? 0, text.length);
    }
    return rows.map((row) =>
      row
        .map((text, i) => text.padEnd((this.#widths[i] ?? 0) + GAP))
        .join('')
        .trimEnd(),
    );
  }
}
