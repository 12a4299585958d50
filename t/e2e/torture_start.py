"""The n-th call fails while a program or a command begins, or while it brings a database to a newer form:
torture.py has what happens in between.

    CAREDESK_TORTURE        all: every n; else a few of each
    CAREDESK_TORTURE_SEED   which few
    CAREDESK_TORTURE_ONLY   programs and commands with this word
    CAREDESK_TORTURE_CORES  as on a machine with so many
"""
import collections
import contextlib
import faulthandler
import glob
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import unittest

import harness
from auth import AUTH
from data import DataCase, database, made_folder
from harness import PROGRAMS, caredesk, note, program, wait_for
from ledger import miscounted
from serve import Peer, status
from torture import (ABORT, ALL, CHANGES, FEW, KILLED, LIBRARY, MEMORY, NEVER, ONLY, QUICK_S, SEED,
                     Fault)

ONCE, ALWAYS = {}, {"always": True}
AT_LEAST = 10  # calls of a start, or there was nothing to fail
APART_S = 0.01  # between two looks
# A word of the program's own, or of who loads it.
LAST_WORDS = r'"event":"start_failed"|"level":"error"|cannot allocate memory for thread-local data'
# As ABORT, before the program has said a word: while it becomes its user, and confines itself.
AT_THE_START = {
    "libc.so": "2.36 does not look whether it had memory for the list of its sources of users",
    "libseccomp.so": "2.5.4 crashes, frees twice, or comes to no end and is ended by SIGPROF",
}
SETS = ("accounts", "audios", "events", "stats")  # the programs that write a database each


