import test from "ava";
import { applyChange, commitConfig, type CommitInput } from "./commit-config.ts";

const input: CommitInput = { author: "", message: "", changes: [], nowMs: 0, command: ["sh", "-c", "x"], hasLayer: true, container: { entrypoint: [], cmd: [], env: [], workingDir: "" } };

test("each instruction changes its part", (t) => {
  const base = { Env: ["A=1", "B=2"], Cmd: ["x"], WorkingDir: "/w" };
  const change = (text: string): object => applyChange(base, text);
  t.like(change('CMD ["a", "b c"]'), { Cmd: ["a", "b c"] });
  t.like(change("cmd echo hi"), { Cmd: ["/bin/sh", "-c", "echo hi"] });
  t.like(change('ENTRYPOINT ["e"]'), { Entrypoint: ["e"], Cmd: undefined });
  t.like(change("ENV A=3 C=\"x y\" D='z'"), { Env: ["A=3", "B=2", "C=x y", "D=z"] });
  t.like(change("ENV A some text"), { Env: ["A=some text", "B=2"] });
  t.like(change("LABEL a.b=c d=e"), { Labels: { "a.b": "c", d: "e" } });
  t.like(change("EXPOSE 80 53/udp"), { ExposedPorts: { "80/tcp": {}, "53/udp": {} } });
  t.like(change('VOLUME ["/a"]'), { Volumes: { "/a": {} } });
  t.like(change("WORKDIR sub"), { WorkingDir: "/w/sub" });
  t.like(change("WORKDIR /x"), { WorkingDir: "/x" });
  t.like(change("USER 1:2"), { User: "1:2" });
  t.like(change("ONBUILD RUN x"), { OnBuild: ["RUN x"] });
  for (const wrong of ["RUN x", "EXPOSE web", "ENV =x", 'CMD ["a', "USER", "CMD [1]"]) t.throws(() => change(wrong), { code: "BadRequest", message: /^change / }, wrong);
});

test("what the container was started with, author, message and history", (t) => {
  const image = { architecture: "amd64", config: { Cmd: ["old"], Env: ["A=1"] }, history: [{ created_by: "base" }], rootfs: { type: "layers" } };
  const made = commitConfig(image, { ...input, author: "me", message: "why", container: { entrypoint: ["e"], cmd: ["c"], env: ["B=2"], workingDir: "/w" }, changes: ["ENV C=3"], hasLayer: false });
  t.deepEqual(made, {
    architecture: "amd64", created: "1970-01-01T00:00:00.000Z", author: "me", config: { Cmd: ["c"], Entrypoint: ["e"], Env: ["A=1", "B=2", "C=3"], WorkingDir: "/w" },
    history: [{ created_by: "base" }, { created: "1970-01-01T00:00:00.000Z", created_by: "sh -c x", author: "me", comment: "why", empty_layer: true }],
  });
});
