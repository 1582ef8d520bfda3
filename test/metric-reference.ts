/** docs/reference/metrics.md, from the definitions in src/serve. */
import type { Metric } from '../src/serve/exposition.ts';
import { METRIC_GROUPS } from '../src/serve/metric-groups.ts';

const INTRODUCTION = `# Metrics

What \`/metrics\` of \`qemu-operator run\` says. [Monitoring](../operations/monitoring.md) has how it is scraped, what to
alert on, and what each alert means. A figure that is not known has no series: there is no zero that nobody measured.
`;

export function metricReference(): string {
  const groups = METRIC_GROUPS.map(
    ({ title, metrics }) =>
      `## ${title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n${rows(metrics)}\n`,
  );
  return [INTRODUCTION, ...groups].join('\n');
}

function rows(metrics: readonly Metric[]): string {
  return metrics
    .map(({ name, type, labels, help }) => `| \`${name}\` | ${type} | ${labels.join(', ')} | ${cell(help)} |`)
    .join('\n');
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
}
