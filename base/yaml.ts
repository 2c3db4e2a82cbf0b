// YAML, for those who may not meet any: the parser takes a quarter of the time that a short command needs to start, so it is loaded when there is some to read. JSON, which
// is YAML too, does without.
import { createRequire } from "node:module";
import type * as Yaml from "yaml";

const load = createRequire(import.meta.url);

/** One document. Errors: the parser's, with line and column. */
export const parseYaml = (text: string): unknown => {
  if (text.trimStart().startsWith("{")) {
    try {
      return JSON.parse(text);
    } catch {
      // {flow: of YAML}
    }
  }
  return (load("yaml") as typeof Yaml).parse(text);
};
