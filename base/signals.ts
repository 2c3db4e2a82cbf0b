// Names and numbers of Linux signals, as `kill`, Dockerfiles (STOPSIGNAL) and annotations write them. Pure.
import { constants } from "node:os";

const NUMBERS: Readonly<Record<string, number>> = constants.signals;
const RTMIN = 34;
const MOST = 64;

/** "KILL", "SIGKILL", "sigkill", "9", "RTMIN+3"; undefined for what is none. */
export const signalNumber = (name: string): number | undefined => {
  const upper = name.trim().toUpperCase();
  if (/^\d+$/.test(upper)) {
    const number = Number(upper);
    return number >= 1 && number <= MOST ? number : undefined;
  }
  const realTime = /^(?:SIG)?RTM(?:IN(?:\+(\d+))?|AX(?:-(\d+))?)$/.exec(upper);
  if (realTime) {
    const number = upper.includes("RTMAX") ? MOST - Number(realTime[2] ?? 0) : RTMIN + Number(realTime[1] ?? 0);
    return number >= RTMIN && number <= MOST ? number : undefined;
  }
  return NUMBERS[upper.startsWith("SIG") ? upper : `SIG${upper}`];
};
