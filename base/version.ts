// Gantry's own version, one for all parts: package.json's.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const file = [join(import.meta.dirname, "../package.json"), join(import.meta.dirname, "../../package.json")].find((path) => existsSync(path));

export const VERSION: string = file === undefined ? "0.0.0" : (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version;
