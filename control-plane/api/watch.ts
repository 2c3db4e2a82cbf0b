// Owns watches: one feed per resource hands the cache's events to its watchers, each of which keeps a queue of references (not
// of bytes) until its client takes them. Frames are made once and shared.
// Source: kubernetes.io/docs/reference/using-api/api-concepts ("Efficient detection of changes", "Streaming lists").
import type { Clock } from "../../base/clock.ts";
import { GantryError } from "../../base/errors.ts";
import type { KubeObject } from "../../base/kube/resources.ts";
import type { CacheEvent, ResourceCache } from "../state/cache.ts";
import type { Stored } from "../state/store.ts";
import { cacheOf } from "./context.ts";
import type { ApiContext, ResourceRequest } from "./context.ts";
import type { ByteSink } from "./exchange.ts";
import type { Form } from "./negotiate.ts";
import { readResourceVersion, renderingOf } from "./read.ts";
import { isAsStored, renderObject, renderRow } from "./render.ts";
import type { Rendering } from "./render.ts";
import type { ResourceDefinition } from "./resources/definition.ts";
import { isTrue } from "./router.ts";
import { selectionOf } from "./selection.ts";
import type { Selection } from "./selection.ts";
import { statusOf } from "./status.ts";

/** A client that is this many events behind is cut off: it lists again, which is cheaper for both. */
const MAX_QUEUED_EVENTS = 20_000;
/** Bytes that are handed to the socket at a time. */
const WRITE_BYTES = 64 * 1024;
const BOOKMARK_PERIOD_MS = 60_000;
/** Without timeoutSeconds a watch ends after 30 to 60 minutes, as upstream's, so that clients spread over replicas again. */
const MIN_WATCH_MS = 30 * 60_000;
/** Frames other than plain ones (tables, metadata, deletions) that are kept for the next watcher. */
const SHARED_FRAMES = 256;

type FrameType = "ADDED" | "MODIFIED" | "DELETED";

const PLAIN_HEAD: Readonly<Record<FrameType, Buffer>> = {
  ADDED: Buffer.from('{"type":"ADDED","object":'), MODIFIED: Buffer.from('{"type":"MODIFIED","object":'), DELETED: Buffer.from('{"type":"DELETED","object":'),
};
const PLAIN_TAIL = Buffer.from("}\n");

const frameOf = (type: string, object: unknown): Buffer => Buffer.from(`${JSON.stringify({ type, object })}\n`);

const atVersion = (object: KubeObject, resourceVersion: number): KubeObject =>
  ({ ...object, metadata: { ...object.metadata, resourceVersion: String(resourceVersion) } });

const formKey = (form: Form): string => `${form.as} ${form.as === "object" ? "" : form.apiVersion} ${form.as === "table" ? form.includeObject : ""}`;

/** What an event is to a watcher with a selector: an object that enters it is added, one that leaves it is deleted. */
export const frameTypeOf = (event: CacheEvent, matches: (object: KubeObject) => boolean): FrameType | undefined => {
  if (event.type === "deleted") return matches(event.stored.object) ? "DELETED" : undefined;
  const before = event.previous !== undefined && matches(event.previous.object);
  const now = matches(event.stored.object);
  if (now) return before ? "MODIFIED" : "ADDED";
  return before ? "DELETED" : undefined;
};

/** All watchers of one resource. */
class Feed {
  readonly definition: ResourceDefinition;
  readonly #clock: Clock;
  readonly #watchers = new Set<Watcher>();
  /** By event, then by frame type and form; the oldest events are dropped. */
  readonly #frames = new Map<CacheEvent, Map<string, Buffer>>();

