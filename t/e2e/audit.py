"""Who read, changed, gave out or erased whose data, and who paid what: all of it is recorded, in a
chain that tells what was tampered with."""
import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import threading
import time

import harness
import images
from auth import AUTH, JSON, Secret, bearer
from data import DataCase, database
from harness import Service, wait_for
from person import traces

SETS = ("accounts", "audios", "events")
ROUNDS = 5
OPEN = """DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_deleted;
DROP TRIGGER audit_actors_are_only_forgotten; DROP TRIGGER audit_actors_are_not_deleted;"""
SESSION = {"session_id": 71, "ticks": [-50.5] * 15, "selected_tick": 3, "step_count": 2}
FORM = {"Content-Type": "multipart/form-data; boundary=b0"}


class AuditCase(DataCase):
    @classmethod
    def config(cls):
        return {"auth": AUTH}

    def use(self, service):
        self.service, self.data, self.secret = service, service.data, Secret(service.data)

    def ask(self, who, method, target, value=None, **fields):
        roles = ["admin", "manager", "caregiver", "accountant"]
        fields = {name.replace("_", "-"): text for name, text in fields.items()}
        body = None if value is None else json.dumps(value).encode()
        return self.service.ask(target, method, {
            **(JSON if value is not None else {}), **fields,
            **bearer(self.secret.sign(sub=who, roles=roles))}, body)

    def account(self, who="anna", **fields):
        made = self.ask(who, "POST", "/accounts", {
            "name": "a", "email": f"{time.monotonic_ns()}@audit", "address": ""}, **fields)
        self.assertEqual(made.status, 201, made)
        return made

    def list(self, *arguments):
        done = self.run_command("audit", "list", "--json", *arguments)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def rows(self, *arguments):
        return [(row["actor"], row["what"], row["subject"]) for row in self.list(*arguments)]

    def verify(self, *arguments, status=0):
        return self.run_command("audit", "verify", *arguments, status=status)

    def heads(self):
        """By data set, as they are given to --head."""
        return {name: head for head, name in
                re.findall(r"head ((\w+):\d+:[0-9a-f]{64})$", self.verify().stdout, re.M)}


