"""`caredesk person`: all that is stored of one person, given out exactly, and erased to the last byte."""
import contextlib
import hashlib
import json
import os
import pty
import random
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.parse

import harness
from data import DataCase
from harness import Service, note, program, wait_for
from images import form, jpeg, png
from ledger import Client, send

ACCOUNTS = "db/accounts.db"
OTHERS = 120  # accounts among which one is erased: pages are split, and rows move
ROUNDS = 10
FORM = "multipart/form-data; boundary=b0"


def noise(seed):
    """A picture that no other is like, byte by byte."""
    choose = random.Random(seed)
    return png(40, 40, rows=b"".join(b"\0" + choose.randbytes(40) for _ in range(40)))


def digest(text):
    """What the indexes have of a text."""
    return hashlib.blake2b(text.encode(), digest_size=32).digest()[:16]


class Person:
    """One with a life: made with a key, changed, looked for, shown in pictures.  Knows whatever of it
    may lie in a file."""

    def __init__(self, test, seed):
        self.choose, self.marks = random.Random(f"{seed} {time.monotonic_ns()}"), set()
        self.service, self.test = test.service, test
        self.key = f"key-{self.token()}"
        made = self.send("POST", "/accounts", self.texts(), Idempotency_Key=self.key)
        test.assertEqual(made.status, 201, made)
        self.target, self.id = made.field("Location"), made.json["id"]
        self.answers = [made]
        self.account, self.image = made.json, None

    def send(self, *arguments, **fields):
        return send(self.service, *arguments, **fields)

    def token(self):
        return f"{self.choose.getrandbits(64):016x}"

    def mark(self, text):
        """TEXT with what cannot be elsewhere, as letters and as others."""
        token = self.token()
        rare = "".join(chr(self.choose.randrange(0x4e00, 0x9fff)) for _ in range(5)) + "\U0001f600"
        escaped = json.dumps(rare)[1:-1]
        self.marks |= {token.encode(), rare.encode(), escaped.encode(), escaped.upper().replace(
            "\\U", "\\u").encode()}
        return f"{text} {token}{rare}"

    def texts(self):
        value = {"name": self.mark('Å"\\') + "x" * self.choose.randrange(800),
                 "email": self.mark("").replace(" ", "") + "@example.com",
                 "address": self.mark("Väg\n1") + "y" * self.choose.randrange(3000)}
        self.marks |= {digest(text) for text in value.values()}
        return value

    def change(self):
        answer = self.send("PUT", self.target, self.texts())
        self.test.assertEqual(answer.status, 200, answer)
        self.account = answer.json

    def look(self):
        found = self.service.get(f"/accounts?email={urllib.parse.quote(self.account['email'])}")
        self.test.assertEqual([one["id"] for one in found.json], [self.id])

    def show(self, data, kind="png"):
        """Uploads DATA, with a key."""
        key = self.token()
        kinds = {"png": {}, "jpg": {"filename": "a.jpg", "kind": "image/jpeg"}}
        answer = self.service.ask(f"{self.target}/upload_image", "POST", {
            "Content-Type": FORM, "Idempotency-Key": key}, form(data, **kinds[kind]))
        self.test.assertEqual(answer.status, 200, answer)
        self.answers.append(answer)
        self.account = answer.json
        link = answer.json["image_hosted_url"]
        self.image = self.service.get(link[link.index("/images/"):]).body
        third = len(self.image) // 3
        self.marks |= {self.image[third:third + 48], self.image[-80:-32]}

    def live(self, kind):
        for _ in range(3):
            self.change()
        self.look()
        self.show(noise(self.token()))
        self.change()
        self.show(jpeg() if kind == "jpg" else noise(self.token()), kind)
        self.change()
        return self


def files(data):
    for where, _, names in os.walk(data):
        for name in names:
            path = os.path.join(where, name)
            if os.path.isfile(path):
                yield path


def traces(person, data, log=()):
    """Which files hold what of a person."""
    found = []
    for path in files(data):
        with open(path, "rb") as file:
            content = file.read()
        found += [(os.path.relpath(path, data), mark) for mark in person.marks if mark in content]
    text = "\n".join(log).encode()
    return found + [("the log", mark) for mark in person.marks if mark in text]


