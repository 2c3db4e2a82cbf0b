// Rules for a CronJob's schedule and time zone.
import { parseCron } from "../../../base/cron.ts";
import { describeError, type FieldCause } from "../../../base/errors.ts";
import type { CronJobSpec } from "../../../base/kube/types.gen.ts";
import { invalid, required } from "./faults.ts";

const isTimeZone = (name: string): boolean => {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: name }).resolvedOptions().timeZone !== "";
  } catch {
    return false;
  }
};

export const validateSchedule = (path: string, spec: CronJobSpec): FieldCause[] => {
  const causes: FieldCause[] = [];
  if (!spec.schedule) causes.push(required(`${path}.schedule`));
  else if (/TZ=/.test(spec.schedule)) causes.push(invalid(`${path}.schedule`, spec.schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"));
  else {
    try {
      parseCron(spec.schedule);
    } catch (error) {
      causes.push(invalid(`${path}.schedule`, spec.schedule, describeError(error)));
    }
  }
  // "Local" means another zone on each machine.
  if (spec.timeZone !== undefined && (spec.timeZone.toLowerCase() === "local" || !isTimeZone(spec.timeZone))) {
    causes.push(invalid(`${path}.timeZone`, spec.timeZone, `unknown time zone ${spec.timeZone}`));
  }
  return causes;
};
