"""A batch app for the tests: it stores its input and behaves as its arguments say."""

import json
import os
import resource
import signal
import sys
import time

from coredms import CHUNK, open_store


def env(name):
    return os.environ["MYSIMBDP_" + name]


def note(**what):
    """Notes for the test that a unit has begun."""
    what.update(pid=os.getpid(), mode=sys.argv[1])
    with open("runs.ndjson", "a") as runs:
        runs.write(json.dumps(what) + "\n")


def report(kind, **what):
    print(json.dumps({"type": kind, **what}), flush=True)


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def unit():
    return {name.lower(): int(env(name)) for name in UNIT}


UNIT = ["BATCH_INDEX", "BATCH_COUNT", "FIRST_RECORD", "RECORDS", "OFFSET", "LENGTH", "FILE_BYTES", "ATTEMPT"]


def count(data, header):
    """Counts the records of a unit, and exits if they are not as announced."""
    if len(data) != header["length"]:
        sys.exit(75)
    if header.get("phase") == "join" or header["records"] == 0:
        return header["records"]
    records = sum(1 for line in data.split(b"\n") if line.strip())
    if records != header["records"]:
        sys.exit(65)
    return records


def store(data, header):
    """Stores a unit, and returns how many records were stored now and how many were stored before."""
    records, coredms = header["records"], open_store()
    if env("IDS") == "platform":
        stored = coredms.records(header["ingestion"], numbers(header))
    elif env("IDS") == "object" and header["phase"] == "ingest":
        coredms.chunks(header["ingestion"], header["offset"], data)
        stored = records
    elif env("IDS") == "object":
        stored = records * coredms.commit(header["ingestion"], header["file_bytes"])
    else:
        stored = records
    return {"stored": stored, "duplicates": records - stored}


def numbers(header):
    return range(header["first_record"], header["first_record"] + header["records"])


def good():
    header = whole_header()
    data = sys.stdin.buffer.read()
    count(data, header)
    report("done", **store(data, header))


def whole_header():
    return dict(unit(), phase=env("PHASE"), ingestion=env("INGESTION"))


def cheat(how):
    """Reports that all records are stored, but does something else."""
    sys.stdin.buffer.read()
    header = whole_header()
    ingestion, own, coredms = header["ingestion"], list(numbers(header)), open_store()
    if how == "nothing":
        report("done", stored=len(own))
    elif how == "one-less":
        coredms.records(ingestion, own[:-1])
        report("done", stored=len(own))
    elif how == "one-more":
        coredms.records(ingestion, own)
        report("reject", record=own[-1], reason="stored all the same")
        report("done", stored=len(own) - 1, rejected=1)
    elif how == "elsewhere":
        coredms.records(ingestion, [number + len(own) for number in own])
        report("done", stored=len(own))


