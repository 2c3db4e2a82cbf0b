// Finds keys that stand twice in one JSON object: JSON.parse keeps the last and says nothing, while fieldValidation=Strict
// must refuse and Warn must tell. Pure.

/**
 * `json` must be valid (parse it first). Returns upstream's messages, `duplicate field "spec.replicas"`, at most one a key.
 * One pass over the text, without building values.
 */
export const duplicateFields = (json: string): readonly string[] => {
  interface Level { readonly path: string; readonly keys: Set<string> | undefined; index: number; key: string }
  const stack: Level[] = [];
  const found = new Set<string>();
  const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]/g;
  let expectKey = false;
  const childPath = (): string => {
    const top = stack.at(-1);
    if (!top) return "";
    return top.keys ? (top.path === "" ? top.key : `${top.path}.${top.key}`) : `${top.path}[${top.index}]`;
  };
  for (const [token] of json.matchAll(TOKEN)) {
    const top = stack.at(-1);
    switch (token) {
      case "{": stack.push({ path: childPath(), keys: new Set(), index: 0, key: "" }); expectKey = true; break;
      case "[": stack.push({ path: childPath(), keys: undefined, index: 0, key: "" }); expectKey = false; break;
      case "}": case "]": stack.pop(); expectKey = false; break;
      case ",": if (top?.keys) expectKey = true; else if (top) top.index++; break;
      case ":": expectKey = false; break;
      default:
        if (!expectKey || !top?.keys) break;
        top.key = JSON.parse(token) as string;
        if (top.keys.has(top.key)) found.add(childPath());
        top.keys.add(top.key);
        expectKey = false;
    }
  }
  return [...found].map((path) => `duplicate field "${path}"`);
};
