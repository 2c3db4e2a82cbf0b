// Names: docker's are freer than Kubernetes' (capitals, underscores), so that every command here spells them the same way. Pure but for
// the choice of a random name, whose random numbers are an argument.
import { GantryError } from "../../base/errors.ts";

const ADJECTIVES = [
  "agile", "amber", "bold", "brave", "brisk", "calm", "clever", "cosmic", "crisp", "daring", "eager", "fair", "fond", "gentle", "glad", "golden", "happy", "honest", "jolly", "keen",
  "kind", "lively", "lucid", "lucky", "mellow", "merry", "modest", "nimble", "noble", "patient", "plucky", "proud", "quick", "quiet", "rapid", "serene", "sharp", "silent", "sleek", "smart",
  "snug", "solid", "spry", "steady", "sunny", "swift", "tidy", "trusty", "upbeat", "vivid", "warm", "wise", "witty", "zesty",
] as const;
const NOUNS = [
  "anchor", "badger", "beacon", "birch", "bosun", "brook", "canoe", "cedar", "comet", "condor", "coral", "crane", "delta", "dolphin", "falcon", "fern", "fjord", "galley", "gecko", "harbor",
  "heron", "island", "jetty", "kayak", "kelp", "lagoon", "lantern", "lark", "maple", "mast", "meadow", "otter", "owl", "panda", "pebble", "pier", "pine", "puffin", "quay", "raven",
  "reef", "rudder", "sail", "schooner", "seal", "sparrow", "stork", "tern", "tide", "walrus", "wharf", "willow", "wren", "yawl",
] as const;

/** `random(n)` is a whole number from 0 to n - 1. */
export const randomName = (random: (n: number) => number): string => `${ADJECTIVES[random(ADJECTIVES.length)]!}-${NOUNS[random(NOUNS.length)]!}`;

const OBJECT_NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const MAX_NAME = 63;

/** A word as the object of that name is called: small letters, and - for _. "BadRequest" when no name can be made of it; `what` is for the message. */
export const objectName = (what: string, word: string): string => {
  const name = word.replace(/^\//, "").toLowerCase().replaceAll("_", "-");
  if (OBJECT_NAME.test(name) && name.length <= MAX_NAME) return name;
  throw new GantryError("BadRequest", `${what} ${JSON.stringify(word)} must have at most ${MAX_NAME} letters, digits, - and _, and begin and end with a letter or digit`);
};

/** The same for names that a file gives, such as a Compose project's folder: whatever can't stand in a name goes. "" when nothing is left. */
export const nameFrom = (text: string): string => text.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-+|-+$/g, "").slice(0, MAX_NAME).replace(/-+$/, "");
