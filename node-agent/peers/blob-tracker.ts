// Who gets a blob from whom. For each digest one node of the cluster keeps the list of those that have it or are getting it, in the order in which
// they asked; each gets it from one before it in the list, and only the first from the registry. What is known here is only a hint: whoever
// finds it wrong says so, and is told another. Pure but for its memory.

/** How many get a blob from the same node. */
const FAN_OUT = 3;
const MAX_DIGESTS = 4096;

/** The node that keeps the list for a digest: the same for all who know the same nodes, and hardly another when a node comes or goes. */
export const trackerOf = (digest: string, nodes: Iterable<string>): string | undefined => {
  let best: string | undefined;
  let bestScore = -1;
  for (const node of nodes) {
    const score = mix(`${node}\n${digest}`);
    if (score > bestScore || (score === bestScore && node < best!)) [best, bestScore] = [node, score];
  }
  return best;
};

/** FNV-1a with a last mixing (as in MurmurHash3): spread evenly, quick for thousands of nodes; nobody gains by a collision. */
const mix = (text: string): number => {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
};

export class BlobTracker {
  /** The least recently asked for first. */
  readonly #lists = new Map<string, string[]>();

  knows(digest: string): boolean {
    return (this.#lists.get(digest)?.length ?? 0) > 0;
  }

  /** Nodes that were found to have it. */
  found(digest: string, nodes: readonly string[]): void {
    const list = this.#list(digest);
    list.push(...nodes.filter((node) => !list.includes(node)));
  }

  /** Where `node` gets the blob; undefined: from the registry. `useless` are nodes where it tried in vain. */
  sourceFor(digest: string, node: string, useless: readonly string[]): string | undefined {
    const list = this.#list(digest);
    for (const other of useless) {
      const at = list.indexOf(other);
      if (at >= 0 && other !== node) list.splice(at, 1);
    }
    let at = list.indexOf(node);
    if (at < 0) at = list.push(node) - 1;
    // A tree: never from one that comes later, or two could wait for each other.
    return at === 0 ? undefined : list[Math.floor((at - 1) / FAN_OUT)];
  }

  #list(digest: string): string[] {
    const list = this.#lists.get(digest) ?? [];
    this.#lists.delete(digest);
    this.#lists.set(digest, list);
    if (this.#lists.size > MAX_DIGESTS) this.#lists.delete(this.#lists.keys().next().value!);
    return list;
  }
}
