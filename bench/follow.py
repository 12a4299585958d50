"""How far stats is with the log, as seen from outside: by the position in its database.

    follow.py lag DATA    until it is ended: while the log grows, prints how old the first line that
                          is not taken in is, in milliseconds, and how many bytes wait
    follow.py wait DATA   until all of the log is taken in; then prints the time in nanoseconds

DATA is the data folder of a program that runs, or will within a minute, and of one log.
"""
import bisect
import os
import sqlite3
import sys
import time

LAG_EVERY_S = 0.02
WAIT_EVERY_S = 0.002
PATIENCE_S = 60  # without any progress


def database(data):
    """Once the program has opened it: before that, this process would be in its way."""
    name = os.path.join(data, "db/stats.db")
    until = time.monotonic() + PATIENCE_S
    while not os.path.exists(name + "-shm"):
        if time.monotonic() > until:
            sys.exit("follow.py: stats does not start")
        time.sleep(WAIT_EVERY_S)
    return sqlite3.connect(f"file:{name}?mode=ro", uri=True, isolation_level=None)


def position(connection):
    row = connection.execute("SELECT position FROM logs ORDER BY id DESC LIMIT 1").fetchone()
    return row[0] if row else 0


def written_at(times, sizes, size):
    """When the log had that many bytes; between two looks, it grew evenly."""
    i = bisect.bisect_left(sizes, size)
    if i == 0:
        return times[0]
    part = (size - sizes[i - 1]) / (sizes[i] - sizes[i - 1])
    return times[i - 1] + part * (times[i] - times[i - 1])


def lag(data):
    log = os.path.join(data, "log/access.log")
    connection = database(data)
    times, sizes = [], []
    while True:
        # The position first: then it is never ahead of the size.
        taken, now, size = position(connection), time.monotonic(), os.stat(log).st_size
        if sizes and size == sizes[-1]:
            times[-1] = now
        else:
            times.append(now)
            sizes.append(size)
            if len(sizes) > 1:
                print(f"{(now - written_at(times, sizes, taken)) * 1000:.1f} {size - taken}",
                      flush=True)
        time.sleep(LAG_EVERY_S)


def wait(data):
    size = os.stat(os.path.join(data, "log/access.log")).st_size
    connection = database(data)
    before, until = -1, time.monotonic() + PATIENCE_S
    while (taken := position(connection)) < size:
        if taken > before:
            before, until = taken, time.monotonic() + PATIENCE_S
        if time.monotonic() > until:
            sys.exit(f"follow.py: stats has stopped at {taken} of {size} bytes")
        time.sleep(WAIT_EVERY_S)
    print(time.time_ns())


if __name__ == "__main__":
    {"lag": lag, "wait": wait}[sys.argv[1]](sys.argv[2])
