// /dev/null of the machine. crun 1.8 gives its standard streams to the container's user, also when one of them is this device: whoever owns it could
// take everybody's rights from it. crun does so twice (strace of 1.8.1): outside, with the streams that conmon gives it, which opens /dev/null by itself
// wherever one is not piped (without stdin; all three of a container with a terminal); and inside, with the container's /dev/null, which in a user
// namespace is this very device, bound there. conmon can't be told otherwise.
import { chmodSync, chownSync, statSync } from "node:fs";

const MODE = 0o666;

/** Gives it back to root. After whatever the OCI runtime did with it as a stream; a created container's program does not run yet. */
export const mendNullDevice = (): void => {
  const { uid, gid, mode } = statSync("/dev/null");
  if (uid !== 0 || gid !== 0) chownSync("/dev/null", 0, 0);
  if ((mode & 0o777) !== MODE) chmodSync("/dev/null", MODE);
};
