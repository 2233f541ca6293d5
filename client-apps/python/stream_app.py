#!/usr/bin/env python3
"""A stream app in Python: MQTT messages to documents in MongoDB, acknowledged only after they are durable.

It keeps the contract of docs/app-contract.md with `ids: "platform"`; it ignores numbers, so: at least once.
"""
import json, os, queue, signal, sys, time
from datetime import datetime, timezone
from urllib.parse import urlsplit
import bson, pymongo
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
waiting = queue.Queue()  # bounded by the Receive Maximum: the broker sends no more without an acknowledgement
state = {"connection": 0, "wish": None, "unsubscribed": False}


def on_connect(client, *_):
    state["connection"] += 1  # an acknowledgement belongs to the connection on which its message arrived
    client.unsubscribe(env("TOPIC_FILTER")) if state["wish"] == "drain" else client.subscribe(env("TOPIC_FILTER"), qos=1)


def expiry(packet, seconds):
    properties = Properties(packet)
    properties.SessionExpiryInterval = seconds
    return properties


def no_constant(text):
    raise ValueError(f"{text} is not JSON")


def convert(message):
    """The collection and the document of a message: a bad one must not end the process, it would come again."""
    try:
        document = json.loads(message.payload, parse_constant=no_constant)
        if "_id" in document:  # later messages that have the same would be taken for repeats
            raise ValueError("field _id is given by the platform")
        document = {"_id": bson.ObjectId(), **document}
        bson.encode(document)  # raises what cannot be stored, such as integers of more than 64 bits
        return MESSAGES, document
    except (TypeError, ValueError, OverflowError, RecursionError, bson.errors.BSONError) as error:
        return REJECTED, reject(message.topic, message.payload.decode(errors="replace"), error)


def reject(topic, payload, reason):
    now = datetime.now(timezone.utc)
    return {"_id": bson.ObjectId(), "topic": topic, "payload": payload, "reason": str(reason), "rejected_at": now}


def store(collection, documents):
    """Returns the documents that the store refuses, when all others are durable, however long that takes."""
    while documents:
        try:
            collection.insert_many(documents, ordered=False)
            break
        except BulkWriteError as error:  # a duplicate has been stored by an attempt whose answer was lost
            faults = [fault for fault in error.details["writeErrors"] if fault["code"] != 11000]
            return [reject("", repr(documents[fault["index"]]), fault["errmsg"]) for fault in faults]
        except PyMongoError as error:
            print(f"store is away, messages wait: {error}", file=sys.stderr, flush=True)
            time.sleep(1)
    return []


def take():
    """The messages that come until the batch is full or its first message is old enough."""
    batch = []
    try:
        while len(batch) < BATCH:
            batch.append(waiting.get(timeout=max(0, batch[0][1] + WAIT - time.monotonic()) if batch else 0.1))
    except queue.Empty:
        pass
    return batch


def main():
    for number, wish in ((signal.SIGTERM, "stop"), (signal.SIGINT, "stop"), (signal.SIGUSR1, "drain")):
        signal.signal(number, lambda *_, wish=wish: state.update(wish=wish))
    options = dict(w="majority", journal=True, serverSelectionTimeoutMS=5000)
    database = pymongo.MongoClient(env("COREDMS"), **options)[env("DATABASE")]
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, env("INSTANCE"), protocol=mqtt.MQTTv5, manual_ack=True)
    client.on_connect = on_connect
    client.on_message = lambda _, __, message: waiting.put((state["connection"], time.monotonic(), message))
    client.on_unsubscribe = lambda *_: state.update(unsubscribed=True)
    session, broker = expiry(PacketTypes.CONNECT, 604_800), urlsplit(env("BROKER"))
    session.ReceiveMaximum = min(2 * BATCH, 65_535)
    client.connect_async(broker.hostname, broker.port or 1883, keepalive=KEEP_ALIVE, clean_start=False, properties=session)
    client.loop_start()
    messages, size, waited, busy, since, quiet, asked = 0, 0, 0.0, 0.0, time.monotonic(), 0.0, False
    while state["wish"] != "stop":
        batch, began = take(), time.monotonic()
        if batch:
            documents = [convert(message) for *_, message in batch]
            refused = store(database[MESSAGES], [document for name, document in documents if name == MESSAGES])
            store(database[REJECTED], refused + [document for name, document in documents if name == REJECTED])
            quiet = now = time.monotonic()
            for connection, arrived, message in batch:
                messages, size, waited = messages + 1, size + len(message.payload), waited + now - arrived
                if connection == state["connection"]:  # else the broker delivers it again
                    client.ack(message.mid, message.qos)
            busy += now - began
        if (interval := time.monotonic() - since) >= REPORT:
            report = {"client_name": env("CLIENT_ID"), "instance": env("INSTANCE"), "interval": interval,
                      "average_processing_time": waited / messages if messages else 0,
                      "total_number_of_messages_ingested": messages, "total_size_of_messages_ingested": size,
                      "utilization": min(1, busy / interval), "backlog": waiting.qsize()}
            client.publish(env("REPORT_TOPIC"), json.dumps(report), qos=1)
            messages, size, waited, busy, since = 0, 0, 0.0, 0.0, time.monotonic()
        if state["wish"] == "drain" and not asked:
            asked = client.unsubscribe(env("TOPIC_FILTER"))
        if not (state["unsubscribed"] and client.is_connected()):
            quiet = time.monotonic()  # the silence of a lost connection says nothing
        elif time.monotonic() - quiet >= QUIET:
            break  # the subscription has ended, and what the session still held is stored
    client.disconnect(properties=expiry(PacketTypes.DISCONNECT, 604_800 if state["wish"] == "stop" else 0))
    client.loop_stop()


if __name__ == "__main__":
    main()