class PersonCase(DataCase):
    def erase(self, person, **options):
        return self.run_command("person", "erase", str(person.id), "--yes", **options)

    def person(self, seed=0, kind="png"):
        """There is but one picture of kind jpg: for one person of a data folder."""
        return Person(self, seed).live(kind)

    def others(self):
        """Rows of all sizes before and behind."""
        with Client(self.service) as client:
            for i in range(OTHERS):
                stem = f"{time.monotonic_ns()}"
                made = send(client, "POST", "/accounts", {
                    "name": "n" * (37 * i % 900), "email": f"{stem}@other", "address": "a" * (91 * i % 2500)})
                self.assertEqual(made.status, 201, made)

    def everybody(self, but):
        path = self.path(ACCOUNTS)
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return [db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in (
                f"accounts WHERE id <> {but.id}",
                f"answers WHERE json_extract(CAST(body AS TEXT), '$.id') <> {but.id}")]

    def assertExported(self, person, folder):
        self.assertEqual(os.stat(folder).st_mode & 0o777, 0o700)
        self.assertEqual(os.stat(folder).st_uid, os.geteuid())
        names = sorted(os.listdir(folder))
        for name in names:
            self.assertEqual(os.stat(os.path.join(folder, name)).st_mode & 0o777, 0o600)
            self.assertEqual(os.stat(os.path.join(folder, name)).st_uid, os.geteuid())
        with open(os.path.join(folder, "account.json"), encoding="utf-8") as file:
            account = json.load(file)
        self.assertEqual({name: account[name] for name in account if name in person.account},
                         {name: person.account[name] for name in person.account
                          if name != "image_hosted_url"})
        self.assertEqual(set(account) - set(person.account), {"image", "version"})
        image = account["image"]
        self.assertEqual(names, sorted(["README.txt", "account.json", "answers.json", image]))
        with open(os.path.join(folder, image), "rb") as file:
            self.assertEqual(file.read(), person.image)
        with open(os.path.join(folder, "answers.json"), encoding="utf-8") as file:
            text = file.read()
        self.assertNotIn(person.key, text)
        self.assertEqual([(one["status"], one["location"], one["etag"], one["body"])
                          for one in json.loads(text)],
                         [(one.status, one.field("Location"), one.field("ETag"), one.json)
                          for one in person.answers])

    def assertNothingLeft(self, person, log=()):
        self.assertEqual(traces(person, self.data, log), [])


