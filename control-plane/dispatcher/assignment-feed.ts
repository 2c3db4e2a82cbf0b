// Keeps every connected node's assignments equal to what the cache says: a change of a pod or of what it refers to marks it, and
// at the end of the turn each node with marks gets one incremental set. A slow agent gets the newest state, not a queue.
import type { ServerWritableStream } from "@grpc/grpc-js";
import { newId } from "../../base/ids.ts";
import { HOSTS_GROUP_LABEL } from "../../base/kube/pod-extras.ts";
import { CONFIG_MAPS, NODES, PERSISTENT_VOLUMES, PERSISTENT_VOLUME_CLAIMS, PODS, RUNTIME_CLASSES, SECRETS } from "../../base/kube/resources.ts";
import type { KubeObject, ResourceType } from "../../base/kube/resources.ts";
import { DATA_FINALIZER, LOCAL_PROVISIONER, VOLUME_FINALIZER } from "../../base/kube/claims.ts";
import { parseAmounts } from "../../base/kube/pod-requests.ts";
import type { ConfigMap, PersistentVolume, Pod, Secret } from "../../base/kube/types.gen.ts";
import type { Logger } from "../../base/logger.ts";
import type { Metrics } from "../../base/metrics.ts";
import type { AssignmentsRequest } from "../../proto/gen/gantry/v1/agent.ts";
import { AssignmentSet_Kind } from "../../proto/gen/gantry/v1/agent.ts";
import type { CacheEvent, WatchCache } from "../state/cache.ts";
import { toAssignment } from "./assignment-builder.ts";
import { encodeAssignment, encodeSet } from "./assignment-set.ts";
import type { EncodedAssignment } from "./assignment-set.ts";
import { concernsGroup, groupAliases, groupOf } from "./hosts-group.ts";
import type { NodeAllocatable } from "./pod-fields.ts";
import type { PodStarts } from "./pod-starts.ts";
import type { Session } from "./session-registry.ts";

/** A call of Assignments; what is written is encoded already (see EncodedDispatcherService). */
export type AssignmentsCall = ServerWritableStream<AssignmentsRequest, Buffer>;

interface Sent {
  readonly digest: string;
  readonly references: readonly string[];
}

class NodeFeed {
  readonly session: Session;
  readonly call: AssignmentsCall;
  readonly sent = new Map<string, Sent>();
  readonly dirty = new Set<string>();
  /** Ids of volumes to be deleted that this stream has named. */
  readonly sentVolumes = new Set<string>();
  /** The last set, which the next one applies to; "" before the first. */
  position = "";
  serial = 0;
  readonly stream = newId();
  /** A set is on its way: the next one waits, gathering what changes meanwhile. */
  busy = false;

  constructor(session: Session, call: AssignmentsCall) {
    this.session = session;
    this.call = call;
  }
}

const referenceKey = (type: ResourceType, namespace: string, name: string): string => `${type.name}/${namespace}/${name}`;

const sameMap = (a: Readonly<Record<string, string>> | undefined, b: Readonly<Record<string, string>> | undefined): boolean => {
  const [left, right] = [Object.entries(a ?? {}), b ?? {}];
  return left.length === Object.keys(right).length && left.every(([k, v]) => right[k] === v);
};

/** False for the most frequent change, a status: then nothing is built only to find it equal. */
const mayMatter = (before: Pod, after: Pod): boolean => {
  const [a, b] = [before.metadata, after.metadata];
  return a.generation === undefined || a.generation !== b.generation || before.spec?.nodeName !== after.spec?.nodeName || a.deletionTimestamp !== b.deletionTimestamp
    || a.deletionGracePeriodSeconds !== b.deletionGracePeriodSeconds || !sameMap(a.labels, b.labels) || !sameMap(a.annotations, b.annotations);
};

export class AssignmentFeed implements Disposable {
  readonly #cache: WatchCache;
  readonly #logger: Logger;
  readonly #starts: PodStarts;
  readonly #feeds = new Map<string, NodeFeed>();
  readonly #scheduled = new Set<NodeFeed>();
  /** Which assignments a ConfigMap or Secret is part of: reference key -> pod uid -> its node's feed. */
  readonly #references = new Map<string, Map<string, NodeFeed>>();
  /** Volumes whose data is to go: node -> name of the PersistentVolume -> id on the node. */
  readonly #doomed = new Map<string, Map<string, string>>();
  readonly #subscriptions: readonly Disposable[];
  readonly #sets;
  readonly #pods;

