"""Accounts through nginx: the contract, clients at once, and kill -9 under writers."""
import contextlib
import json
import os
import random
import re
import signal
import sqlite3
import threading
import time
import urllib.parse

import harness
from harness import Broken, Case, at_once, note, wait_for
from ledger import Client, everything, fresh, next_page, pages, send

ROUNDS = int(os.environ.get("CAREDESK_CRASH_ROUNDS", 10))
WRITERS = 6
UNKNOWN = (502, 503, 504)  # whether it was done cannot be told from these
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
HOSTILE = ("' OR 1=1--", '"; DROP TABLE accounts', "%", "_", "\\", "a&b=c", "a+b", "#", "\r\nX: y", "\t",
           "\U0001f600", "e\u0301", "\u00e9", "\u202e", "null", "<script>", "${x}", "../..", "\x7f")


def account(email=None, name="Ada", address="Road 1"):
    return {"name": name, "email": email or fresh_email(), "address": address}


def fresh_email():
    return f"{fresh('a').replace(' ', '')}@example.com"


def query(**texts):
    return "/accounts?" + urllib.parse.urlencode(texts)


class AccountsCase(Case):
    def make(self, *arguments, **more):
        answer = send(self.service, "POST", "/accounts", account(*arguments, **more))
        self.assertEqual(answer.status, 201, answer)
        return answer

    def found(self, **texts):
        return [one["id"] for one in everything(self.service, query(**texts))]

    def database(self):
        connection = sqlite3.connect(
            f"file:{os.path.join(self.service.data, 'db/accounts.db')}?mode=ro", uri=True)
        return contextlib.closing(connection)


class Contract(AccountsCase):
    def test_an_account_is_made_read_replaced_and_removed(self):
        made = self.make("Ada@EXAMPLE.com")
        one = made.json
        target = made.field("Location")
        self.assertEqual(target, f"/accounts/{one['id']}")
        self.assertCommon(made)
        for member in ("created_at", "updated_at"):
            self.assertRegex(one.pop(member), TIME)
        self.assertEqual(one, {"id": one["id"], "image_hosted_url": None,
                               **account("Ada@example.com")})
        for address in (target, target + "/", "/" + target):
            got = self.get(address)
            self.assertEqual((got.status, got.body), (200, made.body))
            self.assertEqual(got.field("ETag"), made.field("ETag"))
            self.assertEqual(got.field("Cache-Control"), "no-cache")
        # What a GET gave can be sent back.
        put = send(self.service, "PUT", target, {**got.json, "name": "B", "image_hosted_url": "x"})
        self.assertEqual(put.status, 200, put)
        self.assertEqual({**put.json, "updated_at": 0},
                         {**got.json, "name": "B", "updated_at": 0})
        self.assertGreater(put.json["updated_at"], got.json["updated_at"])
        self.assertEqual(self.get(target, If_None_Match=put.field("ETag")).status, 304)
        self.assertEqual(self.get(target, If_None_Match=made.field("ETag")).status, 200)
        self.assertEqual(self.service.ask(target, "DELETE").status, 204)
        for method in ("GET", "DELETE"):
            self.assertProblem(self.service.ask(target, method), 404, "not-found")
        self.assertProblem(send(self.service, "PUT", target, account()), 404, "not-found")
        self.assertGreater(self.make("Ada@example.com").json["id"], one["id"])

    def test_a_mail_address_is_taken_once_whatever_its_domain_looks_like(self):
        self.make("taken@b\u00fccher.example")
        other = self.make()
        for email in ("taken@b\u00fccher.example", "taken@XN--BCHER-KVA.example",
                      "taken@bu\u0308cher.EXAMPLE"):
            for method, target in (("POST", "/accounts"), ("PUT", other.field("Location"))):
                problem = self.assertProblem(
                    send(self.service, method, target, account(email)), 409, "conflict")
                self.assertNotIn("cher", json.dumps(problem))
            self.assertEqual(len(self.found(email=email)), 1)
        self.make("Taken@b\u00fccher.example")  # before the @ it is another

    def test_bad_input_names_its_fields(self):
        for value, pointers in (
                ({}, ["#/name", "#/email", "#/address"]),
                (account("no address"), ["#/email"]),
                (account("@"), ["#/email"]),
                (account(name=4097 * "x"), ["#/name"]),
                (account(address=7), ["#/address"]),
                (account(name="a\0b"), ["#/name"])):
            problem = self.assertProblem(
                send(self.service, "POST", "/accounts", value), 400, "invalid-input")
            self.assertEqual([one["pointer"] for one in problem["errors"]], pointers)
        self.assertProblem(send(self.service, "POST", "/accounts", account(), kind="text/plain"), 415)
        self.assertProblem(send(self.service, "POST", "/accounts", body=170000 * b" "), 413)

    def test_the_longest_texts_go_in_and_out(self):
        for letter in ("x", "\U0001f600", "\x01"):
            long = account(4080 * letter + "@" + fresh_email().partition("@")[0][-15:],
                           4096 * letter, 4096 * letter)
            made = send(self.service, "POST", "/accounts", long)
            self.assertEqual(made.status, 201, made)
            got = self.get(made.field("Location")).json
            self.assertEqual({name: got[name] for name in long}, long)
            self.assertEqual(send(self.service, "PUT", made.field("Location"), got).status, 200)
        self.assertEqual(self.get("/accounts").status, 200)

    def test_a_search_is_exact_and_nothing_in_it_means_anything(self):
        made = {text: self.make(name=text, address=text).json["id"] for text in HOSTILE}
        for text, number in made.items():
            with self.subTest(text):
                self.assertEqual(self.found(name=text), [number])
                self.assertEqual(self.found(address=text), [number])
                self.assertEqual(self.found(name=text, address=text), [number])
                self.assertEqual(self.found(name=text, address=text + " "), [])
                self.assertEqual(self.found(email=text), [])

    def test_pages_are_in_creation_order_and_their_links_name_nobody(self):
        name = fresh("Page Person")
        made = [self.make(name=name, address=f"House {i % 2}").json["id"] for i in range(25)]
        for limit in (1, 7, 24, 25, 100):
            self.assertEqual(self.found(name=name, limit=limit), made)
            self.assertEqual(self.found(name=name, address="House 1", limit=limit), made[1::2])
        link = self.get(query(name=name, limit=7)).field("Link")
        self.assertNotIn("Person", link)
        self.assertEqual([len(page) for page in pages(self.service, query(name=name, limit=10))],
                         [10, 10, 5])
        # One that was removed meanwhile does no harm.
        first = self.get(query(name=name, limit=10))
        self.service.ask(f"/accounts/{made[9]}", "DELETE")
        self.assertEqual([one["id"] for one in self.get(next_page(first)).json], made[10:20])

    def test_a_retry_is_answered_as_before(self):
        value, key = account(), fresh("key").replace(" ", "")
        first, again = (send(self.service, "POST", "/accounts", value, Idempotency_Key=key)
                        for _ in range(2))
        self.assertEqual((first.status, first.body), (201, again.body))
        self.assertEqual(first.field("Location"), again.field("Location"))
        self.assertProblem(send(self.service, "POST", "/accounts", account(), Idempotency_Key=key),
                           422, "idempotency-key-reused")

    def test_nginx_knows_the_methods(self):
        for target, methods in (("/accounts", "GET, HEAD, POST, OPTIONS"),
                                ("/accounts/1", "GET, HEAD, PUT, DELETE, OPTIONS")):
            self.assertEqual(self.service.ask(target, "TRACE").field("Allow"), methods)
            self.assertEqual(self.service.ask(target, "PATCH").field("Allow"), methods)


