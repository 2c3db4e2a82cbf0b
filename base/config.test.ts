import test from "ava";
import { isCode } from "./errors.ts";
import { booleanOption, describeOptions, durationOption, formatDuration, listOption, nearest, numberOption, parseDurationMs, parseOptions, stringOption } from "./config.ts";

const table = {
  dataDir: stringOption("Where data lies", "/var/lib/gantry"),
  apiPort: numberOption("Port", 6443, { short: "p", least: 0, most: 65_535 }),
  verbose: booleanOption("More", { short: "v" }),
  follow: booleanOption("Follow", { short: "f" }),
  endpoints: listOption("Servers"),
  lease: durationOption("Lease", 20_000),
};
const parse = (argv: string[], env: Record<string, string> = {}, files: Record<string, string> = {}) =>
  parseOptions(table, { argv, daemon: { env, readFile: (p) => { if (p in files) return files[p]!; throw new Error("ENOENT"); } } });

test("a flag beats the environment, which beats the file, which beats the default", (t) => {
  const files = { "c.yaml": "dataDir: /file\napiPort: 1\nlease: 5s\n" };
  const { values } = parse(["--config", "c.yaml", "--data-dir=/flag"], { GANTRY_DATA_DIR: "/env", GANTRY_API_PORT: "2" }, files);
  t.is(values.dataDir, "/flag");
  t.is(values.apiPort, 2);
  t.is(values.lease, 5000);
  t.false(values.verbose);
});

test("short flags join, lists gather, positionals and what follows -- are kept", (t) => {
  const { values, positionals, rest } = parse(["a", "-vf", "-p", "7", "--endpoints", "x,y", "--endpoints", "z", "b", "--", "-q"]);
  t.true(values.verbose && values.follow);
  t.is(values.apiPort, 7);
  t.deepEqual(values.endpoints, ["x", "y", "z"]);
  t.deepEqual(positionals, ["a", "b"]);
  t.deepEqual(rest, ["-q"]);
});

