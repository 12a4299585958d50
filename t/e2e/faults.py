"""Storage that fails below events and report: locked by others, read-only, full, damaged.

    CAREDESK_FAULTS_LONG  a foreign lock is held for so many seconds; what takes long is tried, too
"""
import collections
import contextlib
import ctypes
import faulthandler
import os
import pwd
import random
import shutil
import sqlite3
import threading
import time
import unittest

import harness
from harness import ROOT, at_once, caredesk, note, wait_for
from ledger import (Client, LINES, LedgerCase, database, database_file, event, everything, fresh,
                    lines, micros, send, time_text)

LONG_SECONDS = float(os.environ.get("CAREDESK_FAULTS_LONG", 0))
LOCK_SECONDS = LONG_SECONDS or 3  # a write is refused after 5
BASE_US = micros("2018-01-01T00:00:00")


class FaultCase(LedgerCase):
    @classmethod
    def setUpClass(cls):
        if LONG_SECONDS:
            faulthandler.cancel_dump_traceback_later()
        super().setUpClass()

    def setUp(self):
        self.type_id = self.make_type(100)
        self.event_id = self.make_event(self.type_id, 17)["id"]

    def assertReads(self):
        """Whatever is wrong with writing."""
        for target in (f"/events/{self.event_id}", "/events?limit=1",
                       f"/events/types/{self.type_id}", "/events/report?caregiver_ids=17"):
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
        for target in (f"/events/{self.event_id}", f"/events/types/{self.type_id}",
                       "/events?limit=1", "/events/report?caregiver_ids=17", "/healthz/events",
                       "/healthz/report"):
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
                answer = self.send("POST", "/events", event(self.type_id, 20))
                self.assertIn(answer.status, (201, 503))
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
            for target in ("/events?caregiver_id=7&limit=1000",
                           "/events?reimbursed=false&limit=1000",
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

    @unittest.skipUnless(LONG_SECONDS, "takes 15 s; t/crash.sh runs it")
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