  constructor({ cache, logger, metrics, starts }: { readonly cache: WatchCache; readonly logger: Logger; readonly metrics: Metrics; readonly starts: PodStarts }) {
    this.#cache = cache;
    this.#logger = logger;
    this.#starts = starts;
    this.#sets = metrics.counter("gantry_dispatcher_assignment_sets_total", "Assignment sets sent to nodes.", ["kind"]);
    this.#pods = metrics.counter("gantry_dispatcher_assignments_total", "Pods in the assignment sets sent to nodes.", ["change"]);
    const onReference = (type: ResourceType) => ({ stored }: CacheEvent): void => {
      const { namespace = "", name = "" } = stored.object.metadata;
      for (const [uid, feed] of this.#references.get(referenceKey(type, namespace, name)) ?? []) this.#mark(feed, uid);
    };
    this.#subscriptions = [
      cache.resource(PODS).subscribe((event) => this.#onPod(event)),
      cache.resource(CONFIG_MAPS).subscribe(onReference(CONFIG_MAPS)),
      cache.resource(SECRETS).subscribe(onReference(SECRETS)),
      cache.resource(PERSISTENT_VOLUME_CLAIMS).subscribe(onReference(PERSISTENT_VOLUME_CLAIMS)),
      cache.resource(RUNTIME_CLASSES).subscribe(onReference(RUNTIME_CLASSES)),
      cache.resource(PERSISTENT_VOLUMES).subscribe((event) => {
        onReference(PERSISTENT_VOLUMES)(event);
        this.#onVolume(event);
      }),
    ];
    for (const stored of cache.resource(PERSISTENT_VOLUMES).list()) this.#onVolume({ type: "added", stored });
  }

  /** Sends a COMPLETE set, then keeps the stream up to date until it or the session ends. A second stream replaces the first. */
  attach(session: Session, call: AssignmentsCall): void {
    this.#detach(this.#feeds.get(session.nodeName));
    const feed = new NodeFeed(session, call);
    this.#feeds.set(session.nodeName, feed);
    const end = session.onEnd(() => {
      this.#detach(feed);
      call.end();
    });
    call.once("cancelled", () => {
      end[Symbol.dispose]();
      this.#detach(feed);
    });
    for (const { object } of this.#cache.resource(PODS).byIndex("node", session.nodeName)) feed.dirty.add(object.metadata.uid ?? "");
    this.#flush(feed);
  }

  [Symbol.dispose](): void {
    for (const subscription of this.#subscriptions) subscription[Symbol.dispose]();
    for (const feed of this.#feeds.values()) this.#detach(feed);
  }

  #onPod({ type, stored, previous }: CacheEvent<Pod>): void {
    const [before, after] = [previous?.object, stored.object];
    this.#onGroupMember(before, type === "deleted" ? undefined : after, after);
    if (type === "modified" && before?.metadata.uid === after.metadata.uid && !mayMatter(before!, after)) return;
    // A name may have been given to another pod in between: both are looked at.
    for (const pod of [before, after]) {
      const feed = pod?.spec?.nodeName ? this.#feeds.get(pod.spec.nodeName) : undefined;
      if (feed && pod?.metadata.uid) this.#mark(feed, pod.metadata.uid);
    }
  }

  /** The others of its group learn a pod's address, and that it is gone. */
  #onGroupMember(before: Pod | undefined, after: Pod | undefined, last: Pod): void {
    if (!concernsGroup(before ?? (after ? undefined : last), after)) return;
    for (const group of new Set([before, after ?? last].flatMap((p) => (p ? groupOf(p) : "")))) {
      for (const other of group === "" ? [] : this.#members(last.metadata.namespace ?? "", group)) {
        const feed = other.spec?.nodeName ? this.#feeds.get(other.spec.nodeName) : undefined;
        if (feed && other.metadata.uid) this.#mark(feed, other.metadata.uid);
      }
    }
  }

  *#members(namespace: string, group: string): Generator<Pod> {
    for (const { object } of this.#cache.resource(PODS).byIndex("label", `${HOSTS_GROUP_LABEL}=${group}`)) if (object.metadata.namespace === namespace) yield object;
  }

  #onVolume({ type, stored: { object } }: Pick<CacheEvent<PersistentVolume>, "type" | "stored">): void {
    const { csi, persistentVolumeReclaimPolicy: policy } = object.spec ?? {};
    const node = csi?.volumeAttributes?.["node"];
    if (csi?.driver !== LOCAL_PROVISIONER || node === undefined) return;
    const name = object.metadata.name!;
    const isDoomed = type !== "deleted" && object.metadata.deletionTimestamp !== undefined && policy === "Delete" && object.metadata.finalizers?.includes(DATA_FINALIZER) === true
      // First it has to be nobody's: what protects a volume in use is taken off before.
      && !object.metadata.finalizers.includes(VOLUME_FINALIZER);
    const own = this.#doomed.get(node) ?? new Map<string, string>();
    if (isDoomed) own.set(name, csi.volumeHandle);
    else own.delete(name);
    if (own.size > 0) this.#doomed.set(node, own);
    else this.#doomed.delete(node);
    const feed = this.#feeds.get(node);
    if (feed && isDoomed && !feed.sentVolumes.has(csi.volumeHandle)) this.#schedule(feed);
  }

  #mark(feed: NodeFeed, uid: string): void {
    feed.dirty.add(uid);
    this.#schedule(feed);
  }

