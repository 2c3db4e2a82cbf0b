// Rules for a CronJob's schedule and time zone.
import { parseCron } from "../../../base/cron.ts";
import { describeError, type FieldCause } from "../../../base/errors.ts";
import type { KubeObject } from "../../../base/kube/resources.ts";
import { STAGE_AHEAD, parseStageAhead } from "../../../base/kube/staging.ts";
import { checkTimeZone } from "../../../base/time-zone.ts";
import type { CronJobSpec } from "../../../base/kube/types.gen.ts";
import { invalid, required } from "./faults.ts";

/** Names only: Intl takes offsets such as "+01:00" too, which the database doesn't know. */
const isTimeZone = (name: string): boolean => {
  try {
    checkTimeZone(name);
    return /^[A-Za-z]/.test(name);
  } catch {
    return false;
  }
};

/** gantry.io/stage-ahead, on whatever has a schedule. */
export const validateStageAhead = ({ metadata }: KubeObject): FieldCause[] => {
  const text = metadata.annotations?.[STAGE_AHEAD];
  if (text === undefined) return [];
  try {
    parseStageAhead(text);
    return [];
  } catch (error) {
    return [invalid(`metadata.annotations[${STAGE_AHEAD}]`, text, describeError(error))];
  }
};

export const validateSchedule = (path: string, spec: Pick<CronJobSpec, "schedule" | "timeZone">): FieldCause[] => {
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
