// Ten Dockerfiles, built by buildah and by Gantry: the images hold the same files with the same kinds, modes, owners, links and contents, and have the same config.
import { createHash } from "node:crypto";
import { execFile } from "node:child_process";
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import test from "ava";
import { baseArchive, TestBuilder } from "../helpers/builder.ts";

const execute = promisify(execFile);

const DOCKERFILES: Readonly<Record<string, string>> = {
  "RUN: files, modes, owners, links, deletions": `FROM base:1
RUN echo one > /one && chmod 4711 /one && chown 12:34 /one && ln /one /two && ln -s one /three && mkfifo /four
RUN rm /etc/config && rm -r /opt/tree && mkdir -m 0710 /opt/tree && echo c > /opt/tree/c
RUN mkdir -p /deep/er/and/deeper && chmod 1777 /deep && chown -R app:staff /deep/er`,
  "COPY: files and directories to every kind of destination": `FROM base:1
WORKDIR /work/dir
COPY a.txt .
COPY a.txt b.sh ./into/
COPY src /src
COPY src /opt/tree/
COPY a.txt /etc/config
COPY a.txt /var/link/followed
COPY src/*.js /js/`,
  "COPY: owners": `FROM base:1
COPY --chown=app a.txt /by-name
COPY --chown=app:staff src /by-names
COPY --chown=7:8 src/x.js /by-numbers/x.js`,
  "ADD: archives and files": `FROM base:1
ADD archive.tar /unpacked/
ADD a.txt /plain`,
  "stages": `FROM base:1 AS build
RUN mkdir /out && echo made > /out/file && chown 5:6 /out/file && chmod 640 /out/file
FROM base:1 AS unused
RUN exit 1
FROM base:1
COPY --from=build /out /result
COPY --from=0 /out/file /single`,
  "ARG and ENV": `ARG TAG=1
FROM base:\${TAG}
ARG NAME=default
ARG GIVEN
ENV A=\${NAME} B="two words" C=\${UNSET:-fallback} PATH=/extra:$PATH
RUN echo "$NAME $GIVEN $A $B $C $PATH" > /values
LABEL with="$A" second=two`,
  "config": `FROM base:1
LABEL a=1 b="2 3"
EXPOSE 80 53/udp
VOLUME /data /more
USER app:staff
WORKDIR /home/app
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo", "hi"]
STOPSIGNAL SIGINT`,
  "USER and WORKDIR in RUN": `FROM base:1
WORKDIR /tmp
USER app
RUN id -u > who && pwd > where && touch mine
USER root
RUN echo $HOME > home`,
  "FROM scratch": `FROM base:1 AS tools
RUN echo x > /x && chmod 600 /x
FROM scratch
COPY --from=tools /x /x
COPY src /src
CMD ["/x"]`,
  "what only docker's format has": `FROM base:1
SHELL ["/bin/sh", "-ec"]
RUN echo made > /made
HEALTHCHECK --interval=5s --timeout=2s --start-period=1m --retries=2 CMD wget -q http://localhost
ONBUILD RUN echo later
CMD ["echo", "run"]`,
};

const BUILD_ARGS = ["--build-arg", "GIVEN=by hand"];

/** Mount points that either builder makes for itself. */
const IGNORED = /^(?:proc|sys|dev|run|etc\/(?:hosts|resolv\.conf|hostname))(?:\/|$)/;

const listing = (root: string, prefix = ""): readonly string[] =>
  readdirSync(join(root, prefix)).sort().flatMap((name) => {
    const path = prefix === "" ? name : `${prefix}/${name}`;
    if (IGNORED.test(path)) return [];
    const stat = lstatSync(join(root, path));
    const kind = stat.isDirectory() ? "directory" : stat.isSymbolicLink() ? `link to ${readlinkSync(join(root, path))}` : stat.isFIFO() ? "fifo" : `file ${createHash("sha256").update(readFileSync(join(root, path))).digest("hex").slice(0, 12)} x${stat.nlink}`;
    const line = `${path} ${(stat.mode & 0o7777).toString(8)} ${stat.uid}:${stat.gid} ${kind}`;
    return stat.isDirectory() ? [line, ...listing(root, path)] : [line];
  });

interface Config {
  readonly [key: string]: unknown;
}

