"""audios, asked through nginx: sessions, their numbers, lists, conditions, retries, races, and
kill -9 under writers.

    CAREDESK_CRASH_ROUNDS  how often it is killed
"""
import json
import os
import random
import re
import signal
import sqlite3
import threading
import time
from decimal import ROUND_HALF_EVEN, Decimal

import harness
from harness import Broken, Case, at_once, note, wait_for
from ledger import BAD_BODIES, Client, everything, pages, send

ROUNDS = int(os.environ.get("CAREDESK_CRASH_ROUNDS", 10))
WRITERS = 6
RACERS = 32
UNKNOWN = (502, 503, 504)  # whether it was done cannot be told from these
ID_MAX = 2**63 - 1
MEMBERS = ["session_id", "ticks", "selected_tick", "step_count", "created_at", "updated_at"]
TIME = r"\A20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z"
NOT_INTEGERS = ("1", 1.5, True, [], [1], {}, "", 1e300)


def session(session_id, **more):
    """As a client sends it."""
    return {"session_id": session_id, "ticks": [-10 - 6.4 * i for i in range(15)],
            "selected_tick": 3, "step_count": 4, **more}


def with_tick(session_id, text):
    """The body with the number TEXT, as it is written, as its last tick."""
    return (f'{{"session_id":{session_id},"ticks":[{14 * "-10,"}{text}],'
            f'"selected_tick":0,"step_count":0}}').encode()


class AudiosCase(Case):
    next_id = 1000

    @classmethod
    def fresh(cls):
        AudiosCase.next_id += 1
        return AudiosCase.next_id

    def send(self, method, target, value=None, **more):
        return send(self.service, method, target, value, **more)

    def made(self, value, **more):
        answer = self.send("POST", "/audios", value, **more)
        self.assertEqual(answer.status, 201, answer)
        return answer.json

    def assertRefused(self, answer, *pointers):
        """400 that names just these fields."""
        problem = self.assertProblem(answer, 400, "invalid-input")
        self.assertEqual(sorted(one["pointer"] for one in problem.get("errors", [])),
                         sorted(pointers), problem)