class AtOnce(AccountsCase):
    def test_of_two_who_change_one_version_just_one_does(self):
        for _ in range(20):
            made = self.make()
            answers = at_once(2, lambda i: send(
                self.service, "PUT", made.field("Location"),
                {**made.json, "name": f"writer {i}"}, If_Match=made.field("ETag")))
            self.assertEqual(sorted(one.status for one in answers), [200, 412])
            won = next(one for one in answers if one.status == 200)
            self.assertEqual(self.get(made.field("Location")).json["name"], won.json["name"])

    def test_of_two_with_one_mail_address_just_one_is_made(self):
        for _ in range(20):
            email = fresh_email()
            answers = at_once(2, lambda i: send(
                self.service, "POST", "/accounts", account(email.replace("example", ("EXAMPLE",
                                                                                     "Example")[i]))))
            self.assertEqual(sorted(one.status for one in answers), [201, 409])
            self.assertEqual(len(self.found(email=email)), 1)


class Writer:
    """A client, and what each of its accounts is, as it was told."""

    def __init__(self, case, number):
        self.case, self.number, self.count = case, number, 0
        self.client, self.choose = Client(case.service), random.Random(number)
        self.known, self.gone = {}, set()  # id: name
        self.unknown = None  # what the kill has interrupted

    def run(self, stop):
        while not stop.is_set() and self.unknown is None:
            self.count += 1
            name = f"{self.number}-{self.count}"
            todo = self.choose.choice((self.post, self.post, self.put, self.delete))
            if todo is self.post or not self.known:
                self.attempt(self.post, name, None)
            else:
                self.attempt(todo, name, self.choose.choice(list(self.known)))

    def attempt(self, todo, name, number):
        try:
            answer = todo(name, number)
        except (Broken, OSError):
            answer = None
        if answer is None or answer.status in UNKNOWN:
            self.unknown = (todo, name, number)

    def post(self, name, _):
        answer = send(self.client, "POST", "/accounts", account(f"{name}@crash", name),
                      Idempotency_Key=name)
        if answer.status == 201:
            self.known[answer.json["id"]] = name
        elif answer.status not in UNKNOWN:
            self.case.problems.append(f"POST {name}: {answer}")
        return answer

    def put(self, name, number):
        answer = send(self.client, "PUT", f"/accounts/{number}", account(f"{name}@crash", name))
        if answer.status == 200:
            self.known[number] = name
        elif answer.status not in UNKNOWN:
            self.case.problems.append(f"PUT {number}: {answer}")
        return answer

    def delete(self, _, number):
        answer = send(self.client, "DELETE", f"/accounts/{number}")
        if answer.status in (204, 404):  # the latter of one that was interrupted
            self.known.pop(number)
            self.gone.add(number)
        return answer

    def finish(self):
        """After the crash: what was under way is tried again."""
        if self.unknown is not None:
            todo, self.unknown = self.unknown, None
            self.attempt(*todo)
            if self.unknown is not None:
                self.case.problems.append(f"a retry is not answered: {todo}")