class Program:
    """One that a fault may meet from its first call on, on a socket that nobody else has."""

    def __init__(self, case, name):
        self.name, self.data = name, case.data
        path = os.path.join(self.data, f"run/{name}.sock")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(64)
            self.process = subprocess.Popen(
                [program(name), "--data", self.data], stdin=listener, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, text=True, errors="backslashreplace",
                env={**os.environ, **case.fault.environment()})

    def ask(self):
        """The status of its answer; None if there is none."""
        try:
            with Peer(self, self.name, QUICK_S) as peer:
                out = peer.ask(f"/healthz/{self.name}")
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise AssertionError(f"{self.name} does not answer") from None
            return None
        return status(out) if out else None

    def is_well(self):
        return self.ask() == 200 or self.process.poll() is not None

    def end(self):
        """Its exit status, and what it said."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        return self.await_end()

    def kill(self):
        """An orderly end takes as long as a hundred starts.  What it said."""
        self.process.kill()
        return self.process.communicate()[1]

    def await_end(self):
        try:
            _, said = self.process.communicate(timeout=harness.LONG)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} does not end") from None
        return self.process.returncode, said


@unittest.skipUnless(os.path.exists(LIBRARY), "there is no fault.so: make fault.so")
@unittest.skipIf(harness.LONG > 20, "a sanitizer has its own malloc()")
class StartCase(DataCase):
    @classmethod
    def setUpClass(cls):
        if ALL:
            faulthandler.cancel_dump_traceback_later()
        super().setUpClass()
        cls.data = made_folder(cls.addClassCleanup)
        cls.fault = Fault(os.path.dirname(cls.data))

    def setUp(self):
        self.fault.set_apart("")

    def tearDown(self):
        self.fault.disarm()

    def every(self, what, total, once, modes=(ONCE,), step=1):
        """ONCE(n, **mode) for every N up to TOTAL, or a few; what came of them is noted."""
        self.assertGreaterEqual(total, AT_LEAST, what)
        choose, seen, wrong = random.Random(f"{SEED}{what}"), collections.Counter(), []
        for mode in modes:
            numbers = range(1, total + 1, step)
            for n in numbers if ALL else sorted(choose.sample(numbers, FEW)):
                try:
                    seen[once(n, **mode)] += 1
                except AssertionError as error:
                    wrong.append(f"{what}: n={n} {mode} at {self.fault.where}: {str(error)[:600]}")
        note(f"{what}: {total} calls: {dict(seen)}")
        if ALL:
            print(f"{what}: {total} calls: {dict(seen)}, {len(wrong)} wrong", file=sys.stderr)
        return wrong

    def assertEnded(self, code, said):
        """With words; or by a library that has none but its own."""
        library = self.fault.where.partition("+")[0].partition(".so")[0] + ".so"
        if "{" not in said and library in AT_THE_START and code < 0:
            return f"ended by {library}"
        if code >= 0:
            self.assertNotEqual(code, 0, said)
            self.assertRegex(said, LAST_WORDS, "it ended without a word")
            return "refused"
        if -code == signal.SIGTRAP:  # only GLib ends so
            library = "libglib-2.0.so"
        elif re.search(r"Malloc: Assertion|^Unexpected error\.$", said, re.M):
            # Another thread may have failed last; without memory for them, an assertion has no other words.
            library = "libfcgi.so"
        self.assertIn(library, ABORT, f"signal {-code} of {self.fault.where}: {said}")
        return f"ended by {library}"

    def assertWhole(self):
        for name in SETS:
            with database(self.path(f"db/{name}.db")) as db:
                self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)], name)
        done = caredesk("fsck", "--data", self.data)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Programs(StartCase):
    """The allocations of each program from its first instruction to its first answer."""

    def count(self, name):
        self.fault.arm(name, MEMORY, NEVER)
        one = Program(self, name)
        answer, total = one.ask(), self.fault["seen"]
        self.fault.disarm()
        code, said = one.end()
        self.assertEqual((answer, code), (200, 0), said)
        return total

    def fail_once(self, name, n, **mode):
        self.fault.arm(name, MEMORY, n, **mode)
        one = Program(self, name)
        try:
            answer = one.ask()
            failed = self.fault["failed"]
            self.fault["always"] = 0  # memory is there again
            if answer is not None:
                self.assertIn(answer, (200, 500, 503))
                wait_for(one.is_well, f"{name} answers right once there is memory", QUICK_S)
        except AssertionError:
            one.kill()
            raise
        finally:
            self.fault.disarm()
        if answer is not None and one.process.poll() is None:
            self.assertNotRegex(one.kill(), "is not in force: Cannot allocate", "it serves unconfined")
            return str(answer) if failed else "no such n"
        return self.assertEnded(*one.await_end())

    def test_an_allocation_fails_while_a_program_starts(self):
        wrong = []
        self.fault.set_apart("libseccomp.so")
        for name in PROGRAMS:
            if ONLY in name:
                wrong += self.every(name, self.count(name), lambda n, name=name, **mode: self.fail_once(
                    name, n, **mode), [ONCE, ALWAYS])
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong[:40]))
        self.assertWhole()

    def test_an_allocation_of_what_confines_fails(self):
        """One of fifty: libseccomp takes thousands, one like the other."""
        wrong = self.every("report, confined", self.count("report"), lambda n, **mode: self.fail_once(
            "report", n, **mode), step=50)
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong[:40]))


class Commands(StartCase):
    """All allocations of the operator's commands, and of the children that they become the user in."""

    def run_one(self, arguments, stdin=""):
        return subprocess.run([program("caredesk"), *arguments, "--data", self.data], input=stdin,
                              env={**os.environ, **self.fault.environment()}, capture_output=True,
                              text=True, errors="backslashreplace", timeout=QUICK_S, check=False)

    def failing(self, arguments, n, **mode):
        self.fault.arm("caredesk", MEMORY, n, **mode)
        try:
            return self.run_one(arguments)
        except subprocess.TimeoutExpired:
            raise AssertionError("it does not end") from None
        finally:
            self.fault.disarm()

    def fail_once(self, arguments, right, n, **mode):
        done = self.failing(arguments, n, **mode)
        right(done)
        if done.returncode == 0:
            return "done" if self.fault["failed"] else "no such n"
        if done.returncode > 0:
            self.assertRegex(done.stderr, "caredesk: .|cannot allocate memory for thread-local data",
                             "it ended without a word")
            return "refused"
        return self.assertEnded(done.returncode, done.stderr)

    def every_of(self, arguments, right):
        if ONLY not in arguments[0]:
            return
        self.assertEqual(self.failing(arguments, NEVER).returncode, 0)
        total = self.fault["seen"]
        self.cleared()
        wrong = self.every(" ".join(arguments[:1]), total, lambda n, **mode: self.fail_once(
            arguments, right, n, **mode), [ONCE, ALWAYS])
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong[:40]))
        self.assertWhole()

    def copies(self):
        return glob.glob(f"{os.path.dirname(self.data)}/copy*")

    def cleared(self):
        for path in self.copies():
            shutil.rmtree(path)

    def test_fsck_says_of_nothing_sound_that_it_is_damaged(self):
        self.every_of(["fsck"], lambda done: self.assertNotRegex(
            done.stdout, "malformed|differ", done.stderr))

    def test_audit_verify_says_of_no_chain_that_it_is_broken(self):
        self.every_of(["audit", "verify"], lambda done: self.assertNotRegex(
            done.stdout + done.stderr, "not as it was|was changed|broken", done.stderr))

    def test_a_backup_is_whole_or_not_there(self):
        target = f"{os.path.dirname(self.data)}/copy"

        def right(done):
            if done.returncode == 0:
                for name in SETS:
                    with database(f"{target}/{name}.db") as db:
                        self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            else:
                self.assertEqual(glob.glob(f"{target}/*.db"), [], "what failed looks whole")
            self.cleared()

        self.every_of(["backup", target], right)

    def test_a_token_is_good_or_not_given(self):
        def right(done):
            if done.returncode != 0:
                self.assertEqual(done.stdout, "")
            else:
                self.assertEqual(self.run_one(["token", "--config", config, "--check"], done.stdout).returncode, 0)

        config = f"{os.path.dirname(self.data)}/caredesk.yaml"
        with open(config, "w", encoding="utf-8") as file:
            json.dump({"auth": AUTH}, file)
        self.every_of(["token", "--config", config, "--sub", "anna", "--role", "admin"], right)


