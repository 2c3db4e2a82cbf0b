// The node agent's options: flags, GANTRY_* variables and config file keys (base/config.ts).
import { booleanOption, durationOption, listOption, numberOption, stringOption, type OptionValues } from "../base/config.ts";

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
  runtimeHandlers: listOption("More OCI runtimes, for RuntimeClasses, handler=PATH (crun and runc are found by themselves)"),
  conmon: stringOption("Path of conmon (default: found on PATH)", "", { placeholder: "FILE" }),
  maxPods: numberOption("Most pods on this node", 500),
  allowedUnsafeSysctls: listOption("Kernel settings that pods may change beyond the safe ones: NAME, or PREFIX*"),
  podPidsLimit: numberOption("Most processes in a container that sets no limit of its own; 0: no limit", 4096),
  reservedCpu: stringOption("CPU kept back for the system, as a quantity", "0"),
  reservedMemory: stringOption("Memory kept back for the system, as a quantity", "0"),
  labels: listOption("Labels of the node, key=value"),
  taints: listOption("Taints that a new node starts with, key=value:Effect"),
  insecureRegistries: listOption("Registries (or networks, 10.0.0.0/8) to be reached by HTTPS without verification, or by HTTP (loopback always is)"),
  registryMirrors: listOption("Mirrors, registry=mirror: docker.io=mirror.example:5000"),
  registryCas: listOption("CAs of registries' certificates, registry=FILE (PEM)"),
  registryConfig: stringOption("YAML or JSON with settings for each registry: http, insecure, skipTlsVerify, caFile, caPem, mirrors, proxy", "", { placeholder: "FILE" }),
  imageMaxBytes: stringOption("Most that one image layer may unpack to, as a quantity", "128Gi"),
  imageMaxEntries: numberOption("Most files in one image layer", 2_000_000, { least: 1 }),
  imageMaxRatio: numberOption("Most bytes that one byte of a compressed layer may unpack to, above 1 GiB; 0: no limit", 250, { least: 0 }),
  imageGcPeriod: durationOption("How often to look for images that nothing uses", 300_000),
  imageGcMinAge: durationOption("Unused images stay at least this long", 120_000),
  imageGcMaxAge: durationOption("Images that were not used for this long go; 0: only when the disk is full", 0),
  imageGcHigh: numberOption("Percent of the disk in use above which unused images go", 85, { least: 1, most: 100 }),
  imageGcLow: numberOption("Percent of the disk in use at which no more images go", 80, { least: 0, most: 100 }),
  peerPort: numberOption("Port where other nodes' agents get image blobs of this one; 0: nowhere", 6446, { least: 0, most: 65535 }),
  metricsAddress: stringOption("Address of /metrics, /healthz and /readyz (HTTP); empty turns them off", "127.0.0.1:6445", { placeholder: "IP:PORT" }),
  reset: booleanOption("Stop every container of this node, remove everything that the agent made (data too), and exit"),
  keepData: booleanOption("With --reset: keep images and the node's certificate"),
  logLevel: stringOption("How much to log", "info", { choices: ["debug", "info", "warn", "error"] }),
  logFormat: stringOption("Readable lines or JSON; auto is readable on a terminal", "auto", { choices: ["auto", "text", "json"] }),
} as const;

export type NodeAgentOptions = OptionValues<typeof NODE_AGENT_OPTIONS>;

/** Which controllers were mounted for crun's sake: one record for the machine, as every agent on it needs the same. `gantry down` undoes them. */
export const HYBRID_MOUNTS_RECORD = "/run/gantry/hybrid-mounts";
