import test from "ava";
import { parseDockerfile } from "./dockerfile.ts";
import { planBuild, planStage, SCRATCH_CONFIG, type BuildPlan, type ContainerConfig, type PlanOptions, type StagePlan, type Step } from "./plan.ts";

const OPTIONS: PlanOptions = { buildArgs: {}, target: "", platform: { os: "linux", architecture: "amd64", variant: "" } };
const plan = (text: string, options: Partial<PlanOptions> = {}): BuildPlan => planBuild(parseDockerfile(text, "Dockerfile"), { ...OPTIONS, ...options });
const stage = (text: string, options: Partial<PlanOptions> = {}, base: ContainerConfig = { Env: ["PATH=/bin"] }): StagePlan => {
  const [file, all] = [parseDockerfile(text, "Dockerfile"), { ...OPTIONS, ...options }];
  const built = planBuild(file, all);
  return planStage(file, built.stages.at(-1)!, base, built, all);
};
const run = (planned: StagePlan): Extract<Step, { kind: "run" }> => planned.steps.find((s) => s.kind === "run")!;
const copy = (planned: StagePlan): Extract<Step, { kind: "copy" }> => planned.steps.find((s) => s.kind === "copy")!;

test("only the stages that the target needs, also through COPY --from and mounts", (t) => {
  const text = "FROM a AS one\nFROM b AS two\nFROM c AS three\nRUN --mount=from=two,target=/x true\nFROM d\nFROM scratch AS last\nCOPY --from=0 /a /\nCOPY --from=three /b /\nCOPY --from=image:1 /c /";
  t.deepEqual(plan(text).stages.map((s) => [s.stage.index, s.title]), [[0, "one"], [1, "two"], [2, "three"], [4, "last"]]);
  t.deepEqual(plan(text, { target: "three" }).stages.map((s) => s.stage.index), [1, 2]);
  t.deepEqual(plan(text, { target: "3" }).stages.map((s) => [s.stage.index, s.title]), [[3, "stage-3"]]);
  t.deepEqual(plan("FROM x").stages[0]!.title, "");
  t.throws(() => plan(text, { target: "nope" }), { message: /"nope" could not be found; Dockerfile has one, two, three, 3, last/ });
  t.throws(() => plan("FROM a\nCOPY --from=later /x /\nFROM b AS later", { target: "0" }), { message: /Dockerfile:2: the stage "later" comes later/ });
  t.throws(() => plan("FROM a AS me\nCOPY --from=me /x /"), { message: /can't take from itself/ });
  t.throws(() => plan("FROM a\nCOPY --from=7 /x /"), { message: /there is no stage 7/ });
});

test("ARGs before FROM are for FROM; a stage sees them only when it declares them; build arguments win", (t) => {
  const text = "ARG V=1\nARG IMG=node:${V}\nFROM $IMG\nARG V\nARG W=w$V\nARG U\nRUN x";
  t.deepEqual(plan(text).stages[0]!.base, { kind: "image", reference: "node:1" });
  t.deepEqual(plan(text, { buildArgs: { V: "2" } }).stages[0]!.base, { kind: "image", reference: "node:2" });
  t.deepEqual(run(stage(text, { buildArgs: { V: "2", U: "u" } })).env, ["V=2", "W=w2", "U=u", "PATH=/bin"]);
  t.deepEqual(run(stage("ARG V=1\nFROM x\nRUN y")).env, ["PATH=/bin"]);
  t.throws(() => plan("FROM $NONE"), { message: /Dockerfile:1: base name \(\$NONE\) should not be blank/ });
  t.deepEqual(plan("FROM x\nARG A", { buildArgs: { A: "1", B: "2", HTTP_PROXY: "p" } }).unused, ["B"]);
  t.like(run(stage("FROM x\nRUN y", { buildArgs: { http_proxy: "p" } })), { env: ["PATH=/bin"], proxyEnv: ["http_proxy=p"] });
  t.deepEqual(run(stage("FROM --platform=$BUILDPLATFORM x\nARG TARGETARCH TARGETPLATFORM\nRUN y")).env, ["TARGETARCH=amd64", "TARGETPLATFORM=linux/amd64", "PATH=/bin"]);
});

test("ENV wins over ARG, sees what was before its own line, and replaces in place", (t) => {
  const planned = stage("FROM x\nARG a=arg\nENV a=env b=1\nENV b=2 c=$b PATH=$PATH:/x d=\"$a's\"\nRUN y");
  t.deepEqual(planned.config.Env, ["PATH=/bin:/x", "a=env", "b=2", "c=1", "d=env's"]);
  t.deepEqual(run(planned).env, planned.config.Env!);
});

test("the config: every instruction that only describes", (t) => {
  const { config, author, steps } = stage([
    "FROM x", "MAINTAINER me <a@b>", "LABEL a=1 \"b c\"='d $X'", "EXPOSE 80 53/UDP 8000-8002", "VOLUME /data /log", "USER 1000:app", "WORKDIR /a", "WORKDIR b/../c", "SHELL [\"/bin/bash\", \"-ec\"]",
    "CMD run me", "STOPSIGNAL SIGINT", "HEALTHCHECK --interval=30s CMD [\"ok\"]", "ONBUILD RUN later", "ARG X=y", "LABEL z=$X",
  ].join("\n"), {}, { Env: ["PATH=/bin"], Labels: { base: "1" }, Cmd: ["old"], OnBuild: [] });
  t.deepEqual(config, {
    Env: ["PATH=/bin"], Labels: { base: "1", a: "1", "b c": "d $X", z: "y" }, ExposedPorts: { "80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {} }, Volumes: { "/data": {}, "/log": {} },
    User: "1000:app", WorkingDir: "/a/c", Shell: ["/bin/bash", "-ec"], Cmd: ["/bin/bash", "-ec", "run me"], StopSignal: "SIGINT", Healthcheck: { Test: ["CMD", "ok"], Interval: 30e9 }, OnBuild: ["RUN later"],
  });
  t.is(author, "me <a@b>");
  t.deepEqual(steps.filter((s) => s.kind !== "config").map((s) => s.kind === "workdir" && [s.path, s.user]), [["/a", "1000:app"], ["/a/c", "1000:app"]]);
});

test("ENTRYPOINT takes a base's CMD away, but not the stage's own", (t) => {
  const base = { Cmd: ["base"], Entrypoint: ["/e"] };
  t.deepEqual(stage("FROM x\nENTRYPOINT [\"a\"]", {}, base).config, { Entrypoint: ["a"] });
  t.deepEqual(stage("FROM x\nCMD [\"c\"]\nENTRYPOINT a", {}, base).config, { Cmd: ["c"], Entrypoint: ["/bin/sh", "-c", "a"] });
});

test("ONBUILD triggers of the base run first, and are gone then", (t) => {
  const planned = stage("FROM base\nRUN own", {}, { OnBuild: ["COPY . /src", "RUN make $X"] });
  t.deepEqual(planned.steps.map((s) => s.text), ["COPY . /src", "RUN make $X", "RUN own"]);
  t.is(planned.config.OnBuild, undefined);
  t.throws(() => stage("FROM base", {}, { OnBuild: ["COPY x"] }), { message: /ONBUILD of base:1: COPY requires/ });
});

test("RUN: shell and exec form, scripts with #!, mounts relative to WORKDIR, a PATH where there is none", (t) => {
  t.like(run(stage("FROM x\nWORKDIR /w\nUSER u\nRUN echo $HOME", {}, {})), { args: ["/bin/sh", "-c", "echo $HOME"], cwd: "/w", user: "u", env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], network: "default" });
  t.deepEqual(run(stage("FROM x\nRUN [\"a\", \"$b\"]")).args, ["a", "$b"]);
  t.like(run(stage("FROM x\nRUN <<EOF\n#!/usr/bin/env node\n1\nEOF")), { args: ["/dev/pipes/EOF"], script: "#!/usr/bin/env node\n1\n" });
  t.deepEqual(run(stage("FROM x\nRUN <<EOF\na\nb\nEOF")).args, ["/bin/sh", "-c", "a\nb\n"]);
  t.like(run(stage("FROM x\nARG C=/c\nWORKDIR /w\nRUN --mount=type=cache,target=$C --mount=target=src y")).mounts, [{ type: "cache", target: "/c" }, { type: "bind", target: "/w/src", origin: { kind: "context" } }]);
  t.is(run(stage("FROM x\nARG a=1\nRUN y")).createdBy, "RUN |1 a=1 /bin/sh -c y");
});

test("COPY: destinations, heredocs with and without variables, several sources", (t) => {
  const to = (line: string): string => copy(stage(`FROM x\nWORKDIR /w\nENV D=d\n${line}`)).destination;
  t.deepEqual(["COPY a b", "COPY a b/", "COPY a .", "COPY a ./", "COPY a /", "COPY a b c/", "COPY a $D/../e/", "COPY a /x/."].map(to), ["/w/b", "/w/b/", "/w/", "/w/", "/", "/w/c/", "/w/e/", "/x/"]);
  t.deepEqual(copy(stage("FROM x\nENV a='1 2'\nCOPY <<A <<'B' c /d/\n$a \"${n:-q}\" \\$a\nA\n$a\nB\n")), {
    ...copy(stage("FROM x\nENV a='1 2'\nCOPY <<A <<'B' c /d/\n$a \"${n:-q}\" \\$a\nA\n$a\nB\n")), files: [{ name: "A", content: "1 2 \"q\" $a\n" }, { name: "B", content: "$a\n" }], sources: ["c"],
  });
  for (const [line, message] of [["COPY a b c", /end with a \//], ["COPY --chmod=u+x a b", /not an octal mode/], ["ADD --checksum=md5:1 http://x/y z", /sha256/], ["COPY --from=$X a b", /variables are not put in/]] as const) t.throws(() => stage(`FROM x\n${line}`), { message });
});

test("what has nothing below begins with a PATH", (t) => {
  t.deepEqual(stage("FROM scratch\nENV a=1", {}, SCRATCH_CONFIG).config.Env?.length, 2);
  t.deepEqual(plan("FROM scratch").stages[0]!.base, { kind: "scratch" });
});
