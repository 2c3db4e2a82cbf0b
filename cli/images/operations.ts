// The requests of the image commands, and what goes with them: credentials along, progress while it goes, one error of all nodes' failures.
import { GantryError } from "../../base/errors.ts";
import type { RegistryCredential } from "../../proto/gen/gantry/v1/agent.ts";
import { linesOf, type ApiClient } from "../api-client.ts";
import type { NodeImage } from "./image-rows.ts";
import type { LayerLine } from "./layer-lines.ts";

export const IMAGES_PATH = "/apis/gantry.io/v1/images";

interface Line extends Partial<LayerLine> {
  readonly done?: boolean;
  readonly error?: string;
  readonly images?: readonly NodeImage[];
}

export interface Failure {
  readonly node: string;
  readonly error: string;
}

/** `?node=a&node=b` and whatever else. */
export const imagesPath = (below: string, nodes: readonly string[], query: readonly (readonly [string, string])[] = []): string => {
  const text = new URLSearchParams([...nodes.map((n): [string, string] => ["node", n]), ...query.map(([k, v]): [string, string] => [k, v])]).toString();
  return `${IMAGES_PATH}${below === "" ? "" : `/${below}`}${text === "" ? "" : `?${text}`}`;
};

/** What several nodes say alike is said once. */
export const failureText = (failed: readonly Failure[]): string => {
  const byError = new Map<string, string[]>();
  for (const { node, error } of failed) byError.set(error, [...(byError.get(error) ?? []), node]);
  const texts = [...byError].map(([error, nodes]) => `${nodes.sort().join(", ")}: ${error}`);
  return texts.length === 1 ? texts[0]! : `\n  ${texts.join("\n  ")}`;
};

/** Reads an answer of lines to its end. Errors: "InternalError", when a node failed, with each node's reason. */
export const follow = async (client: ApiClient, operation: "pull" | "push", nodes: readonly string[], body: object, onLayer: (line: LayerLine) => void): Promise<readonly NodeImage[]> => {
  const response = await client.send("POST", imagesPath(operation, nodes), { body });
  const images: NodeImage[] = [];
  const failed: Failure[] = [];
  let isWhole = false;
  for await (const text of linesOf(response)) {
    const line = JSON.parse(text) as Line & { readonly summary?: object };
    if (line.summary !== undefined) isWhole = true;
    else if (line.error !== undefined) failed.push({ node: line.node ?? "control plane", error: line.error });
    else if (line.done === true) images.push(...(line.images ?? []));
    else onLayer(line as LayerLine);
  }
  if (failed.length > 0) throw new GantryError("InternalError", failureText(failed));
  if (!isWhole) throw new GantryError("ServiceUnavailable", "the API server broke off the answer");
  return images;
};

export interface ImageList {
  readonly items: readonly NodeImage[];
  readonly failed: readonly Failure[];
}

export const listImages = (client: ApiClient, nodes: readonly string[] = []): Promise<ImageList> => client.json<ImageList>("GET", imagesPath("", nodes));

export type InspectedImage = NodeImage & { readonly config: Readonly<Record<string, unknown>> };

/** One for each node that has it. Errors: "NotFound". */
export const inspectImage = async (client: ApiClient, reference: string, nodes: readonly string[] = [], signal?: AbortSignal): Promise<readonly InspectedImage[]> =>
  (await client.json<{ readonly items: readonly InspectedImage[] }>("GET", imagesPath("inspect", nodes, [["name", reference]]), { signal })).items;

/** On every node. Errors as `follow`. */
export const pullImage = (client: ApiClient, reference: string, credentials: readonly RegistryCredential[], nodes: readonly string[], onLayer: (line: LayerLine) => void): Promise<readonly NodeImage[]> =>
  follow(client, "pull", nodes, { reference, credentials }, onLayer);
