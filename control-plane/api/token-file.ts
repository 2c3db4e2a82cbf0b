// The static token file, in the format of kube-apiserver's --token-auth-file: lines of token,user,uid[,"group1,group2"].
// https://kubernetes.io/docs/reference/access-authn-authz/authentication/#static-token-file
import { GantryError } from "../../base/errors.ts";
import type { TokenEntry } from "./authentication.ts";

/** "BadRequest" names file and line; never the line's text, which holds a secret. */
export const parseTokenFile = (text: string, file: string): readonly TokenEntry[] =>
  text.split("\n").flatMap((line, i) => {
    if (line.trim() === "" || line.startsWith("#")) return [];
    const match = /^([^,]+),([^,]+),([^,]*)(?:,"?([^"]*)"?)?\s*$/.exec(line);
    if (!match) throw new GantryError("BadRequest", `${file}, line ${i + 1}: expected token,user,uid and perhaps "group1,group2"`);
    const groups = (match[4] ?? "").split(",").map((g) => g.trim()).filter((g) => g !== "");
    return [{ token: match[1]!.trim(), user: match[2]!.trim(), uid: match[3]!.trim(), groups }];
  });