test("bad input names the option, the value and what would be right", (t) => {
  const message = (argv: string[], env = {}, files = {}): string => {
    const error = t.throws(() => parse(argv, env, files));
    t.true(isCode(error, "BadRequest"));
    return error.message;
  };
  t.regex(message(["--data-dri", "x"]), /unknown flag --data-dri; did you mean --data-dir\?/);
  t.regex(message(["--api-port", "many"]), /--api-port: "many" is not a whole number from 0 to 65535/);
  t.regex(message(["--api-port", "65536"]), /--api-port: "65536" is not/);
  t.regex(message(["--api-port", "1.5"]), /--api-port: "1.5" is not/);
  t.regex(message(["--verbose="]), /--verbose: "" is not true or false/);
  t.regex(message(["-x"]), /unknown flag -x/);
  t.regex(message(["--lease", "5"]), /--lease: "5" is not a duration such as 500ms/);
  t.regex(message(["--data-dir"]), /--data-dir needs a value/);
  // A variable that is set to nothing must not turn a switch on.
  t.regex(message([], { GANTRY_VERBOSE: "" }), /environment variable GANTRY_VERBOSE: "" is not true or false/);
  t.regex(message([], { GANTRY_API_PORT: "" }), /GANTRY_API_PORT: "" is not a whole number/);
  t.regex(message(["--config", "c"], {}, { c: "dataDirr: x" }), /unknown key "dataDirr"; did you mean dataDir\?/);
  t.regex(message(["--config", "c"], {}, { c: "apiPort:" }), /c: apiPort: null is not a whole number/);
  t.regex(message(["--config", "c"], {}, { c: "endpoints:" }), /c: endpoints: null is not a list of texts/);
  t.regex(message(["--config", "c"], {}, { c: "endpoints: [{a: 1}]" }), /c: endpoints: \[\{"a":1\}\] is not a list of texts/);
  t.regex(message(["--config", "c"], {}, { c: "dataDir: [a]" }), /c: dataDir: \["a"\] is not a text/);
  t.regex(message(["--config", "c"], {}, { c: "lease: 5" }), /c: lease: 5 is not a duration/);
  t.regex(message(["--config", "c"], {}, { c: "- a" }), /config file c: expected keys and values/);
  t.regex(message(["--config", "nowhere"]), /config file nowhere can't be read/);
});

test("only daemons look at the environment and at a config file", (t) => {
  t.is(parseOptions(table, { argv: [] }).values.dataDir, "/var/lib/gantry");
  t.throws(() => parseOptions(table, { argv: ["--config", "c"] }), { message: /unknown flag --config/ });
  t.is(parse([], { GANTRY_CONFIG: "c" }, { c: "dataDir: /file\nendpoints: [a, b]\nverbose: true" }).values.dataDir, "/file");
});

test("lists come from files as lists or as texts, and an empty file is none", (t) => {
  t.deepEqual(parse(["--config", "c"], {}, { c: "endpoints: [a, 2]" }).values.endpoints, ["a", "2"]);
  t.deepEqual(parse(["--config", "c"], {}, { c: "endpoints: a, b" }).values.endpoints, ["a", "b"]);
  t.is(parse(["--config", "c"], {}, { c: "# nothing\n" }).values.apiPort, 6443);
});

test("--help is seen wherever a flag may stand, and nothing behind it is looked at", (t) => {
  for (const argv of [["--help"], ["-h"], ["a", "--help", "--bogus"], ["-v", "-h"], ["--data-dir", "x", "--help"]]) t.true(parse(argv).help, argv.join(" "));
  t.false(parse(["a", "--", "--help"]).help);
  // exec POD ls --help asks ls.
  const { help, positionals } = parseOptions(table, { argv: ["pod", "ls", "--help", "-v"], stopAtPositional: 1 });
  t.false(help);
  t.deepEqual(positionals, ["pod", "ls", "--help", "-v"]);
  t.true(parseOptions(table, { argv: ["-v", "pod", "--help"], stopAtPositional: 1 }).help);
});

test("a flag's value may begin with a dash, and booleans may be given one after =", (t) => {
  const { values } = parse(["--data-dir", "-x", "--verbose=false", "-p7", "--follow=true"]);
  t.is(values.dataDir, "-x");
  t.is(values.apiPort, 7);
  t.false(values.verbose);
  t.true(values.follow);
  t.is(parse(["-p=8"]).values.apiPort, 8);
});

test("a flag with a meaning of its own when it stands alone takes no word after it", (t) => {
  const modes = { dryRun: stringOption("Mode", "none", { choices: ["", "none", "server"], bare: "" }) };
  const mode = (...argv: string[]) => { const { values, positionals } = parseOptions(modes, { argv }); return [values.dryRun, ...positionals]; };
  t.deepEqual(mode("a"), ["none", "a"]);
  t.deepEqual(mode("--dry-run", "server"), ["", "server"]);
  t.deepEqual(mode("--dry-run=server", "a"), ["server", "a"]);
  t.throws(() => mode("--dry-run=all"), { message: '--dry-run: "all" is not one of none, server' });
  t.regex(describeOptions(modes), /--dry-run +Mode \(default none\) \[none\|server\]/);
});

test("durations are read as they are written", (t) => {
  for (const [text, ms] of [["500ms", 500], ["30s", 30_000], ["1.5s", 1500], ["5m", 300_000], ["1h", 3_600_000], ["0", 0]] as const) t.is(parseDurationMs(text), ms);
  for (const text of ["", "5", "-5s", "5 s", "1d", "s", "1h30m"]) t.is(parseDurationMs(text), undefined, text);
  for (const ms of [0, 1, 999, 1000, 60_000, 90_000, 3_600_000]) t.is(parseDurationMs(formatDuration(ms)), ms);
});

test("a mistyped word is recognized, another word is not", (t) => {
  const known = ["get", "describe", "delete", "pod", "logs"];
  t.is(nearest("gte", known), "get");
  t.is(nearest("describ", known), "describe");
  t.is(nearest("dleete", known), "delete");
  t.is(nearest("foo", known), undefined);
  t.is(nearest("x", known), undefined);
  t.is(nearest("anything", []), undefined);
});

test("help shows flags, defaults and where else they can be set", (t) => {
  const help = describeOptions(table, true);
  t.regex(help, /--lease 30s\s+Lease \(default 20s\)/);
  t.regex(help, /GANTRY_DATA_DIR/);
});
