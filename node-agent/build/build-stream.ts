// A build as a stream: reads the line of options and the context behind it, writes the events as lines. What the options hold comes from a user: every field is checked.
import { GantryError } from "../../base/errors.ts";
import { parseJsonObject } from "../images/manifest.ts";
import { MAX_OPTIONS_BYTES, type BuildEvent, type BuildOptions } from "./build-events.ts";
import type { Builder } from "./builder.ts";

const NEWLINE = 0x0a;
const FRAME_BYTES = 64 * 1024;

/** Everything up to the first newline, and what follows. Errors: "Invalid" when it is too long or there is none. */
export const splitOptions = async (body: AsyncIterable<Uint8Array>): Promise<{ readonly line: Buffer; readonly context: AsyncGenerator<Uint8Array, void> }> => {
  const iterator = body[Symbol.asyncIterator]();
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for (;;) {
    const { value, done } = await iterator.next();
    if (done === true) throw new GantryError("Invalid", "the build request ends before its first line: it begins with a line of JSON, and the context follows as tar");
    const end = value.indexOf(NEWLINE);
    const piece = end < 0 ? value : value.subarray(0, end);
    pieces.push(piece);
    bytes += piece.length;
    if (bytes > MAX_OPTIONS_BYTES) throw new GantryError("RequestEntityTooLarge", `the build's options (Dockerfile and secrets among them) have more than ${MAX_OPTIONS_BYTES} bytes`);
    if (end < 0) continue;
    const rest = value.subarray(end + 1);
    return {
      line: Buffer.concat(pieces),
      context: (async function* () {
        if (rest.length > 0) yield rest;
        for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
      })(),
    };
  }
};

const isText = (value: unknown): boolean => typeof value === "string";
const isFlag = (value: unknown): boolean => typeof value === "boolean";
const isTexts = (value: unknown): boolean => Array.isArray(value) && value.every(isText);
const isMap = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value) && Object.values(value).every(isText);
const isCredentials = (value: unknown): boolean => Array.isArray(value) && value.every((one) => isMap(one) && ["registry", "username", "password", "identityToken"].every((key) => key in (one as object)));
const FIELDS: Readonly<Record<keyof BuildOptions, readonly [(value: unknown) => boolean, string]>> = {
  names: [isTexts, "a list of names"], dockerfile: [isText, "a path"], dockerfileText: [isText, "a text"], buildArgs: [isMap, "an object of texts"], target: [isText, "a text"], noCache: [isFlag, "true or false"],
  platform: [isText, "a text"], pull: [isFlag, "true or false"], labels: [isMap, "an object of texts"], network: [(value) => value === "default" || value === "host" || value === "none", "default, host or none"],
  secrets: [isMap, "an object of texts"], credentials: [isCredentials, "a list of objects with registry, username, password and identityToken"], push: [isFlag, "true or false"], applyIgnore: [isFlag, "true or false"], noContext: [isFlag, "true or false"],
};

export const parseBuildOptions = (line: Uint8Array): BuildOptions => {
  const json = parseJsonObject(line, "the build's options");
  for (const [name, value] of Object.entries(json)) {
    const field = FIELDS[name as keyof BuildOptions];
    if (field === undefined) throw new GantryError("Invalid", `the build's options have no field ${JSON.stringify(name)}; there are ${Object.keys(FIELDS).join(", ")}`);
    if (!field[0](value)) throw new GantryError("Invalid", `the build's options: ${name} is not ${field[1]}`);
  }
  const { dockerfile = "Dockerfile", names = [], ...rest } = json as Partial<BuildOptions>;
  return { ...rest, dockerfile: dockerfile === "" ? "Dockerfile" : dockerfile, names };
};

/** Resolves to the image's names. `send` resolves when there is room for more. */
export const serveBuild = async (builder: Pick<Builder, "build">, body: AsyncIterable<Uint8Array>, send: (bytes: Buffer) => Promise<void>, signal: AbortSignal): Promise<readonly string[]> => {
  const say = async (event: BuildEvent): Promise<void> => {
    const line = Buffer.from(`${JSON.stringify(event)}\n`);
    for (let at = 0; at < line.length; at += FRAME_BYTES) await send(line.subarray(at, at + FRAME_BYTES));
  };
  const { line, context } = await splitOptions(body);
  const image = await builder.build({ options: parseBuildOptions(line), context, say, signal });
  await say({ image });
  return image.names;
};
