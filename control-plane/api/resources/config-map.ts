// ConfigMap: https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/config-map-v1/
import type { FieldCause } from "../../../base/errors.ts";
import { CONFIG_MAPS } from "../../../base/kube/resources.ts";
import type { ConfigMap, Secret } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, nameColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { forbidden, invalid, tooLong } from "./faults.ts";
import { validateMetadata } from "./metadata.ts";
import { isConfigMapKey } from "./names.ts";
import { sameJson } from "./same-json.ts";

/** Of all values together; keys don't count. */
export const MAX_DATA_BYTES = 1024 * 1024;

export const validateKeys = (path: string, data: Readonly<Record<string, string>> | undefined): FieldCause[] =>
  Object.keys(data ?? {}).flatMap((key) => isConfigMapKey(key).map((m) => invalid(`${path}[${key}]`, key, m)));

/** An object that says `immutable: true` keeps its data, and keeps saying so. */
export const validateImmutable = <T extends ConfigMap | Secret>(next: T, previous: T | undefined, parts: readonly (keyof T & string)[]): FieldCause[] =>
  previous?.immutable !== true ? [] : [
    ...(next.immutable === true ? [] : [forbidden("immutable", "field is immutable when `immutable` is set")]),
    ...parts.filter((p) => !sameJson(next[p], previous[p])).map((p) => forbidden(p, "field is immutable when `immutable` is set")),
  ];

export const base64Bytes = (text: string): number => (text.length / 4) * 3 - (text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0);

export const CONFIG_MAP: ResourceDefinition<ConfigMap> = {
  type: CONFIG_MAPS,
  singular: "configmap",
  shortNames: ["cm"],
  categories: [],
  schema: "core/v1.ConfigMap",
  defaults: (map) => map,
  validate: (map, previous) => {
    const size = Object.values(map.data ?? {}).reduce((n, v) => n + Buffer.byteLength(v), 0) + Object.values(map.binaryData ?? {}).reduce((n, v) => n + base64Bytes(v), 0);
    const twice = Object.keys(map.data ?? {}).filter((k) => Object.hasOwn(map.binaryData ?? {}, k));
    return [
      ...validateMetadata(CONFIG_MAPS, map, previous),
      ...validateKeys("data", map.data), ...validateKeys("binaryData", map.binaryData),
      ...twice.map((k) => invalid(`data[${k}]`, k, "duplicate of key present in binaryData")),
      ...(size > MAX_DATA_BYTES ? [tooLong("", MAX_DATA_BYTES)] : []),
      ...validateImmutable(map, previous, ["data", "binaryData"]),
    ];
  },
  strategy: { generationOf: () => undefined },
  columns: [
    nameColumn(),
    column("Data", "integer", "Number of entries.", (m) => Object.keys(m.data ?? {}).length + Object.keys(m.binaryData ?? {}).length),
    ageColumn(),
  ],
  fieldSelectors: {},
  subresources: {},
};
