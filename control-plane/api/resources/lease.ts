// Lease: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/lease-v1/
import { LEASES } from "../../../base/kube/resources.ts";
import type { Lease } from "../../../base/kube/types.gen.ts";
import { ageColumn, column, nameColumn } from "./columns.ts";
import type { ResourceDefinition } from "./definition.ts";
import { nonNegative, positive } from "./faults.ts";
import { validateMetadata } from "./metadata.ts";

export const LEASE: ResourceDefinition<Lease> = {
  type: LEASES,
  singular: "lease",
  shortNames: [],
  categories: [],
  schema: "coordination/v1.Lease",
  defaults: (lease) => lease,
  validate: (lease, previous) => [
    ...validateMetadata(LEASES, lease, previous),
    ...positive("spec.leaseDurationSeconds", lease.spec?.leaseDurationSeconds),
    ...nonNegative("spec.leaseTransitions", lease.spec?.leaseTransitions),
  ],
  strategy: { generationOf: () => undefined },
  columns: [nameColumn(), column("Holder", "string", "The identity of the holder of a current lease.", (l) => l.spec?.holderIdentity ?? ""), ageColumn()],
  fieldSelectors: {},
  subresources: {},
};
