#!/usr/bin/env python3
"""A stream app in Python: MQTT messages to documents in MongoDB, acknowledged only after they are durable.

It keeps the contract of docs/app-contract.md with `ids: "platform"`: messages are stored at least once.
"""
import json, os, queue, signal, sys, time
from datetime import datetime, timezone
from urllib.parse import urlsplit
import bson, pymongo
import paho.mqtt.client as mqtt
from bson import ObjectId
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pymongo.errors import BulkWriteError, PyMongoError


def env(name, otherwise=None):
    return os.environ.get("MYSIMBDP_" + name, otherwise)


BATCH, WAIT = int(env("BATCH_MESSAGES", 1000)), int(env("BATCH_MILLIS", 20)) / 1000
REPORT, QUIET = int(env("REPORT_SECONDS", 60)), int(env("DRAIN_QUIET_MILLIS", 2000)) / 1000
waiting = queue.Queue()  # bounded by the Receive Maximum: the broker sends no more without an acknowledgement
state = {"connection": 0, "stop": False, "drain": False, "unsubscribed": False}


def on_connect(client, *_):
    state["connection"] += 1  # a packet identifier means something on its own connection only
    client.unsubscribe(env("TOPIC_FILTER")) if state["drain"] else client.subscribe(env("TOPIC_FILTER"), qos=1)


def on_message(client, _, message):
    waiting.put((state["connection"], time.monotonic(), message))


def properties(packet, **values):
    result = Properties(packet)
    for name, value in values.items():
        setattr(result, name, value)
    return result


def no_constant(text):
    raise ValueError(f"{text} is not JSON")


def store(database, batch):
    """Returns when each message of the batch is durable, or listed in the rejects, however long that takes."""
    documents, rejects = [], []
    for *_, message in batch:
        try:
            document = json.loads(message.payload, parse_constant=no_constant)
            if not isinstance(document, dict):
                raise ValueError("message is no JSON object")
            document = {"_id": ObjectId(), **document}
            bson.encode(document)  # raises what cannot be stored, such as integers of more than 64 bits
            documents.append(document)
        except (ValueError, OverflowError, RecursionError, bson.errors.BSONError) as error:
            rejects.append(reject(message.topic, message.payload.decode(errors="replace"), error))
    for name, documents in ((env("COLLECTION"), documents), (env("REJECTED_COLLECTION", "rejected"), rejects)):
        while documents:
            try:
                database[name].insert_many(documents, ordered=False)
                break
            except BulkWriteError as error:  # a duplicate is what an attempt before stored, whose answer was lost
                faults = [fault for fault in error.details["writeErrors"] if fault["code"] != 11000]
                texts = [(json.dumps(documents[fault["index"]], default=str), fault["errmsg"]) for fault in faults]
                documents = [reject("", *text) for text in texts]
                name = env("REJECTED_COLLECTION", "rejected")
            except PyMongoError as error:
                print(f"store is away, messages wait: {error}", file=sys.stderr, flush=True)
                time.sleep(1)


def reject(topic, payload, reason):
    now = datetime.now(timezone.utc)
    return {"_id": ObjectId(), "topic": topic, "payload": payload, "reason": str(reason), "rejected_at": now}


def take(deadline):
    """The messages that come until the batch is full or its first message is old enough."""
    batch = []
    while len(batch) < BATCH and (left := deadline - time.monotonic()) > 0:
        try:
            batch.append(waiting.get(timeout=left))
        except queue.Empty:
            break
        deadline = min(deadline, batch[0][1] + WAIT) if waiting.empty() else deadline
    return batch


def main():
    signal.signal(signal.SIGTERM, lambda *_: state.update(stop=True))
    signal.signal(signal.SIGINT, lambda *_: state.update(stop=True))
    signal.signal(signal.SIGUSR1, lambda *_: state.update(drain=True))
    database = pymongo.MongoClient(env("COREDMS"), w="majority", journal=True, serverSelectionTimeoutMS=5000)[env("DATABASE")]
    broker = urlsplit(env("BROKER"))
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, env("INSTANCE"), protocol=mqtt.MQTTv5, manual_ack=True)
    client.on_connect, client.on_message = on_connect, on_message
    client.on_unsubscribe = lambda *_: state.update(unsubscribed=True)
    session = properties(PacketTypes.CONNECT, SessionExpiryInterval=604_800, ReceiveMaximum=2 * BATCH)
    client.connect_async(broker.hostname, broker.port or 1883, keepalive=10, clean_start=False, properties=session)
    client.loop_start()
    messages, size, waited, busy, since, quiet = 0, 0, 0.0, 0.0, time.monotonic(), time.monotonic()
    asked = False
    while not state["stop"]:
        batch, began = take(time.monotonic() + 0.1), time.monotonic()
        if batch:
            store(database, batch)
            quiet = now = time.monotonic()
            for connection, arrived, message in batch:
                waited, messages, size = waited + now - arrived, messages + 1, size + len(message.payload)
                if connection == state["connection"]:  # else the broker delivers it again
                    client.ack(message.mid, message.qos)
            busy += now - began
        if time.monotonic() - since >= REPORT:
            report = {"client_name": env("CLIENT_ID"), "average_processing_time": waited / messages if messages else 0,
                      "total_number_of_messages_ingested": messages, "total_size_of_messages_ingested": size,
                      "instance": env("INSTANCE"), "interval": time.monotonic() - since,
                      "utilization": min(1, busy / (time.monotonic() - since))}
            client.publish(env("REPORT_TOPIC"), json.dumps(report), qos=1)
            messages, size, waited, busy, since = 0, 0, 0.0, 0.0, time.monotonic()
        if state["drain"] and not asked:
            asked, quiet = True, time.monotonic()
            client.unsubscribe(env("TOPIC_FILTER"))
        if not (state["unsubscribed"] and client.is_connected()):
            quiet = time.monotonic()
        elif time.monotonic() - quiet >= QUIET:
            break  # the subscription has ended, and what the session still held is stored
    expiry = properties(PacketTypes.DISCONNECT, SessionExpiryInterval=604_800 if state["stop"] else 0)
    client.disconnect(properties=expiry)
    client.loop_stop()


if __name__ == "__main__":
    main()
