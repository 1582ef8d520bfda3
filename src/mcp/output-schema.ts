/** The published form of results: the envelope is required, what data holds is said and left open. */
import type { JsonObjectSchema } from './tool.ts';

export function outputSchema(
  data: Readonly<Record<string, 'string' | 'integer' | 'array' | 'object' | 'boolean'>>,
): JsonObjectSchema {
  const properties = Object.fromEntries(Object.entries(data).map(([name, type]) => [name, { type }]));
  return {
    type: 'object',
    properties: {
      success: { type: 'boolean' },
      message: { type: 'string' },
      data: { type: 'object', properties },
    },
    required: ['success', 'message', 'data'],
  };
}
