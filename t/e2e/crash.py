"""What events acknowledges outlives it: kill -9 under writers, and storage that fails.

    CAREDESK_CRASH_ROUNDS  how often it is killed
    CAREDESK_CRASH_EVENTS  how many events there are before
    CAREDESK_LOCK_SECONDS  how long a foreign lock is held
"""
import collections
import contextlib
import ctypes
import faulthandler
import json
import os
import pwd
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
import unittest

import harness
from harness import Broken, ROOT, Service, at_once, caredesk, note, wait_for
from ledger import (Client, LINES, LedgerCase, database, database_file, event, everything, fresh,
                    lines, micros, miscounted, send, time_text)

ROUNDS = int(os.environ.get("CAREDESK_CRASH_ROUNDS", 25))
EVENTS = int(os.environ.get("CAREDESK_CRASH_EVENTS", 2000))
LOCK_SECONDS = float(os.environ.get("CAREDESK_LOCK_SECONDS", 6))
WRITERS = 8
IMPORT_LINES = 40
RETRIED = 3  # of what a writer did last
UNKNOWN = (502, 503, 504)  # whether it was done cannot be told from these
BASE_US = micros("2018-01-01T00:00:00")

Paid = collections.namedtuple("Paid", "target key answer")


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
            f"{name} {1000 * took[min(len(took) - 1, int(share * len(took)))]:.0f}" for name, share in
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
        self.assertEqual(sorted(os.listdir(os.path.join(self.data, "db"))),
                         ["events.db", "events.db-shm", "events.db-wal", "events.db.lock"])
        with database(self.data) as connection:
            self.assertEqual(miscounted(connection), [])


class FaultCase(LedgerCase):
    def setUp(self):
        self.type_id = self.make_type(100)
        self.event_id = self.make_event(self.type_id, 17)["id"]

    def assertReads(self):
        """Whatever is wrong with writing."""
        for target in (f"/events/{self.event_id}", "/events?limit=1", f"/events/types/{self.type_id}",
                       "/events/report?caregiver_ids=17"):
            self.assertEqual(self.get(target).status, 200, target)

    def writes(self):
        """A change of each kind; what they give."""
        return at_once(5, lambda i: [
            lambda: self.send("POST", "/events", event(self.type_id, 18)),
            lambda: self.send("POST", "/events", kind=LINES, body=lines([event(self.type_id, 18)])),
            lambda: self.send("POST", "/events/types", {"name": fresh(), "amount_in_cents": 1}),
            lambda: self.reimburse(self.event_id),
            lambda: self.send("DELETE", f"/events/{self.event_id}")][i]())

    def assertRecovers(self):
        """By itself, once the fault has gone."""
        began = time.monotonic()
        wait_for(lambda: self.send("POST", "/events", event(self.type_id, 19)).status == 201,
                 "writes are taken again")
        note(f"takes writes again after {time.monotonic() - began:.2f} s")
        wait_for(lambda: self.get("/healthz").status == 200, "all is well again")
        self.assertEqual(self.reimburse(self.make_event(self.type_id)["id"]).status, 200)
        self.assertCounted()


class Locked(FaultCase):
    @contextlib.contextmanager
    def lock(self, kind):
        with database(self.data, "rw") as connection:
            connection.execute(f"BEGIN {kind}")
            yield
            connection.execute("ROLLBACK")

    def hold(self, kind, seconds):
        with self.lock(kind):
            until = time.monotonic() + seconds
            longest = []
            while time.monotonic() < until:
                found = []
                thread = threading.Thread(target=lambda: found.append(self.writes()), daemon=True)
                thread.start()
                while thread.is_alive():
                    self.assertReads()
                    time.sleep(0.05)
                self.assertTrue(found, "a write was not answered at all")
                for answer in found[0]:
                    self.assertProblem(answer, 503, "unavailable")
                longest.append(max(answer.seconds for answer in found[0]))
            self.assertReads()
            self.assertProblem(self.get("/healthz/events"), 503)
        note(f"refuses writes within {max(longest):.1f} s")

    def test_a_foreign_lock_refuses_writes_and_nobody_reads_the_worse_for_it(self):
        self.hold("IMMEDIATE", LOCK_SECONDS)
        self.assertRecovers()

    def test_an_exclusive_lock_that_is_short_is_waited_for(self):
        with self.lock("EXCLUSIVE"):
            found = []
            thread = threading.Thread(target=lambda: found.append(
                self.send("POST", "/events", event(self.type_id))), daemon=True)
            thread.start()
            time.sleep(0.5)
            self.assertReads()
            self.assertEqual(found, [])
        thread.join(harness.LONG)
        self.assertEqual(found[0].status, 201)
        self.assertRecovers()