class Recorded(AuditCase):
    start = True

    def setUp(self):
        self.use(type(self).service)

    def test_each_change_of_an_account_has_its_row(self):
        made = self.account("anna")
        target, number = made.field("Location"), made.json["id"]
        texts = {"name": "b", "email": made.json["email"], "address": "c"}
        self.assertEqual(self.ask("bo", "PUT", target, texts).status, 200)
        sent = self.service.ask(f"{target}/upload_image", "POST", {
            **FORM, **bearer(self.secret.sign(sub="cy", roles=["manager"]))}, images.form(images.png()))
        self.assertEqual(sent.status, 200, sent)
        self.assertEqual(self.ask("dan", "DELETE", target).status, 204)
        self.assertEqual(self.rows("--person", str(number)), [
            ("anna", "account created", number), ("bo", "account changed", number),
            ("cy", "account image changed", number), ("dan", "account deleted", number)])

    def test_each_change_of_a_session_has_its_row(self):
        session = {**SESSION, "session_id": 72}
        made = self.ask("anna", "POST", "/audios", session)
        self.assertEqual(made.status, 201, made)
        self.assertEqual(self.ask("bo", "PUT", "/audios/72", session).status, 200)
        self.assertEqual(self.ask("cy", "GET", "/audios/72").status, 200)
        self.assertEqual(self.ask("dan", "GET", "/audios?session_id=72").status, 200)
        self.assertEqual(self.ask("eve", "DELETE", "/audios/72").status, 204)
        self.assertEqual(self.rows("--session", "72"), [
            ("anna", "session created", 72), ("bo", "session changed", 72), ("cy", "session read", 72),
            ("dan", "sessions listed", 0), ("eve", "session deleted", 72)])

    def test_who_paid_is_recorded_and_who_looked_at_an_event_is_not(self):
        kind = self.ask("anna", "POST", "/events/types", {"name": "paid", "amount_in_cents": 5}).json
        made = self.ask("bo", "POST", "/events", {
            "type_id": kind["id"], "caregiver_id": 1, "start_time": "2026-01-01T00:00:00Z"})
        target, number = made.field("Location"), made.json["id"]
        self.assertEqual(self.ask("cy", "POST", f"{target}/reimburse").status, 200)
        self.assertEqual(self.ask("dan", "GET", target).status, 200)
        self.assertEqual(self.rows("--event", str(number)), [
            ("bo", "event created", number), ("cy", "event reimbursed", number)])

    def test_whoever_is_shown_an_account_is_recorded(self):
        made = self.account()
        target, number, tag = made.field("Location"), made.json["id"], made.field("ETag")
        for who, method, fields, status in (
                ("reads", "GET", {}, 200), ("looks", "HEAD", {}, 200),
                ("knows", "GET", {"If_None_Match": tag}, 304),
                ("is wrong", "GET", {"If_Match": '"x"'}, 412)):
            self.assertEqual(self.ask(who, method, target, **fields).status, status, who)
        self.assertEqual(self.ask("nobody", "GET", "/accounts/999999").status, 404)
        self.assertEqual(self.service.get(target).status, 401)
        self.assertEqual(self.rows("--person", str(number))[1:], [
            (who, "account read", number) for who in ("reads", "looks", "knows")])
        self.assertEqual(self.rows("--person", "999999"), [])

    def test_a_list_is_recorded_with_all_that_it_shows(self):
        first, second = self.account().json, self.account().json
        found = self.ask("searches", "GET", f"/accounts?email={second['email']}")
        self.assertEqual(len(found.json), 1)
        self.ask("searches", "GET", f"/accounts?email={second['email']}", If_None_Match=found.field("ETag"))
        self.ask("searches", "GET", "/accounts?email=nobody@nowhere")
        page = self.ask("pages", "GET", "/accounts?limit=1000").json
        said = self.list("--actor", "searches")
        self.assertEqual([row["detail"]["ids"] for row in said], [[second["id"]], [second["id"]], []])
        self.assertEqual(self.list("--actor", "pages")[0]["detail"]["ids"], [one["id"] for one in page])
        self.assertEqual([row[0] for row in self.rows("--person", str(first["id"]))], ["anna", "pages"])

    def test_a_retry_is_recorded_once(self):
        value = {"name": "a", "email": "retry@audit", "address": ""}
        answers = [self.ask("anna", "POST", "/accounts", value, Idempotency_Key="again")
                   for _ in range(3)]
        self.assertEqual({one.body for one in answers}, {answers[0].body})
        self.assertEqual(len(self.rows("--person", str(answers[0].json["id"]))), 1)

    def test_what_is_refused_leaves_no_row(self):
        made = self.account()
        before = self.heads()
        same = {"name": "a", "email": made.json["email"], "address": ""}
        self.assertEqual(self.ask("eve", "POST", "/accounts", same).status, 409)
        self.assertEqual(self.ask("eve", "DELETE", "/accounts/999999").status, 404)
        self.assertEqual(self.ask("eve", "PUT", made.field("Location"), same, If_Match='"x"').status, 412)
        self.assertEqual(self.heads(), before)

    def test_a_read_that_cannot_be_recorded_is_not_answered(self):
        target = self.account().field("Location")
        with contextlib.closing(sqlite3.connect(self.path("db/accounts.db"))) as db:
            db.execute("BEGIN IMMEDIATE")
            for where in (target, "/accounts"):
                self.assertProblem(self.ask("unheard", "GET", where), 503)
            db.execute("ROLLBACK")
        wait_for(lambda: self.ask("anna", "GET", target).status == 200, "the writer")
        self.assertEqual(self.rows("--actor", "unheard"), [])

    def test_nobody_can_call_themselves_the_operator(self):
        for who in ("operator", "anonymous"):
            self.assertEqual(self.ask(who, "GET", "/accounts").status, 401)

    def test_a_head_of_before_is_on_the_chain_and_no_other(self):
        self.account()
        before = self.heads()
        self.assertEqual(set(before), {"accounts", "audios", "events"})
        self.account()
        self.verify(*(word for head in before.values() for word in ("--head", head)))
        name, seq, digest = before["accounts"].split(":")
        for head, words in ((f"{name}:{seq}:{'0' * 64}", f"row {seq} is another one"),
                            (f"{name}:999999:{digest}", "the end was cut off")):
            done = self.verify("--head", head, status=1)
            self.assertIn(f"accounts: {words}", done.stdout)
        for bad in ("accounts", f"stats:1:{digest}", f"accounts:x:{digest}", "accounts:1:00"):
            self.refused("audit", "verify", "--head", bad, words="--head must be")
        self.refused("audit", "verify", "--set", "audios", "--head", before["accounts"],
                     words="not to be looked at")
        self.refused("audit", "list", "--set", "stats", words="there is no audit of stats")
        self.refused("audit", "list", "--person", "1", "--event", "1", words="only one of")

    def test_the_newest_come_last_and_times_narrow_it(self):
        self.account("first")
        self.account("second")
        said = self.list("--limit", "2")
        self.assertEqual([row["actor"] for row in said], ["first", "second"])
        at = said[1]["at"]
        self.assertEqual(self.list("--since", at, "--limit", "1"), said[1:])
        self.assertNotIn("second", [row[0] for row in self.rows("--until", at)])
        plain = self.run_command("audit", "list", "--limit", "1").stdout
        self.assertEqual(plain.rstrip("\n").split("\t"), [
            at, f"accounts:{said[1]['seq']}", "second", "account created", str(said[1]["subject"])])

    def test_who_is_exported_is_recorded_and_who_is_erased_is_forgotten(self):
        made = self.account("anna")
        number, email = made.json["id"], made.json["email"]
        self.assertEqual(self.ask(email, "GET", made.field("Location")).status, 200)
        self.assertEqual(self.ask(email, "GET", "/accounts?limit=1").status, 200)
        self.run_command("person", "export", str(number), os.path.join(self.folder(), "a"))
        self.run_command("person", "erase", str(number), "--yes")
        said = self.list("--set", "accounts", "--person", str(number))
        self.assertEqual([(row["actor"], row["what"]) for row in said], [
            ("anna", "account created"), (None, "account read"), ("operator", "account exported"),
            ("operator", "account erased")])
        self.assertEqual(self.list("--actor", email), [])
        self.verify()
        person = type("", (), {"marks": {email.encode()}})
        self.assertEqual(traces(person, self.data, self.service.lines), [])


