// Rules for security contexts. Profiles that Gantry can't apply are refused: to run without them would be to run with less isolation.
import type { FieldCause } from "../../../base/errors.ts";
import type { AppArmorProfile, SeccompProfile, SecurityContext, SELinuxOptions, WindowsSecurityContextOptions } from "../../../base/kube/types.gen.ts";
import { forbidden, invalid, oneOf, required } from "./faults.ts";

const MAX_ID = 2 ** 31 - 1;
const PROFILE_TYPES = ["Localhost", "RuntimeDefault", "Unconfined"];
const PROC_MOUNTS = ["Default", "Unmasked"];

/** A user or group id. */
export const validateId = (path: string, id: number | undefined): FieldCause[] =>
  id !== undefined && (id < 0 || id > MAX_ID) ? [invalid(path, id, "must be between 0 and 2147483647, inclusive")] : [];

const validateSeccomp = (path: string, profile: SeccompProfile | undefined): FieldCause[] => {
  if (!profile) return [];
  const file = profile.localhostProfile;
  const inside = file === undefined || !(file.startsWith("/") || file.split("/").includes(".."));
  return [
    ...(profile.type ? oneOf(`${path}.type`, profile.type, PROFILE_TYPES) : [required(`${path}.type`, "type is required when seccompProfile is set")]),
    ...(profile.type === "Localhost" && !file ? [required(`${path}.localhostProfile`, "must be set when seccomp type is Localhost")] : []),
    ...(profile.type !== "Localhost" && file !== undefined ? [invalid(`${path}.localhostProfile`, file, "can only be set when seccomp type is Localhost")] : []),
    ...(inside ? [] : [invalid(`${path}.localhostProfile`, file, "must be a relative path and must not contain '..'")]),
  ];
};

const validateAppArmor = (path: string, profile: AppArmorProfile | undefined): FieldCause[] => {
  if (!profile) return [];
  const name = profile.localhostProfile;
  return [
    ...(profile.type ? oneOf(`${path}.type`, profile.type, PROFILE_TYPES) : [required(`${path}.type`, "type is required when appArmorProfile is set")]),
    ...(profile.type === "Localhost" && !name?.trim() ? [required(`${path}.localhostProfile`, "must be set when AppArmor type is Localhost")] : []),
    ...(profile.type !== "Localhost" && name !== undefined ? [invalid(`${path}.localhostProfile`, name, "can only be set when AppArmor type is Localhost")] : []),
    ...(name !== undefined && name.trim() !== name ? [invalid(`${path}.localhostProfile`, name, "must not be padded with whitespace")] : []),
  ];
};

interface Profiles {
  readonly seccompProfile?: SeccompProfile | undefined;
  readonly appArmorProfile?: AppArmorProfile | undefined;
  readonly seLinuxOptions?: SELinuxOptions | undefined;
  readonly windowsOptions?: WindowsSecurityContextOptions | undefined;
}

export const validateProfiles = (path: string, context: Profiles): FieldCause[] => [
  ...validateSeccomp(`${path}.seccompProfile`, context.seccompProfile),
  ...validateAppArmor(`${path}.appArmorProfile`, context.appArmorProfile),
  ...(context.seLinuxOptions && Object.keys(context.seLinuxOptions).length > 0 ? [forbidden(`${path}.seLinuxOptions`, "SELinux labels are not supported by Gantry yet")] : []),
  ...(context.windowsOptions ? [forbidden(`${path}.windowsOptions`, "Windows options cannot be set for a Linux pod")] : []),
];

export const validateContainerSecurity = (path: string, context: SecurityContext | undefined): FieldCause[] => {
  if (!context) return [];
  const added = context.capabilities?.add ?? [];
  const escalates = context.privileged === true || added.some((c) => c === "CAP_SYS_ADMIN" || c === "SYS_ADMIN");
  return [
    ...validateId(`${path}.runAsUser`, context.runAsUser), ...validateId(`${path}.runAsGroup`, context.runAsGroup),
    ...oneOf(`${path}.procMount`, context.procMount, PROC_MOUNTS),
    ...(context.allowPrivilegeEscalation === false && escalates
      ? [invalid(path, context, context.privileged ? "cannot set `allowPrivilegeEscalation` to false and `privileged` to true" : "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN")] : []),
    ...validateProfiles(path, context),
  ];
};