class ReadOnly(FaultCase):
    """The folder, and its files, are not to be written to."""

    def tearDown(self):
        self.allow()

    def folder(self):
        return os.path.join(self.data, "db")

    def allow(self):
        os.chmod(self.folder(), 0o700)
        for name in os.listdir(self.folder()):
            os.chmod(os.path.join(self.folder(), name), 0o600)

    def forbid(self, files):
        os.chmod(self.folder(), 0o500)
        for name in os.listdir(self.folder()) if files else ():
            os.chmod(os.path.join(self.folder(), name), 0o400)

    def assertHonest(self):
        """What is answered is right; the rest is 503."""
        for target in (f"/events/{self.event_id}", f"/events/types/{self.type_id}", "/events?limit=1",
                       "/events/report?caregiver_ids=17", "/healthz/events", "/healthz/report"):
            answer = self.get(target)
            if answer.status != 200:
                self.assertProblem(answer, 503, "unavailable")
            elif target == f"/events/{self.event_id}":
                self.assertEqual(answer.json["id"], self.event_id)
        made = []
        for answer in (self.send("POST", "/events", event(self.type_id, 18)),
                       self.send("POST", "/events", kind=LINES,
                                 body=lines([event(self.type_id, 18)]))):
            if answer.status == 503:
                self.assertProblem(answer, 503, "unavailable")
            else:
                self.assertEqual(answer.status, 201, answer)
                made.append(answer)
        return made

    def test_a_folder_that_becomes_read_only(self):
        for files in (False, True):
            self.forbid(files)
            self.assertHonest()
            self.assertReads()
            self.allow()
            wait_for(lambda: self.send("POST", "/events", event(self.type_id)).status == 201,
                     "writes are taken again")
        self.assertRecovers()

    def test_programs_that_start_on_a_read_only_folder(self):
        for files in (False, True):
            with self.subTest(files=files):
                self.forbid(files)
                self.kill("events")
                self.kill("report")
                made = self.assertHonest()
                if files and (not ROOT or pwd.getpwuid(os.stat(self.folder()).st_uid).pw_uid != 0):
                    self.assertEqual(made, [], "written to files that are read-only")
                self.allow()
                wait_for(lambda: self.send("POST", "/events", event(self.type_id)).status == 201,
                         "writes are taken again")
        self.assertRecovers()

    def test_a_restart_on_a_read_only_folder(self):
        self.forbid(True)
        self.service.stop()
        type(self).begin(ready=False)
        wait_for(lambda: self.service.output or self.service.process.poll() is not None,
                 "it is ready, or has ended")
        if self.service.process.poll() is None:
            wait_for(lambda: self.get("/healthz/events").status != 502, "events is there")
            self.assertHonest()
        else:  # with words
            self.assertIn("db", " ".join(self.service.lines))
        self.allow()
        if self.service.process.poll() is not None:
            type(self).begin()
        self.assertRecovers()


_libc = ctypes.CDLL(None, use_errno=True)