class Killed(AuditCase):
    def test_what_was_answered_is_on_the_chain_after_kill_9(self):
        service = Service(self.config())
        self.addCleanup(service.close)
        self.use(service)
        made, shown, stop = [], [], threading.Event()

        def work(who):
            while not stop.is_set():
                try:
                    answer = self.ask(who, "POST", "/accounts", {
                        "name": "a", "email": f"{who}{time.monotonic_ns()}@a", "address": ""})
                    if answer.status == 201:
                        made.append((who, answer.json["id"]))
                        if self.ask(who, "GET", answer.field("Location")).status == 200:
                            shown.append((who, answer.json["id"]))
                except (harness.Broken, OSError):
                    pass

        threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(ROUNDS):
            enough = len(shown) + 5
            wait_for(lambda enough=enough: len(shown) >= enough, "answers")
            pid = service.pid("accounts")
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda gone=pid: service.pid("accounts") not in (None, gone), "another program")
        stop.set()
        for thread in threads:
            thread.join()
        wait_for(lambda: service.get("/healthz/accounts").status == 200, "accounts")
        self.verify()
        with database(self.path("db/accounts.db")) as db:
            said = {what: {tuple(row) for row in db.execute(
                "SELECT name, subject FROM audit JOIN audit_actors ON id = actor WHERE what = ?", (what,))}
                    for what in ("account created", "account read")}
            ids = {row[0] for row in db.execute("SELECT id FROM accounts")}
        self.assertGreater(len(shown), 10)
        self.assertLessEqual(set(made), said["account created"])
        self.assertLessEqual(set(shown), said["account read"])
        self.assertEqual({number for _, number in said["account created"]}, ids)
        service.close()