class Running(PersonCase):
    start = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.data = cls.service.data

    def test_all_that_is_stored_is_given_out_exactly(self):
        person, here = self.person(kind="jpg"), self.folder()
        done = self.run_command("person", "export", str(person.id), cwd=here)
        self.assertExported(person, os.path.join(here, f"person-{person.id}"))
        self.assertIn(f"{here}/person-{person.id}: all that is stored", done.stdout)
        self.run_command("person", "export", str(person.id), "a", cwd=here)
        self.run_command("person", "export", str(person.id), f"{here}/b/")
        self.assertExported(person, os.path.join(here, "a"))
        self.assertExported(person, os.path.join(here, "b"))
        self.assertEqual(sorted(os.listdir(here)), ["a", "b", f"person-{person.id}"])

    def test_what_cannot_be_exported_leaves_nothing(self):
        person, here = Person(self, 0), self.folder()
        for arguments, words in ((["999999"], "there is no account 999999"), (["x"], "is no id"),
                                 (["0"], "is no id"), (["-1"], "no option -1"),
                                 ([str(person.id), here], "is there already"),
                                 ([str(person.id), f"{here}/no/where"], "No such file"),
                                 ([str(person.id), f"{self.data}/mine"], "is in the data folder"),
                                 ([str(person.id), "/"], "cannot be made")):
            done = subprocess.run([program("caredesk"), "person", "export", *arguments, "--data", self.data],
                                  cwd=here, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=harness.LONG, check=False)
            self.assertEqual((done.returncode, done.stdout), (1, ""), done)
            self.assertIn(words, done.stderr)
            self.assertEqual(os.listdir(here), [])
        os.makedirs(f"{here}/c.incomplete")
        with open(f"{here}/c.incomplete/account.json", "w", encoding="ascii") as file:
            file.write("half of one that was killed")
        self.run_command("person", "export", str(person.id), f"{here}/c")
        self.assertEqual(os.listdir(here), ["c"])

    def test_nothing_is_put_into_a_folder_that_others_can_change(self):
        person, here = Person(self, 0), self.folder()
        theirs = f"{here}/a.incomplete"
        os.mkdir(theirs)
        damages = [lambda: os.chmod(theirs, 0o777), lambda: os.chmod(theirs, 0o770)]
        if os.geteuid() == 0:
            damages.append(lambda: (os.chmod(theirs, 0o700), os.chown(theirs, 65534, 65534)))
        for damage in damages:
            damage()
            self.refused("person", "export", str(person.id), f"{here}/a",
                         words=f"{theirs}: is there already, and not a folder of yours alone")
            self.assertEqual((os.listdir(here), os.listdir(theirs)), (["a.incomplete"], []))

    def test_an_account_without_an_image_has_none(self):
        person, here = Person(self, 0), self.folder()
        self.run_command("person", "export", str(person.id), f"{here}/a")
        self.assertEqual(sorted(os.listdir(f"{here}/a")), ["README.txt", "account.json", "answers.json"])
        with open(f"{here}/a/account.json", encoding="utf-8") as file:
            self.assertIsNone(json.load(file)["image"])
        self.assertIn("the account, 0 images, 1 answer kept", self.erase(person).stdout)
        self.assertNothingLeft(person, self.service.lines)

    def test_no_byte_is_left_and_others_lose_nothing(self):
        self.others()
        person, other = self.person(), self.person(1)
        self.others()
        before = self.everybody(but=person)
        self.assertTrue({"accounts.db", "accounts.db-wal"} & {
            os.path.basename(name) for name, _ in traces(person, self.data)})
        done = self.erase(person)
        self.assertEqual(done.stdout.splitlines()[0],
                         f"person {person.id} is erased: the account, 1 image, 3 answers kept for retries;"
                         " nothing of it is left in accounts.db")
        self.assertIn("what may still hold it: backups", done.stdout)
        self.assertNothingLeft(person, self.service.lines + done.stdout.splitlines())
        self.assertEqual(self.everybody(but=person), before)
        self.assertEqual(self.get(person.target).status, 404)
        self.assertEqual(self.get(other.target).json["name"], other.account["name"])
        link = other.account["image_hosted_url"]
        self.assertEqual(self.get(link[link.index("/images/"):]).body, other.image)

    def test_what_is_not_there_is_said_not_to_be(self):
        person = Person(self, 0)
        self.erase(person)
        self.refused("person", "erase", str(person.id), "--yes",
                     words=f"there is no account {person.id}")
        self.refused("person", "erase", "x", "--yes", words="is no id of an account")
        self.refused("person", "erase", words="person erase needs ID")
        again = Person(self, 1)
        self.assertNotEqual(again.id, person.id)

    def test_who_was_deleted_is_exported_and_erased_as_long_as_answers_show_them(self):
        person, here = self.person(), self.folder()
        self.assertEqual(self.service.ask(person.target, "DELETE").status, 204)
        self.run_command("person", "export", str(person.id), f"{here}/a")
        self.assertEqual(sorted(os.listdir(f"{here}/a")), ["README.txt", "answers.json"])
        self.assertNotEqual(traces(person, self.data), [])
        done = self.erase(person)
        self.assertIn(f"person {person.id} was deleted before, and is erased: 3 answers kept", done.stdout)
        self.assertNothingLeft(person)
        self.refused("person", "erase", str(person.id), "--yes", words="there is no account")
        self.refused("person", "export", str(person.id), f"{here}/b", words="there is no account")

    def test_what_a_restore_has_kept_is_named(self):
        kept = "before-restore-20261120T031700Z/accounts.db"
        os.mkdir(os.path.dirname(self.path(kept)))
        self.addCleanup(os.rmdir, os.path.dirname(self.path(kept)))
        with open(self.path(kept), "wb"):
            self.addCleanup(os.unlink, self.path(kept))
        self.assertIn(f"what may still hold it: {kept}", self.erase(Person(self, 0)).stdout)

    def test_what_a_restore_that_was_killed_has_left_is_named(self):
        for left in ("db/blobs", "before-restore-removed", "before-restore-20261120T031700Z/blobs"):
            os.makedirs(self.path(left))
            self.addCleanup(os.removedirs if left.endswith("Z/blobs") else os.rmdir,
                            self.path(left))
        told = self.erase(Person(self, 0)).stdout
        for left in ("db/blobs", "before-restore-removed", "before-restore-20261120T031700Z/blobs"):
            self.assertIn(f"what may still hold it: {left}, which a restore ", told)

    def test_the_public_server_has_no_such_route(self):
        person = Person(self, 0)
        path = f"/private/accounts/{person.id}/erase"
        for target in (path, f"/accounts/..{path}", f"/accounts/%2e%2e{path}", f"/{path}", f"{path}?x=1",
                       f"{path}/", f"/private%2faccounts/{person.id}/erase"):
            for method in ("POST", "GET", "DELETE"):
                answer = self.service.ask(target, method, {"Content-Type": "application/json"}, b"{}")
                self.assertProblem(answer, 404, "not-found")
        for target in (f"{path}/../../../../accounts", f"{path}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/accounts"):
            answer = self.service.ask(target, "POST", {"Content-Type": "application/json"}, b"{}")
            self.assertProblem(answer, 400, "invalid-input")
        self.assertEqual(self.get(person.target).status, 200)

    def test_nobody_is_erased_without_being_asked(self):
        person = Person(self, 0)
        self.refused("person", "erase", str(person.id), words=["nothing was erased", "--yes"])
        for said, status in (("no\n", 1), ("\n", 1), ("yes please\n", 1), ("yes\n", 0)):
            self.assertEqual(self.get(person.target).status, 200)
            controller, terminal = pty.openpty()
            process = subprocess.Popen([program("caredesk"), "person", "erase", str(person.id), "--data",
                                        self.data], stdin=terminal, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True)
            os.write(controller, said.encode())
            out, errors = process.communicate(timeout=harness.LONG)
            os.close(controller)
            os.close(terminal)
            self.assertEqual(process.returncode, status, (out, errors))
            self.assertIn(f"Account {person.id}, made at {person.account['created_at']}", out)
            self.assertEqual([mark for mark in person.marks if mark in (out + errors).encode()], [])
            if status != 0:
                self.assertIn("nothing was erased", errors)
        self.assertEqual(self.get(person.target).status, 404)

    def test_who_changes_it_meanwhile_is_before_or_after(self):
        person, stop, seen = self.person(), threading.Event(), set()
        uploads = [noise(i) for i in range(8)]
        person.marks |= {data[len(data) // 3:len(data) // 3 + 48] for data in uploads}
        texts = [person.texts() for _ in range(8)]

        def change(i):
            while not stop.is_set():
                answer = send(self.service, "PUT", person.target, texts[i])
                seen.add(answer.status)
                answer = self.service.ask(f"{person.target}/upload_image", "POST", {
                    "Content-Type": FORM}, form(uploads[i]))
                seen.add(answer.status)

        writers = [threading.Thread(target=change, args=(i,), daemon=True) for i in range(4)]
        for writer in writers:
            writer.start()
        time.sleep(0.5)
        self.erase(person)
        time.sleep(0.2)
        stop.set()
        for writer in writers:
            writer.join(harness.LONG)
        self.assertEqual(seen, {200, 404})
        self.assertNothingLeft(person, self.service.lines)

    def test_an_image_that_no_account_has_any_more_goes_too(self):
        person = self.person()
        stray = self.path("blobs/ab/ab" + "0" * 30 + ".png")
        os.makedirs(os.path.dirname(stray), mode=0o700, exist_ok=True)
        with open(stray, "wb") as file:
            file.write(person.image)
        owner = os.stat(self.path("db"))
        os.chown(os.path.dirname(stray), owner.st_uid, owner.st_gid)
        self.erase(person)
        self.assertNothingLeft(person)

    def test_who_still_reads_an_older_state_is_waited_for(self):
        person = self.person()
        path = self.path(ACCOUNTS)
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            db.execute("BEGIN")
            db.execute("SELECT count(*) FROM accounts").fetchone()
            self.refused("person", "erase", str(person.id), "--yes",
                         words=[f"person {person.id} is erased, but", "run it again"])
            self.assertEqual(self.get(person.target).status, 404)
        done = self.erase(person)
        self.assertIn(f"person {person.id} was erased before; nothing of it is left", done.stdout)
        self.assertNothingLeft(person)
        self.refused("person", "erase", str(person.id), "--yes", words="there is no account")

    def test_an_erasure_that_was_killed_is_completed_by_the_next(self):
        choose, broken = random.Random(7), 0
        for i in range(ROUNDS):
            person, pids = self.person(i), self.service.pids("accounts")
            erasing = subprocess.Popen([program("caredesk"), "person", "erase", str(person.id), "--yes",
                                        "--data", self.data], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(choose.uniform(0.005, 0.03))
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            out, errors = erasing.communicate(timeout=harness.LONG)
            if erasing.returncode != 0:
                self.assertIn("run it again", errors)
            wait_for(lambda: self.get("/healthz/accounts").status == 200, "accounts is well")
            again = subprocess.run([program("caredesk"), "person", "erase", str(person.id), "--yes",
                                    "--data", self.data], stdin=subprocess.DEVNULL, capture_output=True,
                                   text=True, timeout=harness.LONG, check=False)
            self.assertTrue(again.returncode == 0 or "there is no account" in again.stderr, again)
            broken += erasing.returncode != 0
            self.assertNothingLeft(person)
        note(f"{broken} of {ROUNDS} erasures were broken off")


class Stopped(PersonCase):
    def setUp(self):
        self.service = Service()
        self.addCleanup(self.service.close)
        self.data = self.service.data

    def test_the_command_does_it_itself(self):
        self.others()
        person, other, here = self.person(kind="jpg"), self.person(1), self.folder()
        self.service.stop()
        self.run_command("person", "export", str(person.id), f"{here}/a")
        self.assertExported(person, f"{here}/a")
        before = self.everybody(but=person)
        done = self.erase(person)
        self.assertIn("the account, 1 image, 3 answers kept", done.stdout)
        self.assertNothingLeft(person, self.service.lines)
        self.assertEqual(self.everybody(but=person), before)
        self.refused("person", "erase", str(person.id), "--yes", words="there is no account")
        for path in files(self.path("db")):
            self.assertEqual(os.stat(path).st_uid, os.stat(self.path("db")).st_uid, path)
        self.run_command("person", "export", str(other.id), f"{here}/b")
        self.assertExported(other, f"{here}/b")

    def test_a_restore_of_an_older_backup_brings_nobody_back(self):
        self.others()
        person, other, to = self.person(kind="jpg"), self.person(1), os.path.join(self.folder(), "b")
        self.run_command("backup", to)
        self.assertNotEqual(traces(person, to), [])
        self.erase(person)
        self.service.stop()
        done = self.run_command("restore", to)
        self.assertIn("erased again, as since the backup: 1 of its accounts", done.stdout)
        self.assertEqual(traces(person, self.path("db")), [])
        self.service = Service(data=self.data)
        self.addCleanup(self.service.close)
        self.assertEqual(self.service.get(person.target).status, 404)
        self.assertEqual(self.service.get(other.target).json["name"], other.account["name"])
        wait_for(lambda: not traces(person, self.data), "its image is swept")
        self.service.stop()
        again = self.run_command("restore", to)
        self.assertIn("erased again, as since the backup: 1 of", again.stdout)

    def test_a_command_that_was_killed_is_completed_by_the_next(self):
        people, choose = [self.person(i) for i in range(ROUNDS)], random.Random(3)
        self.others()
        self.service.stop()
        for person in people:
            erasing = subprocess.Popen([program("caredesk"), "person", "erase", str(person.id), "--yes",
                                        "--data", self.data], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(choose.uniform(0.003, 0.03))
            erasing.kill()
            erasing.wait(harness.LONG)
            again = subprocess.run([program("caredesk"), "person", "erase", str(person.id), "--yes",
                                    "--data", self.data], stdin=subprocess.DEVNULL, capture_output=True,
                                   text=True, timeout=harness.LONG, check=False)
            self.assertTrue(again.returncode == 0 or "there is no account" in again.stderr, again)
            self.assertNothingLeft(person)


if __name__ == "__main__":
    harness.main()