@unittest.skipUnless(ROOT, "only root mounts a file system to fill")
class Full(FaultCase):
    """db/ is a file system of its own, of a few MiB."""

    SIZE = 24 * 1024 * 1024
    start = False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.begin()
        cls.service.stop()
        cls.db = os.path.join(cls.data, "db")
        was = os.stat(cls.db)
        for name in os.listdir(cls.db):
            os.unlink(os.path.join(cls.db, name))
        options = f"size={cls.SIZE},mode=700,uid={was.st_uid},gid={was.st_gid}".encode()
        if _libc.mount(b"tmpfs", cls.db.encode(), b"tmpfs", 0, options) != 0:
            raise unittest.SkipTest(f"mount: {os.strerror(ctypes.get_errno())}")
        cls.addClassCleanup(lambda: _libc.umount2(cls.db.encode(), 2))  # MNT_DETACH
        cls.begin()

    @classmethod
    def tearDownClass(cls):
        cls.service.stop()

    def fill(self):
        """To the last byte."""
        name = os.path.join(self.db, "filler")
        with open(name, "ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(size * b"x")
        return name

    def live(self):
        """An event that is there."""
        return self.get("/events?limit=1").json[0]["id"]

    def test_a_full_disk_refuses_writes_while_reads_go_on(self):
        for _ in range(2):
            name = self.fill()
            try:
                taken = 0  # what still goes into the room that the log has
                while self.send("POST", "/events", event(self.type_id, 20)).status == 201:
                    taken += 1
                    self.assertLess(taken, 20000)
                before = self.count()
                for _ in range(3):  # a small change may still fit, a larger one does not
                    answers = self.writes()
                    self.assertIn(503, {answer.status for answer in answers})
                    for answer in answers:
                        self.assertIn(answer.status, (200, 201, 204, 404, 409, 503), answer)
                        if answer.status == 503:
                            self.assertProblem(answer, 503, "unavailable")
                    before += sum(answer.status == 201 and b"created_at" in answer.body
                                  for answer in answers)
                    self.event_id = self.live()
                    self.assertReads()
                answer = self.send("POST", "/events", kind=LINES,
                                   body=lines(20000 * [event(self.type_id)]))
                self.assertProblem(answer, 503, "unavailable")
                self.assertLessEqual(self.count(), before)
                self.kill("events")  # nor does it help to start anew
                answer = self.get(f"/events/{self.event_id}")
                self.assertIn(answer.status, (200, 503))
                self.assertIn(self.send("POST", "/events", event(self.type_id, 20)).status, (201, 503))
            finally:
                os.unlink(name)
            self.assertRecovers()
            note(f"{taken} writes fit in what was left")
            self.event_id = self.make_event(self.type_id, 17)["id"]

    def test_an_import_too_large_for_the_disk_is_refused_whole(self):
        before = self.count()
        body = lines(400000 * [event(self.type_id, 21)])
        answer = send(Client(self.service, 120), "POST", "/events", kind=LINES, body=body)
        self.assertProblem(answer, 503, "unavailable")
        self.assertEqual(self.count(), before)
        self.assertRecovers()


class Damage(LedgerCase):
    """The file was changed by others while nothing ran."""

    def setUp(self):
        shutil.rmtree(self.data, ignore_errors=True)
        type(self).begin()
        self.addCleanup(lambda: self.service.close())  # the last one
        self.type_id = self.make_type(100)
        body = lines(event(self.type_id, i % 50 + 1, time_text(BASE_US + i * 10**9))
                     for i in range(20000))
        self.made("/events", None, kind=LINES, body=body)
        self.truth = {one["id"]: one for one in everything(self.service, "/events?limit=1000")}
        self.report = self.get("/events/report?format=csv").body
        self.service.stop()
        self.file = database_file(self.data)
        # All into the one file, as a backup has it.
        connection = sqlite3.connect(self.file, isolation_level=None)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    @classmethod
    def tearDownClass(cls):
        pass

    start = False

    def keep_owner(self):
        was = os.stat(os.path.dirname(self.file))
        for name in os.listdir(os.path.dirname(self.file)):
            os.chown(os.path.join(os.path.dirname(self.file), name), was.st_uid, was.st_gid)

    def refused(self, *words):
        """The start, with clear words, and nothing is changed."""
        self.keep_owner()
        with open(self.file, "rb") as file:
            before = file.read()
        began = time.monotonic()
        type(self).begin(ready=False)
        status = self.service.wait()
        self.assertNotEqual(status, 0)
        said = "\n".join(self.service.lines)
        self.assertNotIn("Sanitizer", said)
        for word in words:
            self.assertIn(word, said)
        self.assertEqual(self.service.output, [])
        with open(self.file, "rb") as file:
            self.assertEqual(before, file.read(), "the file was changed")
        note(f"refused after {time.monotonic() - began:.1f} s")

    def pages_of(self, table):
        """The leaves that hold its rows, by number from 1 (file format, section 1.6)."""
        connection = sqlite3.connect(self.file)
        root, = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)
                                   ).fetchone()
        size, = connection.execute("PRAGMA page_size").fetchone()
        connection.close()
        with open(self.file, "rb") as file:
            data = file.read()
        number = lambda at, n: int.from_bytes(data[at:at + n], "big")
        found, todo = [], [root]
        while todo:
            page = todo.pop()
            at = (page - 1) * size
            if data[at] == 13:
                found.append(page)
            else:
                self.assertEqual(data[at], 5)
                cells = [at + number(at + 12 + 2 * i, 2) for i in range(number(at + 3, 2))]
                todo += [number(at + 8, 4), *(number(cell, 4) for cell in cells)]
        return size, found

    def overwrite(self, size, pages):
        with open(self.file, "r+b") as file:
            for page in pages:
                file.seek((page - 1) * size)
                file.write(random.Random(page).randbytes(size))

    def assertHonest(self, choose):
        """Each answer is the truth or an error; none is nothing, and nothing crashes."""
        seen = collections.Counter()
        pid = self.service.pid("events")
        with Client(self.service) as client:
            for number in choose.sample(sorted(self.truth), 300):
                answer = client.ask(f"/events/{number}")
                seen[answer.status] += 1
                if answer.status == 200:
                    self.assertEqual(answer.json, self.truth[number])
                else:
                    self.assertIn(answer.status, (500, 503), answer)
                    self.assertProblem(answer, answer.status)
            for target in ("/events?caregiver_id=7&limit=1000", "/events?reimbursed=false&limit=1000",
                           "/events?min_time=2018-02-01T00:00:00Z&limit=1000"):
                answer = client.ask(target)
                seen[f"list {answer.status}"] += 1
                for one in answer.json if answer.status == 200 else ():
                    self.assertEqual(one, self.truth[one["id"]])
            answer = client.ask("/events/report?format=csv")
            seen[f"report {answer.status}"] += 1
            if answer.status == 200:
                self.assertEqual(answer.body, self.report)
            for number in choose.sample(sorted(self.truth), 50):
                answer = send(client, "POST", f"/events/{number}/reimburse")
                seen[f"reimburse {answer.status}"] += 1
                self.assertIn(answer.status, (200, 500, 503), answer)
        self.assertEqual(self.service.pid("events"), pid, "it crashed")
        note(f"answers: {dict(seen)}")
        return seen

    def test_overwritten_rows_give_errors_and_no_inventions(self):
        size, leaves = self.pages_of("events")
        choose = random.Random(9)
        self.overwrite(size, choose.sample(leaves, len(leaves) // 4))
        self.keep_owner()
        type(self).begin()
        seen = self.assertHonest(choose)
        self.assertGreater(seen[500] + seen[503], 0)
        self.assertGreater(seen[200], 0)
        self.assertTrue(self.service.events("storage"), "the log does not say why")
        self.service.stop()

    def test_damage_all_over_gives_errors_or_a_refused_start(self):
        size, _ = self.pages_of("events")
        choose = random.Random(11)
        pages = os.path.getsize(self.file) // size
        self.overwrite(size, choose.sample(range(3, pages + 1), pages // 4))
        self.keep_owner()
        began = time.monotonic()
        type(self).begin(ready=False)
        wait_for(lambda: self.service.output or self.service.process.poll() is not None,
                 "it is ready, or has ended", 2 * harness.LONG)
        if self.service.process.poll() is None:
            self.assertHonest(choose)
            self.service.stop()
            return
        said = "\n".join(self.service.lines)
        self.assertIn("malformed", said)
        self.assertIn("events", self.service.lines[-1])
        note(f"refused after {time.monotonic() - began:.1f} s: {self.service.lines[-1]}")

    def test_a_file_that_was_cut_gives_errors_and_no_inventions(self):
        with open(self.file, "r+b") as file:
            file.truncate(os.path.getsize(self.file) // 4096 // 2 * 4096)
        self.keep_owner()
        type(self).begin(ready=False)
        wait_for(lambda: self.service.output or self.service.process.poll() is not None,
                 "it is ready, or has ended")
        if self.service.process.poll() is not None:
            self.assertIn('"level":"error"', "\n".join(self.service.lines))
            return
        pid = self.service.pid("events")
        seen = collections.Counter()
        for number in random.Random(10).sample(sorted(self.truth), 100):
            answer = self.get(f"/events/{number}")
            seen[answer.status] += 1
            if answer.status == 200:
                self.assertEqual(answer.json, self.truth[number])
            else:
                self.assertIn(answer.status, (500, 503), answer)
        self.assertEqual(self.service.pid("events"), pid, "it crashed")
        note(f"answers: {dict(seen)}")
        self.service.stop()

    def test_a_database_that_is_newer_is_refused_and_left_alone(self):
        connection = sqlite3.connect(self.file, isolation_level=None)
        connection.execute("PRAGMA user_version = 99")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        self.refused("99", "too old")
        self.keep_owner()
        done = caredesk("migrate", "--data", self.data)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("99", done.stdout + done.stderr)

    def test_files_of_another_kind_are_refused_and_left_alone(self):
        def foreign():
            connection = sqlite3.connect(self.file, isolation_level=None)
            connection.execute("CREATE TABLE cats (name TEXT)")
            connection.execute("PRAGMA application_id = 7")
            connection.close()

        for name, make in (("text", lambda: self.write(b"hello, this is no database\n" * 1000)),
                           ("zeros", lambda: self.write(8192 * b"\0")),
                           ("another database", foreign)):
            with self.subTest(name):
                for other in ("", "-wal", "-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.file + other)
                make()
                self.refused("database" if name == "text" else "events")

    def write(self, data):
        with open(self.file, "wb") as file:
            file.write(data)

    def test_a_folder_or_a_link_in_its_place_is_not_followed(self):
        for other in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.file + other)
        elsewhere = os.path.join(os.path.dirname(self.data), "elsewhere")
        os.symlink(elsewhere, self.file)
        type(self).begin(ready=False)
        wait_for(lambda: self.service.output or self.service.process.poll() is not None,
                 "it is ready, or has ended")
        if self.service.process.poll() is None:
            self.assertProblem(self.get("/healthz/events"), 503)
            self.service.stop()
        self.assertFalse(os.path.exists(elsewhere))


if __name__ == "__main__":
    harness.main()
