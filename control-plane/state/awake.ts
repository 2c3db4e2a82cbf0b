// Keeps the process alive while it waits. A Clock's timers never do that by themselves, so a daemon that is only waiting for etcd to come
// back (no socket open, nothing but a timer) would end silently in the middle of it.

export const awake = async <T>(work: Promise<T>): Promise<T> => {
  const { port1 } = new MessageChannel();
  port1.ref();
  try {
    return await work;
  } finally {
    port1.close();
  }
};
