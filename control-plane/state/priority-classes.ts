// The cluster's priority classes, as the cache shows them.
import type { PriorityClasses } from "../../base/kube/priority.ts";
import { PRIORITY_CLASSES } from "../../base/kube/resources.ts";
import type { WatchCache } from "./cache.ts";

export const priorityClassesOf = (cache: WatchCache): PriorityClasses => {
  const classes = cache.resource(PRIORITY_CLASSES);
  return { byName: (name) => classes.get("", name)?.object, all: () => Array.from(classes.list(), (s) => s.object) };
};
