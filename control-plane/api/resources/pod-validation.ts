// Rules for a pod's spec, in pods and templates: pkg/apis/core/validation.ValidatePodSpec, plus what Gantry does not run (yet) and
// whose silent absence would be unsafe. `path` is "spec" or "spec.template.spec". Runs after the defaults.
import { isIP } from "node:net";
import type { FieldCause } from "../../../base/errors.ts";
import { extrasFaults } from "../../../base/kube/container-extras.ts";
import { lifecycleFaults } from "../../../base/kube/desired-state.ts";
import type { LocalObjectReference, PodSecurityContext, PodSpec } from "../../../base/kube/types.gen.ts";
import { normalizeTime } from "../schema/scalars.ts";
import { validateContainers } from "./container-validation.ts";
import { forbidden, invalid, nonNegative, notSupported, oneOf, required } from "./faults.ts";
import { duplicates } from "./metadata.ts";
import { isDnsLabel, isDnsSubdomain } from "./names.ts";
import { validateAmounts } from "./quantities.ts";
import { validateScheduling } from "./scheduling-validation.ts";
import { validateId, validateProfiles } from "./security-validation.ts";
import { validateHugePageVolumes, validateVolumes } from "./volume-validation.ts";

export const RESTART_POLICIES = ["Always", "OnFailure", "Never"];
const DNS_POLICIES = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
const GROUP_POLICIES = ["Merge", "Strict"];
const FS_GROUP_POLICIES = ["Always", "OnRootMismatch"];
const SYSCTL = /^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*([a-z0-9]([-_a-z0-9]*[a-z0-9])?)$/;

const validateSecurity = (path: string, spec: PodSpec, security: PodSecurityContext): FieldCause[] => [
  ...(["runAsUser", "runAsGroup", "fsGroup"] as const).flatMap((f) => validateId(`${path}.${f}`, security[f])),
  ...(security.supplementalGroups ?? []).flatMap((id, i) => validateId(`${path}.supplementalGroups[${i}]`, id)),
  ...oneOf(`${path}.fsGroupChangePolicy`, security.fsGroupChangePolicy, FS_GROUP_POLICIES),
  ...oneOf(`${path}.supplementalGroupsPolicy`, security.supplementalGroupsPolicy, GROUP_POLICIES),
  ...(security.sysctls ?? []).flatMap((s, i) => [
    ...(s.name && s.name.length <= 253 && SYSCTL.test(s.name) ? [] : [s.name
      ? invalid(`${path}.sysctls[${i}].name`, s.name, "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*([a-z0-9]([-_a-z0-9]*[a-z0-9])?)$")
      : required(`${path}.sysctls[${i}].name`)]),
    ...(spec.hostNetwork && s.name?.startsWith("net.") ? [invalid(`${path}.sysctls[${i}].name`, s.name, "may not be specified when 'hostNetwork' is true")] : []),
    ...(spec.hostIPC && /^(kernel\.(shm|msg|sem)|fs\.mqueue\.)/.test(s.name ?? "") ? [invalid(`${path}.sysctls[${i}].name`, s.name, "may not be specified when 'hostIPC' is true")] : []),
  ]),
  ...duplicates(security.sysctls ?? [], (s) => s.name ?? "", (i) => `${path}.sysctls[${i}].name`),
  ...validateProfiles(path, security),
];

