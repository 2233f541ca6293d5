#!/usr/bin/env python3
"""A batch app in Python: stores the records of a CSV, NDJSON or JSON work unit as documents in MongoDB.

It keeps the contract of docs/app-contract.md with `protocol: "stdin"`, `unit: "micro-batch"` and `ids: "platform"`.
"""
import csv, io, json, os, sys
import bson, pymongo
import exact_json
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError, PyMongoError

DATA, TRY_LATER = 65, 75  # exit codes: hold the unit; try it again
DOCUMENT_MAX = 16 << 20  # the limit of MongoDB
TYPES = {"int": int, "long": bson.Int64, "double": float, "bool": {"true": True, "false": False}.__getitem__}


def env(name):
    return os.environ["MYSIMBDP_" + name]


def fail(code, reason):
    print(reason, file=sys.stderr)  # stderr is the client's log
    sys.exit(code)


def write_line(**line):
    print(json.dumps(line), flush=True)


def from_csv(value, column):
    """Returns a value with the type of its column: a column with exceptions is text."""
    kind = column["type"] if not column.get("except") else "string"
    return TYPES.get(kind, str)(value) if value else None


def records(text):
    """Returns a function for each record, which returns its document or raises what is wrong with it."""
    if env("FORMAT") == "csv":
        header, *rows = filter(None, csv.reader(io.StringIO(text, newline="")))
        columns = json.loads(os.environ.get("MYSIMBDP_COLUMNS", "[]"))  # by position; a column that is not listed is text
        columns += [{"type": "string"}] * (len(header) - len(columns))
        fields = lambda row: {k: from_csv(v, c) for k, v, c in zip(header, row, columns, strict=True)}
        return [lambda row=row: fields(row) for row in rows]
    if env("FORMAT") == "json":
        found = exact_json.elements(text)
    else:
        found = filter(str.strip, text.split("\n"))
    return [lambda record=record: exact_json.loads(record) for record in found]


def main():
    length, first, announced = int(env("LENGTH")), int(env("FIRST_RECORD")), int(env("RECORDS"))
    data = sys.stdin.buffer.read(length + 1)
    if len(data) != length:  # Otherwise a broken pipe would look like a shorter file.
        fail(TRY_LATER if len(data) < length else DATA, f"stdin does not have the {length} bytes announced")
    try:
        found = records(data.decode("utf-8-sig" if env("ENCODING") == "utf-8" else env("ENCODING")))
    except (ValueError, RecursionError) as error:
        fail(DATA, f"unit is not valid {env('FORMAT')}: {error}")
    if len(found) != announced:  # Checked before anything is written: the ids of other units must not be used.
        fail(DATA, f"unit has {len(found)} records, but {announced} were announced")

    documents, numbers, rejects, duplicates = [], [], [], 0
    for number, make in enumerate(found, first):
        try:
            record_id = bytes.fromhex(env("INGESTION"))[:8] + number.to_bytes(8, "big")
            record = make()
            if "_id" in record:
                raise ValueError("field _id is set by the platform")
            document = {"_id": record_id, **record}
            size = len(bson.encode(document))  # raises if it cannot be stored, for example an integer of more than 64 bits
            if size > DOCUMENT_MAX:
                raise ValueError(f"document has {size} bytes: the limit is {DOCUMENT_MAX}")
            documents.append(document)
            numbers.append(number)
        except (ValueError, OverflowError, RecursionError, bson.errors.BSONError) as error:
            rejects.append((number, str(error)))

    client = pymongo.MongoClient(env("COREDMS"), w="majority", journal=True, serverSelectionTimeoutMS=5000)
    collection = client[env("DATABASE")][env("COLLECTION")]
    try:
        if documents and "MYSIMBDP_REPLACE" in os.environ:  # replaces what an earlier run has stored
            collection.bulk_write([ReplaceOne({"_id": d["_id"]}, d, upsert=True) for d in documents], ordered=False)
        elif documents:
            collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        for fault in error.details["writeErrors"]:
            if fault["code"] == 11000 and "_id" in fault.get("keyPattern", {}):
                duplicates += 1  # stored before, by an earlier attempt or an earlier drop
            else:
                rejects.append((numbers[fault["index"]], fault["errmsg"]))
    except PyMongoError as error:
        fail(TRY_LATER, error)
    for number, reason in rejects:
        write_line(type="reject", record=number, reason=reason[:1000])
    write_line(type="done", stored=announced - duplicates - len(rejects), duplicates=duplicates, rejected=len(rejects))


if __name__ == "__main__":
    main()