  #schedule(feed: NodeFeed): void {
    if (feed.busy || this.#scheduled.has(feed)) return;
    // Everything that the cache brings in this turn (100 pods bound in one transaction) goes out as one set.
    if (this.#scheduled.size === 0) {
      setImmediate(() => {
        const due = [...this.#scheduled];
        this.#scheduled.clear();
        for (const each of due) this.#flush(each);
      });
    }
    this.#scheduled.add(feed);
  }

  #flush(feed: NodeFeed): void {
    if (feed.busy || this.#feeds.get(feed.session.nodeName) !== feed) return;
    const complete = feed.position === "";
    const upsert: EncodedAssignment[] = [];
    const remove: string[] = [];
    for (const uid of feed.dirty) {
      const sent = feed.sent.get(uid);
      const pod = this.#cache.resource(PODS).byUid(uid)?.object;
      if (pod?.spec?.nodeName !== feed.session.nodeName) {
        if (!sent) continue;
        this.#forget(feed, uid, sent);
        remove.push(uid);
        continue;
      }
      const { assignment, references } = this.#build(pod, feed);
      this.#refer(feed, uid, sent?.references ?? [], references);
      feed.sent.set(uid, { digest: assignment.digest, references });
      if (sent?.digest === assignment.digest) continue;
      upsert.push(assignment);
      this.#starts.sent(uid);
      this.#logger.debug("assignment sent", { node: feed.session.nodeName, session: feed.session.id, pod: `${pod.metadata.namespace}/${pod.metadata.name}`, podUid: uid });
    }
    feed.dirty.clear();
    const removeVolumes = [...(this.#doomed.get(feed.session.nodeName)?.values() ?? [])].filter((id) => !feed.sentVolumes.has(id));
    for (const id of removeVolumes) feed.sentVolumes.add(id);
    if (!complete && upsert.length === 0 && remove.length === 0 && removeVolumes.length === 0) return;

    const kind = complete ? AssignmentSet_Kind.KIND_COMPLETE : AssignmentSet_Kind.KIND_INCREMENTAL;
    const resultsIn = `${feed.stream}.${++feed.serial}`;
    // The cache's version rises with every change there is, across restarts of this process too.
    const messages = encodeSet({ kind, appliesTo: feed.position, resultsIn, upsert, generation: this.#cache.resourceVersion, remove, removeVolumes });
    feed.position = resultsIn;
    this.#sets.inc({ kind: complete ? "complete" : "incremental" });
    this.#pods.inc({ change: "upsert" }, upsert.length);
    this.#pods.inc({ change: "remove" }, remove.length);
    feed.busy = true;
    for (const [i, message] of messages.entries()) {
      feed.call.write(message, i < messages.length - 1 ? undefined : () => {
        feed.busy = false;
        if (feed.dirty.size > 0 || this.#doomed.has(feed.session.nodeName)) this.#flush(feed);
      });
    }
  }

  #build(pod: Pod, feed: NodeFeed): { readonly assignment: EncodedAssignment; readonly references: readonly string[] } {
    const namespace = pod.metadata.namespace ?? "";
    const references = new Set<string>();
    const lookUp = <T extends KubeObject>(type: ResourceType<T>) => (name: string): T | undefined => {
      const within = type.namespaced ? namespace : "";
      references.add(referenceKey(type, within, name));
      return this.#cache.resource(type).get(within, name)?.object;
    };
    const allocatable = (): NodeAllocatable => {
      const { cpu = 0, memory = 0, "ephemeral-storage": storage = 0 } = parseAmounts(this.#cache.resource(NODES).get("", feed.session.nodeName)?.object.status?.allocatable);
      return { milliCpu: cpu, memoryBytes: memory, ephemeralStorageBytes: storage };
    };
    const group = groupOf(pod);
    const assignment = toAssignment(pod, {
      hostAliases: group === "" ? [] : groupAliases(pod, this.#members(namespace, group)),
      configMap: lookUp<ConfigMap>(CONFIG_MAPS), secret: lookUp<Secret>(SECRETS),
      claim: lookUp(PERSISTENT_VOLUME_CLAIMS), persistentVolume: lookUp(PERSISTENT_VOLUMES), runtimeClass: lookUp(RUNTIME_CLASSES),
      // Only pods that ask for their own limits need it.
      get allocatable() {
        return allocatable();
      },
    });
    return { assignment: encodeAssignment(assignment), references: [...references] };
  }

  #refer(feed: NodeFeed, uid: string, before: readonly string[], after: readonly string[]): void {
    for (const key of before) {
      if (after.includes(key)) continue;
      const pods = this.#references.get(key);
      pods?.delete(uid);
      if (pods?.size === 0) this.#references.delete(key);
    }
    for (const key of after) {
      const pods = this.#references.get(key);
      if (pods) pods.set(uid, feed);
      else this.#references.set(key, new Map([[uid, feed]]));
    }
  }

  #forget(feed: NodeFeed, uid: string, sent: Sent): void {
    this.#refer(feed, uid, sent.references, []);
    feed.sent.delete(uid);
  }

  #detach(feed: NodeFeed | undefined): void {
    if (feed === undefined || this.#feeds.get(feed.session.nodeName) !== feed) return;
    this.#feeds.delete(feed.session.nodeName);
    this.#scheduled.delete(feed);
    for (const [uid, sent] of feed.sent) this.#forget(feed, uid, sent);
  }
}
