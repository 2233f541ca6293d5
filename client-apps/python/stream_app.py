#!/usr/bin/env python3
"""A stream app in Python: stores MQTT messages as documents in MongoDB and acknowledges them only after they are durable.

It keeps the contract of docs/app-contract.md with `ids: "platform"`. It ignores numbers, so it stores messages at least once.
"""
import hashlib, json, os, queue, signal, sys, time
from datetime import datetime, timezone
from urllib.parse import urlsplit
import bson, gridfs, pymongo
import exact_json
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pymongo.errors import BulkWriteError, PyMongoError


def env(name, otherwise=None):
    return os.environ.get("MYSIMBDP_" + name, otherwise)


BATCH, WAIT = int(env("BATCH_MESSAGES", 1000)), int(env("BATCH_MILLIS", 20)) / 1000
REPORT, QUIET = float(env("REPORT_SECONDS", 60)), int(env("DRAIN_QUIET_MILLIS", 2000)) / 1000
KEEP_ALIVE = int(env("KEEP_ALIVE_SECONDS", 10))
MESSAGES, REJECTED = env("COLLECTION"), env("REJECTED_COLLECTION", "rejected")
DOCUMENT_MAX, INLINE_MAX = 16 << 20, 15 << 20  # the limit of MongoDB; the largest payload that is stored in a document
STABLE, EVICTIONS_MAX = 15, 5  # if the broker closes so many connections in a row this soon, another process has the client id
waiting = queue.Queue()  # bounded by the Receive Maximum: the broker sends no more messages without acknowledgements
state = {"connection": 0, "connected": 0.0, "evictions": 0, "mode": None, "unsubscribed": False}


def on_connect(client, _, __, reason, ___):
    if reason.is_failure:
        return
    state["connected"] = time.monotonic()
    state["connection"] += 1  # an acknowledgement is valid only on the connection on which its message arrived
    client.unsubscribe(env("TOPIC_FILTER")) if state["mode"] == "drain" else client.subscribe(env("TOPIC_FILTER"), qos=1)


def on_disconnect(client, _, __, reason, *___):
    is_eviction = time.monotonic() - state["connected"] < STABLE  # some brokers close the connection without a reason
    state["evictions"] = state["evictions"] + 1 if is_eviction else 0
    if reason.value == 142 or state["evictions"] >= EVICTIONS_MAX:
        # Another process has taken over the client id: stop, because otherwise both would disconnect each other forever.
        state["mode"] = "stop"
        client.disconnect()


def expiry(packet, seconds):
    properties = Properties(packet)
    properties.SessionExpiryInterval = seconds
    return properties


def convert(message):
    """Returns the document of a message, or the reason why there is none. A bad message must not end the process: it would be delivered again."""
    try:
        document = exact_json.loads(message.payload)
        if "_id" in document:  # later messages with the same _id would be taken for repeats
            raise ValueError("field _id is set by the platform")
        document = {"_id": bson.ObjectId(), **document}
        size = len(bson.encode(document))  # raises if it cannot be stored, for example an integer of more than 64 bits
        if size > DOCUMENT_MAX:
            raise ValueError(f"document has {size} bytes: the limit is {DOCUMENT_MAX}")
        return document, None
    except (TypeError, ValueError, OverflowError, RecursionError, bson.errors.BSONError) as error:
        return None, str(error)


def store(database, messages):
    """Returns when all messages are durable, as documents or as rejects, however long that takes."""
    documents, rejected = [], []
    for message in messages:
        document, reason = convert(message)
        documents.append((message, document)) if document else rejected.append((message, reason))
    refused = insert(database[MESSAGES], [document for _, document in documents])
    rejected += [(documents[at][0], reason) for at, reason in refused]
    insert(database[REJECTED], [until_done(reject, database, *each) for each in rejected])


def insert(collection, documents):
    """Returns the positions and reasons of the documents that the store refuses, when all others are durable."""
    try:
        if documents:
            until_done(collection.insert_many, documents, ordered=False)
    except BulkWriteError as error:  # a duplicate was stored by an attempt whose reply was lost
        faults = error.details["writeErrors"]
        return [(fault["index"], fault["errmsg"]) for fault in faults if fault["code"] != 11000]
    return []


