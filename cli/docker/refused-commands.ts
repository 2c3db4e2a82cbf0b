// docker's commands that Gantry knows and doesn't have: what does the same here. By the first word or the first two; a longer match goes before.
const NETWORKS = "networks need not be made: containers of 'gantry run --network NAME' find each other by their names, and a network is there as long as one of them";
const SWARM = "the cluster is Gantry itself: 'gantry up' makes one on this machine, 'gantry token create' lets another join, 'gantry get nodes' lists them";
const DEPLOYMENTS = "services of a swarm are deployments here: 'gantry run --replicas 3', 'gantry scale deployment NAME --replicas 5', or a Compose file with deploy.replicas";
const MANIFESTS = "apply a manifest: 'gantry apply -f FILE', and 'gantry get'";

export const REFUSED_COMMANDS: Readonly<Record<string, string>> = {
  "network create": NETWORKS, "network rm": NETWORKS, "network remove": NETWORKS, "network prune": NETWORKS,
  "network connect": "a container's network is fixed when it is made: 'gantry run --network NAME --network-alias OTHER'", "network disconnect": "a container's network is fixed when it is made",
  rename: "a container's name is its pod's, which is fixed: make a new one with 'gantry run --name', perhaps from 'gantry commit OLD NAME:TAG'", "container rename": "a container's name is its pod's, which is fixed",
  export: "'gantry cp CONTAINER:/ -' writes its files as a tar", "container export": "'gantry cp CONTAINER:/ -' writes its files as a tar",
  import: "build it: a Dockerfile of 'FROM scratch' and 'ADD FILE.tar /'", "image import": "build it: a Dockerfile of 'FROM scratch' and 'ADD FILE.tar /'",
  info: "'gantry status', 'gantry version', 'gantry get nodes -o wide' and 'gantry system df' say it", "system info": "'gantry status', 'gantry version', 'gantry get nodes -o wide' and 'gantry system df' say it",
  search: "no registry here answers searches: look at the registry's web page, and 'gantry pull NAME'",
  swarm: SWARM, node: "nodes are objects: 'gantry get nodes', 'gantry describe node NAME', 'gantry delete node NAME'", service: DEPLOYMENTS, stack: "'gantry compose up' takes the same files",
  secret: `secrets are objects, and Compose files make them: ${MANIFESTS}`, config: `configs are ConfigMaps, and Compose files make them: ${MANIFESTS}`,
  context: "which cluster is meant is said by --kubeconfig, KUBECONFIG and --context, as with kubectl",
  buildx: "'gantry build' builds, for the nodes' own architecture", builder: "'gantry build' builds; its cache is kept small by the nodes themselves, and 'gantry build --no-cache' goes without",
  manifest: "lists of several architectures are read and not made here; skopeo and buildah make them", trust: "signatures are not made or checked here; images are verified by digest",
  plugin: "there are no plugins", checkpoint: "containers can't be checkpointed; 'gantry pause' and 'gantry commit' may do",
  "volume update": "a volume's only setting is its size: kubectl patch persistentvolumeclaim",
  "compose top": "'gantry top CONTAINER', with names of 'gantry compose ps'", "compose port": "'gantry port CONTAINER', with names of 'gantry compose ps'", "compose events": "'gantry events'",
  "compose ls": "'gantry ps -a --format \"{{.Names}} {{.Labels}}\"' shows each container's project", "compose version": "'gantry version'", "compose cp": "'gantry cp CONTAINER:PATH .', with names of 'gantry compose ps'",
  "compose push": "'gantry push IMAGE', with names of 'gantry compose images'", "compose create": "'gantry compose up --no-start'", "compose attach": "'gantry attach CONTAINER', with names of 'gantry compose ps'",
  "compose scale": "'gantry compose up -d --scale SERVICE=3'", "compose stats": "'gantry stats'", "compose wait": "'gantry wait CONTAINER', with names of 'gantry compose ps'", "compose watch": "run 'gantry compose up -d --build' again; only what changed is replaced",
};
