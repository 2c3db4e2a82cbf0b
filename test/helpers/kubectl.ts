// Where the real kubectl binaries of this machine are.
import { accessSync, constants, realpathSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";

const executable = (path: string): string | undefined => {
  try {
    accessSync(path, constants.X_OK);
    return path;
  } catch {
    return undefined;
  }
};

const onPath = (name: string): string | undefined =>
  (process.env["PATH"] ?? "").split(delimiter).map((folder) => executable(join(folder, name))).find((path) => path !== undefined);

/** `kubectl.1.33` on the PATH, or beside the file that `kubectl` on the PATH is; undefined when this machine has none of that version. */
export const findKubectl = (version: string): string | undefined => {
  const named = onPath(`kubectl.${version}`);
  if (named !== undefined) return named;
  const any = onPath("kubectl");
  for (const folder of [...(any === undefined ? [] : [dirname(realpathSync(any))]), "/usr/lib/google-cloud-sdk/bin"]) {
    const found = executable(join(folder, `kubectl.${version}`));
    if (found !== undefined) return found;
  }
  return undefined;
};
