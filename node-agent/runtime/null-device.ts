// /dev/null of the machine. crun 1.8 gives its standard streams to the container's user, also when one of them is this device: whoever owns it could
// take everybody's rights from it.
import { chmodSync, chownSync, statSync } from "node:fs";

const MODE = 0o666;

/** Gives it back to root. After whatever the OCI runtime did with it as a stream; a created container's program does not run yet. */
export const mendNullDevice = (): void => {
  const { uid, gid, mode } = statSync("/dev/null");
  if (uid !== 0 || gid !== 0) chownSync("/dev/null", 0, 0);
  if ((mode & 0o777) !== MODE) chmodSync("/dev/null", MODE);
};
