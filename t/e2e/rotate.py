"""`caredesk rotate-log`: the access log gets another name, and no line of it is lost."""
import collections
import contextlib
import fcntl
import os
import pwd
import signal
import subprocess
import threading
import time
import unittest

import harness
from harness import ROOT, Service, at_once, caredesk, note, wait_for
from stats import StatsCase, log_line

MIB = 1024 * 1024
ROTATIONS = 12


class RotateCase(StatsCase):
    keep = 0

    @classmethod
    def config(cls):
        return {"log": {"rotate_mib": 0, "keep": cls.keep}}

    def rotate(self, *arguments, status=0, kept=()):
        """The command, for this service; what it prints.  KEPT are named on standard error."""
        done = caredesk("rotate-log", "--config", self.service.config_file, "--data",
                        self.service.data, *arguments)
        self.assertEqual(done.returncode, status, done)
        if status == 0:
            named = [line.split()[1] for line in done.stderr.splitlines()]
            self.assertEqual(sorted(named), sorted(kept), done)
        return done.stdout.splitlines() if status == 0 else done.stderr

    def rotated(self):
        """By force; the new name."""
        lines = self.rotate("--size", "0")
        self.assertRegex(lines[0], r"\Arotated to access\.log\.\d{8}T\d{6}Z(-\d+)?\Z")
        self.assertEqual(lines[1], "nginx has opened a new access.log")
        self.assertTrue(os.path.exists(self.log()))
        return lines[0].split()[2]

    def names(self):
        """Of the old ones."""
        return sorted(set(os.listdir(self.log(""))) - {"access.log"})

    def age(self, *names):
        """As if nobody had written to them for long, each longer than the next."""
        for i, name in enumerate(names):
            when = time.time() - 3600 + i
            os.utime(self.log(name), (when, when), follow_symlinks=False)

    def taken_in(self, name):
        """Once stats has counted all that is in it."""
        self.assertEqual(self.get("/stats/").status, 200)
        return name

    def removed(self, name, kept=()):
        """Once nginx's workers have let go of it."""
        wait_for(lambda: self.rotate(kept=kept) == [f"removed {name}"], f"{name} is removed")

    def again(self):
        """The service anew on the same folder, and for the tests that follow."""
        old = self.service
        type(self).service = Service(self.config(), data=old.data, port=old.port)
        type(self).addClassCleanup(self.service.close)