class Killed(AccountsCase):
    def answers(self):
        with contextlib.suppress(Broken, OSError):
            return self.get("/healthz/accounts").status == 200
        return False

    def round(self, writers):
        stop = threading.Event()
        threads = [threading.Thread(target=one.run, args=(stop,), daemon=True) for one in writers]
        for thread in threads:
            thread.start()
        time.sleep(random.uniform(0.1, 0.3))
        os.kill(self.service.pid("accounts"), signal.SIGKILL)
        wait_for(self.answers, "accounts answers again")
        stop.set()
        for thread in threads:
            thread.join(harness.LONG)
        at_once(len(writers), lambda i: writers[i].finish())

    def test_no_acknowledged_change_is_lost_or_made_twice(self):
        self.problems = []
        writers = [Writer(self, number) for number in range(WRITERS)]
        for number in range(ROUNDS):
            self.round(writers)
            self.assertEqual(self.problems, [], f"round {number}")
            with self.database() as connection:
                found = dict(connection.execute("SELECT id, name FROM accounts"))
            expected = {key: name for one in writers for key, name in one.known.items()}
            self.assertEqual(found, expected, f"round {number}")
        with self.database() as connection:
            self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        listed = {one["id"]: one["name"] for one in everything(self.service, "/accounts?limit=1000")}
        self.assertEqual(listed, expected)
        note(f"{ROUNDS} rounds; {sum(one.count for one in writers)} changes, {len(found)} accounts are "
             f"left, {sum(len(one.gone) for one in writers)} are gone")


class Private(AccountsCase):
    def files(self, folder):
        return [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]

    def holders(self, marker):
        """Files of the data folder with MARKER in them or in their names."""
        found = set()
        for name in self.files(self.service.data):
            with contextlib.suppress(OSError), open(name, "rb") as file:
                if marker.lower() in file.read().lower() or marker.decode() in name:
                    found.add(os.path.relpath(name, self.service.data))
        return found

    def test_what_people_are_called_is_in_the_database_and_nowhere_else(self):
        marker = "zyxmarkerxyz"
        one = account(f"{marker}@example.com", f"Name {marker}", f"Road {marker}")
        target = send(self.service, "POST", "/accounts", one).field("Location")
        send(self.service, "POST", "/accounts", one)
        send(self.service, "PUT", target, {**one, "name": 1})
        send(self.service, "POST", "/accounts", body=f'{{"name":"{marker}'.encode())
        for text in ("name", "email", "address"):
            self.assertEqual(self.found(**{text: one[text]}), [int(target.split("/")[2])])
        self.get(query(name=marker) + "&name=x")
        self.get(f"/accounts?name={marker}&address={9000 * 'x'}")
        self.get(f"/accounts?name={marker}%")
        with self.service.connect() as connection:  # the program dies over it
            pid = self.service.pid("accounts")
            os.kill(pid, signal.SIGSTOP)
            connection.send(f"GET {query(name=marker)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            time.sleep(0.2)
            os.kill(pid, signal.SIGKILL)
            connection.receive()
        wait_for(lambda: self.get("/healthz/accounts").status == 200, "accounts answers again")
        metrics = self.get("/metrics").body
        self.assertNotIn(marker.encode(), metrics)
        self.assertNotIn(marker, "\n".join(self.service.lines))
        held = self.holders(marker.encode())
        self.assertLessEqual(held, {"db/accounts.db", "db/accounts.db-wal"})
        self.assertTrue(held)


class Deleted(AccountsCase):
    def test_what_was_deleted_is_not_in_the_file_once_the_service_has_stopped(self):
        marker = b"deletedmarker"
        service = harness.Service()
        self.addCleanup(service.close)
        for i in range(20):
            made = send(service, "POST", "/accounts",
                        account(f"{i}@deletedmarker", f"{i} deletedmarker", 200 * "deletedmarker "))
            target = made.field("Location")
            if i % 2:
                send(service, "PUT", target, account(f"{i}@b", "", ""))
            else:
                self.assertEqual(service.ask(target, "DELETE").status, 204)
        service.stop()
        for name in os.listdir(os.path.join(service.data, "db")):
            if name.startswith("accounts.db"):
                with open(os.path.join(service.data, "db", name), "rb") as file:
                    self.assertNotIn(marker, file.read(), name)


if __name__ == "__main__":
    harness.main()
