// For tests: assignments of which only what matters is said.
import { Container, PodAssignment } from "../../proto/gen/gantry/v1/agent.ts";
import type { Assignment } from "./assignment.ts";

export type PodShape = Partial<Omit<Assignment, "containers" | "initContainers">> & {
  readonly containers?: readonly Partial<Container>[];
  readonly initContainers?: readonly Partial<Container>[];
};

const containers = (shapes: readonly Partial<Container>[]): Container[] => shapes.map((c) => ({ ...Container.fromPartial({ imagePullPolicy: "IfNotPresent" }), ...c }));

export const makePod = (shape: PodShape = {}): Assignment => ({
  ...PodAssignment.fromPartial({ uid: "u", namespace: "ns", name: "p", generation: 1, restartPolicy: "Always", terminationGraceMs: 30_000, qosClass: "BestEffort" }),
  ...shape, containers: containers(shape.containers ?? [{ name: "main" }]), initContainers: containers(shape.initContainers ?? []),
});
