// What the node remembers over a restart of its agent: assignments, each pod's progress, addresses given away. An embedded database
// file (SQLite, in Node), readable without the control plane. Only this file reads and writes it. Losing it loses no container: the
// runtime knows what runs, the control plane what should.
import { existsSync, renameSync, rmSync, statSync } from "node:fs";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import type { Worker } from "node:worker_threads";
import { GantryError, describeError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { startThread } from "../base/threads.ts";
import { PodAssignment } from "../proto/gen/gantry/v1/agent.ts";
import type { AddressStore } from "./network/address-store.ts";

/** Raised when a table changes its meaning; an older file is then set aside. */
const SCHEMA_VERSION = 1;

/** Of the write-ahead log (which keeps a quarter of it when it begins anew), before it is carried over into the database file. */
const CHECKPOINT_BYTES = 4 * 1024 * 1024;
/** How large it is is looked up once in so many writes. */
const WRITES_A_LOOK = 64;

// WAL without fsync on each commit: a killed agent loses nothing (the kernel has the pages); a machine that loses power loses the last
// moments, and its containers with them. Carrying the log over does wait for the disk, 60 ms where others write too, and so is done by another thread.
const SCHEMA = `
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = NORMAL;
  PRAGMA wal_autocheckpoint = 0;
  PRAGMA journal_size_limit = ${CHECKPOINT_BYTES / 4};
  PRAGMA cache_size = -512;
  CREATE TABLE IF NOT EXISTS assignments (uid TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS records (uid TEXT PRIMARY KEY, data TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS addresses (uid TEXT PRIMARY KEY, ip TEXT NOT NULL UNIQUE) WITHOUT ROWID;
  PRAGMA user_version = ${SCHEMA_VERSION};
`;

export class LocalState implements Disposable {
  readonly addresses: AddressStore;
  readonly #path: string;
  readonly #logger: Logger;
  readonly #database: DatabaseSync;
  readonly #saveAssignment: StatementSync;
  readonly #saveRecord: StatementSync;
  readonly #deleteAssignment: StatementSync;
  readonly #deleteRecord: StatementSync;
  #writes = 0;
  #checkpoint: Worker | undefined;

  /** A file that can't be read is set aside (PATH.corrupt), with an error in the log, and a new one begun. */
  static open(path: string, logger: Logger): LocalState {
    try {
      return new LocalState(path, logger);
    } catch (error) {
      logger.error("the node's records can't be read; starting from what the container runtime knows", { path, setAside: `${path}.corrupt`, err: describeError(error) });
      if (existsSync(path)) renameSync(path, `${path}.corrupt`);
      for (const suffix of ["-wal", "-shm"]) rmSync(path + suffix, { force: true });
      return new LocalState(path, logger);
    }
  }

  private constructor(path: string, logger: Logger) {
    this.#path = path;
    this.#logger = logger;
    this.#database = new DatabaseSync(path);
    try {
      const { user_version: version } = this.#database.prepare("PRAGMA user_version").get() as { user_version: number };
      if (version > SCHEMA_VERSION) throw new GantryError("FailedPrecondition", `${path} was written by a newer agent (format ${version}, this one knows ${SCHEMA_VERSION})`);
      this.#database.exec(SCHEMA);
      const { quick_check: verdict } = this.#database.prepare("PRAGMA quick_check(1)").get() as { quick_check: string };
      if (verdict !== "ok") throw new GantryError("InternalError", `${path} is damaged: ${verdict}`);
    } catch (error) {
      this.#database.close();
      throw error;
    }
    const prepare = (sql: string): StatementSync => this.#database.prepare(sql);
    this.#saveAssignment = prepare("INSERT OR REPLACE INTO assignments VALUES (?, ?)");
    this.#saveRecord = prepare("INSERT OR REPLACE INTO records VALUES (?, ?)");
    this.#deleteAssignment = prepare("DELETE FROM assignments WHERE uid = ?");
    this.#deleteRecord = prepare("DELETE FROM records WHERE uid = ?");
    const saveAddress = prepare("INSERT OR REPLACE INTO addresses VALUES (?, ?)");
    const deleteAddress = prepare("DELETE FROM addresses WHERE uid = ?");
    this.addresses = {
      load: () => new Map((this.#database.prepare("SELECT uid, ip FROM addresses").all() as { uid: string; ip: string }[]).map(({ uid, ip }) => [uid, ip])),
      save: (uid, ip) => {
        saveAddress.run(uid, ip);
        this.#written();
      },
      delete: (uid) => {
        deleteAddress.run(uid);
        this.#written();
      },
    };
  }

  /** What the control plane last wanted of this node. */
  assignments(): readonly PodAssignment[] {
    return (this.#database.prepare("SELECT data FROM assignments").all() as { data: Uint8Array }[]).map(({ data }) => PodAssignment.decode(data));
  }

  saveAssignment(assignment: PodAssignment): void {
    this.#saveAssignment.run(assignment.uid, PodAssignment.encode(assignment).finish());
  }

  /** Pod uid -> what its worker saved. Their form is the worker's. */
  records(): ReadonlyMap<string, unknown> {
    return new Map((this.#database.prepare("SELECT uid, data FROM records").all() as { uid: string; data: string }[]).map(({ uid, data }) => [uid, JSON.parse(data) as unknown]));
  }

  saveRecord(uid: string, record: unknown): void {
    this.#saveRecord.run(uid, JSON.stringify(record));
  }

  /** Assignment and record: the pod is no more. Its address is the network's to give back. */
  deletePod(uid: string): void {
    this.#deleteAssignment.run(uid);
    this.#deleteRecord.run(uid);
  }

  /** All that `write` saves, or nothing of it; one commit instead of many. */
  together(write: () => void): void {
    this.#database.exec("BEGIN");
    try {
      write();
      this.#database.exec("COMMIT");
    } catch (error) {
      this.#database.exec("ROLLBACK");
      throw error;
    }
    this.#written();
  }

  #written(): void {
    if (++this.#writes % WRITES_A_LOOK !== 0 || this.#checkpoint || statSync(`${this.#path}-wal`).size < CHECKPOINT_BYTES) return;
    this.#checkpoint = startThread(import.meta.url, "local-state-checkpoint", { name: "checkpoint", workerData: this.#path });
    this.#checkpoint.unref();
    this.#checkpoint.on("error", (error) => this.#logger.warn("the node's records could not be carried over into their file; the log beside it grows", { path: this.#path, err: error }));
    this.#checkpoint.on("exit", () => {
      this.#checkpoint = undefined;
    });
  }

  [Symbol.dispose](): void {
    void this.#checkpoint?.terminate();
    this.#database.close();
  }
}
