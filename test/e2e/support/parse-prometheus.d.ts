/** It comes without types. Its parser is a port of the Python client's. */
declare module 'parse-prometheus-text-format' {
  interface Family {
    readonly name: string;
    readonly help: string;
    readonly type: string;
    readonly metrics: readonly {
      readonly value?: string;
      readonly labels?: Readonly<Record<string, string>>;
    }[];
  }
  const parse: (text: string) => Family[];
  // biome-ignore lint/style/noDefaultExport: the package has no other
  export default parse;
}