  constructor(definition: ResourceDefinition, cache: ResourceCache, clock: Clock) {
    this.definition = definition;
    this.#clock = clock;
    cache.subscribe((event) => {
      for (const watcher of this.#watchers) watcher.offer(event);
    });
  }

  get watchers(): ReadonlySet<Watcher> {
    return this.#watchers;
  }

  add(watcher: Watcher): Disposable {
    this.#watchers.add(watcher);
    return { [Symbol.dispose]: () => void this.#watchers.delete(watcher) };
  }

  /** The frame's bytes, in parts that are shared and must not be changed. */
  frame(event: CacheEvent, type: FrameType, form: Form): readonly Buffer[] {
    if (isAsStored({ definition: this.definition, form }) && type !== "DELETED") return [PLAIN_HEAD[type], event.stored.bytes(), PLAIN_TAIL];
    let made = this.#frames.get(event);
    if (!made) {
      this.#frames.set(event, (made = new Map()));
      if (this.#frames.size > SHARED_FRAMES) this.#frames.delete(this.#frames.keys().next().value!);
    }
    const key = `${type} ${formKey(form)}`;
    let frame = made.get(key);
    if (!frame) {
      // What left a selector goes out as it last was inside of it, at the version of the change.
      const last = event.type === "deleted" ? event.stored : (event.previous ?? event.stored);
      const object = type === "DELETED" ? atVersion(last.object, event.resourceVersion) : event.stored.object;
      made.set(key, (frame = frameOf(type, this.body(object, form))));
    }
    return [frame];
  }

  body(object: KubeObject, form: Form): unknown {
    const rendering: Rendering = { definition: this.definition, form, nowMs: this.#clock.nowMs() };
    return form.as === "table" ? renderRow({ ...rendering, form }, object) : renderObject(rendering, object);
  }
}

interface Bookmark {
  readonly bookmark: number;
  /** Ends the initial events of a WatchList. */
  readonly initialEventsEnd?: boolean;
}

interface WatcherOptions {
  readonly feed: Feed;
  readonly rendering: Rendering;
  readonly selection: Selection;
  readonly sink: ByteSink;
  readonly initial: readonly Stored[];
}

class Watcher {
  readonly #feed: Feed;
  readonly #rendering: Rendering;
  readonly #selection: Selection;
  readonly #sink: ByteSink;
  #initial: readonly Stored[];
  #initialAt = 0;
  #queue: (CacheEvent | Bookmark)[] = [];
  #queueAt = 0;
  #scheduled = false;
  #ended = false;
  #isFirstFrame = true;
  readonly #closed = Promise.withResolvers<void>();

  constructor({ feed, rendering, selection, sink, initial }: WatcherOptions) {
    this.#feed = feed;
    this.#rendering = rendering;
    this.#selection = selection;
    this.#sink = sink;
    this.#initial = initial;
    this.#schedule();
  }

  /** Resolves when the watch is over, for whatever reason. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  offer(event: CacheEvent | Bookmark): void {
    if (this.#ended) return;
    if ("stored" in event && this.#selection.namespace !== "" && event.stored.object.metadata.namespace !== this.#selection.namespace && this.#feed.definition.type.namespaced) return;
    if (this.#queue.length - this.#queueAt >= MAX_QUEUED_EVENTS) {
      this.end();
      return;
    }
    this.#queue.push(event);
    this.#schedule();
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#queue = [];
    this.#queueAt = 0;
    this.#initial = [];
    this.#sink.end();
    this.#closed.resolve();
  }

  /** After the current turn, so that all events of a batch go out in one write. */
  #schedule(): void {
    if (this.#scheduled || this.#ended) return;
    this.#scheduled = true;
    queueMicrotask(() => void this.#pump());
  }

  async #pump(): Promise<void> {
    try {
      while (!this.#ended) {
        const chunk = this.#nextChunk();
        if (!chunk) return;
        if (!this.#sink.write(chunk)) await this.#sink.ready();
      }
    } catch (error) {
      this.#sink.write(frameOf("ERROR", statusOf(error)));
      this.end();
    } finally {
      this.#scheduled = false;
      if (this.#queue.length > 0) this.#schedule();
    }
  }

  #nextChunk(): Buffer | undefined {
    const parts: Buffer[] = [];
    let size = 0;
    for (let frame = this.#nextFrame(); frame; frame = size < WRITE_BYTES ? this.#nextFrame() : undefined) {
      for (const part of frame) {
        parts.push(part);
        size += part.length;
      }
    }
    return size === 0 ? undefined : Buffer.concat(parts, size);
  }

  /** First the initial state, then what happened since. Empty for an event that isn't this watcher's. */
  #nextFrame(): readonly Buffer[] | undefined {
    if (this.#initialAt < this.#initial.length) return this.#initialFrame(this.#initial[this.#initialAt++]!);
    if (this.#initial.length > 0) {
      this.#initial = [];
      this.#initialAt = 0;
    }
    const event = this.#queue[this.#queueAt++];
    if (event) return this.#frameOf(event);
    this.#queue = [];
    this.#queueAt = 0;
    return undefined;
  }

  #initialFrame(stored: Stored): readonly Buffer[] {
    if (isAsStored(this.#rendering)) return [PLAIN_HEAD.ADDED, stored.bytes(), PLAIN_TAIL];
    return [this.#first("ADDED", stored.object) ?? frameOf("ADDED", this.#feed.body(stored.object, this.#rendering.form))];
  }

  #frameOf(event: CacheEvent | Bookmark): readonly Buffer[] {
    if ("bookmark" in event) return [this.#bookmark(event)];
    const type = frameTypeOf(event, (object) => this.#selection.matches(object));
    if (!type) return [];
    const object = type === "DELETED" ? atVersion((event.previous ?? event.stored).object, event.resourceVersion) : event.stored.object;
    const first = this.#first(type, object);
    return first ? [first] : this.#feed.frame(event, type, this.#rendering.form);
  }

  /** The first table of a watch brings the column definitions. */
  #first(type: FrameType, object: KubeObject): Buffer | undefined {
    const isFirst = this.#isFirstFrame;
    this.#isFirstFrame = false;
    return isFirst && this.#rendering.form.as === "table" ? frameOf(type, renderObject(this.#rendering, object)) : undefined;
  }

  #bookmark({ bookmark, initialEventsEnd }: Bookmark): Buffer {
    const { definition: { type }, form } = this.#rendering;
    const metadata = {
      resourceVersion: String(bookmark), creationTimestamp: null, ...(initialEventsEnd ? { annotations: { "k8s.io/initial-events-end": "true" } } : {}),
    };
    if (form.as === "table") return frameOf("BOOKMARK", { kind: "Table", apiVersion: form.apiVersion, metadata, columnDefinitions: null, rows: [] });
    return frameOf("BOOKMARK", form.as === "metadata" ? { kind: "PartialObjectMetadata", apiVersion: form.apiVersion, metadata } : { kind: type.kind, apiVersion: type.apiVersion, metadata });
  }
}

interface WatchQuery {
  readonly version: number | undefined;
  readonly sendInitialEvents: boolean | undefined;
  readonly bookmarks: boolean;
  readonly timeoutMs: number | undefined;
}

const readWatchQuery = (query: URLSearchParams): WatchQuery => {
  const version = readResourceVersion(query);
  const initial = query.get("sendInitialEvents");
  const match = query.get("resourceVersionMatch") ?? "";
  const bookmarks = isTrue(query.get("allowWatchBookmarks"));
  if (initial === null && match !== "") throw new GantryError("BadRequest", "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
  if (initial !== null && match !== "NotOlderThan") throw new GantryError("BadRequest", "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
  if (initial !== null && isTrue(initial) && !bookmarks) throw new GantryError("BadRequest", "allowWatchBookmarks: Forbidden: sendInitialEvents=true requires allowWatchBookmarks=true, since a bookmark tells where the initial events end");
  const seconds = query.get("timeoutSeconds") ?? "";
  if (!/^\d{0,9}$/.test(seconds)) throw new GantryError("BadRequest", `timeoutSeconds: Invalid value: ${JSON.stringify(seconds)}: must be a number of at least 0`);
  return { version, sendInitialEvents: initial === null ? undefined : isTrue(initial), bookmarks, timeoutMs: Number(seconds) > 0 ? Number(seconds) * 1000 : undefined };
};

export class WatchHub {
  readonly #context: ApiContext;
  readonly #feeds = new Map<ResourceDefinition, Feed>();

  constructor(context: ApiContext) {
    this.#context = context;
  }

  /** How many watchers each resource has, for the metrics. */
  * counts(): Iterable<readonly [resource: string, watchers: number]> {
    for (const [{ type }, { watchers }] of this.#feeds) yield [type.name, watchers.size];
  }

  /** Serves one watch until it ends. */
  async serve(request: ResourceRequest): Promise<void> {
    const { context: { cache, clock, random, freshness }, definition, exchange } = request;
    const { version, sendInitialEvents, bookmarks, timeoutMs = MIN_WATCH_MS * (1 + random()) } = readWatchQuery(exchange.query);
    const selection = selectionOf(definition, exchange.info, exchange.query);
    const rendering = renderingOf(request);
    if (version === undefined) await (freshness.consistency === "store" ? this.#catchUp(request) : freshness.ownWrites());
    else await freshness.atLeast(version);

    // From here to the watcher's place in the feed nothing may be awaited, or events would fall between.
    const resource = cacheOf(request);
    const withState = sendInitialEvents ?? (version === undefined || version === 0);
    const missed = withState || version === undefined ? [] : resource.eventsAfter(version);
    const sink = exchange.open(200, "application/json");
    if (missed === "expired") {
      sink.write(frameOf("ERROR", statusOf(new GantryError("Expired", `too old resource version: ${version}`))));
      sink.end();
      return;
    }
    const watcher = new Watcher({ feed: this.#feed(definition), rendering, selection, sink, initial: withState ? selection.from(resource) : [] });
    for (const event of missed) watcher.offer(event);
    if (sendInitialEvents) watcher.offer({ bookmark: cache.resourceVersion, initialEventsEnd: true });

    using _place = this.#feed(definition).add(watcher);
    using _end = clock.setTimer(timeoutMs, () => watcher.end());
    using cleanup = new DisposableStack();
    if (bookmarks) {
      let timer: Disposable;
      const tick = (): void => {
        watcher.offer({ bookmark: cache.resourceVersion });
        timer = clock.setTimer(BOOKMARK_PERIOD_MS, tick);
      };
      timer = clock.setTimer(BOOKMARK_PERIOD_MS, tick);
      cleanup.defer(() => timer[Symbol.dispose]());
    }
    const onGone = (): void => watcher.end();
    exchange.signal.addEventListener("abort", onGone, { once: true });
    cleanup.defer(() => exchange.signal.removeEventListener("abort", onGone));
    if (exchange.signal.aborted) onGone();
    await watcher.closed;
  }

  #feed(definition: ResourceDefinition): Feed {
    let feed = this.#feeds.get(definition);
    if (!feed) this.#feeds.set(definition, (feed = new Feed(definition, this.#context.cache.resource(definition.type), this.#context.clock)));
    return feed;
  }

  /** "Most recent" over several control-plane processes: the cache must show what the store has now. */
  async #catchUp({ context: { store, freshness }, definition }: ResourceRequest): Promise<void> {
    const { resourceVersion } = await store.list(definition.type, { limit: 1 });
    await freshness.atLeast(resourceVersion);
  }
}
