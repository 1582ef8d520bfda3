/** The kinds of the Prometheus operator, as far as the chart uses them: fields of monitoring.coreos.com/v1 by their names and types there. */
const text = { type: 'string' };
const texts = { type: 'object', additionalProperties: text };
const list = (properties: object, required: readonly string[] = []) => ({
  type: 'array',
  items: { type: 'object', required, properties },
});

const SPECS = {
  ServiceMonitor: {
    required: ['selector', 'endpoints'],
    properties: {
      selector: { type: 'object', properties: { matchLabels: texts } },
      endpoints: list({
        port: text,
        path: text,
        honorLabels: { type: 'boolean' },
        interval: { ...text, pattern: '^([0-9]+(ms|s|m|h))+$' },
      }),
    },
  },
  PrometheusRule: {
    properties: {
      groups: list(
        {
          name: { ...text, minLength: 1 },
          rules: list(
            {
              alert: text,
              expr: text,
              for: { ...text, pattern: '^([0-9]+(ms|s|m|h))+$' },
              labels: texts,
              annotations: texts,
            },
            ['expr'],
          ),
        },
        ['name'],
      ),
    },
  },
};

export const PROMETHEUS_CRDS = Object.entries(SPECS).map(([kind, spec]) => {
  const plural = `${kind.toLowerCase()}s`;
  const group = 'monitoring.coreos.com';
  const schema = { type: 'object', required: ['spec'], properties: { spec: { type: 'object', ...spec } } };
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List` },
      scope: 'Namespaced',
      versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: schema } }],
    },
  };
});
