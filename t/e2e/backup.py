"""backup, restore and fsck of all data sets and the images: one instant, all or nothing."""
import contextlib
import ctypes
import errno
import glob
import json
import os
import random
import shlex
import shutil
import struct
import subprocess
import sys
import threading
import time

import harness
from data import PATIENCE, DataCase, database
from harness import Service, at_once, note, program
from images import form, png

ROUNDS = int(os.environ.get("CAREDESK_CRASH_ROUNDS", 10))
SETS = ("accounts", "audios", "events", "stats")
JSON = {"Content-Type": "application/json"}


def rows(folder):
    """What is in the four data sets of a folder, but for what a restore makes anew."""
    found = {}
    for name in SETS:
        with database(os.path.join(folder, f"{name}.db")) as db:
            tables = [table for table, in db.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
                " AND name NOT IN ('origin', 'state')")]
            found[name] = {table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
                           for table in tables}
    return found


def keys(path):
    with database(path) as db:
        return {key for key, in db.execute(
            "SELECT image_key FROM accounts WHERE image_key IS NOT NULL")}


def images(folder):
    """Key and bytes of every image."""
    found = {}
    for name in glob.glob(os.path.join(folder, "*/*")):
        with open(name, "rb") as file:
            found[os.path.relpath(name, folder)] = file.read()
    return found


class Client:
    """Changes everything, over one connection."""

    def __init__(self, service):
        self.connection = service.connect()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def send(self, method, target, value, status):
        answer = self.connection.ask(target, method, JSON, json.dumps(value).encode())
        if answer.status != status:
            raise AssertionError(answer)
        return answer

    def account(self, n):
        """Its path."""
        return self.send("POST", "/accounts", {
            "name": str(n), "email": f"a{n}@example.org", "address": "c"}, 201).field("Location")

    def image(self, path, shade):
        answer = self.connection.ask(
            f"{path}/upload_image", "POST",
            {"Content-Type": "multipart/form-data; boundary=b0"}, form(png(shade=shade)))
        if answer.status != 200:
            raise AssertionError(answer)

    def audio(self, n):
        self.send("POST", "/audios", {"session_id": n, "ticks": [-50] * 15, "selected_tick": 1,
                                      "step_count": 2}, 201)

    def event(self, n):
        self.send("POST", "/events", {"type_id": 1, "caregiver_id": n,
                                      "start_time": "2026-03-01T08:00:00Z"}, 201)

    def all_of(self, n):
        path = self.account(n)
        self.image(path, n)
        self.audio(n)
        self.event(n)
        return path


