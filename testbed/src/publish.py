"""Publishes the lines of stdin: publish.py <host> <port> <topic> <messages per second, 0 = no limit>."""

import sys
import time

import paho.mqtt.client as mqtt

host, port, topic, rate = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.max_inflight_messages_set(1000)
client.connect(host, port)
client.loop_start()
started = time.monotonic()
sent = []
for number, line in enumerate(sys.stdin.buffer):
    if rate:
        time.sleep(max(0.0, started + number / rate - time.monotonic()))
    sent.append(client.publish(topic, line.rstrip(b"\r\n"), qos=1))
for message in sent:
    message.wait_for_publish(timeout=60)
    if not message.is_published():
        sys.exit("the broker has not acknowledged everything")
client.disconnect()
client.loop_stop()
