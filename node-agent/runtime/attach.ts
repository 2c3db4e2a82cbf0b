// Standard input of a running container, through conmon's attach socket (SOCK_SEQPACKET, SOCKETDIR/ID/attach). What the container writes
// comes to this socket as well, and is thrown away: readers take it from the log, where nothing is lost however slow they are, and whoever
// holds up this socket would hold up conmon, and so the container.
import { join } from "node:path";
import { connectPackets } from "../linux/sockets.ts";

/** conmon reads packets of at most 32 KiB, and drops the rest of longer ones. */
const PACKET_BYTES = 8 * 1024;

export interface ContainerInput extends Disposable {
  /** Resolves when it was taken. Rejects when the container has ended. */
  write(data: Uint8Array): Promise<void>;
  /** The end of input; what that means to the container, stdinOnce decides. */
  end(): void;
}

/** "NotFound" when conmon is gone. */
export const openInput = (socketDir: string, id: string): ContainerInput => {
  const socket = connectPackets(join(socketDir, id, "attach"));
  // Its end shows in the next write.
  socket.on("error", () => undefined);
  socket.resume();
  return {
    write: async (data) => {
      for (let at = 0; at < data.length; at += PACKET_BYTES) {
        await new Promise<void>((resolve, reject) => socket.write(data.subarray(at, at + PACKET_BYTES), (error) => (error ? reject(error) : resolve())));
      }
    },
    end: () => void socket.end(),
    [Symbol.dispose]: () => void socket.destroy(),
  };
};
