// The agent's own name for what it is told to run: the message of the protocol, unchanged, so that it is stored as it came.
export type { PodAssignment as Assignment } from "../../proto/gen/gantry/v1/agent.ts";
