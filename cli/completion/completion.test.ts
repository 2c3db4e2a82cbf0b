// What may stand at the cursor; and the script in a real bash, which asks a real gantry.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import test from "ava";
import { COMMANDS, FAMILIES } from "../commands.ts";
import { complete } from "./complete.ts";
import { COMPLETION_SCRIPTS } from "./scripts.ts";

const at = (line: string) => complete(COMMANDS, FAMILIES, line.split(" "));
const values = (line: string): readonly string[] => {
  const found = at(line);
  return found.kind === "fixed" ? found.candidates.map((c) => c.value) : [];
};

test("commands, their families, and the words behind those", (t) => {
  t.true(values("").includes("run") && values("").includes("compose") && values("").includes("volume"));
  t.false(values("").some((v) => v.startsWith("_") || v.includes(" ")));
  t.deepEqual(values("comp"), ["compose", "completion"]);
  t.true(values("volume ").includes("prune"));
  t.deepEqual(values("compose -f x.yaml do"), ["down"]);
  t.deepEqual(values("help comp"), ["compose", "completion"]);
  t.deepEqual(values("nonsense x"), []);
});

test("flags, also of a family; not behind -- nor among another command's words", (t) => {
  t.deepEqual(values("run --memory"), ["--memory", "--memory-reservation", "--memory-swap"]);
  t.true(values("run -").includes("--help"));
  t.deepEqual(values("compose --proj"), ["--project", "--project-name", "--project-directory"]);
  t.true(values("compose up --force").includes("--force-recreate"));
  t.deepEqual(values("run alpine --he"), []);
  t.deepEqual(values("exec web -- --x"), []);
});

test("values of flags: choices, files, names; in the same word too", (t) => {
  t.deepEqual(values("run --pull "), ["missing", "always", "never"]);
  t.deepEqual(values("run --pull=al"), ["--pull=always"]);
  t.deepEqual(at("run --env-file "), { kind: "files" });
  t.deepEqual(at("ps -n "), { kind: "names", source: "namespaces", prefix: "", flags: {} });
  t.deepEqual(at("run --node="), { kind: "names", source: "nodes", prefix: "--node=", flags: {} });
  t.deepEqual(values("run --name "), []);
});

test("names of things, in the namespace and cluster that the line says", (t) => {
  t.deepEqual(at("rm -f one --namespace shop "), { kind: "names", source: "containers", prefix: "", flags: { namespace: "shop" } });
  t.deepEqual(at("run -d -it "), { kind: "names", source: "images", prefix: "", flags: {} });
  t.deepEqual(at("container rm "), { kind: "names", source: "containers", prefix: "", flags: {} });
  t.like(at("get "), { kind: "names", source: "types" });
  t.like(at("get deployments w"), { kind: "names", source: "objects", type: "deployments" });
  t.like(at("get pods/w"), { kind: "names", source: "objects", type: "pods", prefix: "pods/" });
  t.like(at("compose -f a.yaml logs "), { kind: "names", source: "services", flags: { file: "a.yaml" } });
  t.deepEqual(at("load "), { kind: "files" });
  t.deepEqual(values("exec web "), []);
});

const GANTRY = resolve(import.meta.dirname, "../gantry");

test("bash: commands, flags, values behind =, and services of a Compose file", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "gantry-completion-"));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, "compose.yaml"), "services: {website: {image: a}, worker: {image: b}}\n");
  writeFileSync(join(folder, "script"), COMPLETION_SCRIPTS.bash);
  // As readline calls it: the words are split at COMP_WORDBREAKS, and a candidate replaces the last piece.
  const driver = `source ${folder}/script
    try() { COMP_LINE=$1; COMP_POINT=\${#1}; shift; COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _gantry; printf '%s,' "\${COMPREPLY[@]}"; echo; }
    try "${GANTRY} compo" ${GANTRY} compo
    try "${GANTRY} run --pull=ne" ${GANTRY} run --pull = ne
    try "${GANTRY} run --pull=" ${GANTRY} run --pull =
    try "${GANTRY} compose logs w" ${GANTRY} compose logs w
    try "${GANTRY} load " ${GANTRY} load ""
    complete -p gantry`;
  const out = execFileSync("bash", ["--norc", "-c", driver], { cwd: folder, encoding: "utf8", env: { ...process.env, HOME: folder }, stdio: ["ignore", "pipe", "pipe"] });
  t.deepEqual(out.trim().split("\n"), ["compose,", "never,", "missing,always,never,", "website,worker,", ",", "complete -F _gantry gantry"]);
});