class Rotating(RotateCase):
    keep = 2

    def load(self, stop, sent, i):
        n = 0
        while not stop.is_set():
            with self.service.connect() as connection:
                for _ in range(50):
                    path = f"/api/load/{i}/{n % 7}"
                    self.assertEqual(connection.ask(path).status, 200)
                    sent[path] += 1
                    n += 1

    def test_no_line_is_lost_under_traffic(self):
        stop, sent = threading.Event(), [collections.Counter() for _ in range(3)]
        threads = [threading.Thread(target=self.load, args=(stop, sent[i], i), daemon=True)
                   for i in range(3)]
        for thread in threads:
            thread.start()
        names = []
        for _ in range(ROTATIONS):
            time.sleep(0.1)
            newest = self.taken_in(self.rotated())
            # In this second one of that name may have been removed, aged as they are here.
            names = [name for name in names
                     if name != newest and os.path.exists(self.log(name))]
            self.age(*names)
            names.append(newest)
        stop.set()
        for thread in threads:
            thread.join(harness.LONG)
        wait_for(lambda: self.rotate() == [] and self.names() == sorted(names[-2:]),
                 "only the newest two are kept")
        expected = sum(sent, collections.Counter())

        def found():
            return {path.decode(): n for path, n in self.stored()[0].items()
                    if path.startswith(b"/api/load/")}
        wait_for(lambda: found() == expected, "each is counted once")
        self.assertEqual(len(set(self.stored()[1])), 1)
        note(f"{sum(expected.values())} requests over {ROTATIONS} rotations")
        done = caredesk("recount", "stats", "--data", self.service.data)
        self.assertEqual(done.returncode, 0, done)

    def test_only_a_log_of_that_size_is_renamed(self):
        self.get("/api/small")
        before = self.names()
        for arguments in ((), ("--size", "1"), ("--size", "1048576")):
            self.assertEqual(self.rotate(*arguments), [])
        self.assertEqual(self.names(), before)
        for size in ("-1", "x", "", "1048577"):
            self.assertIn("--size must be a whole number of 0..1048576",
                          self.rotate("--size", size, status=1))
        with open(self.log(), "a", encoding="utf-8") as file:
            file.write(log_line("/api/filler") * (MIB // len(log_line("/api/filler")) + 1))
        self.assertEqual(self.rotate("--size", "2"), [])
        self.assertRegex(self.rotate("--size", "1")[0], "^rotated to ")
        self.assertEqual(self.rotate("--size", "1"), [])

    def test_nothing_is_written_over(self):
        taken = [time.strftime("access.log.%Y%m%dT%H%M%SZ", time.gmtime(time.time() + i))
                 for i in range(30)]
        for name in taken:
            with open(self.log(name), "w", encoding="utf-8") as file:
                file.write(name)
        try:
            self.get("/api/a")
            first = self.rotated()
            self.get("/api/a")
            second = self.rotated()
            for name in (first, second):
                self.assertRegex(name, r"Z-\d+$")
            self.assertNotEqual(first, second)
            for name in taken:
                with open(self.log(name), encoding="utf-8") as file:
                    self.assertEqual(file.read(), name)
        finally:
            for name in taken:
                os.unlink(self.log(name))

    def test_many_at_once_do_no_harm(self):
        before = set(self.names())
        for i in range(5):
            self.get(f"/api/many/{i}")
        lines = sum(at_once(6, lambda i: self.rotate("--size", "0")), [])
        new = set(self.names()) - before
        self.assertEqual({line.split()[2] for line in lines if line.startswith("rotated")}, new)
        self.assertTrue(new)
        self.assertTrue(os.path.exists(self.log()))
        for i in range(5):
            self.assertEqual(self.count(f"/api/many/{i}"), 1)

    def test_a_log_that_somebody_was_faster_to_open_is_opened_anew(self):
        """Such as a worker that comes to it late: all others must leave the old one, too."""
        stop, made = threading.Event(), []

        def make():
            while not stop.is_set():
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(self.log(), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
                    made.append(True)

        thread = threading.Thread(target=make, daemon=True)
        thread.start()
        try:
            for i in range(1, 11):
                self.get("/api/faster")
                name = self.rotated()
                wait_for(lambda: not self.writers(name), f"nobody writes to {name}")
                self.get("/api/faster")
                self.assertEqual(self.count("/api/faster"), 2 * i)
        finally:
            stop.set()
            thread.join()
        self.assertTrue(made)

    def writers(self, name):
        """nginx's processes that have this file open."""
        def files(pid):
            with contextlib.suppress(OSError):
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    yield os.path.basename(os.readlink(f"/proc/{pid}/fd/{fd}"))

        return [pid for pid in self.service.pids("nginx") if name in files(pid)]

    def test_the_turn_is_nobody_elses_to_take(self):
        """The log's folder is open to nginx's workers, who could lock it."""
        held = os.open(self.log(""), os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            self.get("/api/turn")
            self.rotated()
        finally:
            os.close(held)
        mode = os.stat(os.path.join(self.service.data, "run/rotate")).st_mode
        self.assertEqual(mode & 0o777, 0o600)

    def test_a_log_that_lost_its_name_is_opened_anew(self):
        """As after a rotation that was killed before it told nginx."""
        self.get("/api/lost")
        os.rename(self.log(), self.log("access.log.lost"))
        self.get("/api/lost")
        self.assertEqual(self.rotate(), ["nginx has opened a new access.log"])
        self.get("/api/lost")
        self.assertEqual(self.count("/api/lost"), 3)


class Removing(RotateCase):
    def test_what_is_counted_is_removed_after_a_minute(self):
        self.get("/api/old")
        name = self.taken_in(self.rotated())
        self.assertEqual(self.rotate(), [])
        self.assertEqual(self.names(), [name])
        self.age(name)
        self.removed(name)
        self.assertEqual(self.names(), [])
        self.assertEqual(self.rotate(), [])
        self.assertEqual(self.count("/api/old"), 1)

    def test_what_is_not_counted_is_kept_and_named(self):
        pids = self.service.pids("stats")
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            self.get("/api/waits")
            name = self.rotated()
            self.age(name)
            wait_for(lambda: self.refused(name), "nginx has let go of it")
            self.assertEqual(self.names(), [name])
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        wait_for(lambda: self.count("/api/waits") == 1, "it is counted")
        self.removed(name)

    def refused(self, name):
        """Whether it is kept, and named."""
        done = caredesk("rotate-log", "--config", self.service.config_file, "--data",
                        self.service.data)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done)
        return done.stderr.startswith(f"caredesk: {name} is kept: of its ")

    def test_what_somebody_may_write_to_is_kept(self):
        self.get("/api/open")
        name = self.taken_in(self.rotated())
        with open(self.log(name), "a", encoding="utf-8"):
            self.age(name)
            for _ in range(3):
                self.assertEqual(self.rotate(), [])
        self.age(name)
        self.removed(name)

    def test_a_worker_that_is_slow_to_let_go_loses_no_line(self):
        """Of a log that was quiet for long before it was renamed."""
        self.get("/api/slow")
        self.assertEqual(self.count("/api/slow"), 1)
        self.age("access.log")
        workers = self.service.workers()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        try:
            name = self.rotated()
            self.age(name)
            self.assertEqual(self.rotate(), [])
            self.assertEqual(self.names(), [name])
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        self.removed(self.taken_in(name))
        self.assertEqual(self.count("/api/slow"), 1)

    def test_a_line_without_its_end_is_kept(self):
        with open(self.log("access.log.cut"), "w", encoding="utf-8") as file:
            file.write(log_line("/api/cut") + log_line("/api/cut")[:-9])
        self.age("access.log.cut")
        self.rotated_beside("access.log.cut")
        wait_for(lambda: self.count("/api/cut") == 1, "what is whole is counted")
        self.assertEqual(self.rotate(kept=["access.log.cut"]), [])
        with open(self.log("access.log.cut"), "a", encoding="utf-8") as file:
            file.write(log_line("/api/cut")[-9:])
        wait_for(lambda: self.count("/api/cut") == 2, "the rest is counted")
        self.age("access.log.cut")
        self.removed("access.log.cut")

    def rotated_beside(self, *kept):
        """So that stats looks into the folder; what it leaves is removed."""
        self.get("/api/beside")
        lines = self.rotate("--size", "0", kept=kept)
        name = self.taken_in(lines[0].split()[2])
        self.age(name)
        self.removed(name, kept)

    def test_other_files_and_links_are_left_alone(self):
        outside = os.path.join(self.service.folder, "outside")
        with open(outside, "w", encoding="utf-8") as file:
            file.write(log_line("/api/outside"))
        os.symlink(outside, self.log("access.log.link"))
        os.mkdir(self.log("access.log.folder"))
        os.mkfifo(self.log("access.log.fifo"))
        for name in ("access.logx", "access.log.1.gz", "error.log", "access.log.a b",
                     "access.log.\n", "xaccess.log.1"):
            with open(self.log(name), "w", encoding="utf-8") as file:
                file.write(log_line("/api/foreign"))
        names = self.names()
        self.age(*names)
        os.utime(outside, (1, 1))
        self.rotated_beside()
        self.assertEqual(self.names(), names)
        self.assertTrue(os.path.exists(outside))
        for name in names:
            path = self.log(name)
            if os.path.isdir(path):
                os.rmdir(path)
            else:
                os.unlink(path)

    @unittest.skipUnless(ROOT, "not root")
    def test_root_leaves_no_file_of_its_own_beside_the_databases(self):
        self.get("/api/owner")
        self.service.stop()
        try:
            lines = self.rotate("--size", "0")
            self.assertEqual(len(lines), 1, lines)
            name = lines[0].split()[2]
            self.age(name)
            caredesk("rotate-log", "--config", self.service.config_file, "--data",
                     self.service.data)
            user = pwd.getpwnam("www-data").pw_uid
            folder = os.path.join(self.service.data, "db")
            self.assertEqual({os.lstat(os.path.join(folder, one)).st_uid
                              for one in os.listdir(folder)}, {user})
        finally:
            self.again()


class Stopped(RotateCase):
    def test_a_log_of_a_service_that_does_not_run_is_renamed_and_counted_later(self):
        self.get("/api/stopped")
        self.service.stop()
        with open(self.log(), "a", encoding="utf-8") as file:
            file.write(log_line("/api/stopped"))
        lines = self.rotate("--size", "0")
        self.assertEqual(len(lines), 1, lines)
        self.assertFalse(os.path.exists(self.log()))
        name = lines[0].split()[2]
        self.age(name)
        self.assertEqual(self.rotate("--size", "0", kept=[name]), [])
        self.again()
        wait_for(lambda: self.count("/api/stopped") == 2, "both are counted")
        self.service.stop()
        self.assertEqual(self.rotate(), [f"removed {name}"])
        self.again()
        self.assertEqual(self.count("/api/stopped"), 2)

    def test_without_a_database_nothing_is_removed(self):
        self.get("/api/none")
        self.service.stop()
        for name in os.listdir(os.path.join(self.service.data, "db")):
            if name.startswith("stats.db"):
                os.unlink(os.path.join(self.service.data, "db", name))
        names = [self.rotate("--size", "0")[0].split()[2]]
        self.age(*names)
        self.assertEqual(self.rotate(kept=names), [])
        self.assertEqual(self.names(), names)
        self.again()

    def test_a_folder_that_is_none_is_refused(self):
        done = caredesk("rotate-log", "--data", "/nonexistent/data")
        self.assertEqual(done.returncode, 1)
        self.assertIn("there is no data folder", done.stderr)


class Telling(RotateCase):
    """nginx, and what is not it."""

    def pid_file(self, text):
        with open(os.path.join(self.service.data, "run/nginx.pid"), "w", encoding="ascii") as file:
            file.write(text)

    def test_a_number_that_is_not_our_nginx_is_told_nothing(self):
        with open(os.path.join(self.service.data, "run/nginx.pid"), encoding="ascii") as file:
            own = file.read()
        self.get("/api/other")
        other = Service(self.config())
        self.addCleanup(other.close)
        sleeper = subprocess.Popen(["sleep", "600"], cwd=self.service.data)
        try:
            with open(os.path.join(other.data, "run/nginx.pid"), encoding="ascii") as file:
                others = file.read()
            for text in (f"{sleeper.pid}\n", others, "", "0\n", "1\n", "-1\n", "x\n",
                         "99999999999999999999\n", "2147483648\n"):
                with self.subTest(text):
                    self.pid_file(text)
                    self.assertIn("nginx does not run there", self.rotate("--size", "0", status=1))
                    self.assertEqual(self.names(), [])
            self.assertIsNone(sleeper.poll())
        finally:
            self.pid_file(own)
            sleeper.kill()
            sleeper.wait()
        other.stop()
        self.rotated()

    def test_an_nginx_that_does_not_open_a_new_log_is_an_error(self):
        with open(os.path.join(self.service.data, "run/nginx.pid"), encoding="ascii") as file:
            master = int(file.read())
        self.get("/api/deaf")
        os.kill(master, signal.SIGSTOP)
        try:
            self.assertIn("has not opened a new access.log", self.rotate("--size", "0", status=1))
        finally:
            os.kill(master, signal.SIGCONT)
        wait_for(lambda: os.path.exists(self.log()), "the new log")
        self.get("/api/deaf")
        self.assertEqual(self.count("/api/deaf"), 2)


class ByItself(RotateCase):
    @classmethod
    def config(cls):
        return {"log": {"rotate_mib": 1, "keep": 1}}

    def test_a_log_that_is_too_large_at_the_start_is_rotated(self):
        self.get("/api/itself")
        self.service.stop()
        self.assertEqual(self.names(), [])
        line = log_line("/api/itself")
        more = MIB // len(line) + 1
        with open(self.log(), "a", encoding="utf-8") as file:
            file.write(line * more)
        self.again()
        wait_for(lambda: len(self.service.events("rotate")) == 2, "it is said")
        said = self.service.events("rotate")
        self.assertEqual({one["level"] for one in said}, {"info"})
        self.assertEqual([one["detail"] for one in said],
                         [f"rotated to {self.names()[0]}", "nginx has opened a new access.log"])
        self.assertEqual(len(self.names()), 1)
        self.assertEqual(self.count("/api/itself"), more + 1)
        self.assertExact()
        with contextlib.suppress(OSError), open(
                f"/proc/{self.service.process.pid}/task/{self.service.process.pid}/children",
                encoding="ascii") as file:
            self.assertEqual(len(file.read().split()), len(harness.PROGRAMS) + 1)
        self.assertEqual(self.service.output, [self.service.ready_line])

    def test_one_that_fails_is_said_and_stops_nothing(self):
        self.service.stop()
        with open(self.log(), "a", encoding="utf-8") as file:
            file.write(log_line("/api/fails") * (MIB // 100))
        held = os.open(os.path.join(self.service.data, "run/rotate"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            self.again()
            wait_for(lambda: [one for one in self.service.events("rotate")
                              if one["level"] == "error"], "it is said", 3 * harness.LONG)
        finally:
            os.close(held)
        self.assertEqual(self.get("/healthz").status, 200)
        self.assertTrue(os.path.exists(self.log()))
        self.assertExact()

    def test_a_stop_does_not_wait_for_it(self):
        """Not even where it waits for its turn."""
        self.service.stop()
        with open(self.log(), "a", encoding="utf-8") as file:
            file.write(log_line("/api/stops") * (MIB // 100))
        held = os.open(os.path.join(self.service.data, "run/rotate"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            self.again()
            self.assertLess(self.service.stop(), 5)
        finally:
            os.close(held)
        self.assertEqual(self.service.events("killed"), [])
        self.again()


if __name__ == "__main__":
    harness.main()
