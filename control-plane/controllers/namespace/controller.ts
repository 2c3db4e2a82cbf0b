// Empties namespaces that are being deleted, then lets them go; makes the system's namespaces. It alone takes the "kubernetes"
// finalizer off.
import { newUid } from "../../../base/ids.ts";
import { ALL_RESOURCES, NAMESPACES } from "../../../base/kube/resources.ts";
import type { Namespace } from "../../../base/kube/types.gen.ts";
import type { Clock } from "../../../base/clock.ts";
import type { Store } from "../../state/store.ts";
import { sameJson, timestamp } from "../objects.ts";
import type { Controller, ControllerContext } from "../reconcile-loop.ts";
import { createIfMissing } from "../writes.ts";
import { NAMESPACE_FINALIZER, reconcile } from "./reconcile.ts";

export const SYSTEM_NAMESPACES = ["default", "kube-system", "kube-node-lease", "kube-public"] as const;

const NAMESPACED = ALL_RESOURCES.filter((type) => type.namespaced);

const systemNamespace = (name: string, nowMs: number): Namespace => ({
  apiVersion: NAMESPACES.apiVersion, kind: NAMESPACES.kind,
  metadata: { name, uid: newUid(), creationTimestamp: timestamp(nowMs), labels: { "kubernetes.io/metadata.name": name } },
  spec: { finalizers: [NAMESPACE_FINALIZER] },
  status: { phase: "Active" },
});

/** Makes those of `default`, `kube-system`, `kube-node-lease` and `kube-public` that are missing. Any control plane may call it, leader or not. */
export const ensureSystemNamespaces = async (store: Store, clock: Pick<Clock, "nowMs">): Promise<void> => {
  await Promise.all(SYSTEM_NAMESPACES.map((name) => createIfMissing(store, NAMESPACES, systemNamespace(name, clock.nowMs()))));
};

export const namespaceController = (context: ControllerContext): Controller => {
  const { cache, clock, store } = context;
  const namespaces = cache.resource(NAMESPACES);
  const isLeaving = (name: string): boolean => namespaces.get("", name)?.object.metadata.deletionTimestamp !== undefined;

  return {
    name: "namespace",
    writer: "controller",
    *watch(queue) {
      yield namespaces.subscribe(({ type, stored: { object } }) => {
        if (type !== "deleted" && object.metadata.deletionTimestamp !== undefined) queue.add(object.metadata.name!);
      });
      for (const type of NAMESPACED) {
        yield cache.resource(type).subscribe((event) => {
          // What goes may have been the last; what still comes (written before the mark was seen) must go too.
          const name = event.stored.object.metadata.namespace!;
          if (event.type !== "modified" && isLeaving(name)) queue.addAfter(name, context.options.statusDelayMs);
        });
      }
      for (const { object } of namespaces.list()) if (object.metadata.deletionTimestamp !== undefined) queue.add(object.metadata.name!);
    },

    async sync(name, { writes, again }) {
      const namespace = namespaces.get("", name)?.object;
      if (!namespace) return;
      const content = NAMESPACED.map((type) => ({ type, resource: type.name, objects: Array.from(cache.resource(type).list(name), (s) => s.object) }));
      const plan = reconcile(namespace, content, clock.nowMs());
      if (plan.kind === "keep") return;
      if (plan.kind === "empty") {
        if (!sameJson(plan.status, namespace.status)) await writes.update(NAMESPACES, namespace, (current) => ({ ...current, status: plan.status }));
        await Promise.all(content.flatMap(({ type, objects }) => objects.filter((o) => o.metadata.deletionTimestamp === undefined).map((o) => writes.delete(type, o, clock.nowMs()))));
        return;
      }
      // The cache may lag behind a create that the API let through just before the mark: only the store knows that it is empty.
      const lists = await Promise.all(NAMESPACED.map((type) => store.list(type, { namespace: name, limit: 1 })));
      if (lists.some(({ items }) => items.length > 0)) {
        again(100);
        return;
      }
      const released = await writes.update(NAMESPACES, namespace, (current) => {
        const left = (current.spec?.finalizers ?? []).filter((f) => f !== NAMESPACE_FINALIZER);
        return left.length === (current.spec?.finalizers ?? []).length ? undefined : { ...current, spec: { ...current.spec, finalizers: left } };
      });
      // Others' finalizers, in either list, hold it further.
      if (released && !released.spec?.finalizers?.length && !released.metadata.finalizers?.length) await writes.delete(NAMESPACES, released, clock.nowMs());
    },
  };
};