const validateDns = (path: string, spec: PodSpec): FieldCause[] => {
  const config = spec.dnsConfig;
  const at = `${path}.dnsConfig`;
  return [
    ...oneOf(`${path}.dnsPolicy`, spec.dnsPolicy, DNS_POLICIES),
    ...(spec.dnsPolicy === "None" && !config?.nameservers?.length ? [required(`${at}.nameservers`, "must provide at least one DNS nameserver when `dnsPolicy` is None")] : []),
    ...((config?.nameservers?.length ?? 0) > 3 ? [invalid(`${at}.nameservers`, config!.nameservers, "must not have more than 3 nameservers")] : []),
    ...(config?.nameservers ?? []).flatMap((ip, i) => (isIP(ip) === 0 ? [invalid(`${at}.nameservers[${i}]`, ip, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")] : [])),
    ...(config?.searches ?? []).flatMap((s, i) => (s === "." ? [] : isDnsSubdomain(s.replace(/\.$/, "").replaceAll("_", "-")).map((m) => invalid(`${at}.searches[${i}]`, s, m)))),
    ...(config?.options ?? []).flatMap((o, i) => (o.name ? [] : [required(`${at}.options[${i}]`, "must not be empty")])),
  ];
};

const validateHost = (path: string, spec: PodSpec): FieldCause[] => [
  ...(spec.hostname ? isDnsLabel(spec.hostname).map((m) => invalid(`${path}.hostname`, spec.hostname, m)) : []),
  ...(spec.subdomain ? isDnsLabel(spec.subdomain).map((m) => invalid(`${path}.subdomain`, spec.subdomain, m)) : []),
  ...(spec.hostAliases ?? []).flatMap((alias, i) => [
    ...(isIP(alias.ip ?? "") === 0 ? [invalid(`${path}.hostAliases[${i}].ip`, alias.ip ?? "", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")] : []),
    ...(alias.hostnames ?? []).flatMap((name, j) => isDnsSubdomain(name).map((m) => invalid(`${path}.hostAliases[${i}].hostnames[${j}]`, name, m))),
  ]),
  ...(spec.shareProcessNamespace && spec.hostPID ? [invalid(`${path}.shareProcessNamespace`, true, "ShareProcessNamespace and HostPID cannot both be enabled")] : []),
];

/** A pod's users are its own only with the other namespaces that root inside could reach the host by; and /proc may be bare only for such ones. */
const validateUsers = (path: string, spec: PodSpec): FieldCause[] => {
  if (spec.hostUsers === false) return (["hostNetwork", "hostPID", "hostIPC"] as const).flatMap((field) => (spec[field] ? [forbidden(`${path}.${field}`, "may not be set when `hostUsers` is false")] : []));
  return (["initContainers", "containers", "ephemeralContainers"] as const).flatMap((kind) => (spec[kind] ?? []).flatMap(({ securityContext }, i) =>
    (securityContext?.procMount === "Unmasked" ? [invalid(`${path}.${kind}[${i}].securityContext.procMount`, "Unmasked", "`hostUsers` must be false to use `Unmasked`")] : [])));
};

/** What upstream knows and Gantry can't do: refused, for to ignore it would run a workload with less isolation or other contents than asked. */
const validateUnsupported = (path: string, spec: PodSpec): FieldCause[] => [
  ...(spec.runtimeClassName ? isDnsSubdomain(spec.runtimeClassName).map((m) => invalid(`${path}.runtimeClassName`, spec.runtimeClassName, m)) : []),
  ...(spec.resourceClaims?.length ? [forbidden(`${path}.resourceClaims`, "dynamic resource allocation is not supported by Gantry")] : []),
  ...(spec.resources ? [forbidden(`${path}.resources`, "pod-level resources are not supported by Gantry yet; set resources of each container")] : []),
  ...(spec.os && spec.os.name !== "linux" ? [notSupported(`${path}.os.name`, spec.os.name, ["linux"])] : []),
];

const validateReferences = (path: string, references: readonly LocalObjectReference[] | undefined): FieldCause[] =>
  (references ?? []).flatMap((r, i) => (r.name ? [] : [required(`${path}[${i}].name`)]));

/** When the containers of a pod that is created ahead of time start: see the dispatcher's START_AT_ANNOTATION. */
const START_AT = "gantry.io/start-at";

/** A mistyped instant would mean "at once". `path` is that of the annotations. */
export const validateStartAt = (path: string, annotations: Readonly<Record<string, string>> | undefined): FieldCause[] => {
  const instant = annotations?.[START_AT];
  return instant === undefined || "value" in normalizeTime(instant) ? [] : [invalid(`${path}[${START_AT}]`, instant, "must be an RFC 3339 time such as 2026-01-02T00:00:00Z")];
};

/** Templates too: a mistyped desired state would mean "running". */
export const validateLifecycle = (path: string, annotations: Readonly<Record<string, string>> | undefined, previous?: { readonly annotations: Readonly<Record<string, string>> | undefined }): FieldCause[] => [
  ...lifecycleFaults(annotations, previous).map(({ name, value, fault }) => {
    const field = `${path}[${name}]`;
    return "supported" in fault ? notSupported(field, value, fault.supported) : "invalid" in fault ? invalid(field, value, fault.invalid) : forbidden(field, fault.forbidden);
  }),
  ...extrasFaults(annotations).map(({ name, value, message }) => invalid(`${path}[${name}]`, value, message)),
];

export const validatePodSpec = (path: string, spec: PodSpec, restartPolicies: readonly string[] = RESTART_POLICIES): FieldCause[] => {
  const volumes = spec.volumes ?? [];
  const deadline = spec.activeDeadlineSeconds;
  return [
    ...validateVolumes(`${path}.volumes`, volumes), ...validateHugePageVolumes(`${path}.volumes`, spec),
    ...validateContainers(path, spec, new Set(volumes.map((v) => v.name))),
    ...(spec.restartPolicy ? oneOf(`${path}.restartPolicy`, spec.restartPolicy, restartPolicies) : [required(`${path}.restartPolicy`)]),
    ...validateDns(path, spec),
    ...validateHost(path, spec),
    ...validateScheduling(path, spec),
    ...nonNegative(`${path}.terminationGracePeriodSeconds`, spec.terminationGracePeriodSeconds),
    ...(deadline !== undefined && (deadline < 1 || deadline > 2 ** 31 - 1) ? [invalid(`${path}.activeDeadlineSeconds`, deadline, "must be between 1 and 2147483647, inclusive")] : []),
    ...validateReferences(`${path}.imagePullSecrets`, spec.imagePullSecrets),
    ...(spec.serviceAccountName ? isDnsSubdomain(spec.serviceAccountName).map((m) => invalid(`${path}.serviceAccountName`, spec.serviceAccountName, m)) : []),
    ...(spec.nodeName ? isDnsSubdomain(spec.nodeName).map((m) => invalid(`${path}.nodeName`, spec.nodeName, m)) : []),
    ...(spec.priorityClassName ? isDnsSubdomain(spec.priorityClassName).map((m) => invalid(`${path}.priorityClassName`, spec.priorityClassName, m)) : []),
    ...validateAmounts(`${path}.overhead`, spec.overhead),
    ...(spec.securityContext ? validateSecurity(`${path}.securityContext`, spec, spec.securityContext) : []),
    ...validateUsers(path, spec), ...validateUnsupported(path, spec),
  ];
};
