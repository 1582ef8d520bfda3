/** What the charts say of themselves, and what Prometheus and Grafana would read: by the parser of Prometheus' own pages. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parser } from '@prometheus-io/lezer-promql';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { METRIC_GROUPS } from '../../src/serve/metric-groups.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const textOf = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const chartText = (path: string) => textOf(join('charts/qemu-operator', path));

interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
  readonly labels: Readonly<Record<string, string>>;
}

const { groups } = parse(chartText('files/alerts.yaml')) as { groups: { name: string; rules: Alert[] }[] };
const alerts = groups.flatMap(({ rules }) => rules);
const dashboard = JSON.parse(chartText('files/dashboard.json')) as {
  panels: { title: string; targets: { expr: string }[] }[];
};
/** With a value for what Grafana fills in. */
const panelExpressions = dashboard.panels.flatMap(({ targets }) =>
  targets.map(({ expr }) => expr.replaceAll('$__rate_interval', '5m')),
);

/** Names of metrics; undefined where it is no PromQL. */
function metricsOf(expression: string): string[] | undefined {
  const names: string[] = [];
  let isWrong = false;
  parser.parse(expression).iterate({
    enter: ({ type, node, from, to }) => {
      isWrong ||= type.isError;
      if (type.name === 'Identifier' && node.parent?.name === 'VectorSelector') names.push(expression.slice(from, to));
    },
  });
  return isWrong ? undefined : names;
}

test('what is no PromQL is noticed', () => {
  expect(metricsOf('max by (host) (up{job="a"}) == 0')).toEqual(['up']);
  for (const wrong of ['max by (host (up)', 'rate(up[5m)', 'up == == 0']) expect(metricsOf(wrong)).toBeUndefined();
});

test.each([...alerts.map(({ expr }) => expr), ...panelExpressions])('%s', (expression) => {
  const metrics = metricsOf(expression);
  expect(metrics).not.toEqual([]);
  const known = METRIC_GROUPS.flatMap((group) => group.metrics.map(({ name }) => name));
  for (const name of metrics ?? ['no PromQL']) expect(known).toContain(name.replace(/_bucket$/, ''));
});

test('the docs have the same alerts, and a section for each', () => {
  const text = textOf('docs/operations/monitoring.md');
  const rows = Array.from(text.matchAll(/^\| \[(\w+)\]\(#(\w+)\) \| `(.+)` \| (\w+) \|$/gm), ([, ...cells]) => cells);
  const inOrder = <T>(list: readonly T[]) => list.toSorted((a, b) => (String(a) < String(b) ? -1 : 1));
  expect(inOrder(rows)).toEqual(
    inOrder(alerts.map(({ alert, expr, for: time }) => [alert, alert.toLowerCase(), expr, time])),
  );
  const sections = Array.from(text.matchAll(/^### (Qemu\w+)$/gm), ([, name]) => name);
  expect(inOrder(sections)).toEqual(inOrder(alerts.map(({ alert }) => alert)));
  for (const { labels } of alerts) expect(['critical', 'warning']).toContain(labels['severity']);
});

test('panels lie side by side', () => {
  const places = dashboard.panels.map((panel) => JSON.stringify(Reflect.get(panel, 'gridPos')));
  expect(new Set(places).size).toBe(places.length);
});

test('charts have the version of the product', () => {
  const { version } = JSON.parse(textOf('package.json')) as { version: string };
  for (const chart of ['qemu-operator', 'qemu-operator-crds'])
    expect(parse(textOf(`charts/${chart}/Chart.yaml`))).toMatchObject({ version, appVersion: version });
});

test('every value is in the schema and in the README, and nothing else is', () => {
  const values = parse(chartText('values.yaml')) as Record<string, unknown>;
  const { properties } = JSON.parse(chartText('values.schema.json')) as { properties: Record<string, unknown> };
  expect(
    Object.keys(properties)
      .filter((name) => name !== 'global')
      .toSorted(),
  ).toEqual(Object.keys(values).toSorted());
  const rows = chartText('README.md').matchAll(/^\| (`[^|]+`) \|/gm);
  const told = Array.from(rows, ([, cell = '']) => Array.from(cell.matchAll(/`([^`]+)`/g), ([, name]) => name)).flat();
  expect(told.toSorted()).toEqual(leavesOf(values).toSorted());
});

/** Fields of a section are named with it; what a pod takes as it is is one value. */
function leavesOf(values: Readonly<Record<string, unknown>>): string[] {
  const sections = [
    'image',
    'mcp',
    'streams',
    'serviceAccount',
    'networkPolicy',
    'serviceMonitor',
    'prometheusRule',
    'grafanaDashboard',
  ];
  return Object.entries(values).flatMap(([name, value]) =>
    sections.includes(name) ? Object.keys(value as object).map((field) => `${name}.${field}`) : [name],
  );
}
