import test from "ava";
import { MemoryStore } from "./memory-store.ts";
import { storeContract } from "./store-contract.ts";

storeContract(test, "memory store", async () => {
  const store = new MemoryStore();
  return { store, compact: async () => store.compact() };
});
