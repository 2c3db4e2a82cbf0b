// The keys that leave a container running and its terminal alone: docker's "ctrl-p,ctrl-q". Pure.
import { GantryError } from "../base/errors.ts";

export const DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q";

/** "" for none. "BadRequest" for what is no key: a single character, or ctrl- with a letter or one of @ [ \ ] ^ _ */
export const parseDetachKeys = (text: string): Buffer => {
  const keys = text === "" ? [] : text.split(",");
  return Buffer.from(keys.map((key) => {
    const control = /^ctrl-([a-z@[\\\]^_])$/i.exec(key)?.[1];
    if (control !== undefined) return control.toUpperCase().charCodeAt(0) & 0x1f;
    if (key.length === 1 && key.charCodeAt(0) < 128) return key.charCodeAt(0);
    throw new GantryError("BadRequest", `--detach-keys: ${JSON.stringify(key)} is no key: give single characters or ctrl- with a letter or one of @ [ \\ ] ^ _, with commas between`);
  }));
};

/** Looks for the sequence in what is typed. Its beginning is held back until it is clear that it is none. */
export class DetachWatch {
  readonly #keys: Buffer;
  #seen = 0;

  constructor(keys: Buffer) {
    this.#keys = keys;
  }

  push(typed: Buffer): { readonly data: Buffer; readonly detached: boolean } {
    if (this.#keys.length === 0) return { data: typed, detached: false };
    const data: number[] = [];
    for (const byte of typed) {
      if (byte === this.#keys[this.#seen]) {
        if (++this.#seen === this.#keys.length) return { data: Buffer.from(data), detached: true };
        continue;
      }
      data.push(...this.#keys.subarray(0, this.#seen));
      this.#seen = byte === this.#keys[0] ? 1 : 0;
      if (this.#seen === 0) data.push(byte);
      else if (this.#keys.length === 1) return { data: Buffer.from(data), detached: true };
    }
    return { data: Buffer.from(data), detached: false };
  }
}
