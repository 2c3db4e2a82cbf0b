import test from "ava";
import { parseDockerfile, parseTrigger } from "./dockerfile.ts";
import { goDurationNs, parseInstruction, parseMount, type Instruction } from "./instructions.ts";

const instructions = (text: string): readonly Instruction[] => {
  const file = parseDockerfile(text, "Dockerfile");
  return file.stages.flatMap((stage) => stage.instructions.map((raw) => parseInstruction(raw, file.escape, (mount) => mount)));
};
const only = (line: string): Instruction => instructions(`FROM x\n${line}\n`)[0]!;

test("continued lines are joined; comments and empty lines between them are not part of them", (t) => {
  t.like(only("RUN echo a \\\n  # a remark\n\n   && echo 'b # c' \\ \n && echo d"), { kind: "run", command: { shell: "echo a    && echo 'b # c'  && echo d" } });
  t.like(only("run echo \\\\"), { command: { shell: "echo \\\\" } });
});

test("directives: escape, syntax and check; a second one is refused", (t) => {
  const file = parseDockerfile("# syntax=docker/dockerfile:1\n# escape=`\n# check=skip=all\nFROM x\nCOPY a `\n b c:\\d\\\n", "Dockerfile");
  t.is(file.escape, "`");
  t.like(parseInstruction(file.stages[0]!.instructions[0]!, "`", String), { paths: ["a", "b", "c:\\d\\"] });
  t.throws(() => parseDockerfile("# escape=x\nFROM x\n", "Dockerfile"), { message: /Dockerfile:1: the escape character is "x"/ });
});

test("stages, their names, and ARGs before the first", (t) => {
  const file = parseDockerfile("ARG V=1\nFROM --platform=$BUILDPLATFORM a:$V AS Build\nRUN x\nFROM build\nFROM scratch", "D");
  t.deepEqual(file.stages.map((s) => [s.index, s.name, s.base, s.instructions.length]), [[0, "build", "a:$V", 1], [1, "", "build", 0], [2, "", "scratch", 0]]);
  t.deepEqual(file.stages[0]!.from.flags, [{ name: "platform", value: "$BUILDPLATFORM" }]);
  t.is(file.globalArgs.length, 1);
});

test("heredocs: scripts, files, quoted names, tabs, several, and a shell that reads its own", (t) => {
  t.like(only("RUN <<EOF\nset -e\n# not a comment\necho $x\nEOF"), { command: { shell: "set -e\n# not a comment\necho $x\n" }, script: { name: "EOF", expands: true } });
  t.like(only("RUN python3 <<-'X' && echo y\n\tprint(1)\n\tX"), { command: { shell: "python3 <<-'X' && echo y\n\tprint(1)\n\tX" } });
  const copy = only("COPY --chmod=755 <<A <<\"B\" /d/\n$a\nA\n$b\nB\nCMD x");
  t.like(copy, { kind: "copy", paths: ["<<A", "<<\"B\"", "/d/"] });
  t.deepEqual(copy.kind === "copy" && copy.heredocs, [{ name: "A", expands: true, content: "$a\n" }, { name: "B", expands: false, content: "$b\n" }]);
  t.like(only("RUN echo '<<EOF' \"<<X\" && cat <<<y"), { command: { shell: "echo '<<EOF' \"<<X\" && cat <<<y" } });
  t.throws(() => instructions("FROM x\nRUN <<EOF\nabc\n"), { message: /unterminated heredoc/ });
});

test("JSON and shell forms", (t) => {
  t.like(only("CMD [\"a\", \"b c\"]"), { command: { exec: ["a", "b c"] } });
  t.like(only("CMD ['a']"), { command: { shell: "['a']" } });
  t.like(only("ENTRYPOINT a b"), { command: { shell: "a b" } });
  t.like(only("SHELL [\"/bin/bash\", \"-c\"]"), { exec: ["/bin/bash", "-c"] });
  t.like(only("VOLUME [\"/a\", \"/b c\"]"), { words: ["/a", "/b c"] });
  t.like(only("COPY [\"a b\", \"c\", \"/d/\"]"), { paths: ["a b", "c", "/d/"] });
});

