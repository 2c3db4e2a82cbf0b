// What a session is made of and what each of its connections works with.
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { NodeCondition, NodeDescription } from "../../proto/gen/gantry/v1/agent.ts";
import type { Builder } from "../build/builder.ts";
import type { ImageService } from "../images/image-service.ts";
import type { PodNetwork } from "../network/pod-network.ts";
import type { VolumeService } from "../volumes/volume-service.ts";
import type { PodService } from "../pods/pod-service.ts";
import type { StatsCollector } from "../stats/stats-collector.ts";
import type { ImageRequestContext } from "./image-requests.ts";
import type { CredentialStore } from "./credentials.ts";
import type { StatusReporter } from "./status-reporter.ts";

export interface SessionOptions {
  /** host:port of dispatchers. */
  readonly controlPlanes: readonly string[];
  /** Holds valid credentials (see ensureCredentials in join.ts); renewed ones are saved to it. */
  readonly credentials: CredentialStore;
  /** What the node is; `images` is filled in by the session. Called at each heartbeat: cheap. */
  readonly describe: () => NodeDescription;
  /** Conditions besides the network's, such as MemoryPressure. */
  readonly conditions?: () => readonly NodeCondition[];
  readonly pods: PodService;
  /** Absent: this node tells nobody what its pods use. */
  readonly stats?: Pick<StatsCollector, "follow">;
  readonly images: ImageService;
  readonly imageDirectories: ImageRequestContext["directories"];
  /** Absent: this node builds no images. */
  readonly builder?: Pick<Builder, "build">;
  readonly network: PodNetwork;
  readonly volumes: Pick<VolumeService, "removeLocal">;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** What a connection works with. */
export interface SessionContext extends Omit<SessionOptions, "metrics" | "controlPlanes"> {
  readonly reporter: StatusReporter;
  readonly metrics: {
    readonly heartbeat: { observe(seconds: number): void };
    readonly restarts: { inc(): void };
  };
  readonly onOpened: () => void;
}
