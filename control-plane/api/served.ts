// Owns which kinds are served: those of the registry, and Services, which are a later issue, as a resource that is empty and can't
// be written: `kubectl cluster-info` and `get all` ask for them and fail when they aren't there at all.
import type { ResourceType } from "../../base/kube/resources.ts";
import { ageColumn, nameColumn } from "./resources/columns.ts";
import type { ResourceDefinition } from "./resources/definition.ts";
import { DEFINITIONS, definitionOf } from "./resources/registry.ts";
import { USAGE_DEFINITIONS } from "./usage.ts";

const SERVICES: ResourceType = { name: "services", group: "", version: "v1", apiVersion: "v1", kind: "Service", plural: "services", namespaced: true };

const SERVICE: ResourceDefinition = {
  type: SERVICES, singular: "service", shortNames: ["svc"], categories: ["all"], schema: "core/v1.Service",
  defaults: (object) => object, validate: () => [], strategy: {}, columns: [nameColumn(), ageColumn()], fieldSelectors: {}, subresources: {},
};

export const SERVED: readonly ResourceDefinition[] = [...DEFINITIONS, SERVICE, ...USAGE_DEFINITIONS];

/** `group` is "" for the core group. */
export const servedDefinition = (group: string, version: string, plural: string): ResourceDefinition | undefined =>
  group === "" && version === "v1" && plural === SERVICES.plural ? SERVICE : definitionOf(group, version, plural);

export const isReadOnly = (definition: ResourceDefinition): boolean => definition === SERVICE;