const KEYS = ["User", "ExposedPorts", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal", "Healthcheck", "OnBuild", "Shell"] as const;

/** What both are to agree on: buildah writes a label of its own, and leaves out what Docker writes as empty. */
const comparable = (config: Config): Config => {
  const { "io.buildah.version": _, ...labels } = (config["Labels"] ?? {}) as Record<string, string>;
  const all: Config = { ...config, Labels: labels };
  const isEmpty = (value: unknown): boolean => value === undefined || value === null || value === "" || (typeof value === "object" && Object.keys(value).length === 0);
  return { ...Object.fromEntries(KEYS.filter((key) => !isEmpty(all[key]) && !(key === "WorkingDir" && all[key] === "/")).map((key) => [key, all[key]])), Env: [...((config["Env"] ?? []) as string[])].sort() };
};

// Timers of the clock don't keep the process alive by themselves.
const alive = setInterval(() => undefined, 1000);
let gantry: TestBuilder;
let context: string;
let store: readonly string[];
const buildah = async (...args: readonly string[]): Promise<string> => (await execute("buildah", [...store, ...args], { maxBuffer: 16 << 20, timeout: 60_000, env: { PATH: process.env["PATH"], HOME: context, TMPDIR: tmpdir(), BUILDAH_ISOLATION: "chroot" } })).stdout.trim();

test.before(async () => {
  gantry = await TestBuilder.open();
  context = mkdtempSync(join(tmpdir(), "gantry-buildah-"));
  store = ["--root", join(context, "store"), "--runroot", join(context, "run"), "--storage-driver", "vfs"];
  const files = join(context, "files");
  for (const directory of ["src/deep"]) mkdirSync(join(files, directory), { recursive: true, mode: 0o755 });
  for (const [path, content, mode] of [["a.txt", "a", 0o644], ["b.sh", "#!/bin/sh\n", 0o755], ["src/x.js", "x", 0o600], ["src/deep/y.js", "y", 0o644]] as const) writeFileSync(join(files, path), content, { mode });
  symlinkSync("x.js", join(files, "src/link"));
  await execute("tar", ["-C", files, "--owner=3", "--group=4", "-cf", join(context, "archive.tar"), "src"]);
  await execute("mv", [join(context, "archive.tar"), files]);
  writeFileSync(join(context, "base.tar"), baseArchive("localhost/base:1"));
  writeFileSync(join(context, "policy.json"), JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }));
  writeFileSync(join(context, "registries.conf"), "");
  await buildah("pull", "--signature-policy", join(context, "policy.json"), `oci-archive:${join(context, "base.tar")}`);
});
test.after.always(async () => {
  rmSync(context, { recursive: true, force: true });
  await gantry[Symbol.asyncDispose]();
  clearInterval(alive);
});

for (const [title, dockerfile] of Object.entries(DOCKERFILES)) {
  test.serial(`as buildah: ${title}`, async (t) => {
    const files = join(context, "files");
    await gantry.build(files, { file: writeDockerfile(dockerfile), buildArg: ["GIVEN=by hand"] });
    const ours = gantry.look("built:1", (root) => listing(root));
    const id = await buildah("bud", "-q", "--signature-policy", join(context, "policy.json"), "--isolation", "chroot", "--network", "host", "--layers=false", ...(title.includes("docker's format") ? ["--format", "docker"] : []), ...BUILD_ARGS, "-f", writeDockerfile(dockerfile), files);
    // Behind what the image's ONBUILD says.
    const container = (await buildah("from", "--pull-never", "--signature-policy", join(context, "policy.json"), id)).split("\n").at(-1)!;
    const root = await buildah("mount", container); // with this driver a folder of the store, not a mount
    const theirs = listing(root);
    const { OCIv1, Docker } = JSON.parse(await buildah("inspect", "--type", "image", id)) as { OCIv1: { config: Config }; Docker: { config: Config } };
    t.deepEqual(ours, theirs);
    t.deepEqual(comparable(gantry.config().config), comparable((title.includes("docker's format") ? Docker : OCIv1).config));
  });
}

/** Outside of the context, so that it is in no image. */
const writeDockerfile = (text: string): string => {
  const path = join(context, "Dockerfile");
  writeFileSync(path, text);
  return path;
};