def reject(database, message, reason):
    """Returns the reject of a message. Its whole payload is kept, in GridFS if it does not fit in the document."""
    payload, now = bytes(message.payload), datetime.now(timezone.utc)
    document = {"_id": bson.ObjectId(), "topic": message.topic, "payload_bytes": bson.Int64(len(payload)),
                "reason": reason[:1000], "rejected_at": now}
    if len(payload) > INLINE_MAX:
        return {**document, "payload_object": keep(gridfs.GridFSBucket(database, REJECTED), payload)}
    try:
        return {**document, "payload": payload.decode()}
    except UnicodeDecodeError:
        return {**document, "payload": payload}


def keep(bucket, payload):
    """Stores the payload. Its id is made of the content, so an attempt whose reply was lost is recognized."""
    name = hashlib.blake2b(payload, digest_size=16).digest()
    if not list(bucket.find({"_id": name}).limit(1)):
        try:
            bucket.delete(name)  # parts of an incomplete attempt
        except gridfs.NoFile:
            pass
        bucket.upload_from_stream_with_id(name, name.hex(), payload)
    return name


def until_done(operation, *arguments, **options):
    while True:
        try:
            return operation(*arguments, **options)
        except BulkWriteError:
            raise
        except PyMongoError as error:
            print(f"store is unavailable, messages wait: {error}", file=sys.stderr, flush=True)
            time.sleep(1)


def next_batch():
    """Returns the messages that arrive until the batch is full or its first message is old enough."""
    batch = []
    try:
        while len(batch) < BATCH:
            batch.append(waiting.get(timeout=max(0, batch[0][1] + WAIT - time.monotonic()) if batch else 0.1))
    except queue.Empty:
        pass
    return batch


def main():
    for number, mode in ((signal.SIGTERM, "stop"), (signal.SIGINT, "stop"), (signal.SIGUSR1, "drain")):
        signal.signal(number, lambda *_, mode=mode: state.update(mode=mode))
    options = dict(w="majority", journal=True, serverSelectionTimeoutMS=5000)
    database = pymongo.MongoClient(env("COREDMS"), **options)[env("DATABASE")]
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, env("INSTANCE"), protocol=mqtt.MQTTv5, manual_ack=True)
    client.on_connect, client.on_disconnect = on_connect, on_disconnect
    client.on_message = lambda _, __, message: waiting.put((state["connection"], time.monotonic(), message))
    client.on_unsubscribe = lambda *_: state.update(unsubscribed=True)
    session, broker = expiry(PacketTypes.CONNECT, 604_800), urlsplit(env("BROKER"))
    session.ReceiveMaximum = min(2 * BATCH, 65_535)
    client.connect_async(broker.hostname, broker.port or 1883, keepalive=KEEP_ALIVE, clean_start=False, properties=session)
    client.loop_start()
    messages, size, waited, busy, since, quiet, unsubscribe_sent = 0, 0, 0.0, 0.0, time.monotonic(), 0.0, False
    while state["mode"] != "stop":
        batch, began = next_batch(), time.monotonic()
        if batch:
            store(database, [message for *_, message in batch])
            quiet = now = time.monotonic()
            for connection, arrived, message in batch:
                messages, size, waited = messages + 1, size + len(message.payload), waited + now - arrived
                if connection == state["connection"]:  # otherwise the broker delivers it again
                    client.ack(message.mid, message.qos)
            busy += now - began
        if (interval := time.monotonic() - since) >= REPORT:
            report = {"client_name": env("CLIENT_ID"), "instance": env("INSTANCE"), "interval": interval,
                      "average_processing_time": waited / messages if messages else 0,
                      "total_number_of_messages_ingested": messages, "total_size_of_messages_ingested": size,
                      "utilization": min(1, busy / interval), "backlog": waiting.qsize()}
            client.publish(env("REPORT_TOPIC"), json.dumps(report), qos=1)
            messages, size, waited, busy, since = 0, 0, 0.0, 0.0, time.monotonic()
        if state["mode"] == "drain" and not unsubscribe_sent:
            unsubscribe_sent = client.unsubscribe(env("TOPIC_FILTER"))
        if not (state["unsubscribed"] and client.is_connected()):
            quiet = time.monotonic()  # the silence of a lost connection means nothing
        elif time.monotonic() - quiet >= QUIET:
            break  # the subscription has ended, and what the session still held is stored
    client.disconnect(properties=expiry(PacketTypes.DISCONNECT, 604_800 if state["mode"] == "stop" else 0))
    client.loop_stop()


if __name__ == "__main__":
    main()
