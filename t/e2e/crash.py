"""What events acknowledges outlives it: kill -9 under writers.

    CAREDESK_CRASH_ROUNDS  how often it is killed
    CAREDESK_CRASH_EVENTS  how many events there are before
"""
import collections
import contextlib
import faulthandler
import json
import os
import random
import signal
import subprocess
import threading
import time

import harness
from harness import Broken, at_once, note, wait_for
from ledger import (Client, LINES, LedgerCase, database, event, fresh, lines, micros, miscounted,
                    send, time_text)

ROUNDS = int(os.environ.get("CAREDESK_CRASH_ROUNDS", 25))
EVENTS = int(os.environ.get("CAREDESK_CRASH_EVENTS", 2000))
WRITERS = 8
IMPORT_LINES = 40
RETRIED = 3  # of what a writer did last
UNKNOWN = (502, 503, 504)  # whether it was done cannot be told from these
BASE_US = micros("2018-01-01T00:00:00")


class Writer:
    """A client with what it was told.  Each of its events begins at an instant of its own, by which
    it is known in the file."""

    def __init__(self, case, number):
        self.case, self.choose = case, random.Random(number)
        self.number, self.count = number, 0
        self.open, self.paid, self.deleted = {}, {}, {}  # id: start_time, as acknowledged
        self.told = collections.deque(maxlen=RETRIED)  # (do, answer) of the last POSTs
        self.unknown = None  # what the kill has interrupted: a function that tries it again
        self.client = Client(case.service)

    def start_time(self):
        self.count += 1
        return BASE_US + self.number * 10**12 + self.count * 977

    def key(self):
        return f"{self.number}-{self.count}-{self.choose.randrange(10**9)}"

    def event(self, start):
        return event(self.case.type_id, self.choose.randrange(1, 20), time_text(start))

    def run(self, stop):
        """Until an answer fails to come."""
        while not stop.is_set():
            self.count += 1
            kind = self.choose.random()
            if kind < 0.1:
                todo = self.load()
            elif kind < 0.3 and self.open:
                todo = self.reimburse()
            elif kind < 0.45 and self.open:
                todo = self.delete()
            else:
                todo = self.create()
            if not self.attempt(todo):
                self.unknown = todo
                return

    def attempt(self, todo):
        """False if it is not known whether it was done."""
        try:
            answer = todo()
        except (Broken, OSError):
            return False
        return answer.status not in UNKNOWN

    def post(self, target, body, kind, key, took):
        """A POST that may be tried again; TOOK gets the first answer that is one."""
        def do():
            answer = send(self.client, "POST", target, body=body, kind=kind, Idempotency_Key=key)
            if answer.status not in UNKNOWN:
                if answer.status not in (200, 201):
                    self.case.problems.append(f"POST {target}: {answer}")
                else:
                    took(answer)
                    self.told.append((ask, answer))
            return answer

        def ask():
            return send(self.client, "POST", target, body=body, kind=kind, Idempotency_Key=key)

        return do

    def create(self):
        start = self.start_time()

        def took(answer):
            self.open[answer.json["id"]] = start

        return self.post("/events", json.dumps(self.event(start)).encode(), "application/json",
                         self.key(), took)

    def load(self):
        starts = [self.start_time() for _ in range(IMPORT_LINES)]

        def took(answer):
            if answer.json != {"created": IMPORT_LINES}:
                self.case.problems.append(f"import: {answer}")
            self.case.imported(starts)

        return self.post("/events", lines(map(self.event, starts)), LINES, self.key(), took)

    def reimburse(self):
        number = self.choose.choice(list(self.open))
        start = self.open.pop(number)

        def took(answer):
            if not answer.json["reimbursed"]:
                self.case.problems.append(f"reimburse: {answer}")
            self.paid[number] = start

        return self.post(f"/events/{number}/reimburse", None, None, self.key(), took)

    def delete(self):
        number = self.choose.choice(list(self.open))
        start = self.open.pop(number)

        def do():
            answer = send(self.client, "DELETE", f"/events/{number}")
            # A 404 is its own deed: either tried again here, or by nginx, which does so with a
            # DELETE whose program dies.
            if answer.status in (204, 404):
                self.deleted[number] = start
            elif answer.status not in UNKNOWN:
                self.case.problems.append(f"DELETE {number}: {answer}")
            return answer

        return do

    def finish(self):
        """After the crash: what was under way is tried again, and what was told is asked again."""
        if self.unknown is not None:
            if not self.attempt(self.unknown):
                self.case.problems.append("a retry is not answered")
            self.unknown = None
        for ask, first in self.told:
            again = ask()
            for what in ("status", "body"):
                if getattr(again, what) != getattr(first, what):
                    self.case.problems.append(f"retry: {again}, at first: {first}")
            for name in ("Location", "ETag"):
                if again.field(name) != first.field(name):
                    self.case.problems.append(f"retry: {again}, at first: {first}")


