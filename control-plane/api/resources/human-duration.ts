// How long ago, in the short form of kubectl's AGE column: k8s.io/apimachinery/pkg/util/duration.HumanDuration.

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const both = (amount: number, unit: string, rest: number, restUnit: string): string => `${amount}${unit}${rest === 0 ? "" : `${rest}${restUnit}`}`;

export const humanDuration = (durationMs: number): string => {
  const seconds = Math.trunc(durationMs / 1000);
  // Clocks of client and server may differ a little.
  if (seconds < -1) return "<invalid>";
  if (seconds < 0) return "0s";
  if (seconds < 2 * MINUTE) return `${seconds}s`;
  const minutes = Math.floor(seconds / MINUTE);
  if (minutes < 10) return both(minutes, "m", seconds % MINUTE, "s");
  if (minutes < 3 * 60) return `${minutes}m`;
  const hours = Math.floor(seconds / HOUR);
  if (hours < 8) return both(hours, "h", minutes % 60, "m");
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(hours / 24);
  if (hours < 8 * 24) return both(days, "d", hours % 24, "h");
  if (hours < 2 * 365 * 24) return `${days}d`;
  const years = Math.floor(seconds / (365 * DAY));
  if (hours < 8 * 365 * 24) return both(years, "y", days % 365, "d");
  return `${years}y`;
};

/** Age of an RFC 3339 instant, "<unknown>" when absent. */
export const age = (instant: string | undefined, nowMs: number): string =>
  instant === undefined ? "<unknown>" : humanDuration(nowMs - Date.parse(instant));