class Opened:
    """Whether a folder itself is opened, rather than something in it."""

    IN_OPEN, NAME = 0x20, struct.Struct("iIII")

    def __init__(self, folder):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK)
        if libc.inotify_add_watch(self.fd, folder.encode(), self.IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def itself(self):
        try:
            events = os.read(self.fd, 65536)
        except BlockingIOError:
            return False
        at, found = 0, False
        while at < len(events):
            _, _, _, length = self.NAME.unpack_from(events, at)
            found |= length == 0
            at += self.NAME.size + length
        return found


def refuse_exchanges():
    """In this process and its children, as a file system without RENAME_EXCHANGE: by seccomp."""
    load, equal, end = 0x20, 0x15, 0x06
    number = {"x86_64": 316, "aarch64": 276}[os.uname().machine]
    flags, exchange, failure, allow = 16 + 4 * 8, 2, 0x50000 | errno.EINVAL, 0x7fff0000
    code = b"".join(struct.pack("HBBI", *one) for one in (
        (load, 0, 0, 0), (equal, 0, 3, number), (load, 0, 0, flags), (equal, 0, 1, exchange),
        (end, 0, 0, failure), (end, 0, 0, allow)))
    buffer = ctypes.create_string_buffer(code, len(code))
    program_of = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, program_of, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def made_folder(add_cleanup):
    """A data folder as `caredesk run` leaves it, with some of each."""
    service = Service()
    add_cleanup(service.close)
    with Client(service) as client:
        client.send("POST", "/events/types", {"name": "a", "amount_in_cents": 5}, 201)
        for n in range(1, 4):
            client.all_of(n)
    service.get("/stats/")
    service.stop()
    return service.data


class BackupCase(DataCase):
    def kept(self):
        return sorted(name for name in os.listdir(self.data) if name.startswith("before-restore"))

    def state(self, data=None):
        """All that a backup is to bring back; images only as far as they are named."""
        data = data or self.data
        named = keys(os.path.join(data, "db/accounts.db"))
        have = images(os.path.join(data, "blobs"))
        return rows(os.path.join(data, "db")), {key: have[key] for key in named}

    def undo(self, done):
        """What the last line of a restore says."""
        words = shlex.split(done.stdout.splitlines()[-1].removeprefix("to undo this: caredesk "))
        return subprocess.run([program("caredesk"), *words], cwd="/", stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=PATIENCE, check=True)


class Stopped(BackupCase):
    """While no service runs."""

    @classmethod
    def setUpClass(cls):
        cls.original = made_folder(cls.addClassCleanup)

    def setUp(self):
        self.data = os.path.join(self.folder(), "data")
        self.renew()

    def renew(self):
        shutil.rmtree(self.data, ignore_errors=True)
        subprocess.run(["cp", "-a", self.original, self.data], check=True)

    def grow(self):
        """Changes every set and the images; returns the state then."""
        service = Service(data=self.data)
        self.addCleanup(service.close)
        with Client(service) as client:
            gone = client.account(100)
            client.image(gone, 100)
            client.all_of(101)
            client.image("/accounts/1", 77)
            self.assertEqual(service.ask("/accounts/2", "DELETE").status, 204)
        service.get("/stats/")
        service.stop()
        return self.state()

    def tamper(self, name, *statements):
        with database(self.path(f"db/{name}.db")) as db:
            for statement in statements:
                db.execute(statement)

    # backup

    def test_a_backup_has_every_set_and_image(self):
        to = self.folder()
        self.run_command("backup", to)
        self.assertEqual(rows(to), rows(self.path("db")))
        self.assertEqual(images(os.path.join(to, "blobs")), self.state()[1])
        self.assertEqual(len(keys(os.path.join(to, "accounts.db"))), 3)

    def test_an_image_that_nobody_names_is_not_in_a_backup(self):
        to = self.folder()
        self.tamper("accounts", "UPDATE accounts SET image_key = NULL WHERE id = 2")
        self.run_command("backup", to)
        self.assertEqual(set(images(os.path.join(to, "blobs"))), keys(self.path("db/accounts.db")))
        self.assertEqual(len(images(self.path("blobs"))), 3)

    def test_an_image_that_is_missing_or_damaged_is_told_and_stops_nothing(self):
        with database(self.path("db/accounts.db")) as db:
            key, = db.execute("SELECT image_key FROM accounts WHERE id = 3").fetchone()
        file = self.path(f"blobs/{key}")
        for words, damage in (("is damaged: it is not what was stored", lambda: os.truncate(file, os.path.getsize(file) - 1)),
                              ("is damaged: it is not what was stored", self.text_into(file)),
                              ("is not there; its link answers 404", lambda: os.unlink(file))):
            to = os.path.join(self.folder(), "b")
            damage()
            done = self.refused("backup", to, words="the backup is whole, but for 1 image that is"
                                                    " missing or damaged")
            told = f"the image {key} of account 3 {words}\n"
            self.assertEqual(done.stdout.count(told), 1, done)
            self.assertRegex(done.stdout, r"/blobs: 2 images, \d+ bytes, verified\n")
            before = self.state_but(key)
            self.assertEqual(rows(to), before[0])
            self.assertEqual({name: image for name, image in images(f"{to}/blobs").items()
                              if name != key}, before[1])
            done = self.run_command("restore", to)
            self.assertIn(told, done.stdout)
            self.assertEqual(self.state_but(key), before)

    def state_but(self, key):
        """The state, without the image KEY."""
        named = keys(self.path("db/accounts.db")) - {key}
        have = images(self.path("blobs"))
        return rows(self.path("db")), {name: have[name] for name in named}

    @staticmethod
    def text_into(file):
        def write():
            with open(file, "w", encoding="ascii") as out:
                out.write("this is no picture")
        return write

    def test_a_set_that_is_damaged_is_named_and_one_that_is_not_there_left_out(self):
        to = self.folder()
        for name in glob.glob(self.path("db/stats.db*")):
            os.unlink(name)
        done = self.run_command("backup", to)
        self.assertIn("stats.db: is left out: it is not there yet\n", done.stdout)
        self.assertEqual(sorted(os.listdir(to)), ["accounts.db", "audios.db", "blobs", "events.db"])
        with open(self.path("db/audios.db"), "r+b") as file:
            file.write(b"this is no database")
        to = self.folder()
        self.refused("backup", to, words="audios.db: ")
        self.assertEqual(os.listdir(to), [])

    def commit_and_vanish(self, name):
        """Leaves a change in the log, as one who is killed does."""
        subprocess.run([sys.executable, "-c",
                        "import os, sqlite3, sys\n"
                        "db = sqlite3.connect(sys.argv[1])\n"
                        "db.execute('PRAGMA user_version = %d' %"
                        " db.execute('PRAGMA user_version').fetchone())\n"
                        "db.commit()\n"
                        "os._exit(0)", self.path(f"db/{name}.db")], check=True)
        return os.path.getsize(self.path(f"db/{name}.db-wal"))

    def test_a_backup_folds_in_nothing_whether_it_succeeds_or_not(self):
        size = self.commit_and_vanish("accounts")
        self.assertGreater(size, 0)
        self.run_command("backup", self.folder())
        self.assertEqual(os.path.getsize(self.path("db/accounts.db-wal")), size)
        self.overwriting("audios")()
        self.refused("backup", self.folder(), words="audios.db: ")
        self.assertEqual(os.path.getsize(self.path("db/accounts.db-wal")), size)

    def test_a_backup_opens_nothing_to_write_that_the_user_could_not(self):
        """Not even root's: what lies beside a database tells SQLite what to delete."""
        file = self.path("db/audios.db")
        os.chown(file, os.geteuid(), os.getegid())
        os.chmod(file, 0o444)
        to = self.folder()
        self.refused("backup", to, words="no one instant of all")
        self.assertEqual(os.listdir(to), [])

    def test_a_backup_that_ended_among_its_names_is_none(self):
        to = self.folder()
        self.run_command("backup", to)
        os.mkdir(os.path.join(to, ".caredesk-incomplete"))
        self.refused("restore", to, words="is not whole")
        self.refused("backup", to, words="of a backup that was ended in the middle")

    def test_what_else_is_in_the_folder_of_a_backup_stays_there(self):
        to = self.folder()
        for name in (".removed", ".incomplete"):
            os.mkdir(os.path.join(to, name))
            with open(os.path.join(to, name, "mine"), "w", encoding="ascii"):
                pass
        self.run_command("backup", to)
        for name in (".removed", ".incomplete"):
            self.assertEqual(os.listdir(os.path.join(to, name)), ["mine"])
        self.run_command("restore", to)

    def test_a_new_folder_has_its_name_on_disk(self):
        """Who syncs the folder above it has opened that, which the kernel tells."""
        parent = self.folder()
        for name, opened in (("new", True), ("new/old", True), ("there", False)):
            if not opened:
                os.mkdir(os.path.join(parent, name))
            with Opened(os.path.dirname(os.path.join(parent, name))) as watched:
                self.run_command("backup", os.path.join(parent, name))
                self.assertEqual(watched.itself(), opened, name)

    # restore

    def test_a_restore_brings_all_back_and_can_be_undone(self):
        to, first = self.folder(), self.state()
        self.run_command("backup", to)
        second = self.grow()
        self.assertNotEqual(first, second)
        done = self.run_command("restore", to)
        self.assertEqual(self.state(), first)
        kept, = self.kept()
        self.assertEqual(sorted(os.listdir(self.path(kept))),
                         sorted([f"{name}.db" for name in SETS] + ["blobs"]))
        again = self.undo(done)
        self.assertEqual(self.state(), second)
        self.undo(again)
        self.assertEqual(self.state(), first)
        self.run_command("fsck")
        for name in ("db", "blobs"):
            for folder, folders, files in os.walk(self.path(name)):
                for one in folders + files:
                    self.assertEqual(os.lstat(os.path.join(folder, one)).st_uid,
                                     os.stat(self.path("db")).st_uid, one)

    def test_what_was_replaced_can_be_restored_after_the_service_has_swept(self):
        to = self.folder()
        self.run_command("backup", to)
        second = self.grow()
        done = self.run_command("restore", to)
        service = Service(data=self.data)
        self.addCleanup(service.close)
        named = keys(self.path("db/accounts.db"))
        harness.wait_for(lambda: set(images(self.path("blobs"))) == named, "the sweep")
        service.stop()
        self.undo(done)
        back = self.state()
        self.assertEqual(back[0]["accounts"], second[0]["accounts"])
        self.assertEqual(back[1], second[1])

    def test_sets_that_a_backup_lacks_stay_as_they_are(self):
        to = self.folder()
        self.run_command("backup", to)
        second = self.grow()
        for name in ("accounts.db", "audios.db", "stats.db"):
            os.unlink(os.path.join(to, name))
        shutil.rmtree(os.path.join(to, "blobs"))
        for source in (to, os.path.join(to, "events.db")):
            done = self.run_command("restore", source)
            self.assertIn("restored events; what was there before is kept", done.stdout)
            now = self.state()
            self.assertEqual(len(now[0]["events"]["events"]), 3)
            for name in ("accounts", "audios", "stats"):
                self.assertEqual(now[0][name], second[0][name])
            self.assertEqual(now[1], second[1])
            self.assertEqual(os.listdir(self.path(self.kept()[-1])), ["events.db"])
            self.undo(done)
            self.assertEqual(self.state(), second)

    def test_one_file_of_each_set_is_restored(self):
        to, first = self.folder(), self.state()
        self.run_command("backup", to)
        second = self.grow()
        for name in ("audios", "stats"):
            done = self.run_command("restore", os.path.join(to, f"{name}.db"))
            self.assertIn(f"restored {name};", done.stdout)
            self.assertEqual(self.state()[0][name], first[0][name])
            self.assertEqual(self.state()[0]["events"], second[0]["events"])
        # Accounts 1 and 2 had images that are gone by now, and are not in one file.
        done = self.run_command("restore", os.path.join(to, "accounts.db"))
        for n in (1, 2):
            self.assertRegex(done.stdout,
                             rf"the image \S+ of account {n} is not there; its link answers 404\n")
        self.assertEqual(rows(self.path("db"))["accounts"], first[0]["accounts"])

    def test_a_database_that_is_gone_is_told_and_not_made_anew(self):
        to, kept = os.path.join(self.folder(), "b"), self.state()
        self.run_command("backup", to)
        os.unlink(self.path("db/accounts.db"))
        done = self.refused("fsck", words="1 of 4 data sets are not right")
        self.assertIn("accounts: db/accounts.db is gone\n", done.stdout)
        self.refused("backup", os.path.join(self.folder(), "c"), words="db/accounts.db is gone")
        with contextlib.closing(harness.Service(data=self.data, ready=False)) as service:
            harness.wait_for(lambda: service.events("storage"), "it is said")
            self.assertIn("is gone", service.events("storage")[0]["detail"])
            self.assertFalse(os.path.exists(self.path("db/accounts.db")))
        self.run_command("restore", to)
        self.assertEqual(self.state(), kept)

    def test_a_backup_that_lacks_images_brings_all_else_back(self):
        to, first = self.folder(), self.state()
        self.run_command("backup", to)
        second = self.grow()
        key = min(set(images(os.path.join(to, "blobs"))) - set(second[1]))
        file = os.path.join(to, "blobs", key)
        for words, damage in (("is damaged", lambda: open(file, "wb").close()),
                              ("is not there; its link", lambda: os.unlink(file))):
            for name in glob.glob(self.path(f"blobs/{key}")):
                os.unlink(name)
            damage()
            done = self.run_command("restore", to)
            self.assertRegex(done.stdout, rf"the image {key} of account \d {words}")
            self.assertEqual(self.state_but(key)[1],
                             {name: image for name, image in first[1].items() if name != key})
            self.undo(done)
            self.assertEqual(self.state(), second)

    def test_a_good_image_is_not_replaced(self):
        """Nor if what the backup has under its name looks like one."""
        to, first = self.folder(), self.state()
        self.run_command("backup", to)
        for name in images(os.path.join(to, "blobs")):
            os.truncate(os.path.join(to, "blobs", name), 12)
        self.run_command("restore", to)
        self.assertEqual(self.state(), first)

    def test_where_folders_cannot_be_exchanged_nothing_changes(self):
        to = self.folder()
        self.run_command("backup", to)
        lost = glob.glob(self.path("blobs/*/*"))[0]
        os.unlink(lost)
        before = sorted(os.listdir(self.data)), sorted(os.listdir(self.path("db")))
        done = subprocess.run([program("caredesk"), "restore", to, "--data", self.data],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=PATIENCE, check=False, preexec_fn=refuse_exchanges)
        self.assertEqual((done.returncode, done.stdout), (1, ""), done)
        self.assertIn("cannot exchange two folders (Invalid argument): nothing has changed",
                      done.stderr)
        self.assertFalse(os.path.exists(lost))
        self.assertEqual((sorted(os.listdir(self.data)), sorted(os.listdir(self.path("db")))),
                         before)

    def test_a_backup_that_has_a_bad_set_changes_nothing(self):
        to = self.folder()
        self.run_command("backup", to)
        second = self.grow()
        with open(os.path.join(to, "stats.db"), "r+b") as out:
            out.write(b"this is no database")
        self.refused("restore", to, words="the backup is not good")
        self.assertEqual((self.state(), self.kept()), (second, []))
        self.assertFalse(os.path.exists(self.path("db/blobs")))

    def test_an_image_that_was_lost_comes_back(self):
        to, first = self.folder(), self.state()
        self.run_command("backup", to)
        for name in glob.glob(self.path("blobs/*/*"))[:2]:
            with open(name, "wb"):
                pass
        self.run_command("restore", to)
        self.assertEqual(self.state(), first)

    def test_no_link_in_a_backup_is_followed(self):
        """What is kept is the user's, and so are links in it: root would copy for him what only
        root can read."""
        to = self.folder()
        self.run_command("backup", to)
        self.run_command("restore", to)
        kept = self.path(self.kept()[0])
        secret = os.path.join(self.folder(), "secret")
        with open(secret, "w", encoding="ascii") as file:
            file.write("root's")
        link = os.path.join(kept, "stats.db")
        before = self.state()
        for put, words in ((lambda: os.symlink(secret, link), "stats.db: is a link"),
                           (lambda: os.symlink("stats.db", link), "stats.db: is a link"),
                           (lambda: os.mkfifo(link), "stats.db: is no file"),
                           (lambda: os.mkdir(link), "stats.db: is no file"),
                           *([(lambda: os.link(secret, link), "stats.db: is not of the owner")]
                             if os.stat(kept).st_uid != 0 else [])):
            if os.path.isdir(link) and not os.path.islink(link):
                os.rmdir(link)
            else:
                os.unlink(link)
            put()
            self.refused("restore", kept, words=words)
            if not os.path.isdir(link) and os.path.exists(link):
                self.refused("restore", link, words=words)
        os.unlink(link)
        blobs = os.path.join(kept, "blobs")
        os.rename(blobs, blobs + "-away")
        os.symlink(blobs + "-away", blobs)
        self.refused("restore", kept, words="blobs: is no folder")
        self.assertEqual((self.state(), len(self.kept())), (before, 1))

    def test_a_backup_that_shares_its_files_with_another_is_one(self):
        """Such as one copied by rsync --link-dest, or kept by a restore that was killed."""
        for owner in (os.stat(self.path("db")), None) if os.geteuid() == 0 else (None,):
            to, copy = self.folder(), self.folder()
            self.run_command("backup", to)
            for name in SETS:
                os.link(os.path.join(to, f"{name}.db"), os.path.join(copy, f"{name}.db"))
                if owner is not None:
                    os.chown(os.path.join(copy, f"{name}.db"), owner.st_uid, owner.st_gid)
            if owner is not None:
                os.chown(copy, owner.st_uid, owner.st_gid)
            self.run_command("restore", copy)
            self.run_command("restore", os.path.join(copy, "audios.db"))

    def test_what_else_is_in_the_folder_of_databases_stays_there(self):
        to = self.folder()
        self.run_command("backup", to)
        with open(self.path("db/events.db.before-restore-x"), "w", encoding="ascii") as file:
            file.write("of an older version")
        self.run_command("restore", os.path.join(to, "events.db"))
        with open(self.path("db/events.db.before-restore-x"), encoding="ascii") as file:
            self.assertEqual(file.read(), "of an older version")
        self.assertEqual(os.listdir(self.path(self.kept()[0])), ["events.db"])

    def test_a_restore_that_is_killed_leaves_all_old_or_all_new(self):
        to, first = self.folder(), self.state()
        self.run_command("backup", to)
        second = self.grow()
        begun = time.monotonic()
        self.undo(self.run_command("restore", to))
        took = (time.monotonic() - begun) / 2
        ends, left = {"old": 0, "new": 0}, False
        for i in range(ROUNDS):
            restore = subprocess.Popen(
                [program("caredesk"), "restore", to, "--data", self.data],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.await_moment(restore, random.uniform(0, 1.1 * took), i % 2 == 1)
            restore.kill()
            restore.wait()
            self.await_lock()
            now = self.state()
            self.assertIn(now, (first, second))
            left |= bool(glob.glob(self.path("before-restore-*/.caredesk-incomplete")))
            ends["old" if now == second else "new"] += 1
            self.run_command("fsck")
            if now == first:  # what it has kept is whole, whenever it ended
                kept = [name for name in self.kept()
                        if not os.path.exists(self.path(f"{name}/.caredesk-incomplete"))][-1]
                self.run_command("restore", self.path(kept))
                self.assertEqual(self.state(), second)
        note(f"a restore of {took:.3f} s, killed: {ends}; a folder was left: {left}")
        self.run_command("restore", to)
        self.assertEqual(glob.glob(self.path("*/.caredesk-incomplete")), [])
        self.assertFalse(os.path.exists(self.path("db/blobs")))

    def test_a_start_removes_what_a_killed_restore_has_left(self):
        to = self.folder()
        self.run_command("backup", to)
        self.run_command("restore", to)
        kept, before = self.kept(), self.state()
        subprocess.run(["cp", "-al", self.path("blobs"), self.path("db/blobs")], check=True)
        for name in ("before-restore-removed/7f", "before-restore-20261120T031700.000000Z/blobs"):
            os.makedirs(self.path(name))
        for name in ("before-restore-20261120T031700.000000Z", "db"):
            with open(self.path(f"{name}/.caredesk-incomplete"), "wb"):
                pass
        service = Service(data=self.data)
        self.addCleanup(service.close)
        self.assertEqual(self.kept(), kept)
        for name in ("db/blobs", "db/.caredesk-incomplete"):
            self.assertFalse(os.path.exists(self.path(name)), name)
        service.stop()
        self.assertEqual(self.state()[1], before[1])
        self.run_command("restore", self.path(kept[0]))

    def await_moment(self, restore, seconds, exchanged):
        """Some time, or right behind the exchange, when it is about to tidy."""
        until, folder = time.monotonic() + seconds, os.stat(self.path("db")).st_ino
        while exchanged and restore.poll() is None and os.stat(self.path("db")).st_ino == folder:
            pass
        while not exchanged and time.monotonic() < until:
            time.sleep(0.001)

    def await_lock(self):
        """Its child ends with it, if not in the same moment."""
        harness.wait_for(lambda: subprocess.run(
            ["flock", "-n", self.path("run/lock"), "true"], check=False).returncode == 0, "its end")

    def test_all_moves_to_another_machine(self):
        to, first = self.folder(), self.state()
        self.run_command("backup", to)
        other = Service()
        self.addCleanup(other.close)
        self.assertEqual(other.get("/stats/").status, 200)
        other.stop()
        self.run_command("restore", to, data=other.data)
        self.assertEqual(self.state(other.data), first)
        again = Service(data=other.data)
        self.addCleanup(again.close)
        self.assertIn("image_hosted_url", again.get("/accounts/1").json)
        # The log of the new machine, which the counts do not know, is taken in from its beginning.
        counts = {row["path"]: row["count"] for row in again.get("/stats/").json}
        self.assertEqual(counts["/accounts"], 3)
        self.assertGreaterEqual(counts["/stats/"], 2)
        again.stop()
        self.run_command("fsck", data=other.data)

    def test_requests_after_a_backup_are_counted_anew_from_the_log(self):
        to = self.folder()
        self.run_command("backup", to)
        self.grow()
        with database(self.path("db/stats.db")) as db:
            counted = db.execute("SELECT path, count FROM paths ORDER BY path").fetchall()
        self.run_command("restore", os.path.join(to, "stats.db"))
        service = Service(data=self.data)
        self.addCleanup(service.close)
        service.get("/nothing")
        service.get("/stats/")
        service.stop()
        with database(self.path("db/stats.db")) as db:
            again = dict(db.execute("SELECT path, count FROM paths ORDER BY path").fetchall())
        for path, count in counted:
            self.assertGreaterEqual(again[path], count, path)
        self.assertEqual(again[b"/accounts"], dict(counted)[b"/accounts"])

    # fsck

    def test_what_is_right_is_said_to_be_in_a_line_a_set(self):
        self.assertRegex(self.run_command("fsck").stdout,
                         r"\Aaccounts: 3 accounts, 3 images\n"
                         r"audios: 3 sessions, all within their bounds\n"
                         r"events: all sums are what their events give\n"
                         r"stats: \d+ requests of \d+ paths: as many as lines of the log\n\Z")
        self.assertEqual(self.run_command("fsck", "audios").stdout,
                         "audios: 3 sessions, all within their bounds\n")
        self.refused("fsck", "nothing", words="there is no data set nothing")

    def test_each_kind_of_damage_is_found(self):
        with database(self.path("db/accounts.db")) as db:
            key, = db.execute("SELECT image_key FROM accounts WHERE id = 2").fetchone()
        file = self.path(f"blobs/{key}")
        image = f"account 2: its image {key}"
        for name, told, damage in (
                ("accounts", f"{image} is not there", lambda: os.unlink(file)),
                ("accounts", f"{image} is damaged", lambda: open(file, "wb").close()),
                ("accounts", f"{image} is damaged", lambda: os.truncate(file, os.path.getsize(file) - 1)),
                ("accounts", f"{image} is damaged", self.text_into(file)),
                ("accounts", "account 1: its email is not folded", self.tampering(
                    "accounts", "UPDATE accounts SET email = 'a1@EXAMPLE.org' WHERE id = 1")),
                ("accounts", "account 1: the digest of its email is another one's", self.tampering(
                    "accounts", "UPDATE accounts SET email = 'b@example.org' WHERE id = 1")),
                ("accounts", "account 3: the digest of its name is another one's", self.tampering(
                    "accounts", "UPDATE accounts SET name = 'b' WHERE id = 3")),
                ("accounts", "account 3: the digest of its address is another one's",
                 self.tampering("accounts", "UPDATE accounts SET address = 'b' WHERE id = 3")),
                ("audios", "session ", self.tampering(
                    "audios", "PRAGMA ignore_check_constraints = ON",
                    "UPDATE audios SET tick_3 = 0 WHERE session_id = 2")),
                ("audios", "session ", self.tampering(
                    "audios", "PRAGMA ignore_check_constraints = ON",
                    "UPDATE audios SET session_id = -1 WHERE session_id = 2")),
                ("events", "2026-03 caregiver 2: stored 6 cents", self.tampering(
                    "events", "UPDATE sums SET open_cents = 6 WHERE caregiver_id = 2")),
                ("stats", "requests in all", self.tampering(
                    "stats", "UPDATE paths SET count = count + 1 WHERE id = 1")),
                ("stats", "no database", self.overwriting("stats")),
                ("audios", "no database", self.overwriting("audios"))):
            with self.subTest(told):
                self.renew()
                damage()
                for arguments in ([], [name]):
                    done = self.refused("fsck", *arguments, words="data sets are not right")
                    self.assertIn(told, done.stdout)
                    found = [line.split(":")[0] for line in done.stdout.splitlines()]
                    self.assertEqual([one for one in SETS if one in found], arguments or list(SETS))
                self.assertIn(f"1 of {4} data sets", self.run_command("fsck", status=1).stderr)

    def tampering(self, name, *statements):
        return lambda: self.tamper(name, *statements)

    def overwriting(self, name):
        def write():
            with open(self.path(f"db/{name}.db"), "r+b") as file:
                file.write(b"this is no database")
        return write

    def test_what_the_sweep_will_find_and_what_is_not_ours_is_only_told(self):
        key = "5a/5a000000000000000000000000000001.png"
        os.makedirs(self.path("blobs/5a"), exist_ok=True)
        for name in (key, f"5a/.{key[3:]}", "5a/notes.txt"):
            with open(self.path(f"blobs/{name}"), "wb") as file:
                file.write(png())
        lines = self.run_command("fsck", "accounts").stdout.splitlines()
        self.assertEqual(lines[-1], "accounts: 3 accounts, 3 images")
        self.assertEqual(sorted(lines[:-1]), [
            f"5a/.{key[3:]}: of an upload that was ended; it waits for the sweep",
            f"{key}: no account names it; it waits for the sweep",
            "5a/notes.txt: is no image, and none of ours"])

    def test_of_many_differences_a_hundred_are_told(self):
        with database(self.path("db/accounts.db")) as db:
            for i in range(150):
                db.execute("INSERT INTO accounts (name, email, address, name_digest, email_digest,"
                           " address_digest, version, created_at, updated_at) SELECT 'x', email,"
                           " address, name_digest, randomblob(16), address_digest, 1, 1, 1"
                           " FROM accounts WHERE id = 1")
        lines = self.refused("fsck", "accounts", words="not right").stdout.splitlines()
        self.assertEqual(len(lines), 102)
        self.assertEqual(lines[-2:], ["and 200 more", "accounts: 300 differences"])


class Running(BackupCase):
    """While the service runs, and writes."""

    start = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = cls.service.data
        with Client(cls.service) as client:
            client.send("POST", "/events/types", {"name": "a", "amount_in_cents": 5}, 201)

    def while_writing(self, writers, count, look):
        """LOOK(i) COUNT times, while each of WRITERS is called with a connection of its own and a
        number that rises."""
        done = threading.Event()
        to = self.folder()

        def work(i):
            if i == len(writers):
                try:
                    for k in range(count):
                        look(os.path.join(to, str(k)))
                finally:
                    done.set()
                return 0
            n = 0
            with Client(self.service) as client:
                while not done.is_set():
                    n += 1
                    writers[i](client, n)
            return n

        return at_once(len(writers) + 1, work)[:-1]

    def numbers(self, folder, first):
        """The last of what a writer does in this order: account, audio, event."""
        with database(os.path.join(folder, "accounts.db")) as db:
            a, = db.execute("SELECT max(CAST(name AS INTEGER)) FROM accounts"
                            " WHERE CAST(name AS INTEGER) BETWEEN ? AND ?",
                            (first, first + 999999)).fetchone()
        with database(os.path.join(folder, "audios.db")) as db:
            s, = db.execute("SELECT max(session_id) FROM audios"
                            " WHERE session_id BETWEEN ? AND ?", (first, first + 999999)).fetchone()
        with database(os.path.join(folder, "events.db")) as db:
            e, = db.execute("SELECT max(caregiver_id) FROM events"
                            " WHERE caregiver_id BETWEEN ? AND ?",
                            (first, first + 999999)).fetchone()
        return [number or first for number in (a, s, e)]

    def test_a_backup_is_of_one_instant_of_all_sets(self):
        seen = []

        def writer(first):
            def write(client, n):
                client.account(first + n)
                client.audio(first + n)
                client.event(first + n)
            return write

        def look(to):
            self.run_command("backup", to)
            for first in (1000000, 2000000, 3000000):
                a, s, e = self.numbers(to, first)
                self.assertIn((a - s, a - e, s - e), ((0, 0, 0), (1, 1, 0), (0, 1, 1)), (a, s, e))
                seen.append(a)

        made = self.while_writing([writer(1000000 * i) for i in (1, 2, 3)], 5, look)
        note(f"{sum(made)} rounds of changes meanwhile; the backups have {seen}")
        self.assertGreater(seen[-1], seen[2], "nothing was written between the backups")

    def test_a_backup_has_its_images_while_they_are_replaced_and_deleted(self):
        counts = []

        def replace(client, n):
            if n == 1:
                client.path = client.account(f"4{id(client)}")
            client.image(client.path, n % 200)

        def delete(client, n):
            path = client.account(f"5{id(client)}{n}")
            client.image(path, n % 200)
            answer = client.connection.ask(path, "DELETE")
            self.assertEqual(answer.status, 204, answer)

        def look(to):
            self.run_command("backup", to)
            named = keys(os.path.join(to, "accounts.db"))
            have = images(os.path.join(to, "blobs"))
            self.assertEqual(named, set(have))
            for image in have.values():
                self.assertTrue(image.startswith(b"\x89PNG\r\n") and b"IEND" in image[-12:])
            counts.append(len(named))

        made = self.while_writing([replace, replace, delete, delete], 6, look)
        note(f"{made} images put and deleted meanwhile; the backups have {counts}")
        self.assertGreater(max(counts), 0)

    def test_nothing_is_found_wrong_while_everything_changes(self):
        def write(client, n):
            path = client.all_of(9000000 + 10 * n + (id(client) // 64) % 10)
            client.image(path, n % 100)
            self.assertEqual(client.connection.ask(path, "DELETE").status, 204)

        self.while_writing([write], 5, lambda _: self.run_command("fsck"))

    def test_backups_at_once_do_not_disturb_each_other(self):
        to = self.folder()

        def back_up(i):
            self.run_command("backup", os.path.join(to, str(i)))
            return keys(os.path.join(to, str(i), "accounts.db"))

        at_once(3, back_up)

    def test_a_restore_needs_the_service_stopped(self):
        to = self.folder()
        self.run_command("backup", to)
        before = self.state()[0]["audios"]
        self.refused("restore", to, words=["caredesk run", "stop it first"])
        self.assertEqual((self.state()[0]["audios"], self.kept()), (before, []))


if __name__ == "__main__":
    harness.main()
