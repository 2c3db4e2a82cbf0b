// Builds with a real OCI runtime, overlay mounts and image store; no cluster. What images hold is looked at through a mount, not through what the builder says.
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { once } from "node:events";
import { linkSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import test, { type ExecutionContext } from "ava";
import { isCode } from "../../base/errors.ts";
import { writeTar } from "../../node-agent/images/tar-writer.ts";
import { BASE, TestBuilder } from "../helpers/builder.ts";

let b: TestBuilder;
// Timers of the clock don't keep the process alive by themselves.
const alive = setInterval(() => undefined, 1000);
test.before(async () => {
  b = await TestBuilder.open();
});
test.after.always("nothing is left", async () => {
  await b[Symbol.asyncDispose]();
  clearInterval(alive);
});
test.afterEach.always((t) => t.deepEqual(b.leftovers(), []));

const read = (name: string, path: string): string => b.look(name, (root) => readFileSync(join(root, path), "utf8"));
const entry = (name: string, path: string): string => b.look(name, (root) => {
  const stat = lstatSync(join(root, path));
  return `${stat.isDirectory() ? "d" : stat.isSymbolicLink() ? "l" : "f"} ${(stat.mode & 0o7777).toString(8)} ${stat.uid}:${stat.gid}${stat.isSymbolicLink() ? ` ${readlinkSync(join(root, path))}` : ""}`;
});
const temporary = (t: ExecutionContext): string => {
  const directory = mkdtempSync(join(tmpdir(), "gantry-context-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
};
const fails = async (t: ExecutionContext, build: Promise<unknown>, message: RegExp): Promise<void> => void (await t.throwsAsync(build, { message }));

test.serial("RUN leaves what it changed and nothing else: whiteouts, opaque directories, links, owners, modes", async (t) => {
  const { log } = await b.build({ Dockerfile: `FROM ${BASE}
RUN rm /etc/config && rm -r /opt/tree && mkdir -m 0711 /opt/tree && echo new > /opt/tree/c && chown 7:8 /opt/tree/c && chmod 4755 /opt/tree/c
RUN echo one > /h1 && ln /h1 /h2 && ln -s nowhere /dangling && mkfifo /pipe && chmod 700 /home/app
RUN id; pwd; env; hostname; echo to-stderr >&2; echo reopened > /dev/stderr` });
  const names = b.image().layers.length;
  t.is(names, 3, "the last RUN changed no file: it has no layer");
  b.look("built:1", (root) => {
    t.false(existsSync(join(root, "etc/config")));
    t.deepEqual(readdirSync(join(root, "opt/tree")), ["c"]);
    t.is(lstatSync(join(root, "h1")).ino, lstatSync(join(root, "h2")).ino);
    t.false(existsSync(join(root, "etc/resolv.conf")), "a mount point of the runtime's stayed");
    t.false(existsSync(join(root, "proc")), "a mount point of the runtime's stayed");
  });
  t.is(entry("built:1", "opt/tree"), "d 711 0:0");
  t.is(entry("built:1", "opt/tree/c"), "f 4755 7:8");
  t.is(entry("built:1", "home/app"), "d 700 1000:1000");
  t.is(entry("built:1", "dangling"), "l 777 0:0 nowhere");
  t.regex(log, /uid=0\(root\)[\s\S]*^\/$[\s\S]*PATH=\/usr\/bin:\/bin[\s\S]*buildsandbox[\s\S]*to-stderr\nreopened/m);
  const again = new TextDecoder().decode(await unpackedElsewhere());
  t.regex(again, /^c$/m);
});

/** The image's own blobs, unpacked anew: what another node would see. */
const unpackedElsewhere = async (): Promise<Uint8Array> => {
  const hex = b.image().layers[1]!.diffId.slice(7);
  rmSync(join(b.directory, "images/layers", hex), { recursive: true });
  await b.reopen();
  return Buffer.from(b.look("built:1", (root) => `${readdirSync(join(root, "opt/tree")).join("\n")}\n${existsSync(join(root, "etc/config"))}`));
};

test.serial("COPY: files, contents of directories, wildcards, links, owners, modes, destinations", async (t) => {
  const context = temporary(t);
  for (const directory of ["src/deep", "docs", "empty"]) mkdirSync(join(context, directory), { recursive: true });
  const files: Readonly<Record<string, string>> = {
    "a.txt": "a", "src/x.js": "x", "src/deep/y.js": "y", "src/skip.log": "s", "docs/one.md": "1", "docs/two.md": "2", "script.sh": "#!/bin/sh\n", ".dockerignore": "**/*.log\ndocs/two.md\n# remark\n",
    Dockerfile: `FROM ${BASE}
WORKDIR /w
COPY a.txt .
COPY a.txt renamed
COPY src /s
COPY src/*.js docs/*.md none*.txt /many/
COPY --chown=app:staff --chmod=640 a.txt /owned/deeper/a
COPY --chown=55 a.txt /number
COPY --chmod=755 script.sh link-to-a /bin2/
COPY a.txt /var/link/through
COPY empty /made-empty
COPY --exclude=deep src /without
COPY --parents src/deep/y.js ./docs/./one.md /kept/
`,
  };
  for (const [path, content] of Object.entries(files)) writeFileSync(join(context, path), content);
  symlinkSync("a.txt", join(context, "link-to-a"));
  symlinkSync("../../outside", join(context, "src/climbing"));
  linkSync(join(context, "src/x.js"), join(context, "src/hard.js"));
  await b.build(context);
  b.look("built:1", (root) => {
    t.is(readFileSync(join(root, "w/a.txt"), "utf8"), "a");
    t.is(readFileSync(join(root, "w/renamed"), "utf8"), "a");
    t.deepEqual(readdirSync(join(root, "s")).sort(), ["climbing", "deep", "hard.js", "x.js"]);
    t.is(readlinkSync(join(root, "s/climbing")), "../../outside");
    t.deepEqual(readdirSync(join(root, "many")).sort(), ["hard.js", "one.md", "x.js"]);
    t.is(readFileSync(join(root, "var/real/through"), "utf8"), "a");
    t.true(lstatSync(join(root, "bin2/link-to-a")).isFile(), "a link that is named itself is followed");
    t.deepEqual(readdirSync(join(root, "made-empty")), []);
    t.deepEqual(readdirSync(join(root, "without")).sort(), ["climbing", "hard.js", "x.js"]);
    t.is(readFileSync(join(root, "kept/src/deep/y.js"), "utf8"), "y");
    t.is(readFileSync(join(root, "kept/one.md"), "utf8"), "1");
  });
  t.is(entry("built:1", "owned/deeper/a"), "f 640 1000:50");
  t.is(entry("built:1", "number"), "f 644 55:55");
  t.is(entry("built:1", "bin2/script.sh"), "f 755 0:0");
});

test.serial("COPY and RUN say what is wrong, where", async (t) => {
  const file = (line: string, files: Record<string, string> = {}): Promise<unknown> => b.build({ ...files, Dockerfile: `FROM ${BASE}\n${line}\n` });
  await fails(t, file("COPY nope /x"), /^Dockerfile:2: "nope" is not in the build context \(does .dockerignore leave it out\?\)\n[\s\S]*2 \| >>> COPY nope \/x/);
  await fails(t, file("COPY --from=base:1 /nope /x"), /"\/nope" is not in the image base:1/);
  await fails(t, file("COPY --chown=nobody-there a /x", { a: "" }), /unable to find user nobody-there/);
  await fails(t, file("COPY a /opt/tree/a/b", { a: "" }), /\/opt\/tree\/a is not a directory/);
  await fails(t, file("RUN exit 3"), /process "\/bin\/sh -c exit 3" did not complete successfully: exit code: 3/);
  await fails(t, file("RUN [\"/no/such\"]"), /stat \/no\/such: no such file or directory/);
  await fails(t, file("USER nobody-there\nRUN true"), /Dockerfile:3: unable to find user nobody-there/);
  await fails(t, b.build({ Dockerfile: "FROM none.invalid/x:1" }), /Dockerfile:1: /);
  await fails(t, b.build({ Dockerfile: "FROM base:1" }, { file: "Other" }), /no Other in the build context/);
  await fails(t, b.build({ Dockerfile: "FROM base:1" }, { platform: "linux/s390x" }), /--platform: "linux\/s390x" can't be built on this node/);
  await fails(t, b.build({ Dockerfile: "FROM base:1" }, { buildArg: ["SOURCE_DATE_EPOCH=soon"] }), /SOURCE_DATE_EPOCH: "soon" is not a number/);
});

test.serial("mounts: cache stays, secrets and binds leave no trace, tmpfs is empty; network none has only a loopback", async (t) => {
  const df = `FROM ${BASE} AS tools
RUN echo tool > /tool
FROM ${BASE}
RUN --mount=type=cache,target=/c,mode=0770,uid=3 echo $(wc -l < /c/log || echo 0) && echo line >> /c/log && stat -c '%a %u' /c
RUN --mount=type=secret,id=key --mount=type=secret,id=key,env=KEY,target=/run/k2 cat /run/secrets/key && echo "env $KEY" && stat -c %a /run/secrets/key
RUN --mount=from=tools,source=/tool,target=/t --mount=target=/ctx cat /t /ctx/file && ! touch /ctx/x
RUN --mount=target=/ctx,rw rm /ctx/file && echo changed > /ctx/new && ls /ctx
RUN --mount=type=tmpfs,target=/tmp/x,size=1m ls /tmp/x && dd if=/dev/zero of=/tmp/x/f bs=1k count=2000 2>/dev/null || echo full
RUN --network=none ls /sys/class/net
`;
  const secret = join(temporary(t), "key");
  writeFileSync(secret, "hush");
  const first = await b.build({ Dockerfile: df, file: "from context\n" }, { secret: [`id=key,src=${secret}`] });
  t.regex(first.log, /0\n770 3\n/);
  t.regex(first.log, /hush[\s\S]*env hush\n400\n/);
  t.regex(first.log, /tool\nfrom context\n/);
  t.regex(first.log, /Dockerfile\nnew\n/);
  t.regex(first.log, /^full$/m);
  t.regex(first.log, /^lo\n$/m);
  t.regex((await b.build({ Dockerfile: df, file: "from context\n" }, { secret: [`id=key,src=${secret}`], noCache: true })).log, /1\n770 3\n/);
  b.look("built:1", (root) => {
    for (const path of ["c", "run", "ctx", "t", "tmp/x"]) t.false(existsSync(join(root, path)), `${path} is in the image`);
  });
  t.false(JSON.stringify(b.config()).includes("hush"));
  await fails(t, b.build({ Dockerfile: `FROM ${BASE}\nRUN --mount=type=secret,id=none,required true` }), /secret none: not found; give it with --secret/);
});

test.serial("ADD: archives are unpacked, URLs fetched and checked", async (t) => {
  const tar = writeTar([{ path: "in/", type: "directory", mode: 0o700, uid: 9, gid: 9 }, { path: "in/f", content: "inside", uid: 9, gid: 9, mode: 0o600 }]);
  const server = createServer((request, response) => (request.url === "/file.txt" ? response.writeHead(200, { "last-modified": "Thu, 01 Jan 2015 00:00:00 GMT" }).end("fetched") : response.writeHead(404).end()));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.teardown(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const digest = createHash("sha256").update("fetched").digest("hex");
  await b.build({
    "plain.tar": { path: "", content: tar }, "packed.tgz": { path: "", content: gzipSync(tar) }, "notes.gz": { path: "", content: gzipSync("no tar") },
    Dockerfile: `FROM ${BASE}\nADD plain.tar /plain\nADD --chown=5:6 packed.tgz /packed/\nADD notes.gz /\nCOPY plain.tar /copied/\nADD ${url}/file.txt /dl/\nADD --checksum=sha256:${digest} --chmod=644 ${url}/file.txt /named\n`,
  });
  t.is(read("built:1", "plain/in/f"), "inside");
  t.is(entry("built:1", "plain/in/f"), "f 600 9:9");
  t.is(entry("built:1", "packed/in/f"), "f 600 5:6");
  b.look("built:1", (root) => {
    t.true(lstatSync(join(root, "notes.gz")).isFile());
    t.true(lstatSync(join(root, "copied/plain.tar")).isFile());
    t.is(lstatSync(join(root, "dl/file.txt")).mtimeMs, Date.UTC(2015, 0, 1));
  });
  t.is(entry("built:1", "dl/file.txt"), "f 600 0:0");
  t.is(entry("built:1", "named"), "f 644 0:0");
  await fails(t, b.build({ Dockerfile: `FROM ${BASE}\nADD ${url}/none /x` }), /Dockerfile:2: http.*\/none: the server answered 404/);
  await fails(t, b.build({ Dockerfile: `FROM ${BASE}\nADD --checksum=sha256:${"0".repeat(64)} ${url}/file.txt /x` }), /has the digest sha256:[0-9a-f]+, not sha256:000/);
});

test.serial("the cache goes by content: what did not change is not done again, also with other times, other labels before it, or another stage that gives the same", async (t) => {
  const df = (label: string, made: string): string => `FROM ${BASE} AS made\nRUN echo x > /x ${made}\nFROM ${BASE}\nLABEL v=${label}\nARG UNUSED\nWORKDIR /cached\nCOPY a /a\nRUN date +%N > /t && cat /a\nCOPY --from=made /x /x\nCMD ["x"]\n`;
  const first = await b.build({ Dockerfile: df("1", ""), a: "1" });
  t.deepEqual(first.cached, []);
  const same = await b.build({ Dockerfile: df("1", ""), a: { path: "", content: "1", mtimeMs: 1e12 } });
  t.is(same.image.id, first.image.id, "everything cached, but another image");
  t.is(same.cached.length, 5);
  t.is((await b.build({ Dockerfile: df("2", ""), a: "1" })).cached.length, 5, "a label made steps run again");
  t.deepEqual((await b.build({ Dockerfile: df("1", ""), a: "2" })).cached, ["[made 2/2] RUN echo x > /x", "[stage-1 2/5] WORKDIR /cached"]);
  const other = await b.build({ Dockerfile: df("1", "# other"), a: "1" });
  t.deepEqual(other.cached.filter((name) => name.includes("COPY")), ["[stage-1 3/5] COPY a /a", "[stage-1 5/5] COPY --from=made /x /x"]);
  t.deepEqual((await b.build({ Dockerfile: df("1", ""), a: "1" }, { noCache: true })).cached, []);
  await b.reopen();
  t.is((await b.build({ Dockerfile: df("1", ""), a: "1" })).cached.length, 5, "the cache did not outlive the agent");
  await b.images.remove("built:1");
  await b.images.collectGarbage(new Set());
  t.is((await b.build({ Dockerfile: df("1", ""), a: "1" })).cached.length, 5, "garbage collection took the cache's layers");
});

test.serial("SOURCE_DATE_EPOCH: two builds of the same give the same image, byte for byte", async (t) => {
  const build = (): Promise<string> => b.build({ Dockerfile: `FROM ${BASE}\nWORKDIR /made\nCOPY a /a\nRUN echo x > /x && mkdir /d\nCOPY <<EOF /here\ntext\nEOF\nENV A=1`, a: { path: "", content: "1", mtimeMs: Date.now() } }, { noCache: true, env: { SOURCE_DATE_EPOCH: "1600000000" } }).then((built) => built.image.manifestDigest);
  const first = await build();
  await new Promise((wake) => setTimeout(wake, 1100));
  t.is(await build(), first);
  t.is(b.config()["created"], "2020-09-13T12:26:40.000Z");
  b.look("built:1", (root) => {
    for (const path of ["x", "d", "a", "here", "made"]) t.true(lstatSync(join(root, path)).mtimeMs <= 1.6e12, path);
  });
});

test.serial("stages run side by side, those that nobody needs not at all, and the first failure stops the others", async (t) => {
  const meet = (me: string, other: string): string => `RUN --mount=type=cache,id=meet,target=/m touch /m/${me} && for i in $(seq 100); do [ -e /m/${other} ] && exit 0; sleep 0.1; done; exit 1`;
  const built = await b.build({ Dockerfile: `FROM ${BASE} AS one\n${meet("a", "b")}\nFROM ${BASE} AS two\n${meet("b", "a")}\nFROM ${BASE} AS unused\nRUN exit 9\nFROM ${BASE}\nCOPY --from=one /etc/config /1\nCOPY --from=two /etc/config /2` });
  t.false(built.events.some((e) => "name" in e && e.name.includes("exit 9")));
  const started = performance.now();
  await fails(t, b.build({ Dockerfile: `FROM ${BASE} AS slow\nRUN sleep 60\nFROM ${BASE} AS bad\nRUN sleep 0.3; exit 4\nFROM scratch\nCOPY --from=slow / /\nCOPY --from=bad / /` }), /exit code: 4/);
  t.true(performance.now() - started < 30_000);
  await b.build({ Dockerfile: `FROM ${BASE} AS unused\nRUN exit 1\nFROM scratch AS only\nCOPY a /a\nFROM only\nRUN exit 1`, a: "" }, { target: "only" });
});

test.serial("a build that is cancelled ends at once, and what it ran with it", async (t) => {
  const abort = new AbortController();
  const started = performance.now();
  const build = b.build({ Dockerfile: `FROM ${BASE}\nRUN echo begun; sleep 100 & sleep 100` }, { signal: abort.signal, onEvent: (event) => {
    if ("log" in event) abort.abort();
  } });
  const error = await t.throwsAsync(build);
  t.true(isCode(error, "Cancelled"), String(error));
  t.true(performance.now() - started < 20_000);
  t.deepEqual(readdirSync(join(b.directory, "build/work")), []);
});

test.serial("config, history and ONBUILD", async (t) => {
  await b.build({ Dockerfile: `FROM ${BASE}\nONBUILD COPY app /app\nONBUILD RUN cat /app\nENTRYPOINT ["/e"]` }, { tag: ["parent:1"] });
  const { log } = await b.build({ Dockerfile: "FROM parent:1\nUSER app\nEXPOSE 80\nCMD go\n", app: "triggered\n" }, { tag: ["child:1", "child:2"], label: ["x=y"] });
  t.is(log, "triggered\n");
  t.deepEqual(b.config("child:2").config, { Cmd: ["/bin/sh", "-c", "go"], Entrypoint: ["/e"], Env: ["PATH=/usr/bin:/bin"], ExposedPorts: { "80/tcp": {} }, Labels: { base: "yes", x: "y" }, User: "app" });
  const history = b.config("child:1")["history"] as { created_by: string; empty_layer?: boolean }[];
  t.deepEqual(history.slice(-5).map((h) => [h.created_by, h.empty_layer ?? false]), [["COPY app /app", false], ["RUN /bin/sh -c cat /app", true], ["USER app", true], ["EXPOSE 80", true], ["CMD go", true]]);
  t.is(history.filter((h) => !h.empty_layer).length + 1, b.image("child:1").layers.length, "the base has no history of its own");
});

test.serial("FROM scratch, heredocs, variables, and a context with a Dockerfile elsewhere", async (t) => {
  const df = "FROM base:1 AS tools\nARG NAME=world\nRUN <<EOF\nset -e\nmkdir -p /out/sub\necho \"hello $NAME\" > /out/sub/greeting\nEOF\nRUN <<-'X'\n\t#!/bin/sh\n\techo \"script $0\" > /out/script\n\tX\nFROM scratch\nCOPY --link --from=tools /out /\nCOPY --chmod=600 <<A <<\"B\" /files/\nplain $PATH\nA\nraw $PATH\nB\n";
  await b.build({ "sub/My.Dockerfile": df }, { file: "sub/My.Dockerfile", buildArg: ["NAME=there"] });
  t.is(read("built:1", "sub/greeting"), "hello there\n");
  t.is(read("built:1", "script"), "script /dev/pipes/EOF\n");
  t.is(read("built:1", "files/A"), "plain /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
  t.is(read("built:1", "files/B"), "raw $PATH\n");
  t.is(entry("built:1", "files/A"), "f 600 0:0");
});