def list_keys(how):
    """Stores documents under keys of its own, each shared by two records."""
    sys.stdin.buffer.read()
    header = whole_header()
    keys = ["key %d" % (number // 2) for number in numbers(header)]
    open_store().keys(keys)
    listed = {
        "good": keys,
        "absent": keys[:-1] + ["no such key"],
        "one-less": keys[:-1],
        "one-more": keys + keys[:1],
        "none": [],
        "flood": keys * 100,
    }[how]
    for first in range(0, len(listed), 2500):
        report("keys", keys=listed[first:first + 2500])
    report("done", stored=len(keys))


def store_object(how):
    data = sys.stdin.buffer.read()
    header = whole_header()
    ingestion, coredms = header["ingestion"], open_store()
    if header["phase"] == "ingest" and how == "hole":
        coredms.chunks(ingestion, 0, data[:CHUNK])
        coredms.chunks(ingestion, 2 * CHUNK, data[2 * CHUNK:])
    elif header["phase"] == "ingest" and how == "short":
        coredms.chunks(ingestion, header["offset"], data[:-1])
    elif header["phase"] == "ingest":
        coredms.chunks(ingestion, header["offset"], data)
    if how == "length":
        coredms.commit(ingestion, header["file_bytes"] + 1)
    elif how != "uncommitted" and (header["phase"] == "join" or header["batch_count"] == 1):
        coredms.commit(ingestion, header["file_bytes"])
    report("done", stored=header["records"])


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


def fork_away_twice():
    """Starts a textbook daemon, in a session of its own and without an environment; it holds all pipes open."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open("daemons", "a") as file:
                file.write("%d\n" % os.getpid())
            # An ignored signal stays ignored after this.
            os.execve("/bin/sleep", ["sleep", "600"], {})
        os._exit(0)
    os.wait()


RLIMIT_LOCKS = 10


def lose_tag():
    """Changes the tag by which the platform finds the app's processes."""
    resource.setrlimit(RLIMIT_LOCKS, (7, 7))


def want_more_memory_than_allowed():
    resource.setrlimit(resource.RLIMIT_AS, (256 << 20, 256 << 20))
    blocks = []
    while True:
        blocks.append(bytearray(16 << 20))


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
            report("done", stored=header["records"])
        if mode == "hangs" and header["attempt"] == 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        data = sys.stdin.buffer.read(header["length"])
        if mode == "fails" and header["batch_index"] == 0 and header["attempt"] < 3:
            report("failed", retry=True, reason="not yet")
        elif mode == "refuses":
            report("failed", retry=False, reason="no such column")
        else:
            count(data, header)
            report("done", **store(data, header))


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
        report("done", stored=records)
    elif mode == "flood":
        flood()
        good()
    elif mode == "lie":
        report("done", stored=len(sys.stdin.buffer.read()) * 0 + records + int(arguments[0]))
    elif mode == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    elif mode == "fork":
        fork_away()
        good()
    elif mode == "daemon":
        # The parent ignores SIGTERM too.
        fork_away_twice()
        time.sleep(600)
    elif mode == "leave":
        fork_away_twice()
        good()
    elif mode == "escape":
        lose_tag()
        fork_away_twice()
        good()
    elif mode == "greedy":
        want_more_memory_than_allowed()
    elif mode == "gate":
        data = sys.stdin.buffer.read()
        open("waiting", "w").close()
        wait_for("gate")
        count(data, header)
        report("done", **store(data, whole_header()))
    elif mode == "gate-after":
        # Everything is stored before it waits.
        counts = store(sys.stdin.buffer.read(), whole_header())
        open("stored", "w").close()
        wait_for("gate")
        report("done", **counts)
    elif mode == "cheat":
        cheat(arguments[0])
    elif mode == "keys":
        list_keys(arguments[0])
    elif mode == "object":
        store_object(arguments[0])
    elif mode == "reject":
        sys.stdin.buffer.read()
        rejected = [first + position for position in map(int, arguments)]
        open_store().records(env("INGESTION"), [number for number in numbers(header) if number not in rejected])
        for position in map(int, arguments):
            report("reject", record=first + position, reason="not for position %d" % position)
        report("done", stored=records - len(arguments), rejected=len(arguments))
    elif mode == "reject-then-wait":
        # The first unit rejects its first record, each other one waits for the gate.
        if first > 0 and not os.path.exists("gate"):
            sys.exit(75)
        sys.stdin.buffer.read()
        own = [number for number in numbers(header) if number != 0]
        stored = open_store().records(env("INGESTION"), own)
        if len(own) < records:
            report("reject", record=0, reason="never the first")
        report("done", stored=stored, duplicates=len(own) - stored, rejected=records - len(own))
    elif mode == "silent":
        sys.stdin.buffer.read()
    elif mode == "change":
        good()
        change_staged()
    elif mode == "repeat":
        # The first attempt dies after it has stored everything.
        counts = store(sys.stdin.buffer.read(), whole_header())
        if attempt == 1:
            sys.exit(1)
        report("done", **counts)
    else:
        sys.exit(64)


main()