class Stopped(AuditCase):
    """Of a service without tokens, whose files are tampered with."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        service = Service()
        cls.addClassCleanup(service.close)
        for target, value in (("/accounts", {"name": "a", "email": "a@a", "address": ""}),
                              ("/accounts", {"name": "b", "email": "b@b", "address": ""}),
                              ("/audios", SESSION),
                              ("/events/types", {"name": "t", "amount_in_cents": 1})):
            made = service.ask(target, "POST", JSON, json.dumps(value).encode())
            assert made.status == 201, made
            assert service.get("/accounts").status == service.get("/accounts/1").status == 200
        service.stop()
        cls.data = service.data

    def test_without_tokens_changes_are_of_anybody_and_reads_are_not_recorded(self):
        self.assertEqual(self.rows("--actor", "anonymous"), [
            ("anonymous", "account created", 1), ("anonymous", "account created", 2),
            ("anonymous", "session created", 71), ("anonymous", "type created", 1)])

    def test_an_export_while_it_is_stopped_is_recorded_too(self):
        self.run_command("person", "export", "2", os.path.join(self.folder(), "a"))
        self.assertEqual(self.rows("--person", "2")[-1], ("operator", "account exported", 2))
        self.refused("person", "export", "99", os.path.join(self.folder(), "a"), words="no account 99")
        self.assertEqual(self.rows("--person", "99"), [])

    def test_tampering_is_found_by_verify_and_by_fsck(self):
        good = self.heads()
        for name in SETS:
            path, word = self.path(f"db/{name}.db"), ("--head", good[name])
            for change, words in (("UPDATE audit SET actor = actor + 7 WHERE seq = 1", "row 1 has an actor"),
                                  ("UPDATE audit SET at = at + 1 WHERE seq = 1", "row 1 is not what"),
                                  ("UPDATE audit_actors SET name = 'x' WHERE id = 1", "the name of actor 1"),
                                  ("DELETE FROM audit", None)):
                with self.subTest(name, change=change):
                    with database(path) as db:  # all of it is in one file then
                        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    with open(path, "rb") as file:
                        kept = file.read()
                    with database(path) as db:
                        db.executescript(OPEN + change)
                    if words is None:
                        self.assertIn(f"{name}: 0 rows", self.verify().stdout)
                        done = self.verify(*word, status=1)
                        self.assertIn(f"{name}: the end was cut off", done.stdout)
                    else:
                        done = self.verify(status=1)
                        self.assertIn(f"{name}: {words}", done.stdout)
                        self.assertEqual(len(done.stdout.splitlines()), 3)
                        self.assertIn(words, self.run_command("fsck", name, status=1).stdout)
                    for side in ("-wal", "-shm"):
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(path + side)
                    with open(path, "wb") as file:
                        file.write(kept)
        self.assertEqual(self.heads(), good)

    def test_a_restore_warns_of_an_audit_that_is_not_as_it_was_recorded(self):
        kept, good = self.folder(), self.heads()
        to = os.path.join(kept, "good")
        self.run_command("backup", to)
        self.assertNotIn("warning", self.run_command("restore", to).stderr)
        self.assertEqual(self.heads(), good)
        for name in SETS:
            with self.subTest(name):
                bad = os.path.join(kept, name)
                shutil.copytree(to, bad)
                with database(os.path.join(bad, f"{name}.db")) as db:
                    db.executescript(OPEN + "UPDATE audit SET at = at + 1 WHERE seq = 1")
                for suffix in ("-wal", "-shm"):
                    self.assertFalse(os.path.exists(os.path.join(bad, f"{name}.db{suffix}")))
                done = self.run_command("restore", bad)
                self.assertIn("restored accounts audios events stats", done.stdout)
                warning, = [line for line in done.stderr.splitlines() if "warning: " in line]
                self.assertIn(f"the audit of {name} in this backup is not as it was recorded: row 1 is"
                              " not what", warning)
                self.assertIn("keep the backup", warning)
                self.assertIn(f"{name}: row 1 is not what", self.verify(status=1).stdout)
        self.run_command("restore", to)
        self.assertEqual(self.heads(), good)


if __name__ == "__main__":
    harness.main()
