"""The operator's commands for data: migrate, import, demo, recount, and of backup and restore what
concerns one data set (the rest is in backup.py)."""
import contextlib
import json
import os
import pty
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import unittest

import harness
from harness import Case, ROOT, Service, at_once, note, program, wait_for

MANY = 60000
PATIENCE = 6 * harness.LONG  # seconds; with sanitizers on a busy machine
LEDGER = "db/events.db"
BACKUP = ["accounts.db", "audios.db", "events.db", "stats.db", "blobs"]
TYPE = {"name": "Home visit", "amount_in_cents": 25000}
RUNS = "caredesk run runs on data folder"


def line(type_id=1, caregiver_id=1, start_time="2026-03-01T08:00:00Z"):
    return json.dumps({"type_id": type_id, "caregiver_id": caregiver_id,
                       "start_time": start_time}) + "\n"


def lines(count):
    """Of COUNT events; all are in ten months and of a hundred caregivers."""
    return "".join(line(1, 1 + i % 100, f"2026-{1 + i % 10:02}-{1 + i % 28:02}T08:00:00Z")
                   for i in range(count))


@contextlib.contextmanager
def database(path):
    """Looked into, or tampered with, behind everybody's back."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def contents(path):
    """What a ledger says: all rows that matter."""
    with database(path) as db:
        return [db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
                for table in ("events", "types", "prices", "sums", "audit")]


def counted(path):
    """What the report ought to be: by year, month and caregiver, from the events themselves."""
    with database(path) as db:
        return {(month // 12, month % 12 + 1, caregiver): tuple(sums)
                for month, caregiver, *sums in db.execute(
                    "SELECT month, caregiver_id,"
                    " sum(iif(reimbursed_at IS NULL, 0, amount_in_cents)),"
                    " sum(iif(reimbursed_at IS NULL, amount_in_cents, 0)),"
                    " sum(reimbursed_at IS NOT NULL), sum(reimbursed_at IS NULL)"
                    " FROM events GROUP BY month, caregiver_id")}


class DataCase(Case):
    """Each test may have folders, which go with it."""

    start = False

    def folder(self):
        path = harness.folder()
        self.addCleanup(shutil.rmtree, path)
        return path

    def file(self, text, mode=0o600):
        name = os.path.join(self.folder(), "events.ndjson")
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, mode)
        return name

    def run_command(self, *arguments, data=None, status=0, stdin=None, cwd=None):
        done = subprocess.run(
            [program("caredesk"), *arguments, "--data", data or self.data], input=stdin or "",
            capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=cwd)
        self.assertEqual(done.returncode, status, done)
        for word in ("Sanitizer", "runtime error"):
            self.assertNotIn(word, done.stderr)
        if status != 0:
            self.assertIn("caredesk: ", done.stderr)
        return done

    def refused(self, *arguments, words, **options):
        done = self.run_command(*arguments, status=1, **options)
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, done.stderr)
        return done

    def path(self, name=LEDGER):
        return os.path.join(self.data, name)

    def count(self, table="events"):
        with database(self.path()) as db:
            return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def made_folder(add_cleanup):
    """A data folder as `caredesk run` leaves it, with one type and three events."""
    service = Service()
    add_cleanup(service.close)
    body = json.dumps(TYPE).encode()
    assert service.ask("/events/types", "POST", {"Content-Type": "application/json"},
                       body).status == 201
    for i in range(1, 4):
        assert service.ask("/events", "POST", {"Content-Type": "application/json"},
                           line(1, i).encode()).status == 201
    service.stop()
    return service.data


class Words(DataCase):
    """Command lines, and folders that are none."""

    def test_every_command_tells_what_it_takes(self):
        for name, words in (("migrate", []), ("recount", ["--repair"]), ("import", ["FILE"]),
                            ("fsck", ["SET"]), ("demo", ["--events N", "--caregivers N"]),
                            ("audit list", ["--person ID", "--actor NAME", "--since TIME", "--limit N"]),
                            ("audit verify", ["--set SET", "--head SET:SEQ:DIGEST"]),
                            ("backup", ["DIR"]),
                            ("restore", ["DIR"]), ("rotate-log", ["--size MIB"])):
            with self.subTest(name):
                done = harness.caredesk(*name.split(), "--help")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                for word in [f"caredesk {name}", "--config", "--data", *words]:
                    self.assertIn(word, done.stdout)
                self.assertEqual("--events" in done.stdout, name == "demo")

    def test_a_group_of_commands_tells_what_each_takes(self):
        for group, commands, words, none in (
                ("audit", ("list", "verify"), ("--person ID", "--head SET:SEQ:DIGEST"), "--yes"),
                ("person", ("export ID [DIR]", "erase ID"), ("--yes",), "--person")):
            with self.subTest(group):
                done = harness.caredesk(group, "--help")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertIn(f"Usage: caredesk {group} COMMAND", done.stdout)
                for word in [f"{group} {command}" for command in commands] + [
                        "--config", "--data", "--help", *words]:
                    self.assertIn(f"  {word} ", done.stdout)
                self.assertNotIn(f"  {none} ", done.stdout)
                self.assertNotIn("rotate-log", done.stdout)

    def test_what_is_not_taken_is_told_in_a_line_and_where_to_look_in_another(self):
        for line, words, name in (
                ("import", "import needs FILE", "import"), ("backup", "backup needs DIR", "backup"),
                ("restore", "restore needs DIR", "restore"),
                ("import a b", "import takes only FILE", "import"),
                ("migrate a", "migrate takes no argument", "migrate"),
                ("demo a", "demo takes no argument", "demo"),
                ("recount --events 5", "recount takes no --events", "recount"),
                ("migrate --repair", "migrate takes no --repair", "migrate"),
                ("import a --caregivers 5", "import takes no --caregivers", "import"),
                ("version --repair", "version takes no --repair", "version"),
                ("audit list --head x", "audit list takes no --head", "audit list"),
                ("demo --nope", "there is no option --nope", "demo"),
                ("--nope demo", "there is no option --nope", "demo"),
                ("demo --nope=5", "there is no option --nope=5", "demo"),
                ("demo -q", "there is no option -q", "demo"),
                ("demo --config=f -dq", "there is no option -d", "demo"),
                ("demo --events", "--events needs a value", "demo"),
                ("person erase 1 --yes=1", "--yes takes no value", "person erase"),
                ("demo --events x --nope", "--events must be a whole number", "demo"),
                ("audit list --since x", "--since: ", "audit list"),
                ("nope", "no command nope", ""), ("nope --help", "no command nope", ""),
                ("nope --version", "no command nope", ""),
                ("audit nope", "no command audit nope", "audit"),
                ("audit nope --help", "no command audit nope", "audit"),
                ("audit", "which command of audit?", "audit"), ("--repair", "which command?", ""),
                ("audit --nope", "there is no option --nope", "audit"), ("", "which command?", "")):
            with self.subTest(line):
                done = harness.caredesk(*line.split(), cwd="/")
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                told, hint = done.stderr.splitlines()
                self.assertTrue(told.startswith(f"caredesk: {words}"), told)
                self.assertEqual(hint, " ".join(f"try caredesk {name} --help".split()))
                help_of = harness.caredesk(*hint.split()[2:])
                self.assertEqual((help_of.returncode, help_of.stderr), (0, ""))

    def test_numbers_have_their_bounds(self):
        for arguments in (["--events", "0"], ["--events", "100000001"], ["--events", "-1"],
                          ["--events", "1e3"], ["--events", ""], ["--events", "12x"],
                          ["--caregivers", "0"], ["--caregivers", "1000001"]):
            with self.subTest(arguments):
                done = harness.caredesk("demo", *arguments, cwd="/")
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertIn("must be a whole number of 1..", done.stderr)

    def test_a_data_folder_that_is_none_is_named(self):
        here = self.folder()
        for arguments in (["migrate"], ["recount"], ["recount", "--repair"],
                          ["fsck"], ["import", "/dev/null"], ["demo"], ["backup", os.path.join(here, "to")],
                          ["restore", self.file("")]):
            for data in (os.path.join(here, "nope"), self.folder()):
                with self.subTest(arguments=arguments):
                    self.refused(*arguments, data=data, words=[
                        f"there is no data folder {data}", "start caredesk run once"])
                    self.assertFalse(os.path.exists(data) and os.listdir(data))


class Stopped(DataCase):
    """While no service runs."""

    @classmethod
    def setUpClass(cls):
        cls.original = made_folder(cls.addClassCleanup)

    def setUp(self):
        self.data = os.path.join(self.folder(), "data")
        subprocess.run(["cp", "-a", self.original, self.data], check=True)

    def tamper(self, *statements):
        with database(self.path()) as db:
            for statement in statements:
                db.execute(statement)

    def damage(self):
        """The file itself: what is in the log would hide it."""
        self.run_command("migrate")
        with open(self.path(), "r+b") as file:
            file.write(b"this is no database")

    # migrate

    def test_a_database_that_is_up_to_date_stays_so(self):
        before = contents(self.path())
        self.assertEqual(self.run_command("migrate").stdout,
                         "db/accounts.db: version 4, up to date\n"
                         "db/audios.db: version 2, up to date\n"
                         "db/events.db: version 2, up to date\n"
                         "db/stats.db: version 2, up to date\n")
        self.assertEqual(contents(self.path()), before)

    def test_a_database_that_is_not_there_is_made(self):
        for name in os.listdir(self.path("db")):
            os.unlink(self.path(f"db/{name}"))
        self.assertEqual(self.run_command("migrate").stdout,
                         "db/accounts.db: from version 0 to version 4\n"
                         "db/audios.db: from version 0 to version 2\n"
                         "db/events.db: from version 0 to version 2\n"
                         "db/stats.db: from version 0 to version 2\n")
        self.assertEqual(self.count(), 0)
        if ROOT:
            self.assertNotEqual(os.stat(self.path()).st_uid, 0)

    def test_a_database_of_a_later_version_is_refused(self):
        self.tamper("PRAGMA user_version = 99")
        for arguments in (["migrate"], ["demo"], ["import", self.file(line())], ["recount"],
                          ["backup", os.path.join(self.folder(), "b")]):
            self.refused(*arguments, words="too old")

    # recount

    def test_sums_that_are_right_are_said_to_be(self):
        self.assertEqual(self.run_command("recount").stdout,
                         "all sums are what their events give\n")

    def test_sums_that_differ_are_told_and_mended(self):
        for statement, told in (
                ("UPDATE sums SET open_cents = open_cents + 1 WHERE caregiver_id = 2",
                 "2026-03 caregiver 2: stored 25001 cents open in 1 events, 0 reimbursed in 0; "
                 "counted 25000 in 1, 0 in 0"),
                ("DELETE FROM sums WHERE caregiver_id = 1",
                 "2026-03 caregiver 1: stored 0 cents open in 0 events, 0 reimbursed in 0; "
                 "counted 25000 in 1, 0 in 0"),
                ("INSERT INTO sums VALUES (24000, 7, 5, 0, 1, 0)",
                 "2000-01 caregiver 7: stored 0 cents open in 0 events, 5 reimbursed in 1; "
                 "counted 0 in 0, 0 in 0"),
                ("UPDATE events SET reimbursed_at = 1 WHERE caregiver_id = 3",
                 "2026-03 caregiver 3: stored 25000 cents open in 1 events, 0 reimbursed in 0; "
                 "counted 0 in 0, 25000 in 1")):
            with self.subTest(statement):
                self.tamper(statement)
                done = self.refused("recount", words=["1 sums are not what their events give",
                                                      "--repair"])
                self.assertEqual(done.stdout, told + "\n")
                self.assertEqual(self.run_command("recount", "--repair").stdout,
                                 "1 sums repaired\nall sums are what their events give\n")
                self.run_command("recount")
        with database(self.path()) as db:
            rows = db.execute("SELECT name FROM audit JOIN audit_actors ON id = actor"
                              " WHERE what = 'sums repaired'").fetchall()
        self.assertEqual(rows, 4 * [("operator",)])

    def test_of_many_differences_a_hundred_are_told(self):
        self.tamper(*(f"INSERT INTO sums VALUES (24000, {i}, 5, 0, 1, 0)" for i in range(1, 151)))
        done = self.refused("recount", words="150 sums")
        self.assertEqual(len(done.stdout.splitlines()), 101)
        self.assertEqual(done.stdout.splitlines()[-1], "and 50 more")
        self.assertIn("150 sums repaired", self.run_command("recount", "--repair").stdout)

    def test_a_damaged_database_is_said_to_be(self):
        self.damage()
        for arguments in (["recount"], ["recount", "--repair"], ["migrate"], ["demo"],
                          ["import", self.file(line())]):
            self.refused(*arguments, words="not a database")

    # recount stats

    def test_the_statistics_are_recounted(self):
        done = self.run_command("recount", "stats")
        self.assertRegex(done.stdout,
                         r"\A\d+ requests of \d+ paths: as many as lines of the log\n\Z")
        with database(self.path("db/stats.db")) as db:
            db.execute("UPDATE paths SET count = count + 1 WHERE id = 1")
        self.refused("recount", "stats", words="requests in all")
        self.refused("recount", "stats", "--repair", words="cannot be repaired")
        self.refused("recount", "nothing", words="there is no data set nothing")

    # import

    def test_a_file_is_imported(self):
        for text, count in ((line(), 1), (3 * line(), 3), (line().rstrip("\n"), 1),
                            ("\n\n" + line() + "\r\n" + line(), 2)):
            before = self.count()
            done = self.run_command("import", self.file(text))
            self.assertEqual(done.stdout, f"imported {count} events\n")
            self.assertEqual(self.count(), before + count)
        for text in ("", "\n \n"):
            self.refused("import", self.file(text), words="there is no event in it")
        self.run_command("recount")
        with database(self.path()) as db:
            self.assertEqual(db.execute("SELECT count(*) FROM audit JOIN audit_actors ON id = actor"
                                        " WHERE name = 'operator' AND"
                                        " what = 'event created'").fetchone(), (7,))

    def test_standard_input_is_imported(self):
        self.assertEqual(self.run_command("import", "-", stdin=lines(500)).stdout,
                         "imported 500 events\n")
        self.assertEqual(self.count(), 503)

    def test_a_relative_name_is_where_it_was_called(self):
        name = self.file(line())
        self.run_command("import", os.path.basename(name), cwd=os.path.dirname(name))
        self.assertEqual(self.count(), 4)

    def test_of_a_bad_file_nothing_is_imported_and_its_lines_are_named(self):
        before = contents(self.path())
        for text, words in (
                (line() + "nonsense\n", ["line 2: the body is not valid JSON"]),
                (line() + line() + '{"type_id": 1}\n', ["line 3: caregiver_id: is required",
                                                        "line 3: start_time: is required"]),
                (line(99), ["line 1: type_id: there is no such type"]),
                (line(start_time="2026-02-30T00:00:00Z"), ["line 1: start_time: "]),
                (line(caregiver_id=0) + line() + line(caregiver_id=-1),
                 ["line 1: caregiver_id: ", "line 3: caregiver_id: "]),
                (line() + 70000 * "x", ["line 2: is too long"])):
            with self.subTest(text[-80:]):
                self.refused("import", self.file(text), words=[*words, "nothing was imported"])
                self.refused("import", "-", stdin=text, words=[*words, "nothing was imported"])
        self.assertEqual(contents(self.path()), before)

    def test_a_file_that_cannot_be_read_is_named(self):
        self.refused("import", "/nonexistent/file", words="/nonexistent/file: No such file")
        self.refused("import", "/tmp", words="/tmp: is a folder")

    def test_a_large_file_is_imported(self):
        self.assertEqual(self.run_command("import", self.file(lines(MANY))).stdout,
                         f"imported {MANY} events\n")
        self.assertEqual(self.count(), MANY + 3)
        self.run_command("recount")

    def test_an_import_that_is_killed_leaves_all_or_nothing(self):
        name = self.file(lines(MANY))
        for _ in range(3):
            before = self.count()
            self.kill_once_large(LEDGER + "-wal", "import", name)
            self.assertIn(self.count() - before, (0, MANY))
        self.run_command("recount")
        self.run_command("import", self.file(line()))

    def kill_once_large(self, growing, *arguments):
        """In the middle of its work, once a file has more than a megabyte."""
        command = subprocess.Popen([program("caredesk"), *arguments, "--data", self.data],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def is_due():
            with contextlib.suppress(FileNotFoundError):
                return os.path.getsize(self.path(growing)) > 1000000 or command.poll() is not None

        try:
            wait_for(is_due, "it writes", PATIENCE)
        finally:
            command.kill()
            self.assertIn(command.wait(), (-signal.SIGKILL, 0))

    def test_progress_is_a_line_that_is_rewritten_on_a_terminal_only(self):
        name = self.file(lines(20000))
        self.assertNotIn("\r", self.run_command("import", name).stderr)
        ours, its = pty.openpty()
        self.empty()
        self.run_command("migrate")     # which says so in the log
        command = subprocess.Popen([program("caredesk"), "demo", "--data", self.data,
                                    "--events", "60000"], stdout=subprocess.DEVNULL, stderr=its)
        os.close(its)
        said = b""
        with contextlib.suppress(OSError):  # how a terminal says that nobody is there any more
            while part := os.read(ours, 4096):
                said += part
        os.close(ours)
        self.assertEqual(command.wait(PATIENCE), 0)
        self.assertRegex(said, rb"\rwriting  \d+ %  [\d,]+ of 60,000 events  [\d,]+/s")
        self.assertNotIn(b"\n", said)
        self.assertTrue(said.endswith(b"\r\x1b[K"), said[-40:])

    # demo

    def empty(self):
        """A data folder without events and types."""
        for name in os.listdir(self.path("db")):
            os.unlink(self.path(f"db/{name}"))
        return self.data

    def test_demo_data_are_refused_where_there_are_others(self):
        before = contents(self.path())
        self.refused("demo", words="only where there are none")
        self.tamper("DELETE FROM events", "DELETE FROM sums")
        self.refused("demo", words="only where there are none")
        self.assertEqual(contents(self.path())[1:3], before[1:3])

    def test_demo_data_are_what_they_are_said_to_be(self):
        self.empty()
        done = self.run_command("demo", "--events", "30000", "--caregivers", "50")
        self.assertEqual(done.stdout, "made 30000 events of 8 types, of up to 50 caregivers\n")
        self.run_command("recount")
        with database(self.path()) as db:
            def ask(text):
                return db.execute(f"SELECT {text}").fetchone()

            self.assertEqual(ask("count(*), count(DISTINCT type_id), min(caregiver_id),"
                                 " max(caregiver_id) FROM events"), (30000, 8, 1, 50))
            oldest, newest, made = ask("min(start_time), max(start_time), max(created_at)"
                                       " FROM events")
            self.assertLess(newest, made)
            self.assertGreater(newest, made - 3 * 86400 * 10**6)
            self.assertAlmostEqual((made - oldest) / 10**6 / 86400, 5 * 365.25, delta=5)
            self.assertEqual(ask("count(*) FROM (SELECT start_time < lag(start_time)"
                                 " OVER (ORDER BY id) AS back FROM events) WHERE back"), (0,))
            self.assertEqual(ask("count(*) FROM prices"), (48,), "one more each January")
            paid, = ask(f"avg(reimbursed_at IS NOT NULL) FROM events WHERE start_time < {made}"
                        " - 45 * 86400000000")
            self.assertAlmostEqual(paid, 0.97, delta=0.01)
            young, = ask(f"avg(reimbursed_at IS NOT NULL) FROM events WHERE start_time > {made}"
                         " - 45 * 86400000000")
            self.assertTrue(0 < young < 0.9, young)
            weekend, = ask("avg((start_time / 86400000000 + 3) % 7 >= 5) FROM events")
            self.assertTrue(0.05 < weekend < 0.2, weekend)
            night, = ask("avg(start_time / 3600000000 % 24 < 6) FROM events")
            self.assertTrue(0 < night < 0.05, night)
            busiest, = ask("max(n) FROM (SELECT count(*) AS n FROM events GROUP BY caregiver_id)")
            self.assertGreater(busiest, 3 * 30000 / 50)
            self.assertEqual(ask("count(*) FROM events WHERE reimbursed_at <= start_time"), (0,))

    def test_demo_data_are_the_same_each_time(self):
        seen = set()
        for _ in range(2):
            self.empty()
            self.run_command("demo", "--events", "2000")
            with database(self.path()) as db:
                seen.add(tuple(db.execute("SELECT type_id, caregiver_id FROM events")))
        self.assertEqual(len(seen), 1)

    def test_few_demo_data_are_made_too(self):
        for events, caregivers in (("1", "1"), ("7", "1000000")):
            self.empty()
            self.run_command("demo", "--events", events, "--caregivers", caregivers)
            self.assertEqual(self.count(), int(events))
            self.run_command("recount")

    def test_a_demo_that_is_killed_leaves_whole_chunks(self):
        for growing in (LEDGER + "-wal", LEDGER):   # the first chunk; the one after the first
            with self.subTest(growing):
                self.empty()
                self.run_command("migrate")
                self.kill_once_large(growing, "demo", "--events", "1000000")
                count = self.count()
                note(f"{count} events were left")
                self.assertEqual(count % 100000, 0)
                if growing == LEDGER:
                    self.assertGreater(count, 0)
                self.assertEqual(self.count("types"), 8 if count else 0)
                self.run_command("recount")

    # backup and restore

    def kept(self):
        return [name for name in os.listdir(self.data) if "before-restore" in name]

    def test_a_backup_is_a_folder_of_the_callers(self):
        to = os.path.join(self.folder(), "backup")
        lines = self.run_command("backup", to).stdout.splitlines()
        self.assertEqual(lines.pop(1), f"{to}/blobs: 0 images, 0 bytes, verified")
        for name, told in zip(BACKUP[:-1], lines, strict=True):
            self.assertRegex(told, rf"\A{to}/{name}: \d+ bytes, verified\Z")
        self.assertEqual(sorted(os.listdir(to)), sorted(BACKUP))
        self.assertEqual(os.stat(to).st_mode & 0o777, 0o700)
        for name in BACKUP:
            stat = os.stat(os.path.join(to, name))
            self.assertEqual(stat.st_mode & 0o777, 0o700 if name == "blobs" else 0o600)
            self.assertEqual(stat.st_uid, os.geteuid())
        self.assertEqual(contents(os.path.join(to, "events.db")), contents(self.path()))
        for name in os.listdir(self.path("db")):
            self.assertEqual(os.stat(self.path(f"db/{name}")).st_uid,
                             os.stat(self.path("db")).st_uid, name)

    def test_a_backup_is_not_written_over(self):
        to = self.folder()
        self.run_command("backup", to)
        before = contents(os.path.join(to, "events.db"))
        self.run_command("import", self.file(line()))
        self.refused("backup", to, words="is there already")
        self.assertEqual(contents(os.path.join(to, "events.db")), before)
        self.assertEqual(sorted(os.listdir(to)), sorted(BACKUP))

    def test_a_backup_of_what_is_not_right_is_none(self):
        to = self.folder()
        self.tamper("UPDATE sums SET open_cents = 5")
        self.refused("backup", to, words="events.db: the copy is not good: 3 sums")
        self.assertEqual(os.listdir(to), [])

    def test_what_a_killed_backup_has_left_is_no_hindrance(self):
        to = self.folder()
        os.mkdir(os.path.join(to, ".caredesk-incomplete"))
        with open(os.path.join(to, ".caredesk-incomplete/events.db"), "w", encoding="ascii") as file:
            file.write("half")
        self.refused("restore", to, words=f"{to}: is not whole")
        self.run_command("backup", to)
        self.assertEqual(sorted(os.listdir(to)), sorted(BACKUP))

    def test_a_restore_brings_all_back_and_can_be_undone(self):
        to = self.folder()
        first = contents(self.path())
        self.run_command("backup", to)
        self.run_command("import", self.file(lines(1000)))
        second = contents(self.path())
        done = self.run_command("restore", to)
        kept, = self.kept()
        self.assertRegex(kept, r"\Abefore-restore-\d{8}T\d{6}\.\d{6}Z\Z")
        self.assertIn(f"caredesk restore '{self.data}/{kept}'", done.stdout)
        self.assertEqual(sorted(os.listdir(self.path(kept))), sorted(BACKUP))
        self.assertEqual(sorted(name for name in os.listdir(self.path("db"))),
                         sorted(BACKUP[:-1] + [f"{name}.lock" for name in BACKUP[:-1]]))
        self.assertEqual(contents(self.path()), first)
        self.run_command("recount")
        self.assertEqual(os.stat(self.path()).st_uid, os.stat(self.path("db")).st_uid)
        self.run_command("restore", self.path(kept))
        self.assertEqual(contents(self.path()), second)

    def test_a_restore_takes_what_was_only_in_the_log_along(self):
        to = self.folder()
        self.run_command("backup", to)
        # Committed by one who is gone without an end.
        subprocess.run([sys.executable, "-c",
                        "import os, sqlite3, sys\n"
                        "db = sqlite3.connect(sys.argv[1])\n"
                        "db.execute(\"INSERT INTO audit VALUES (77, 1, 1, 'logged', 1, NULL, zeroblob(32))\")\n"
                        "db.commit()\n"
                        "os._exit(0)", self.path()], check=True)
        self.assertGreater(os.path.getsize(self.path(LEDGER + "-wal")), 0)
        self.run_command("restore", to)
        kept, = self.kept()
        with database(self.path(f"{kept}/events.db")) as db:
            self.assertEqual(db.execute("SELECT what FROM audit WHERE seq = 77").fetchone(),
                             ("logged",))
        with database(self.path()) as db:
            self.assertIsNone(db.execute("SELECT what FROM audit WHERE seq = 77").fetchone())

    def test_versions_of_before_a_restore_are_not_valid_after(self):
        to = self.folder()
        self.run_command("backup", to)
        epochs = set()
        for _ in range(3):
            with database(self.path()) as db:
                epochs.add(db.execute("SELECT epoch FROM origin").fetchone())
            self.run_command("restore", to)
        self.assertEqual(len(epochs), 3)

    def test_a_backup_that_is_damaged_is_refused_and_the_data_stay(self):
        to = self.folder()
        self.run_command("import", self.file(lines(2000)))
        self.run_command("backup", to)
        backup = os.path.join(to, "events.db")
        with open(backup, "rb") as file:
            good = file.read()
        before = contents(self.path())
        page = 4096
        for what, bad in (("nothing", b""), ("text", b"hello"), ("head", b"X" + good[1:]),
                          ("cut", good[:len(good) // 2 // page * page]),
                          ("pages", good[:5 * page] + 20 * page * b"\xaa" + good[25 * page:])):
            with self.subTest(what):
                with open(backup, "wb") as file:
                    file.write(bad)
                self.refused("restore", to, words="the backup is not good")
                self.assertEqual(contents(self.path()), before)
                self.assertEqual(self.kept(), [])
        with open(backup, "wb") as file:
            file.write(good)
        with database(backup) as db:
            db.execute("UPDATE sums SET open_cents = 5 WHERE caregiver_id = 1")
        self.refused("restore", to, words="sums are not what their events give")
        self.assertEqual(contents(self.path()), before)

    def test_a_backup_that_is_not_there_is_named(self):
        to = self.folder()
        self.refused("restore", to, words=f"{to}: there is no backup in it")
        self.refused("restore", f"{to}/nope", words=f"{to}/nope: No such file")

    def test_a_backup_is_not_made_in_the_data_folder(self):
        for folder in (self.data, os.path.join(self.data, "new")):
            self.refused("backup", folder, words="is in the data folder")
        self.assertFalse(os.path.exists(os.path.join(self.data, "new")))
        self.refused("backup", os.path.join(self.data, "tmp/body"), words="is in the data folder")
        self.assertTrue(os.path.exists(os.path.join(self.data, "tmp/body")))

    def test_a_database_is_no_backup_of_itself(self):
        before = contents(self.path())
        for source in (self.path("db"), self.path()):
            self.refused("restore", source, words="that is the database itself")
        self.assertEqual(contents(self.path()), before)

    def test_a_restore_waits_for_who_still_reads(self):
        to = self.folder()
        self.run_command("backup", to)
        with database(self.path()) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN")
            db.execute("SELECT count(*) FROM events").fetchone()
            self.run_command("import", self.file(line()))
            self.refused("restore", to, words="somebody reads the database")
        before = self.count()
        self.run_command("restore", to)
        self.assertEqual(self.count(), before - 1)

    def test_a_restore_says_how_to_undo_it(self):
        to, before = self.folder(), contents(self.path())
        self.run_command("backup", to)
        self.run_command("import", self.file(line()))
        undo = self.run_command("restore", to).stdout.splitlines()[-1]
        words = shlex.split(undo.removeprefix("to undo this: caredesk "))
        self.assertEqual(contents(self.path()), before)
        done = subprocess.run([program("caredesk"), *words], cwd="/", stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=harness.LONG, check=False)
        self.assertEqual(done.returncode, 0, done)
        self.assertNotEqual(contents(self.path()), before)

    def test_a_backup_with_a_log_beside_it_is_refused(self):
        to = self.folder()
        self.run_command("backup", to)
        with open(os.path.join(to, "events.db-wal"), "w", encoding="ascii") as file:
            file.write("log")
        self.refused("restore", to, words="in the middle of a change")

    def test_a_restore_replaces_what_is_damaged_or_gone(self):
        to = self.folder()
        before = contents(self.path())
        self.run_command("backup", to)
        self.damage()
        with open(self.path(LEDGER + "-wal"), "w", encoding="ascii") as file:
            file.write("its log")
        self.run_command("restore", to)
        self.assertEqual(contents(self.path()), before)
        kept, = self.kept()
        with open(self.path(f"{kept}/events.db"), "rb") as file:
            self.assertTrue(file.read().startswith(b"this is no database"))
        with open(self.path(f"{kept}/events.db-wal"), "rb") as file:
            self.assertEqual(file.read(), b"its log")
        self.empty()
        self.assertEqual(self.run_command("restore", to).stdout,
                         "restored accounts audios events stats\n")
        self.assertEqual(self.kept(), [kept])
        self.assertEqual(contents(self.path()), before)

    def test_a_service_runs_on_what_was_restored(self):
        to = self.folder()
        self.run_command("backup", to)
        self.run_command("import", self.file(line()))
        self.run_command("restore", to)
        service = Service(data=self.data)
        self.addCleanup(service.close)
        self.assertEqual(len(service.get("/events").json), 3)
        reply = service.ask("/events", "POST", {"Content-Type": "application/json"},
                            line().encode())
        self.assertEqual(reply.status, 201, reply)
        service.stop()
        self.run_command("recount")

    @unittest.skipUnless(ROOT, "not root")
    def test_files_that_only_root_may_read_are_imported_and_restored(self):
        hidden = harness.folder(mode=0o700)
        self.addCleanup(shutil.rmtree, hidden)
        name = os.path.join(hidden, "events.ndjson")
        with open(name, "w", encoding="ascii") as file:
            file.write(line())
        self.run_command("import", name)
        self.run_command("backup", os.path.join(hidden, "b"))
        self.run_command("restore", os.path.join(hidden, "b"))
        self.assertEqual(self.count(), 4)


class Running(DataCase):
    """While the service runs."""

    start = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = cls.service.data
        assert cls.ask("/events/types", TYPE).status == 201

    @classmethod
    def ask(cls, target, body):
        return cls.service.ask(target, "POST", {"Content-Type": "application/json"},
                               json.dumps(body).encode())

    def imported(self, text, **options):
        return self.run_command("import", "-", stdin=text, **options).stdout

    def total(self):
        """How many events the report has."""
        rows = self.report().values()
        return sum(row[2] + row[3] for row in rows)

    def report(self):
        reply = self.service.get("/events/report?format=rows")
        self.assertEqual(reply.status, 200, reply)
        return {(row["year"], row["month"], row["caregiver_id"]):
                (row["reimbursed_cents"], row["not_reimbursed_cents"], row["reimbursed_events"],
                 row["not_reimbursed_events"]) for row in reply.json}

    def test_a_file_is_imported_by_the_service(self):
        for text, count in ((line(), 1), (3 * line(), 3), (lines(100).rstrip("\n"), 100)):
            before = self.total()
            done = self.run_command("import", self.file(text))
            self.assertEqual(done.stdout, f"imported {count} events\n")
            self.assertEqual(self.total(), before + count)
        self.run_command("recount")

    def test_standard_input_is_imported_by_the_service(self):
        before = self.total()
        self.assertEqual(self.imported(lines(3000)), "imported 3000 events\n")
        self.refused("import", "-", words="there is no event in it")
        self.assertEqual(self.total(), before + 3000)

    def test_an_import_is_not_done_twice_by_a_retry(self):
        before, file = self.total(), self.file(lines(20))
        for _ in range(2):
            done = self.run_command("import", file, "--retry", "0123456789abcdef" * 2)
            self.assertEqual(done.stdout, "imported 20 events\n")
        self.assertEqual(self.total(), before + 20)
        self.refused("import", file, "--retry", "x", words="what an import before has said")
        # What the attempt before has done, or is doing still, is not known here.
        done = self.refused("import", self.file(lines(21)), "--retry", "0123456789abcdef" * 2,
                            words=["it is not known", "422", "--retry 0123456789abcdef"])
        self.assertNotIn("nothing was imported", done.stderr)

    def test_an_interrupted_import_says_what_is_known_and_how_to_try_again(self):
        file, count, seen = self.file(lines(100000)), 100000, set()
        for delay in (0.02, 0.3, 0.6):
            before = self.total()
            process = subprocess.Popen(
                [program("caredesk"), "import", file, "--data", self.data],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            said, words = process.communicate(timeout=PATIENCE)
            retry = re.search(r"caredesk import FILE (--retry) ([0-9a-f]{32})", words)
            if retry:
                seen.add("not known")
                done = self.run_command("import", file, *retry.groups())
                self.assertEqual(done.stdout, f"imported {count} events\n")
                self.assertEqual(self.total(), before + count)
            elif process.returncode == 0:
                self.assertEqual(said, f"imported {count} events\n")
                self.assertEqual(self.total(), before + count)
            else:
                seen.add("nothing")
                self.assertTrue(process.returncode == -signal.SIGINT or
                                "nothing was imported" in words, words)
                self.assertEqual(self.total(), before)
        note(f"what is known of interrupted imports: {', '.join(sorted(seen))}")

    def test_of_a_bad_file_nothing_is_imported_and_its_lines_are_named(self):
        before = self.report()
        for text, words in (
                (line() + "nonsense\n", ["line 2: the body is not valid JSON"]),
                (line() + line() + '{"type_id": 1}\n', ["line 3: caregiver_id: is required",
                                                        "line 3: start_time: is required"]),
                (lines(5000) + line(99), ["line 5001: type_id: there is no such type"])):
            with self.subTest(text[-80:]):
                self.refused("import", self.file(text), words=[*words, "nothing was imported"])
        self.assertEqual(self.report(), before)

    def test_a_large_file_is_imported_by_the_service(self):
        before = self.total()
        self.assertEqual(self.run_command("import", self.file(lines(MANY))).stdout,
                         f"imported {MANY} events\n")
        self.assertEqual(self.total(), before + MANY)
        self.run_command("recount")
        self.assertEqual(self.report(), counted(self.path()))

    def test_a_program_that_is_not_there_is_said_to_be(self):
        os.rename(self.path("run/http.sock"), self.path("run/away.sock"))
        try:
            self.refused("import", self.file(line()), words=["nothing was imported",
                                                             "no whole answer"])
        finally:
            os.rename(self.path("run/away.sock"), self.path("run/http.sock"))

    def test_what_needs_the_service_stopped_says_so(self):
        to = self.folder()
        self.run_command("backup", to)
        before = self.report()
        self.refused("demo", words=[RUNS, "stop it first"])
        self.refused("recount", "--repair", words=[RUNS, "stop it first"])
        self.refused("restore", to, words=["caredesk run", "stop it first"])
        self.assertEqual(self.report(), before)

    def test_versions_are_told(self):
        self.assertEqual(self.run_command("migrate").stdout,
                         "db/accounts.db: version 4, up to date; the service runs\n"
                         "db/audios.db: version 2, up to date; the service runs\n"
                         "db/events.db: version 2, up to date; the service runs\n"
                         "db/stats.db: version 2, up to date; the service runs\n")

    def test_a_service_does_not_start_beside_a_command_that_writes(self):
        """And a command that writes does not begin beside another."""
        folder = made_folder(self.addClassCleanup)
        command = subprocess.Popen([program("caredesk"), "import", "-", "--data", folder],
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with command.stdin, command.stdout:
            lock = os.path.join(folder, "db/events.db.lock")
            wait_for(lambda: self.is_locked(lock), "its lock")
            service = Service(data=folder, ready=False)
            self.addCleanup(service.close)
            self.assertEqual(service.wait(), 1)
            self.assertIn("runs there", "\n".join(service.lines))
            self.refused("import", self.file(line()), data=folder,
                         words="another process writes the database")
            self.refused("restore", self.folder(), data=folder, words="there is no backup")
            command.stdin.write(line())
            command.stdin.close()
            self.assertEqual(command.stdout.read(), "imported 1 events\n")
            self.assertEqual(command.wait(PATIENCE), 0)

    @staticmethod
    def is_locked(path):
        try:
            inode = os.stat(path).st_ino
        except OSError:
            return False
        with open("/proc/locks", encoding="ascii") as file:
            return any(f":{inode} " in row for row in file)

    def test_a_backup_under_load_is_one_state(self):
        to = os.path.join(self.folder(), "backup")
        done = threading.Event()

        def load(i):
            if i == 4:
                try:
                    for k in range(3):
                        self.run_command("backup", f"{to}{k}")
                finally:
                    done.set()
                return 0
            count = 0
            with self.service.connect() as connection:
                while not done.is_set():
                    reply = connection.ask("/events", "POST", {"Content-Type": "application/json"},
                                           line(1, 1000 + i).encode())
                    self.assertEqual(reply.status, 201, reply)
                    count += 1
            return count

        before = self.total()
        created = sum(at_once(5, load))
        self.assertEqual(self.total(), before + created)
        last = before
        for k in range(3):
            with database(f"{to}{k}/events.db") as db:
                count, = db.execute("SELECT count(*) FROM events").fetchone()
                self.assertEqual(db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone(),
                                 (count,), "an event in between is missing")
            self.assertTrue(last <= count <= before + created, (last, count))
            last = count
        note(f"{created} events were created meanwhile; the backups have {last - before} of them")
        self.assertGreater(created, 0)

    def test_the_whole_way_from_demo_data_to_a_restore(self):
        data = made_folder(self.addClassCleanup)
        for name in os.listdir(os.path.join(data, "db")):
            os.unlink(os.path.join(data, "db", name))
        self.run_command("demo", "--events", "20000", "--caregivers", "20", data=data)
        service = Service(data=data)
        self.addCleanup(service.close)
        type(self).service, ours = service, self.service
        try:
            self.assertEqual(self.report(), counted(os.path.join(data, LEDGER)))
        finally:
            type(self).service = ours
        etag = service.get("/events/report").field("ETag")
        to = self.folder()
        self.run_command("backup", to, data=data)
        service.stop()
        self.run_command("restore", to, data=data)
        again = Service(data=data, port=service.port)
        self.addCleanup(again.close)
        reply = again.get("/events/report", If_None_Match=etag)
        self.assertEqual(reply.status, 200, "an ETag of before the restore is not valid")
        again.stop()


if __name__ == "__main__":
    harness.main()