class Sessions(AudiosCase):
    def test_a_session_is_created_with_location_and_body(self):
        number = self.fresh()
        answer = self.send("POST", "/audios", session(number, id=5, created_at="x"))
        self.assertEqual(answer.status, 201, answer)
        self.assertEqual(answer.field("Location"), f"/audios/{number}")
        self.assertCommon(answer)
        made = answer.json
        self.assertEqual(list(made), MEMBERS)
        self.assertEqual({name: made[name] for name in MEMBERS[:4]}, session(number))
        self.assertRegex(made["created_at"], TIME)
        self.assertEqual(made["updated_at"], made["created_at"])
        found = self.get(answer.field("Location"))
        self.assertEqual((found.status, found.body), (200, answer.body))
        self.assertEqual(found.field("ETag"), answer.field("ETag"))
        self.assertEqual(found.field("Cache-Control"), "no-cache")
        self.assertEqual(self.get(f"/audios/{number}/").body, answer.body)

    def test_every_number_from_0_to_the_largest_is_one_session(self):
        for number in (0, 1, 2**53 + 1, 2**62 + 1, ID_MAX - 1, ID_MAX):
            with self.subTest(number):
                self.assertEqual(self.made(session(number))["session_id"], number)
                self.assertEqual(self.get(f"/audios/{number}").json["session_id"], number)
                self.assertEqual([one["session_id"] for one in
                                  self.get(f"/audios?session_id={number}").json], [number])
                self.assertProblem(self.send("POST", "/audios", session(number)), 409, "conflict")
                self.assertEqual(self.send("DELETE", f"/audios/{number}").status, 204)
                self.made(session(number))

    def test_put_replaces_all_but_the_number_and_its_creation(self):
        number = self.fresh()
        made = self.made(session(number))
        changed = {"ticks": 15 * [-99.5], "selected_tick": 14, "step_count": 9}
        for value in (changed, {**changed, "session_id": number}, {**changed, "created_at": 1}):
            answer = self.send("PUT", f"/audios/{number}", value)
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual({name: answer.json[name] for name in changed}, changed)
            self.assertEqual(answer.json["created_at"], made["created_at"])
            self.assertGreater(answer.json["updated_at"], made["updated_at"])
            self.assertEqual(self.get(f"/audios/{number}").body, answer.body)
            made = answer.json
        for other in (number + 1, 0, ID_MAX):
            self.assertRefused(self.send("PUT", f"/audios/{number}", session(other)),
                               "#/session_id")
        for name in changed:
            part = {key: value for key, value in changed.items() if key != name}
            self.assertRefused(self.send("PUT", f"/audios/{number}", part), f"#/{name}")
        self.assertEqual(self.get(f"/audios/{number}").json, made)

    def test_what_is_not_there_is_404(self):
        number = self.fresh()
        self.made(session(number))
        answer = self.send("DELETE", f"/audios/{number}")
        self.assertEqual((answer.status, answer.body), (204, b""))
        for target in (number, "x", "-1", "1.0", "1e3", "+1", ID_MAX + 1, 2**64, "9" * 60):
            for method, value in (("GET", None), ("PUT", {**session(0), "session_id": None}),
                                  ("DELETE", None)):
                with self.subTest(target=target, method=method):
                    self.assertProblem(self.send(method, f"/audios/{target}", value), 404,
                                       "not-found")

    def test_every_bad_field_is_named_at_once(self):
        number = self.fresh()
        self.made(session(number))
        all_four = ["#/session_id", "#/ticks", "#/selected_tick", "#/step_count"]
        self.assertRefused(self.send("POST", "/audios", {}), *all_four)
        self.assertRefused(self.send("POST", "/audios", session(
            -1, ticks=14 * [-10], selected_tick=15, step_count=10)), *all_four)
        for name, wrong in (("session_id", (-1, -2**63)), ("selected_tick", (-1, 15, ID_MAX)),
                            ("step_count", (-1, 10, ID_MAX))):
            for value in (*wrong, *NOT_INTEGERS):
                for method, target in (("POST", "/audios"), ("PUT", f"/audios/{number}")):
                    with self.subTest(name=name, value=value, method=method):
                        self.assertRefused(self.send(method, target, {
                            **session(number), name: value}), f"#/{name}")
        self.assertRefused(self.send("POST", "/audios", session(
            self.fresh(), ticks=[-10, "x", -9, *(11 * [-50]), None], step_count=10)),
            "#/ticks/1", "#/ticks/2", "#/ticks/14", "#/step_count")

    def test_ticks_are_15(self):
        for ticks in ([], 14 * [-10], 16 * [-10], 1000 * [-10], -10, {}, "x", {"0": -10}, True):
            with self.subTest(ticks):
                self.assertRefused(self.send("POST", "/audios", session(
                    self.fresh(), ticks=ticks)), "#/ticks")

    def test_each_tick_has_its_bounds(self):
        for i in range(15):
            for value, good in ((-10, True), (-100, True), (-9.999999999999998, False), (10, False),
                                (-100.00000000000001, False), (0, False), (-1e300, False)):
                ticks = 15 * [-50]
                ticks[i] = value
                answer = self.send("POST", "/audios", session(self.fresh(), ticks=ticks))
                if good:
                    self.assertEqual(answer.status, 201, answer)
                else:
                    self.assertRefused(answer, f"#/ticks/{i}")

    def test_a_body_is_json_and_not_too_long(self):
        number = self.fresh()
        self.made(session(number))
        for method, target in (("POST", "/audios"), ("PUT", f"/audios/{number}")):
            for body in BAD_BODIES:
                with self.subTest(method=method, body=body):
                    answer = self.send(method, target, body=body)
                    self.assertProblem(answer, 400, "invalid-input")
            for kind in (None, "text/plain", "application/x-ndjson", "application/xml"):
                self.assertProblem(self.send(method, target, body=b"{}", kind=kind), 415)
            body = json.dumps(session(number + (method == "POST"))).encode()
            self.fresh()
            self.assertProblem(self.send(method, target, body=body.ljust(65537)), 413, "too-large")
            self.assertProblem(self.send(method, target, body=body.ljust(2**21)), 413, "too-large")
            self.assertIn(self.send(method, target, body=body.ljust(65536)).status, (200, 201))


