// The control plane's options: flags, GANTRY_* variables and config file keys (base/config.ts).
import { durationOption, listOption, numberOption, stringOption, type OptionValues } from "../base/config.ts";

export const CONTROL_PLANE_OPTIONS = {
  dataDir: stringOption("Where certificates and, without --etcd-endpoints, etcd's data lie", "/var/lib/gantry/control-plane", { placeholder: "DIR" }),
  bindAddress: stringOption("Address to listen on", "0.0.0.0", { placeholder: "IP" }),
  apiPort: numberOption("Port of the Kubernetes API (HTTPS); 0 takes a free one", 6443),
  agentPort: numberOption("Port for node agents (gRPC)", 6444),
  advertiseAddresses: listOption("Names and addresses under which clients and agents reach this control plane; they go into its certificate (localhost, 127.0.0.1 and the machine's own are always in)", []),
  kubeconfig: stringOption("Where to write the administrator's kubeconfig (default DATA-DIR/admin.kubeconfig)", "", { placeholder: "FILE" }),
  kubeconfigServer: stringOption("Server URL in that kubeconfig (default https://127.0.0.1:API-PORT)", "", { placeholder: "URL" }),
  tokenFile: stringOption("Static bearer tokens: lines of token,user,uid[,\"group1,group2\"]", "", { placeholder: "FILE" }),
  etcdEndpoints: listOption("Endpoints of an etcd cluster; without any, a private etcd is started and supervised"),
  etcdCa: stringOption("CA of etcd's certificates (PEM)", "", { placeholder: "FILE" }),
  etcdCert: stringOption("Client certificate for etcd (PEM)", "", { placeholder: "FILE" }),
  etcdKey: stringOption("Key of that certificate (PEM)", "", { placeholder: "FILE" }),
  etcdUsername: stringOption("User name for etcd's authentication"),
  etcdPasswordFile: stringOption("File with the password for etcd's authentication", "", { placeholder: "FILE" }),
  etcdPrefix: stringOption("Prefix of all keys in etcd", "/gantry"),
  clusterCidr: stringOption("Addresses of all pods; each node gets a part", "10.64.0.0/10", { placeholder: "CIDR" }),
  nodeCidrMaskSize: numberOption("Prefix length of a node's part", 22),
  heartbeatPeriod: durationOption("How often a node agent renews its node's lease", 5000),
  nodeLease: durationOption("A node without a heartbeat for this long is lost", 20_000),
  podEvictionDelay: durationOption("How long after its node is lost a pod is replaced, unless its own tolerations say otherwise", 30_000),
  nodeEvictionInterval: durationOption("Time between two nodes of a zone that begin to lose their pods", 10_000),
  unhealthyZoneThreshold: numberOption("Percent of a zone's nodes, and at least 3, that must be lost or not ready for its evictions to slow down or stop", 55, { least: 1, most: 100 }),
  largeZoneSize: numberOption("Such a zone goes on slowly when it has more nodes than this; a smaller one stops", 50, { least: 0 }),
  secondaryNodeEvictionInterval: durationOption("Time between two nodes in such a large zone", 100_000),
  terminatedPodGcThreshold: numberOption("Finished pods beyond this many are deleted, the oldest first; 0: none is", 12_500, { least: 0 }),
  eventTtl: durationOption("How long events are kept", 3_600_000),
  logLevel: stringOption("How much to log", "info", { choices: ["debug", "info", "warn", "error"] }),
  logFormat: stringOption("Readable lines or JSON; auto is readable on a terminal", "auto", { choices: ["auto", "text", "json"] }),
} as const;

export type ControlPlaneOptions = OptionValues<typeof CONTROL_PLANE_OPTIONS>;
