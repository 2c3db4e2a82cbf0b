// docker's --security-opt, and what a Compose file's security_opt lists. Pure. https://docs.docker.com/reference/cli/docker/container/run/#security-opt
import { GantryError } from "../../base/errors.ts";
import type { ContainerRequest } from "./container-request.ts";

/** `flag` is for messages. "BadRequest" for what can't be heeded. */
export const securityOf = (options: readonly string[], flag = "--security-opt"): Pick<ContainerRequest, "noNewPrivileges" | "unconfinedSeccomp" | "appArmor"> => {
  let noNewPrivileges: boolean | undefined;
  let unconfinedSeccomp = false;
  let appArmor = "";
  for (const option of options) {
    const plain = option.replace(":", "=");
    if (/^no-new-privileges(=(true|false))?$/.test(plain)) noNewPrivileges = !plain.endsWith("=false");
    else if (plain === "seccomp=unconfined") unconfinedSeccomp = true;
    else if (/^apparmor=./.test(plain)) appArmor = plain.slice("apparmor=".length);
    // There are no labels to turn off.
    else if (plain !== "label=disable") throw new GantryError("BadRequest", `${flag}: ${JSON.stringify(option)} is not no-new-privileges[=false], seccomp=unconfined, apparmor=PROFILE or label=disable`);
  }
  return { noNewPrivileges, unconfinedSeccomp, appArmor };
};