test("names and values", (t) => {
  t.like(only("ENV a=b c='d e' f=g\\ h"), { pairs: [["a", "b"], ["c", "'d e'"], ["f", "g\\ h"]] });
  t.like(only("ENV a b  c"), { pairs: [["a", "b  c"]] });
  t.like(only("LABEL \"com.example\"=\"x y\""), { pairs: [["\"com.example\"", "\"x y\""]] });
  t.deepEqual(only("ARG a b=c"), { kind: "arg", args: [{ name: "a", value: undefined }, { name: "b", value: "c" }] });
  t.like(only("HEALTHCHECK --interval=1m30s --retries=3 CMD curl x || exit 1"), { test: ["CMD-SHELL", "curl x || exit 1"], times: { Interval: 90e9, Retries: 3 } });
  t.like(only("HEALTHCHECK NONE"), { test: ["NONE"] });
  t.like(only("ONBUILD COPY . /src"), { trigger: "COPY . /src" });
  t.is(goDurationNs("1.5h"), 5400e9);
});

test("mounts", (t) => {
  t.like(parseMount("type=cache,target=/c,sharing=locked,mode=0750,uid=5"), { type: "cache", target: "/c", sharing: "locked", mode: 0o750, uid: 5, readOnly: false });
  t.like(parseMount("target=/x,from=build,src=/a"), { type: "bind", from: "build", source: "/a", readOnly: true });
  t.like(parseMount("type=bind,target=/x,rw"), { readOnly: false });
  t.like(parseMount("type=secret,id=npmrc,dst=/root/.npmrc,required"), { id: "npmrc", target: "/root/.npmrc", required: true });
  t.like(parseMount("type=tmpfs,target=/t,size=64m"), { sizeBytes: 64 * 1024 * 1024 });
  for (const [text, message] of [["type=cache", /target is missing/], ["type=nope,target=/x", /unsupported type "nope"/], ["type=tmpfs,target=/x,id=y", /unexpected key "id"/], ["type=secret", /id is missing/]] as const) t.throws(() => parseMount(text), { message });
});

test("errors name the file and the line, and show it", (t) => {
  for (const [text, message] of [
    ["FROM x\n\nRUNN echo\n", /^Dockerfile:3: unknown instruction: RUNN \(did you mean RUN\?\)\n\nDockerfile:3\n-+\n   1 \|     FROM x\n   2 \|\n   3 \| >>> RUNN echo/],
    ["RUN x\nFROM y", /Dockerfile:1: no build stage in current context/],
    ["FROM a AS 1b", /Dockerfile:1: invalid name for build stage: "1b"/],
    ["FROM a b", /FROM requires either one or three arguments/],
    ["FROM a AS x\nFROM b AS X", /Dockerfile:2: there is a build stage "X" already/],
    ["# nothing\n", /no instruction in it/],
    ["ARG x=1\n", /there is no FROM/],
  ] as const) t.throws(() => parseDockerfile(text, "Dockerfile"), { message });
  for (const [line, message] of [
    ["COPY a", /COPY requires at least two arguments/], ["COPY --chwon=1 a b", /COPY has no --chwon; it has --chown/], ["ENV a=1 b", /can't find = in "b"/], ["ENV a", /must have two arguments/],
    ["SHELL bash", /JSON form/], ["EXPOSE", /requires at least one/], ["HEALTHCHECK --interval=5x CMD a", /not a duration/], ["RUN --network=foo x", /none of default, none, host/], ["ONBUILD FROM x", /isn't allowed as an ONBUILD/],
    ["ARG 1x=2", /not a name/], ["RUN --security=insecure x", /ordinary containers/],
  ] as const) t.throws(() => only(line), { message });
  t.throws(() => parseTrigger("FORM x", "ONBUILD of base:1"), { message: /^ONBUILD of base:1:1: unknown instruction: FORM/ });
});
