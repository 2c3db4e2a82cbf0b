// Flags of docker run and docker build that Gantry knows and doesn't do: why, and what does the same here. Giving one is an error, for leaving it out would change
// what runs. https://docs.docker.com/reference/cli/docker/container/run/ and https://docs.docker.com/reference/cli/docker/buildx/build/
import { refusedOption, type OptionTable } from "../../base/config.ts";

export const REFUSED_FLAGS = {
  attach: refusedOption("run joins all of a container's outputs, or none with -d; send one of them away with 2>/dev/null or >/dev/null", { short: "a" }),
  blkioWeightDevice: refusedOption("--blkio-weight is one weight for all devices; --device-read-bps and the like limit one of them"),
  cgroupParent: refusedOption("a container's control group lies in its pod's, below kubepods, so that the node can divide its resources; --memory, --cpus and --cpu-shares limit it"),
  cgroupns: refusedOption("containers have a control group namespace of their own where the node has cgroup v2; --privileged ones see the node's"),
  cpuRtPeriod: refusedOption("there is no real-time scheduling; --cpus and --cpu-shares divide CPU time"),
  cpuRtRuntime: refusedOption("there is no real-time scheduling; --cpus and --cpu-shares divide CPU time"),
  cpuCount: refusedOption("it is for Windows; --cpus limits CPU time"),
  cpuPercent: refusedOption("it is for Windows; --cpus limits CPU time"),
  deviceCgroupRule: refusedOption("name the devices themselves: --device /dev/NAME[:/dev/NAME][:rwm]"),
  domainname: refusedOption("the kernel's NIS domain name can't be set; for the name of the machine use --hostname, for names in /etc/hosts --add-host"),
  gpus: refusedOption("there are no device plugins; give the container the GPU's devices, such as --device /dev/nvidia0 --device /dev/nvidiactl --device /dev/nvidia-uvm, and its libraries with -v"),
  healthStartInterval: refusedOption("checks always come at --health-interval"),
  ip: refusedOption("addresses are given by the node; --network NAME and the container's name find it, -p HOST:PORT makes it reachable"),
  ip6: refusedOption("addresses are given by the node, and are IPv4; --network NAME and the container's name find it"),
  linkLocalIp: refusedOption("addresses are given by the node; --network NAME and the container's name find it"),
  ioMaxbandwidth: refusedOption("it is for Windows"), ioMaxiops: refusedOption("it is for Windows"),
  kernelMemory: refusedOption("the kernel has given it up; --memory covers the kernel's share"),
  macAddress: refusedOption("addresses are given by the node"),
  memorySwappiness: refusedOption("cgroup v2 doesn't have it; --memory-swap equal to --memory keeps a container from swapping"),
  oomKillDisable: refusedOption("a container at its limit would stand still for ever, and cgroup v2 doesn't have it; --oom-score-adj says who is ended first when the node's memory is full"),
  storageOpt: refusedOption("the size of a writable layer is not limited here; -v NAME:/path and --tmpfs /path:size=64m keep data out of it"),
  useApiSocket: refusedOption("there is no docker socket; mount a kubeconfig with -v, and talk to the Kubernetes API"),
} as const satisfies OptionTable;

const NO_ATTESTATIONS = "images are built without attestations";
const LIMITS = "builds run with the node's own limits; --node picks one";

export const REFUSED_BUILD_FLAGS = {
  addHost: refusedOption("RUN has the node's /etc/hosts and network"), allow: refusedOption("RUN never gets more rights than a container"), annotation: refusedOption("--label says as much, in the image's config"),
  attest: refusedOption(NO_ATTESTATIONS), provenance: refusedOption(NO_ATTESTATIONS), sbom: refusedOption(NO_ATTESTATIONS),
  buildContext: refusedOption("there is one context; COPY --from=IMAGE takes files of images"), builder: refusedOption("the cluster's nodes build; --node picks one"),
  cacheFrom: refusedOption("the cache is kept on the node that builds, and the same image is always built on the same node"), cacheTo: refusedOption("the cache is kept on the node that builds, and the same image is always built on the same node"),
  call: refusedOption("a Dockerfile is checked when it is built"), check: refusedOption("a Dockerfile is checked when it is built"),
  cgroupParent: refusedOption(LIMITS), cpuPeriod: refusedOption(LIMITS), cpuQuota: refusedOption(LIMITS), cpuShares: refusedOption(LIMITS, { short: "c" }), cpusetCpus: refusedOption(LIMITS), cpusetMems: refusedOption(LIMITS),
  memory: refusedOption(LIMITS, { short: "m" }), memorySwap: refusedOption(LIMITS), shmSize: refusedOption(LIMITS), ulimit: refusedOption(LIMITS),
  isolation: refusedOption("it is for Windows"), metadataFile: refusedOption("--iidfile writes the image's id, and 'gantry image inspect' says the rest"), noCacheFilter: refusedOption("--no-cache does every step anew"),
  output: refusedOption("the image goes to the nodes, and with --push to its registry; 'gantry save' writes an archive, 'gantry cp' takes files out of a container", { short: "o" }),
  securityOpt: refusedOption("RUN never gets more rights than a container"), squash: refusedOption("a last stage of 'FROM scratch' and 'COPY --from=0 / /' has one layer"),
  ssh: refusedOption("there is no agent forwarding; RUN --mount=type=secret takes a key, with --secret"),
} as const satisfies OptionTable;

const FIXED = "it is fixed when the container is made: make it anew with 'gantry run'";

export const REFUSED_UPDATE_FLAGS = {
  restart: refusedOption(FIXED), cpuShares: refusedOption(FIXED, { short: "c" }), cpuPeriod: refusedOption("--cpus says it"), cpuQuota: refusedOption("--cpus says it"), cpuRtPeriod: REFUSED_FLAGS.cpuRtPeriod, cpuRtRuntime: REFUSED_FLAGS.cpuRtRuntime,
  cpusetCpus: refusedOption(FIXED), cpusetMems: refusedOption(FIXED), memorySwap: refusedOption(FIXED), pidsLimit: refusedOption(FIXED), kernelMemory: REFUSED_FLAGS.kernelMemory, blkioWeight: refusedOption(FIXED),
} as const satisfies OptionTable;
