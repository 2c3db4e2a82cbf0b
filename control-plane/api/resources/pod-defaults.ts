// Defaults of a pod's spec, for pods and for templates alike: k8s.io/kubernetes/pkg/apis/core/v1/defaults.go.
import type {
  Container, DownwardAPIVolumeFile, EnvVar, HTTPGetAction, Lifecycle, LifecycleHandler, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, Volume, VolumeProjection,
} from "../../../base/kube/types.gen.ts";
import { change, each, fill } from "./fill.ts";

const FILE_MODE = 0o644;

/** Upstream's rule: only an image without tag and digest, or tagged "latest", may change under its name. */
export const defaultPullPolicy = (image: string): "Always" | "IfNotPresent" => {
  if (image.includes("@")) return "IfNotPresent";
  const tag = /:([^:/]+)$/.exec(image)?.[1] ?? "latest";
  return tag === "latest" ? "Always" : "IfNotPresent";
};

const httpDefaults = (get: HTTPGetAction): HTTPGetAction => fill(get, { path: "/", scheme: "HTTP" });

const probeDefaults = (probe: Probe): Probe => {
  const filled = fill(probe, { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 });
  return change(change(filled, "httpGet", httpDefaults), "grpc", (grpc) => fill(grpc, { service: "" }));
};

const handlerDefaults = (handler: LifecycleHandler): LifecycleHandler => change(handler, "httpGet", httpDefaults);
const lifecycleDefaults = (lifecycle: Lifecycle): Lifecycle => change(change(lifecycle, "postStart", handlerDefaults), "preStop", handlerDefaults);

const fieldDefaults = (file: DownwardAPIVolumeFile): DownwardAPIVolumeFile => change(file, "fieldRef", (ref) => fill(ref, { apiVersion: "v1" }));
const envDefaults = (env: EnvVar): EnvVar => change(env, "valueFrom", (from) => change(from, "fieldRef", (ref) => fill(ref, { apiVersion: "v1" })));

const containerDefaults = (hostNetwork: boolean) => (container: Container): Container => {
  let c = fill(container, { terminationMessagePath: "/dev/termination-log", terminationMessagePolicy: "File", imagePullPolicy: defaultPullPolicy(container.image ?? "") });
  c = change(c, "ports", (ports) => each(ports, (p) => fill(p, { protocol: "TCP", ...(hostNetwork ? { hostPort: p.containerPort } : {}) })));
  c = change(c, "env", (env) => each(env, envDefaults));
  for (const probe of ["livenessProbe", "readinessProbe", "startupProbe"] as const) c = change(c, probe, probeDefaults);
  return change(c, "lifecycle", lifecycleDefaults);
};

const projectionDefaults = (projection: VolumeProjection): VolumeProjection => {
  const p = change(projection, "serviceAccountToken", (token) => fill(token, { expirationSeconds: 3600 }));
  return change(p, "downwardAPI", (d) => change(d, "items", (items) => each(items, fieldDefaults)));
};

const volumeDefaults = (volume: Volume): Volume => {
  if (Object.keys(volume).every((k) => k === "name")) return { ...volume, emptyDir: {} };
  let v = change(volume, "secret", (s) => fill(s, { defaultMode: FILE_MODE }));
  v = change(v, "configMap", (c) => fill(c, { defaultMode: FILE_MODE }));
  v = change(v, "downwardAPI", (d) => change(fill(d, { defaultMode: FILE_MODE }), "items", (items) => each(items, fieldDefaults)));
  v = change(v, "projected", (p) => change(fill(p, { defaultMode: FILE_MODE }), "sources", (sources) => each(sources, projectionDefaults)));
  return change(v, "hostPath", (h) => fill(h, { type: "" }));
};

export const podSpecDefaults = (spec: PodSpec): PodSpec => {
  const account = spec.serviceAccountName ?? spec.serviceAccount;
  let s = fill(spec, {
    restartPolicy: "Always", dnsPolicy: "ClusterFirst", schedulerName: "default-scheduler", terminationGracePeriodSeconds: 30, securityContext: {},
    serviceAccountName: account, serviceAccount: account,
  });
  const forContainer = containerDefaults(spec.hostNetwork === true);
  for (const list of ["containers", "initContainers"] as const) s = change(s, list, (containers) => each(containers, forContainer));
  s = change(s, "ephemeralContainers", (containers) => each(containers, (c) => forContainer(c)));
  return change(s, "volumes", (volumes) => each(volumes, volumeDefaults));
};

export const podTemplateDefaults = (template: PodTemplateSpec): PodTemplateSpec => change(template, "spec", podSpecDefaults);

/** What is limited but not requested is requested at its limit. For pods only: a template keeps what its author wrote. */
const requestsFromLimits = (resources: ResourceRequirements): ResourceRequirements => {
  const requests = { ...resources.limits, ...resources.requests };
  return Object.keys(requests).length === Object.keys(resources.requests ?? {}).length ? resources : { ...resources, requests };
};

/** Defaults of a pod itself, beyond those that its template has had already. */
export const podDefaults = (spec: PodSpec): PodSpec => {
  let s = fill(podSpecDefaults(spec), { enableServiceLinks: true });
  for (const list of ["containers", "initContainers"] as const) s = change(s, list, (containers) => each(containers, (c) => change(c, "resources", requestsFromLimits)));
  return s;
};
