// The node agent's options: flags, GANTRY_* variables and config file keys (base/config.ts).
import { booleanOption, listOption, numberOption, stringOption, type OptionValues } from "../base/config.ts";

export const NODE_AGENT_OPTIONS = {
  nodeName: stringOption("Name of this node (default: the host's name)"),
  controlPlanes: listOption("Addresses of the control planes' agent ports, host:port", [], { placeholder: "HOST:PORT" }),
  joinToken: stringOption("Token of 'gantry token create'; needed once, until the node has its certificate. Better given as GANTRY_JOIN_TOKEN: other users can read a process's flags"),
  dataDir: stringOption("Images, writable layers, logs and the node's own records", "/var/lib/gantry/node", { placeholder: "DIR" }),
  runDir: stringOption("Sockets, mounts and other things that a reboot may take; the path must be short", "/run/gantry/node", { placeholder: "DIR" }),
  nodeAddress: stringOption("Address under which other nodes reach this one (default: that of the default route's interface)", "", { placeholder: "IP" }),
  bridge: stringOption("Name of the bridge that joins this node's pods", "gantry0"),
  cgroupRoot: stringOption("Cgroup below which all pods are", "gantry"),
  runtime: stringOption("OCI runtime: crun, runc or a path (default: the first that works)"),
  conmon: stringOption("Path of conmon (default: found on PATH)", "", { placeholder: "FILE" }),
  maxPods: numberOption("Most pods on this node", 500),
  podPidsLimit: numberOption("Most processes in a container that sets no limit of its own; 0: no limit", 4096),
  reservedCpu: stringOption("CPU kept back for the system, as a quantity", "0"),
  reservedMemory: stringOption("Memory kept back for the system, as a quantity", "0"),
  labels: listOption("Labels of the node, key=value"),
  taints: listOption("Taints that a new node starts with, key=value:Effect"),
  insecureRegistries: listOption("Registries to be reached by HTTP, or HTTPS without verification (loopback always is)"),
  registryMirrors: listOption("Mirrors, registry=mirror: docker.io=mirror.example:5000"),
  metricsAddress: stringOption("Address of /metrics, /healthz and /readyz (HTTP); empty turns them off", "127.0.0.1:6445", { placeholder: "IP:PORT" }),
  reset: booleanOption("Stop every container of this node, remove everything that the agent made (data too), and exit"),
  keepData: booleanOption("With --reset: keep images and the node's certificate"),
  logLevel: stringOption("How much to log", "info", { choices: ["debug", "info", "warn", "error"] }),
  logFormat: stringOption("Readable lines or JSON; auto is readable on a terminal", "auto", { choices: ["auto", "text", "json"] }),
} as const;

export type NodeAgentOptions = OptionValues<typeof NODE_AGENT_OPTIONS>;

/** Which controllers were mounted for crun's sake: one record for the machine, as every agent on it needs the same. `gantry down` undoes them. */
export const HYBRID_MOUNTS_RECORD = "/run/gantry/hybrid-mounts";
