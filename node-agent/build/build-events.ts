// What a build tells while it runs: one JSON object a line, from the agent through the API to the command. A vertex is one unit of work, as BuildKit calls it.

export type BuildEvent =
  | { readonly vertex: string; readonly name: string }
  | { readonly vertex: string; readonly log: string }
  /** Replaces the last one: how far it is. */
  | { readonly vertex: string; readonly status: string }
  | { readonly vertex: string; readonly done: true; readonly seconds: number; readonly cached?: true; readonly error?: string }
  | { readonly warning: string }
  | { readonly image: BuiltImageInfo }
  /** The last line of a build that failed. */
  | { readonly error: string; readonly code: string };

export interface BuiltImageInfo {
  readonly id: string;
  readonly manifestDigest: string;
  readonly mediaType: string;
  readonly manifestBytes: number;
  readonly names: readonly string[];
  readonly sizeBytes: number;
}

/** The first line of what a build is asked with; the context, a tar, follows. */
export interface BuildOptions {
  readonly names: readonly string[];
  /** Path in the context, for messages too. */
  readonly dockerfile: string;
  /** Absent: it is read from the context. */
  readonly dockerfileText?: string;
  readonly buildArgs?: Readonly<Record<string, string>>;
  readonly target?: string;
  readonly noCache?: boolean;
  /** "": the node's. */
  readonly platform?: string;
  readonly pull?: boolean;
  readonly labels?: Readonly<Record<string, string>>;
  readonly network?: "default" | "host" | "none";
  /** By id; base64. */
  readonly secrets?: Readonly<Record<string, string>>;
  /** For base images and for pushing: as in docker's config.json. */
  readonly credentials?: readonly { readonly registry: string; readonly username: string; readonly password: string; readonly identityToken: string }[];
  /** Every name, to its registry. */
  readonly push?: boolean;
  /** The context was not filtered by its .dockerignore yet: a tar that somebody else made. */
  readonly applyIgnore?: boolean;
  /** There is no context: the body ends after this line. */
  readonly noContext?: boolean;
}

export const MAX_OPTIONS_BYTES = 4 * 1024 * 1024;
