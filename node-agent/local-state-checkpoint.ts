// A thread of LocalState's: carries what is in the write-ahead log over into the database file, beside whoever writes. https://sqlite.org/wal.html#ckpt
import { DatabaseSync } from "node:sqlite";
import { workerData } from "node:worker_threads";

const database = new DatabaseSync(workerData as string);
try {
  database.exec("PRAGMA wal_checkpoint(PASSIVE)");
} finally {
  database.close();
}