class Numbers(AudiosCase):
    def last_tick(self, text):
        """How it comes out, by its own characters."""
        number = self.fresh()
        answer = self.send("POST", "/audios", body=with_tick(number, text))
        self.assertEqual(answer.status, 201, answer)
        again = self.get(f"/audios/{number}")
        self.assertEqual(again.body, answer.body)
        return re.search(r",([^,\]]*)\]", again.body.decode())[1]

    def test_a_number_comes_out_as_it_went_in(self):
        for text, out in (("-10", "-10"), ("-10.0", "-10"), ("-1e1", "-10"), ("-1E+02", "-100"),
                          ("-10.1", "-10.1"), ("-1010.00e-2", "-10.1"), ("-0.101e2", "-10.1"),
                          ("-33.333333333333336", "-33.333333333333336"),
                          ("-12.345678901234567", "-12.345678901234567"),
                          ("-99.999999999999999", "-99.999999999999999")):
            with self.subTest(text):
                self.assertEqual(self.last_tick(text), out)

    def test_17_digits_are_kept_and_more_are_rounded_half_to_even(self):
        choose = random.Random(5)
        for _ in range(100):
            digits = choose.choice((15, 15, 16, 17, 25))
            sent = Decimal(-choose.randrange(10 * 10**digits, 100 * 10**digits + 1)).scaleb(-digits)
            expected = sent.quantize(Decimal("1e-15"), ROUND_HALF_EVEN)
            with self.subTest(sent):
                self.assertEqual(Decimal(self.last_tick(format(sent, "f"))), expected)

    def test_a_double_stays_the_same_double(self):
        choose = random.Random(6)
        for _ in range(50):
            sent = choose.uniform(-100, -10)
            for text in (repr(sent), f"{sent:.17g}", f"{sent:.40f}", f"{sent:.20e}"):
                with self.subTest(text):
                    self.assertEqual(float(self.last_tick(text)), sent)

    def test_bounds_are_those_of_the_number_as_it_was_sent(self):
        for text in ("-100.00000000000000000001", "-9.99999999999999999999", "-1e3", "10",
                     "-1e99", "-1e-99", '"-10"', "null"):
            with self.subTest(text):
                self.assertRefused(self.send("POST", "/audios", body=with_tick(1, text)),
                                   "#/ticks/14")


