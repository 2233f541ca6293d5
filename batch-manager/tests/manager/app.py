"""A batch app for the tests: it stores nothing and behaves as its arguments say."""

import json
import os
import signal
import sys
import time


def env(name):
    return os.environ["MYSIMBDP_" + name]


def note(**what):
    """Tells the test that a unit was begun."""
    what.update(pid=os.getpid(), mode=sys.argv[1])
    with open("runs.ndjson", "a") as runs:
        runs.write(json.dumps(what) + "\n")


def say(kind, **what):
    print(json.dumps({"type": kind, **what}), flush=True)


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def unit():
    return {name.lower(): int(env(name)) for name in UNIT}


UNIT = ["BATCH_INDEX", "BATCH_COUNT", "FIRST_RECORD", "RECORDS", "OFFSET", "LENGTH", "FILE_BYTES", "ATTEMPT"]


def count(data, header):
    """The records of a unit that must be as it was announced."""
    if len(data) != header["length"]:
        sys.exit(75)
    if header.get("phase") == "join" or header["records"] == 0:
        return header["records"]
    records = sum(1 for line in data.split(b"\n") if line.strip())
    if records != header["records"]:
        sys.exit(65)
    return records


def good():
    header = dict(unit(), phase=env("PHASE"))
    say("done", stored=count(sys.stdin.buffer.read(), header))


def flood():
    line = b"x" * 999 + b"\n"
    for _ in range(100):
        os.write(2, line * 100)
        for _ in range(10):
            sys.stdout.buffer.write(line * 100)
    sys.stdout.buffer.flush()


def fork_away():
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open("forked.tmp", "w") as file:
            file.write(str(os.getpid()))
        os.rename("forked.tmp", "forked")
        time.sleep(600)
    wait_for("forked")


def change_staged():
    path = os.path.join("staging", env("CLIENT_ID"), env("INGESTION"), env("FILE"))
    with open(path, "r+b") as file:
        file.write(b" ")


def worker(mode):
    for line in iter(sys.stdin.buffer.readline, b""):
        header = json.loads(line)
        note(**header)
        if mode == "dies" and header["batch_index"] == 1 and header["attempt"] == 1:
            sys.exit(1)
        if mode == "hasty" and header["attempt"] == 1:
            say("done", stored=header["records"])
        if mode == "hangs" and header["attempt"] == 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        data = sys.stdin.buffer.read(header["length"])
        if mode == "fails" and header["batch_index"] == 0 and header["attempt"] < 3:
            say("failed", retry=True, reason="not yet")
        elif mode == "refuses":
            say("failed", retry=False, reason="no such column")
        else:
            say("done", stored=count(data, header))


def main():
    mode, arguments = sys.argv[1], sys.argv[2:]
    if mode == "worker":
        return worker(arguments[0] if arguments else "")
    header = unit()
    note(**header, phase=env("PHASE"), file=env("FILE"))
    attempt, records, first = header["attempt"], header["records"], header["first_record"]
    if mode == "good":
        good()
    elif mode == "crash":
        if attempt <= int(arguments[0]):
            print("it went wrong", file=sys.stderr)
            sys.exit(1)
        good()
    elif mode == "later":
        if attempt <= int(arguments[0]):
            sys.exit(75)
        good()
    elif mode == "exit":
        print("column 3 is missing", file=sys.stderr)
        sys.exit(int(arguments[0]))
    elif mode == "signal":
        os.kill(os.getpid(), int(arguments[0]))
    elif mode == "unread":
        say("done", stored=records)
    elif mode == "flood":
        flood()
        good()
    elif mode == "lie":
        say("done", stored=len(sys.stdin.buffer.read()) * 0 + records + int(arguments[0]))
    elif mode == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    elif mode == "fork":
        fork_away()
        good()
    elif mode == "gate":
        data = sys.stdin.buffer.read()
        wait_for("gate")
        say("done", stored=count(data, header))
    elif mode == "reject":
        sys.stdin.buffer.read()
        for position in map(int, arguments):
            say("reject", record=first + position, reason="not for position %d" % position)
        say("done", stored=records - len(arguments), rejected=len(arguments))
    elif mode == "silent":
        sys.stdin.buffer.read()
    elif mode == "change":
        good()
        change_staged()
    elif mode == "repeat":
        # The first attempt dies after it has stored everything.
        sys.stdin.buffer.read()
        if attempt == 1:
            sys.exit(1)
        say("done", stored=0, duplicates=records)
    else:
        sys.exit(64)


main()