class Killed(LedgerCase):
    """Rounds of: eight writers, kill -9, all retries, and a look at the file."""

    @classmethod
    def setUpClass(cls):
        faulthandler.cancel_dump_traceback_later()  # the long run takes as long as it takes
        super().setUpClass()
        cls.type_id = send(cls.service, "POST", "/events/types", {
            "name": fresh(), "amount_in_cents": 101}).json["id"]
        cls.load_base()
        cls.problems, cls.bulk, cls.lock = [], set(), threading.Lock()

    @classmethod
    def load_base(cls):
        """Events that nobody touches."""
        for at in range(0, EVENTS, 100000):
            count = min(100000, EVENTS - at)
            with cls.service.connect(600) as connection:
                made = send(connection, "POST", "/events", kind=LINES, body=b"".join(
                    b'{"type_id":%d,"caregiver_id":%d,"start_time":"%d-%02d-11T00:00:00Z"}\n' % (
                        cls.type_id, i % 1000 + 1, 2010 + i % 5, i // 5 % 12 + 1)
                    for i in range(at, at + count)))
            assert made.status == 201, made

    def imported(self, starts):
        with self.lock:
            self.bulk.update(starts)

    def round(self, writers):
        """How long until it has answered again."""
        stop = threading.Event()
        threads = [threading.Thread(target=writer.run, args=(stop,), daemon=True)
                   for writer in writers]
        for thread in threads:
            thread.start()
        time.sleep(random.uniform(0.15, 0.35))
        os.kill(self.service.pid("events"), signal.SIGKILL)
        began = time.monotonic()
        wait_for(self.answers, "events answers again")
        took = time.monotonic() - began
        time.sleep(0.02)
        stop.set()
        for thread in threads:
            thread.join(harness.LONG)
        self.assertFalse([thread for thread in threads if thread.is_alive()])
        at_once(len(writers), lambda i: writers[i].finish())
        return took

    def answers(self):
        with contextlib.suppress(Broken, OSError):
            return self.service.ask(f"/events/types/{self.type_id}").status == 200 and \
                self.service.ask("/healthz/events").status == 200
        return False

    def assertKept(self, writers, since, when):
        """All that was told since the id SINCE, and nothing else."""
        self.assertEqual(self.problems, [], when)
        with database(self.data) as connection:
            connection.execute("BEGIN")
            found = connection.execute("SELECT id, start_time, reimbursed_at IS NOT NULL "
                                       "FROM events WHERE id > ?", (since,)).fetchall()
            if EVENTS < 100000 or random.random() < 0.05:
                self.assertEqual(miscounted(connection), [])
        starts = [start for _, start, _ in found]
        self.assertEqual(len(set(starts)), len(starts), f"{when}: one is there twice")
        expected = {(start, paid) for writer in writers for paid, those in
                    ((0, writer.open), (1, writer.paid)) for start in those.values()}
        expected |= {(start, 0) for start in self.bulk}
        missing = expected ^ {(start, paid) for _, start, paid in found}
        self.assertEqual(sorted(missing)[:10], [], f"{when}: {len(missing)} are lost or too many")

    def test_no_acknowledged_change_is_lost_or_made_twice(self):
        writers = [Writer(self, number) for number in range(WRITERS)]
        since = self.rows("SELECT max(id) FROM events")[0][0]
        took = []
        for number in range(ROUNDS):
            took.append(self.round(writers))
            self.assertKept(writers, since, f"round {number}")
        with database(self.data) as connection:
            self.assertEqual(miscounted(connection), [])
            self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        took.sort()
        note("ms until it answered again: " + ", ".join(
            f"{name} {1000 * took[min(len(took) - 1, int(share * len(took)))]:.0f}"
            for name, share in
            (("median", 0.5), ("90 %", 0.9), ("99 %", 0.99), ("longest", 1))))
        note(f"{ROUNDS} rounds over {EVENTS} events; told: " + ", ".join(
            f"{sum(len(getattr(writer, name)) for writer in writers)} {name}"
            for name in ("open", "paid", "deleted")) + f", {len(self.bulk)} imported")
        Killed.writers = writers

    def test_each_change_has_one_row_in_the_audit(self):
        for what, ids in (("event created", [number for writer in self.writers for those in
                                             (writer.open, writer.paid, writer.deleted)
                                             for number in those]),
                          ("event reimbursed", [number for writer in self.writers
                                                for number in writer.paid]),
                          ("event deleted", [number for writer in self.writers
                                             for number in writer.deleted])):
            found = [number for number, in self.rows(
                "SELECT subject FROM audit WHERE what = ?", what)]
            self.assertEqual(len(found), len(set(found)), what)
            self.assertLessEqual(set(ids), set(found), what)

    def test_recount_finds_the_sums_right(self):
        done = subprocess.run([harness.program("caredesk"), "recount", "--data", self.data],
                              capture_output=True, text=True, timeout=600)
        self.assertEqual(done.returncode, 0, done)

    def test_reads_are_answered_while_the_program_dies(self):
        """Again and again; never with anything but what is there, or that it is away."""
        number = self.make_event(self.type_id)["id"]
        expected = self.get(f"/events/{number}").body
        stop, seen, wrong = threading.Event(), collections.Counter(), []

        def read():
            client = Client(self.service)
            while not stop.is_set():
                try:
                    answer = client.ask(f"/events/{number}")
                except (Broken, OSError):
                    seen["broken"] += 1
                    continue
                seen[answer.status] += 1
                if answer.status == 200 and answer.body != expected:
                    wrong.append(answer)

        threads = [threading.Thread(target=read, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            self.kill("events")
            wait_for(self.answers, "events answers again")
            time.sleep(0.12)  # one that dies faster is given up for a while
        stop.set()
        for thread in threads:
            thread.join(harness.LONG)
        self.assertEqual(wrong, [])
        self.assertLessEqual(set(seen), {200, 502}, seen)

    def test_an_import_that_is_killed_leaves_nothing(self):
        before = self.count()
        body = lines(60000 * [event(self.type_id, 4242)])
        for pause in (0.02, 0.15, 0.3):
            with self.service.connect() as connection:
                connection.send(f"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {LINES}"
                                f"\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                time.sleep(pause)
                self.kill("events")
                answer = connection.receive("POST")
            wait_for(self.answers, "events answers again")
            count = self.count() - before
            self.assertIn((answer.status, count), ((201, 60000), (502, 0), (502, 60000)))
            before += count
        self.assertEqual(sorted(name for name in os.listdir(os.path.join(self.data, "db"))
                                if name.startswith("events")),
                         ["events.db", "events.db-shm", "events.db-wal", "events.db.lock"])
        with database(self.data) as connection:
            self.assertEqual(miscounted(connection), [])


if __name__ == "__main__":
    harness.main()