MONTH = 2024 * 12
FIRST_ROWS = {
    "accounts": [
        ("accounts", (None, "a", "a@b", "c", b"1" * 16, b"2" * 16, b"3" * 16, None, 1, 5, 5)),
        ("answers", (None, "k", b"d" * 32, 5, 201, "/accounts/1", '"1"', b"{}"))],
    "audios": [
        ("audios", (None, 7, 3, 4, 5, 5, *15 * [-5 * 10**16])),
        ("answers", (None, "k", b"d" * 32, 5, 201, "/audios/7", '"1"', b"{}"))],
    "events": [
        ("types", (1, "Home visit", "SEK", 1)), ("prices", (1, 1, 0, 100, 5)),
        *(("events", (i, 1, i, 1704067200000000, MONTH, 100, 5, None)) for i in range(1, 200)),
        *(("sums", (MONTH, i, 0, 100, 0, 1)) for i in range(1, 200)),
        *(("audit", (i, 5, f"who {i % 7}", "event created", i, None)) for i in range(1, 200))],
    "stats": [
        ("state", (1, 3, 1, 1, 0, "epoch")), ("paths", (b"/ping", 1, 3, 472222, 472223)),
        ("hours", (472222, 1, 1, 2, 3, 30, 3, 1))],
}


class Migrations(StartCase):
    """A program is killed, amid a write or before a sync, while it brings the first form of its database
    to the newest one; and is started again."""

    def make_first(self, name):
        """A database of the first form with rows in it, as the first version has left it."""
        path = self.path(f"db/{name}.db")
        with database(path) as db:
            identity, = db.execute("PRAGMA application_id").fetchone()
        owner = os.stat(path)
        self.assertNotEqual(identity, 0)
        for old in glob.glob(f"{path}*"):
            if not old.endswith(".lock"):
                os.unlink(old)
        with database(path) as db:
            db.execute("PRAGMA journal_mode = WAL")
            with open(os.path.join(harness.SOURCE, f"sql/{name}/schema/0001_begin.sql"),
                      encoding="utf-8") as file:
                db.executescript(file.read())
            for table, row in FIRST_ROWS[name]:
                db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * len(row))})", row)
            db.execute(f"PRAGMA application_id = {identity}")
            db.execute("PRAGMA user_version = 1")
        os.chown(path, owner.st_uid, owner.st_gid)
        os.chmod(path, 0o600)

    def assertNewest(self, name):
        """Nothing is lost, nothing is there twice."""
        newest = len(os.listdir(os.path.join(harness.SOURCE, f"sql/{name}/schema")))
        with database(self.path(f"db/{name}.db")) as db:
            self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (newest,))
            self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            for table, count in collections.Counter(table for table, _ in FIRST_ROWS[name]).items():
                self.assertEqual(db.execute(f"SELECT count(*) FROM {table}").fetchone(), (count,), table)
            if name == "events":
                self.assertEqual(miscounted(db), [])
                self.assertEqual(self.audit_of(db),
                                 [row[2:5] for table, row in FIRST_ROWS[name] if table == "audit"])

    @staticmethod
    def audit_of(db):
        return db.execute("SELECT name, what, subject FROM audit JOIN audit_actors ON actor = id"
                          " ORDER BY seq").fetchall()

    def migrate(self, name, n):
        """Killed at the N-th change of a file; what it said."""
        self.make_first(name)
        self.fault.arm(name, CHANGES, n, error=KILLED)
        one = Program(self, name)
        answer = one.ask()
        self.fault.disarm()
        if one.process.poll() is None and answer is not None:
            one.kill()
            return answer
        self.assertEqual(one.await_end()[0], -signal.SIGKILL)
        return None

    def kill_once(self, name, n):
        answer = self.migrate(name, n)
        one = Program(self, name)
        try:
            self.assertEqual(one.ask(), 200)
        finally:
            one.kill()
        self.assertNewest(name)
        return "no such n" if answer is not None else "killed"

    def test_a_migration_that_is_killed_is_done_again_and_nothing_is_lost(self):
        os.truncate(self.path("log/access.log"), 0)  # which is counted
        for name in SETS:
            if ONLY not in name:
                continue
            self.assertEqual(self.migrate(name, NEVER), 200)
            wrong = self.every(f"migration of {name}", self.fault["seen"], lambda n, name=name:
                               self.kill_once(name, n))
            self.assertEqual(wrong, [], "\n" + "\n".join(wrong[:40]))


if __name__ == "__main__":
    harness.main()