class Lists(AudiosCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        choose = random.Random(7)
        cls.all = []
        with Client(cls.service) as client:
            for number in choose.sample(range(10**6), 250):
                answer = send(client, "POST", "/audios", session(
                    number, selected_tick=choose.randrange(3), step_count=choose.randrange(4)))
                assert answer.status == 201, answer
                cls.all.append(answer.json)

    def test_filters_are_combined_and_pages_lead_through_all_in_the_order_of_creation(self):
        for filters in ({}, {"selected_tick": 1}, {"step_count": 2}, {"selected_tick": 14},
                        {"selected_tick": 0, "step_count": 0}, {"session_id": 10**6},
                        {"session_id": self.all[7]["session_id"]},
                        {name: self.all[9][name] for name in
                         ("session_id", "selected_tick", "step_count")},
                        {"session_id": self.all[9]["session_id"],
                         "step_count": self.all[9]["step_count"] ^ 1}):
            expected = [one for one in self.all
                        if all(one[name] == value for name, value in filters.items())]
            query = "&".join(f"{name}={value}" for name, value in filters.items())
            for limit in (1, 7, 100, 1000):
                with self.subTest(query=query, limit=limit):
                    found = list(pages(self.service, f"/audios?{query}&limit={limit}"))
                    self.assertTrue(all(len(page) == limit for page in found[:-1]))
                    self.assertEqual([one for page in found for one in page], expected)

    def test_a_page_has_100_unless_asked(self):
        self.assertEqual(self.get("/audios").json, self.all[:100])
        self.assertEqual(everything(self.service, "/audios/"), self.all)

    def test_a_bad_filter_is_named(self):
        for query, names in (("session_id=-1", ["session_id"]), ("step_count=10", ["step_count"]),
                             ("selected_tick=15", ["selected_tick"]), ("limit=0", ["limit"]),
                             (f"session_id={2**63}", ["session_id"]), ("cursor=x", ["cursor"]),
                             ("step_count=1&step_count=1", ["step_count"]),
                             ("step_count=&selected_tick=a", ["step_count", "selected_tick"])):
            with self.subTest(query):
                self.assertRefused(self.get(f"/audios?{query}"), *names)


class Conditions(AudiosCase):
    def test_a_get_of_what_the_client_has_is_304_until_it_changes(self):
        number = self.fresh()
        self.made(session(number))
        for target in (f"/audios/{number}", f"/audios?session_id={number}", "/audios"):
            etag = self.get(target).field("ETag")
            self.assertRegex(etag, r'\A"[!#-~]+"\Z')
            answer = self.get(target, If_None_Match=f'"x", W/{etag}')
            self.assertEqual((answer.status, answer.body, answer.field("ETag")), (304, b"", etag))
            self.assertEqual(self.send("PUT", f"/audios/{number}", session(number)).status, 200)
            self.assertEqual(self.get(target, If_None_Match=etag).status, 200)

    def test_a_change_of_what_the_client_has_not_seen_is_412(self):
        number = self.fresh()
        etag = self.send("POST", "/audios", session(number)).field("ETag")
        for method, value in (("PUT", session(number, step_count=0)), ("DELETE", None)):
            for other in ('"x"', f"W/{etag}"):
                self.assertProblem(self.send(method, f"/audios/{number}", value, If_Match=other),
                                   412, "precondition-failed")
            answer = self.send(method, f"/audios/{number}", value, If_Match=f'"x", {etag}')
            self.assertIn(answer.status, (200, 204))
            etag = answer.field("ETag")
        made = self.send("POST", "/audios", session(number))
        self.assertProblem(self.send("PUT", f"/audios/{number}", session(number), If_Match='"1-1"'),
                           412)
        self.assertEqual(self.get(f"/audios/{number}").body, made.body)

    def test_of_many_with_the_same_etag_one_is_done(self):
        number = self.fresh()
        etag = self.send("POST", "/audios", session(number)).field("ETag")
        for _ in range(3):
            found = at_once(RACERS, lambda i: self.send(
                "PUT", f"/audios/{number}", session(number, step_count=i % 10), If_Match=etag))
            self.assertEqual(sorted(one.status for one in found), [200] + (RACERS - 1) * [412])
            done = next(one for one in found if one.status == 200)
            self.assertEqual(self.get(f"/audios/{number}").body, done.body)
            etag = done.field("ETag")

    def test_of_many_who_take_one_number_one_does(self):
        number = self.fresh()
        found = at_once(RACERS, lambda i: self.send("POST", "/audios", session(
            number, step_count=i % 10)))
        self.assertEqual(sorted(one.status for one in found), [201] + (RACERS - 1) * [409])
        done = next(one for one in found if one.status == 201)
        self.assertEqual(self.get(f"/audios/{number}").body, done.body)

    def test_a_retry_is_answered_as_the_first_time_and_does_nothing(self):
        number = self.fresh()
        ask = lambda value: self.send("POST", "/audios", value, Idempotency_Key="audio-1")
        first = ask(session(number))
        self.assertEqual(first.status, 201)
        self.assertEqual(self.send("PUT", f"/audios/{number}", session(number)).status, 200)
        for _ in range(2):
            again = ask(session(number))
            self.assertEqual((again.status, again.body), (201, first.body))
            for name in ("Location", "ETag"):
                self.assertEqual(again.field(name), first.field(name))
            self.assertEqual(self.send("DELETE", f"/audios/{number}").status in (204, 404), True)
        self.assertEqual(self.get(f"/audios/{number}").status, 404)
        self.assertProblem(ask(session(number, step_count=0)), 422, "idempotency-key-reused")

    def test_of_many_with_one_key_all_get_the_same_answer(self):
        number = self.fresh()
        found = at_once(RACERS, lambda i: self.send("POST", "/audios", session(number),
                                                    Idempotency_Key="audio-race"))
        self.assertEqual({(one.status, one.body) for one in found}, {(201, found[0].body)})


class Writer:
    """A client with what it was told; its numbers are its own."""

    def __init__(self, case, number):
        self.case, self.choose, self.number, self.count = case, random.Random(number), number, 0
        self.kept, self.gone = {}, set()  # session_id: what was answered last
        self.unknown = None  # (session_id, method, value, key), which the kill has interrupted
        self.client = Client(case.service)

    def next(self):
        kind = self.choose.random()
        self.count += 1
        if kind < 0.6 or not self.kept:
            number = self.number * 10**6 + self.count
            return number, "POST", session(number), f"{self.number}-{self.count}"
        number = self.choose.choice(list(self.kept))
        if kind < 0.85:
            return number, "PUT", session(number, ticks=15 * [-10 - self.count / 1000]), None
        return number, "DELETE", None, None

    def attempt(self, todo, retry=False):
        """False if it is not known whether it was done."""
        number, method, value, key = todo
        target = "/audios" if method == "POST" else f"/audios/{number}"
        fields = {"Idempotency_Key": key} if key is not None else {}
        try:
            answer = send(self.client, method, target, value, **fields)
        except (Broken, OSError):
            return False
        if answer.status in UNKNOWN:
            return False
        if answer.status in (200, 201):
            self.kept[number] = answer.json
        elif answer.status == 204 or (retry and method == "DELETE" and answer.status == 404):
            self.kept.pop(number, None)
            self.gone.add(number)
        else:
            self.case.problems.append(f"{todo}: {answer}")
        return True

    def run(self, stop):
        while not stop.is_set():
            todo = self.next()
            if not self.attempt(todo):
                self.unknown = todo
                return

    def finish(self):
        if self.unknown is not None and not self.attempt(self.unknown, True):
            self.case.problems.append(f"a retry is not answered: {self.unknown}")
        self.unknown = None


class Killed(AudiosCase):
    def answers(self):
        try:
            return self.get("/healthz/audios").status == 200
        except (Broken, OSError):
            return False

    def round(self, writers):
        stop = threading.Event()
        threads = [threading.Thread(target=writer.run, args=(stop,), daemon=True)
                   for writer in writers]
        for thread in threads:
            thread.start()
        time.sleep(random.uniform(0.15, 0.35))
        os.kill(self.service.pid("audios"), signal.SIGKILL)
        wait_for(self.answers, "audios answers again")
        stop.set()
        for thread in threads:
            thread.join(harness.LONG)
        self.assertFalse([thread for thread in threads if thread.is_alive()])
        at_once(len(writers), lambda i: writers[i].finish())

    def test_what_was_acknowledged_is_there_and_nothing_else(self):
        self.problems = []
        writers = [Writer(self, number) for number in range(1, WRITERS + 1)]
        for number in range(ROUNDS):
            self.round(writers)
            self.assertEqual(self.problems, [], f"round {number}")
            expected = {key: value for writer in writers for key, value in writer.kept.items()}
            found = everything(self.service, "/audios?limit=1000")
            self.assertEqual(len(found), len(expected), f"round {number}")
            self.assertEqual({one["session_id"]: one for one in found}, expected)
            time.sleep(0.12)  # one that dies faster is given up for a while
        note(f"{ROUNDS} rounds: {len(expected)} kept, "
             f"{sum(len(writer.gone) for writer in writers)} deleted")
        path = os.path.join(self.service.data, "db/audios.db")
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        self.addCleanup(connection.close)
        self.assertEqual(connection.execute("PRAGMA integrity_check").fetchall(), [("ok",)])



class Forms(AudiosCase):
    """The same, as a file of a form."""

    def file(self, method, target, data, *, filename="a.json", name="audio", fields=()):
        body = (f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n").encode() + data + b"\r\n--b--\r\n"
        return self.service.ask(target, method, [
            ("Content-Type", "multipart/form-data; boundary=b"), *fields], body)

    def test_a_file_is_a_session(self):
        number = self.fresh()
        made = self.file("POST", "/audios", json.dumps(session(number)).encode(), filename="X.JSON")
        self.assertEqual((made.status, made.field("Location")), (201, f"/audios/{number}"), made)
        self.assertEqual(made.json, self.get(f"/audios/{number}").json)
        self.assertEqual(self.file("POST", "/audios", json.dumps(session(number)).encode()).status, 409)
        put = self.file("PUT", f"/audios/{number}", json.dumps(session(number, step_count=9)).encode())
        self.assertEqual((put.status, put.json["step_count"]), (200, 9), put)
        self.assertRefused(self.file("PUT", f"/audios/{number}",
                                     json.dumps(session(number + 1)).encode()), "#/session_id")

    def test_what_is_wrong_with_a_file_is_named(self):
        number, good = self.fresh(), json.dumps(session(10**6)).encode()
        for data, how, pointers in (
                (good, {"filename": "a.txt"}, ("audio",)), (good, {"filename": ".json"}, ("audio",)),
                (good, {"name": "image"}, ("audio",)), (b"{", {}, ()), (b"", {}, ()), (b"[]", {}, ()),
                (json.dumps({**session(number), "ticks": [-10] * 14}).encode(), {}, ("#/ticks",)),
                (json.dumps({**session(number), "step_count": 10}).encode(), {}, ("#/step_count",))):
            self.assertRefused(self.file("POST", "/audios", data, **how), *pointers)
        self.assertProblem(self.file("POST", "/audios", b" " * 65537), 413)
        self.assertProblem(self.file("POST", "/audios", b" " * 200000), 413)
        self.assertProblem(self.get(f"/audios/{number}"), 404)

    def test_a_retry_is_answered_as_before(self):
        data, key = json.dumps(session(self.fresh())).encode(), [("Idempotency-Key", f"k{self.fresh()}")]
        first = self.file("POST", "/audios", data, fields=key)
        self.assertEqual(first.status, 201)
        again = self.file("POST", "/audios", data, fields=key)
        self.assertEqual((again.status, again.json), (201, first.json))
        self.assertProblem(self.file("POST", "/audios", data + b" ", fields=key), 422)

if __name__ == "__main__":
    harness.main()
