"""Stores for the test apps, in the embedded store or in MongoDB: documents under platform ids or keys, and objects."""

import base64
import fcntl
import json
import os
import sqlite3


def env(name):
    return os.environ["MYSIMBDP_" + name]


CHUNK = 255 * 1024

TABLES = """
CREATE TABLE IF NOT EXISTS documents (
    collection TEXT NOT NULL, id BLOB NOT NULL, document ANY NOT NULL, PRIMARY KEY (collection, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ranges (
    bucket TEXT NOT NULL, id BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (bucket, id, first)
) STRICT, WITHOUT ROWID;
"""


class Embedded:
    def __init__(self, directory):
        self.directory = directory
        os.makedirs(directory, exist_ok=True)
        # Only one process at a time sets the file up, as in the platform.
        with open(os.path.join(directory, env("DATABASE") + ".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.database = sqlite3.connect(os.path.join(directory, env("DATABASE") + ".sqlite"), timeout=30)
            self.database.execute("PRAGMA journal_mode = wal")
            self.database.executescript(TABLES)

    def insert(self, collection, documents):
        """Returns how many of the documents, given with their keys, were not there before."""
        rows = [(collection, key, json.dumps(document)) for key, document in documents]
        with self.database:
            return self.database.executemany("INSERT INTO documents VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows).rowcount

    def records(self, ingestion, numbers):
        ids = [bytes.fromhex(ingestion)[:8] + number.to_bytes(8, "big") for number in numbers]
        return self.insert(env("COLLECTION"), [(binary_key(id), {"_id": binary(id)}) for id in ids])

    def keys(self, keys):
        return self.insert(env("COLLECTION"), [(b"\x05" + key.encode() + b"\0\0", {"_id": key}) for key in keys])

    def chunks(self, ingestion, offset, data):
        bucket = os.path.join(self.directory, env("DATABASE") + ".objects", env("COLLECTION"))
        os.makedirs(bucket, exist_ok=True)
        file = os.open(os.path.join(bucket, ingestion), os.O_WRONLY | os.O_CREAT, 0o644)
        os.pwrite(file, data, offset)
        os.close(file)
        row = (env("COLLECTION"), bytes.fromhex(ingestion), offset, offset + len(data))
        with self.database:
            self.database.execute("INSERT OR REPLACE INTO ranges VALUES (?, ?, ?, ?)", row)

    def commit(self, ingestion, length):
        id = bytes.fromhex(ingestion)
        document = {"_id": binary(id), "length": length, "chunkSize": CHUNK}
        return self.insert(env("COLLECTION") + ".files", [(binary_key(id), document)])


class MongoDB:
    def __init__(self, url):
        import pymongo

        client = pymongo.MongoClient(url, w="majority", journal=True, serverSelectionTimeoutMS=2000)
        self.collection = client[env("DATABASE")][env("COLLECTION")]

    def records(self, ingestion, numbers):
        stored = 0
        for number in numbers:
            id = bytes.fromhex(ingestion)[:8] + number.to_bytes(8, "big")
            stored += self.collection.update_one({"_id": id}, {"$setOnInsert": {"n": number}}, upsert=True).upserted_id is not None
        return stored


def binary(id):
    return {"$binary": {"base64": base64.b64encode(id).decode(), "subType": "00"}}


def binary_key(id):
    return b"\x08" + len(id).to_bytes(4, "big") + b"\x00" + id


def open_store():
    url = env("COREDMS")
    return Embedded(url[len("sqlite:"):]) if url.startswith("sqlite:") else MongoDB(url)
