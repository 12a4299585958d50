"""The n-th call fails, on every route: an allocation, a call that touches a file, a new thread; and what
else goes wrong around the programs.

    CAREDESK_TORTURE        all: every n; else a few of each route
    CAREDESK_TORTURE_SEED   which few
    CAREDESK_TORTURE_ONLY   routes whose line holds this word
    CAREDESK_TORTURE_CORES  as on a machine with so many

The library fault.so (t/fault.c) is loaded before all others and is told by a shared page what to fail, so
that one program serves for all.  What must hold of each answer, n by n, is in Torture.judge().
"""
import collections
import contextlib
import errno
import faulthandler
import glob
import hashlib
import json
import mmap
import os
import random
import re
import signal
import socket
import sqlite3
import struct
import sys
import threading
import time
import unittest

import accounts
import audios
import harness
import images
import serve
from auth import AUTH, Secret, bearer
from harness import Broken, PROGRAMS, caredesk, note, wait_for
from ledger import JSON, LINES, LedgerCase, event, fresh, lines, miscounted

ALL = os.environ.get("CAREDESK_TORTURE") == "all"
SEED = int(os.environ.get("CAREDESK_TORTURE_SEED", 1))  # ./check has the same ones each time
ONLY = os.environ.get("CAREDESK_TORTURE_ONLY", "")
FEW = 2  # of each route and mode, unless all
LIBRARY = os.path.join(harness.BUILD, "fault.so")
MEMORY, FILES, THREADS, DESCRIPTORS, CHANGES = 1, 2, 4, 8, 16
KILLED = -1  # as an error: SIGKILL amid a write
NEVER = 1 << 40
LONG_TEXT = 50 * "longer than what json-c has room for at first "[:4]
QUICK_S = 10  # an answer that takes longer is a hang
# Libraries that end the process where memory is out, by design.  What watches a program starts it anew.
ABORT = {
    "libglib-2.0.so": "g_malloc() aborts; GMime, which reads the headers of a form's parts, is on GLib",
    "libfcgi.so": "its Malloc() asserts that there is memory",
    "libjson-c.so": "0.16 does not look whether strdup() had memory for a member's name",
}
LAST_WORDS = re.compile(r"fcgiapp\.c:\d+: Malloc: Assertion|GLib-ERROR \*\*|^$|^Unexpected error\.$|"
                        r"\*\*: .* failed to allocate \d+ bytes")


class Fault:
    """The page that the programs share, as struct page in t/fault.c has it."""

    FIELDS = ("kinds", "left", "always", "error", "seen", "failed", "clock_us", "signal",
              "turn")
    SIZE = 4096

    def __init__(self, folder):
        self.path = os.path.join(folder, "fault")
        with open(self.path, "w+b") as file:
            file.truncate(self.SIZE)
            self.map = mmap.mmap(file.fileno(), self.SIZE)
        os.chmod(self.path, 0o666)

    def environment(self):
        return {"LD_PRELOAD": LIBRARY, "CAREDESK_FAULT": self.path}

    def __getitem__(self, name):
        return struct.unpack_from("q", self.map, 8 * self.FIELDS.index(name))[0]

    def __setitem__(self, name, value):
        struct.pack_into("q", self.map, 8 * self.FIELDS.index(name), value)

    def whom(self, program):
        struct.pack_into("32s", self.map, 72, program.encode())

    def set_apart(self, library):
        """Its allocations neither fail nor count."""
        struct.pack_into("32s", self.map, 232, library.encode())

    @property
    def where(self):
        return self.map[104:232].split(b"\0")[0].decode()

    def arm(self, program, kind, n, always=False, error=0):
        """The N-th call from now fails, in PROGRAM; and all after it, if ALWAYS."""
        self.disarm()
        self.whom(program)
        self.map[104:232] = bytes(128)
        for name, value in (("left", n), ("always", always), ("error", error), ("seen", 0),
                            ("failed", 0), ("signal", 0), ("turn", self["turn"] + 1),
                            ("kinds", kind)):
            self[name] = value

    def disarm(self):
        """How many calls have failed."""
        self["kinds"] = 0
        return self["failed"]


Request = collections.namedtuple("Request", "method target fields body")


def request(method, target, value=None, kind=JSON, body=None, **fields):
    fields = {name.replace("_", "-"): text for name, text in fields.items()}
    if value is not None:
        body = json.dumps(value).encode()
    if body is not None:
        fields["Content-Type"] = kind
    return Request(method, target, fields, body)


class Call:
    """A route as it is asked: MAKE(case) prepares what it needs, and gives the request."""

    def __init__(self, route, make, data=None, stable=False, status=None, patience_s=0):
        self.route, self.make, self.data, self.stable = route, make, data, stable
        self.status = status  # of the right answer; None: a good one
        self.patience_s = patience_s  # for which it waits, after its change, for what others hold
        self.program = self.method = self.path = None

    @property
    def writes(self):
        return self.data is not None


def get(target, stable=True):
    return lambda case: request("GET", target(case) if callable(target) else target)


def event_body(case, **more):
    return event(case.type_id, 17, **more)


def reads(route, target, stable=True):
    return Call(route, get(target), stable=stable)


def changes(route, make, **more):
    return Call(route, make, data=True, **more)


def privately(what, **more):
    return changes(f"POST /private/accounts/{{id}}/{what}", lambda case: request(
        "POST", f"/private{case.make_account()}/{what}", {}), **more)


CALLS = {
    "accounts": [
        reads("GET /accounts", "/accounts?limit=1"),
        reads("GET /accounts/{id}", lambda case: case.account),
        changes("POST /accounts", lambda case: request(
            "POST", "/accounts", accounts.account(name=LONG_TEXT), Idempotency_Key=fresh("k").replace(" ", ""))),
        changes("PUT /accounts/{id}", lambda case: request(
            "PUT", case.make_account(), accounts.account(address=LONG_TEXT))),
        changes("DELETE /accounts/{id}", lambda case: request("DELETE", case.make_account())),
        *(changes(f"POST /accounts/{{id}}/{path}", lambda case, path=path: request(
            "POST", f"{case.make_account()}/{path}", kind=f"{images.FORM}=b0",
            body=images.form(images.png(shade=case.shade())))) for path in
          ("upload_image", "upload-image")),
    ],
    "audios": [
        reads("GET /audios", "/audios?limit=1"),
        reads("GET /audios/{session_id}", lambda case: f"/audios/{case.session_id}"),
        changes("POST /audios", lambda case: request(
            "POST", "/audios", audios.session(case.fresh_session()))),
        changes("PUT /audios/{session_id}", lambda case: request(
            "PUT", f"/audios/{case.session_id}",
            audios.session(case.session_id, step_count=case.shade() % 10))),
        changes("DELETE /audios/{session_id}", lambda case: request(
            "DELETE", f"/audios/{case.make_session()}")),
    ],
    "coalesce": [
        reads("GET /api/coalescence/{method}",
              lambda case: f"/api/coalescence/default?member_id=1&n={case.shade()}", stable=False),
    ],
    "events": [
        reads("GET /events/types", "/events/types?limit=1"),
        reads("GET /events/types/{id}", lambda case: f"/events/types/{case.type_id}"),
        reads("GET /events/types/{id}/prices", lambda case: f"/events/types/{case.type_id}/prices"),
        reads("GET /events", "/events?caregiver_id=16"),
        reads("GET /events/{id}", lambda case: f"/events/{case.event_id}"),
        changes("POST /events/types", lambda case: request(
            "POST", "/events/types", {"name": fresh(), "amount_in_cents": 5})),
        changes("PUT /events/types/{id}", lambda case: request(
            "PUT", f"/events/types/{case.make_type()}", {"name": fresh(), "amount_in_cents": 7})),
        changes("DELETE /events/types/{id}", lambda case: request(
            "DELETE", f"/events/types/{case.make_type()}")),
        changes("POST /events", lambda case: request(
            "POST", "/events", event_body(case), Idempotency_Key=fresh("k").replace(" ", ""))),
        changes("POST /events", lambda case: request(
            "POST", "/events", kind=LINES, body=lines(7 * [event_body(case)]))),
        changes("DELETE /events/{id}", lambda case: request(
            "DELETE", f"/events/{case.make_event(case.type_id, 17)['id']}")),
        changes("POST /events/{id}/reimburse", lambda case: request(
            "POST", f"/events/{case.make_event(case.type_id, 17)['id']}/reimburse")),
    ],
    "health": [
        reads("GET /healthz", "/healthz", stable=False),
        reads("GET /metrics", "/metrics", stable=False),
    ],
    "report": [
        reads("GET /events/report", "/events/report?caregiver_ids=16", stable=False),  # generated_at
        Call("POST /events/report", lambda case: request(
            "POST", "/events/report", {"caregiver_ids": [15, 16]})),
    ],
    "stats": [
        reads("GET /stats", "/stats/?limit=2", stable=False),
        reads("GET /stats/hourly", "/stats/hourly?path=/ping", stable=False),
        reads("GET /test/runs", "/test/runs?limit=1", stable=False),
        reads("GET /test/runs/{id}", lambda case: f"/test/runs/{case.run_id}", stable=False),
        Call("DELETE /test/runs/{id}", lambda case: request(
            "DELETE", f"/test/runs/{case.make_run()}")),
        Call("POST /test/{requests}", lambda case: request("POST", "/test/1")),
    ],
}
# Of nginx's socket for the operator's command.
PRIVATE = [privately("export"), privately("erase", patience_s=15)]
for _call in PRIVATE:
    _call.program = "accounts"
for _name in PROGRAMS:
    CALLS[_name] += [reads(f"GET /healthz/{_name}", f"/healthz/{_name}", stable=False),
                     reads(f"GET /metrics/{_name}", f"/metrics/{_name}", stable=False)]
    for _call in CALLS[_name]:
        _call.program = _name


def chosen(kind):
    return [call for call in [*(call for name in PROGRAMS for call in CALLS[name]), *PRIVATE]
            if ONLY in call.route and kind(call)]


def is_short(call):
    """POST /test waits up to 30 s until what it has asked can be counted."""
    return not call.route.startswith("POST /test/") and (ALL or not call.patience_s)


class Private(harness.Connection):
    """To nginx's socket for the operator's command, which the document does not tell of."""

    def __init__(self, service):
        self.socket, self.port = socket.socket(socket.AF_UNIX), service.port
        self.socket.settimeout(harness.LONG)
        self.socket.connect(os.path.join(service.data, "run/http.sock"))
        self.file = self.socket.makefile("rb")

    def ask(self, target, method="GET", fields=(), body=None):
        began = time.monotonic()
        self.request(target, method, fields, body)
        answer = self.receive(method)
        answer.seconds = time.monotonic() - began
        return answer


@unittest.skipUnless(os.path.exists(LIBRARY), "there is no fault.so: make fault.so")
@unittest.skipIf(harness.LONG > 20, "a sanitizer has its own malloc()")
class TortureCase(LedgerCase):
    start = False

    @classmethod
    def setUpClass(cls):
        if ALL:
            faulthandler.cancel_dump_traceback_later()
        super().setUpClass()
        cls.fault = Fault(os.path.dirname(cls.data))
        cls.begin()

    @classmethod
    def begin(cls, **options):
        os.environ.update(cls.fault.environment())
        try:
            super().begin(**options)
        finally:
            for name in cls.fault.environment():
                del os.environ[name]
        cls.connections = {}

    @classmethod
    def tearDownClass(cls):
        cls.fault.disarm()
        for connection in cls.connections.values():
            connection.close()
        # The last words of those that are ended by a library are its own.
        cls.service.lines[:] = [line for line in cls.service.lines if not LAST_WORDS.search(line)]
        cls.service.stop()

    # What the calls are about.

    numbers = iter(range(1, 10**9))

    def shade(self):
        return next(self.numbers)

    def fresh_session(self):
        return 1000 + next(self.numbers)

    def make_session(self):
        number = self.fresh_session()
        self.made("/audios", audios.session(number))
        return number

    def make_account(self):
        answer = self.send("POST", "/accounts", accounts.account())
        self.assertEqual(answer.status, 201, answer)
        return answer.field("Location")

    def make_run(self):
        return self.made_run(self.send("POST", "/test/1"))

    def made_run(self, answer):
        self.assertIn(answer.status, (200, 201, 202), answer)
        return answer.json["id"]

    def setUp(self):
        self.type_id = self.make_type(100)
        for caregiver_id in (15, 16, 17):
            self.event_id = self.make_event(self.type_id, caregiver_id)["id"]
        self.account = self.make_account()
        self.session_id = self.make_session()
        self.run_id = self.make_run()

    # What is stored.

    def connection(self, name):
        if name not in self.connections:
            self.connections[name] = sqlite3.connect(
                f"file:{os.path.join(self.data, 'db', name + '.db')}?mode=ro", uri=True,
                isolation_level=None, timeout=harness.LONG)
        return self.connections[name]

    def state(self, call):
        """Of each table how many rows, and a digest of all."""
        if not call.writes:
            return {}
        connection = self.connection(call.program)
        connection.execute("BEGIN")
        try:
            tables = [name for name, in connection.execute(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")]
            found = {}
            for name in tables:
                rows = connection.execute(f"SELECT * FROM {name}").fetchall()
                found[name] = len(rows), hashlib.blake2b(repr(sorted(rows, key=repr)).encode()).digest()
            return found
        finally:
            connection.execute("ROLLBACK")

    @staticmethod
    def delta(before, after):
        return {name: after[name][0] - before[name][0] for name in after
                if after[name] != before[name]}

    # A request, and what must hold of its answer.

    def ask(self, asked):
        """None if the answer breaks off."""
        self.asked = asked
        try:
            if asked.target.startswith("/private/"):
                with Private(self.service) as connection:
                    return connection.ask(asked.target, asked.method, asked.fields, asked.body)
            return self.service.ask(asked.target, asked.method, asked.fields, asked.body)
        except TimeoutError:
            raise AssertionError(f"no answer to {asked.method} {asked.target}") from None
        except (Broken, OSError):
            return None

    def well(self, call):
        """Asked without a fault: the answer, and what it changes; None if it is not answered right."""
        try:
            asked = call.make(self)
        except (AssertionError, Broken, OSError):  # its program is just being started anew
            return None
        before = self.state(call)
        answer = self.ask(asked)
        if answer is None or (answer.status != call.status if call.status else answer.status >= 300):
            return None
        return answer, self.delta(before, self.state(call))

    def count(self, call, kind):
        """How many calls of KIND it takes, the right answer, and what it changes."""
        for _ in range(2):  # caches are warm, and what is made once is made
            wait_for(lambda: self.well(call), f"{call.route} is answered right")
        asked = call.make(self)
        before = self.state(call)
        self.fault.arm(call.program, kind, NEVER)
        answer = self.ask(asked)
        self.fault.disarm()
        return self.fault["seen"], answer, self.delta(before, self.state(call))

    def assertStored(self, answer):
        """What was sent as JSON is what came back."""
        with contextlib.suppress(ValueError, TypeError):
            sent = json.loads(self.asked.body)
            for name in set(sent) - {"start_time"} if isinstance(answer.json, dict) else ():
                self.assertEqual(answer.json.get(name, sent[name]), sent[name], name)

    def judge(self, call, right, delta, done, always):
        """What an answer is, in a word, given how the data have changed; fails where that is wrong."""
        answer, found = done
        if self.fault["signal"] != 0:
            library = self.fault.where.partition("+")[0].partition(".so")[0] + ".so"
            if self.fault["signal"] == signal.SIGTRAP:  # only GLib ends so, also by vasprintf()
                library = "libglib-2.0.so"
            elif self.fault["signal"] == signal.SIGABRT and always:  # another thread may have failed last:
                library = "libfcgi.so"  # its last words are in the log, where no other may be
            self.assertIn(library, ABORT, f"signal {self.fault['signal']} of {self.fault.where}")
            self.assertIn(found, ({}, delta))
            return f"ended by {library}"
        if answer is None:
            self.assertFalse(call.writes, "a change has no whole answer")
            return "cut"
        self.assertLess(answer.seconds, QUICK_S + call.patience_s)
        if answer.status >= 500:
            if not self.asked.target.startswith("/private/"):
                self.assertProblem(answer, answer.status)
            self.assertEqual(answer.json["status"], answer.status)
            if answer.status == 503 and not (call.patience_s and b"run it again" in answer.body):
                self.assertEqual(found, {}, answer)
            self.assertIn(found, ({}, delta), answer)
            return str(answer.status)
        self.assertEqual(answer.status, right.status, answer)
        self.assertEqual(found, delta, answer)
        self.assertStored(answer)
        if call.stable:
            self.assertEqual(answer.body, right.body)
        return "right"

    def fail_once(self, call, kind, n, right, delta, always=False, error=0):
        """Its N-th call fails.  None if it does not make so many, else what came of it."""
        asked = call.make(self)
        before = self.state(call)
        self.fault.arm(call.program, kind, n, always, error)
        answer = self.ask(asked)
        failed = self.fault.disarm()
        found = self.delta(before, self.state(call))
        what = self.judge(call, right, delta, (answer, found), always)
        wait_for(lambda: self.well(call), f"{call.route} is answered right again")
        return what if failed else None

    def route(self, call, kind, modes, few=FEW):
        """Every N, or a few, in each of the MODES; what came of them is noted."""
        total, right, delta = self.count(call, kind)
        choose, seen, wrong = random.Random(f"{SEED}{call.route}"), collections.Counter(), []
        for mode in modes:
            numbers = range(1, total + 1)
            is_all = ALL and not (mode.get("always") and call.patience_s)  # that takes hours
            for n in numbers if is_all else sorted(choose.sample(numbers, min(few, total))):
                try:
                    what = self.fail_once(call, kind, n, right, delta, **mode)
                except AssertionError as error:
                    wrong.append(f"n={n} {mode} at {self.fault.where}: {str(error)[:300]}")
                    with contextlib.suppress(AssertionError):
                        wait_for(lambda: self.well(call), "again")
                else:
                    seen[what or "no such n"] += 1
        note(f"{call.route}: {total} calls: {dict(seen)}")
        if ALL:
            print(f"{call.route}: {total} calls: {dict(seen)}, {len(wrong)} wrong", file=sys.stderr)
        return wrong

    def every_route(self, calls, *how, **more):
        wrong = []
        for call in calls:
            try:
                wrong += [f"{call.route}: {one}" for one in self.route(call, *how, **more)]
            except AssertionError as error:
                wrong.append(str(error))
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong[:40]))


class Memory(TortureCase):
    def test_every_route_of_every_program_is_tried(self):
        here = {(name, *call.route.split(" ")) for name in PROGRAMS for call in CALLS[name]}
        self.assertEqual(here, {(name, *route) for name in PROGRAMS
                                for route in harness.routes(name)})

    def test_every_route_of_the_operator_is_tried(self):
        found = set()
        for path in glob.glob(os.path.join(harness.SOURCE, "nginx/*.private")):
            with open(path, encoding="utf-8") as file:
                found |= set(re.findall(r"location ~ \^(\S+)\\z", file.read()))
        self.assertEqual({call.route.removeprefix("POST ").replace("{id}", "[0-9]+") for call in PRIVATE},
                         found)

    def test_an_allocation_fails(self):
        self.every_route(chosen(lambda call: True), MEMORY, [{}])

    def test_memory_is_out_from_an_allocation_on(self):
        self.every_route(chosen(is_short), MEMORY, [{"always": True}])


STORAGE = [{"error": errno.EIO}, {"error": errno.ENOSPC}, {"error": 0}]
AT_LEAST = 3  # a change at least writes, syncs and reads


class Files(TortureCase):
    """Every read, write, sync, open, link and so on, of the routes that change something."""

    def test_a_call_that_touches_a_file_fails(self):
        self.every_route(chosen(lambda call: call.writes), FILES, STORAGE)
        self.assertWhole()

    def test_files_fail_from_a_call_on(self):
        self.every_route(chosen(lambda call: call.writes and is_short(call)), FILES,
                         [{"always": True, **one} for one in STORAGE])
        self.assertWhole()

    def test_what_was_refused_does_not_come_back_with_a_crash(self):
        """As it would out of frames that are whole in the log and only not synced."""
        call = next(call for call in CALLS["events"] if call.route == "POST /events")
        total, right, delta = self.count(call, FILES)
        self.assertGreaterEqual(total, AT_LEAST)
        for n in range(1, total + 1):
            for mode in STORAGE if ALL else STORAGE[:1]:
                before = self.state(call)
                self.fault.arm("events", FILES, n, **mode)
                answer = self.ask(call.make(self))
                self.fault.disarm()
                now = self.state(call)
                self.kill("events")
                self.assertEqual(self.state(call), now, (n, mode))
                self.assertEqual(self.delta(before, now),
                                 delta if answer.status == 201 else {}, (n, mode))
        self.assertWhole()

    def assertWhole(self):
        with contextlib.closing(sqlite3.connect(
                f"file:{self.data}/db/events.db?mode=ro", uri=True)) as connection:
            self.assertEqual(miscounted(connection), [])
        unfinished = self.connection("accounts").execute(
            "SELECT count(*) FROM erasures WHERE finished_at IS NULL").fetchone()
        self.assertEqual(unfinished, (0,), "who was erased by halves is not erased by the next one")
        done = caredesk("fsck", "--data", self.data)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Tokens(TortureCase):
    """auth.mode: required.  A read and a change, with a token that is known, one that nobody has seen, and
    one that is nobody's: what has no memory to look at it lets nobody in."""

    ROUTES = ("GET /events/types/{id}", "POST /audios")
    KINDS = ("known", "first seen", "forged")

    @classmethod
    def config(cls):
        return {"auth": AUTH}

    @classmethod
    def begin(cls, **options):
        super().begin(**options)
        cls.secret = Secret(cls.data)
        cls.known = cls.secret.sign(roles=["admin"])
        ask = cls.service.ask

        def signed(target, method="GET", fields=(), body=None, **more):
            return ask(target, method, {**bearer(cls.known), **dict(fields)}, body, **more)

        cls.service.ask = signed

    def token(self, kind):
        token = self.secret.sign(roles=["admin"], jti=str(self.shade())) if kind != "known" else self.known
        return token if kind != "forged" else token.rpartition(".")[0] + "." + 43 * "A"

    def with_token(self, asked, kind):
        return asked._replace(fields={**dict(asked.fields), **bearer(self.token(kind))})

    def calls(self):
        for call in chosen(lambda call: call.route in self.ROUTES):
            for kind in self.KINDS:
                one = Call(f"{call.route}, {kind} token", lambda case, call=call, kind=kind: case.with_token(
                    call.make(case), kind), call.data, status=401 if kind == "forged" else None)
                one.program = call.program
                yield one

    def test_an_allocation_fails_while_a_token_is_checked(self):
        self.every_route(list(self.calls()), MEMORY, [{}, {"always": True}])

    def test_a_file_fails_while_a_token_is_checked(self):
        self.every_route([call for call in self.calls() if call.writes], FILES, STORAGE)


class Around(TortureCase):
    """What goes wrong around a program, and is tried nowhere else (see ELSEWHERE)."""

    READS = {"accounts": "/accounts?limit=1", "audios": "/audios?limit=1",
             "coalesce": "/healthz/coalesce", "events": "/events?limit=1",
             "health": "/healthz/health", "report": "/events/report?caregiver_ids=16",
             "stats": "/stats/?limit=1"}

    def test_the_clock_jumps(self):
        """Answers come as soon as before; what is stored is stored once; and back again."""
        for program, target in self.READS.items():
            for days in (1, -1, 400, -400, 30000):
                with self.subTest(program=program, days=days):
                    self.fault.whom(program)
                    self.fault["clock_us"] = days * 86400 * 10**6
                    try:
                        answer = self.get(target)
                        self.assertEqual(answer.status, 200, answer)
                        self.assertLess(answer.seconds, QUICK_S)
                        if program == "audios":  # a change waits for the writer's thread
                            self.make_session()
                    finally:
                        self.fault["clock_us"] = 0
                    self.assertEqual(self.get(target).status, 200)

    def test_there_are_no_more_threads(self):
        """None, or one, two or three, when the program starts anew: it serves by those, or ends with words
        and is started again."""
        for program, target in self.READS.items():
            for n in range(1, 5):
                with self.subTest(program, n=n):
                    pid = self.service.pid(program)
                    self.fault.arm(program, THREADS, n, always=True)
                    os.kill(pid, signal.SIGKILL)
                    wait_for(lambda: self.fault["failed"] > 0, "a thread is wanted")
                    answers = harness.at_once(8, lambda i: self.service.get(target))
                    self.fault.disarm()
                    for answer in answers:
                        # 504: none that was started lasted until it had accepted.
                        self.assertIn(answer.status, (200, 502, 503, 504), answer)
                    self.assertEqual(self.fault["signal"], 0)
                    wait_for(lambda: self.get(target).status == 200, "it answers again")

    def ask_anew(self, program):
        """By a connection of its own, which is to be accepted first."""
        with serve.Peer(self.service, program) as peer:
            return serve.status(peer.ask(f"/healthz/{program}"))

    def test_there_are_no_more_descriptors(self):
        for program, target in self.READS.items():
            with self.subTest(program):
                pid = self.service.pid(program)
                self.fault.arm(program, DESCRIPTORS, 1, always=True)
                timer = threading.Timer(1, self.fault.disarm)  # who is not accepted waits
                timer.start()
                answers = harness.at_once(4, lambda i: self.service.get(target).status if i else
                                          self.ask_anew(program))
                timer.join()
                self.assertGreater(self.fault["failed"], 0, "no descriptor was wanted")
                for status in answers:
                    self.assertIn(status, (200, 500, 502, 503, 504))
                wait_for(lambda: self.get(target).status == 200, "it answers again")
                self.assertEqual(self.service.pid(program), pid)

    def test_what_is_tried_elsewhere_is_there(self):
        for fault, name, words in ELSEWHERE:
            with self.subTest(fault):
                with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
                    self.assertIn(f"    def test_{words.replace(' ', '_')}(", file.read())


# Fault, the file of its test, and what must hold.
ELSEWHERE = [
    ("disk full", "faults.py", "a full disk refuses writes while reads go on"),
    ("disk full, one large change", "faults.py",
     "an import too large for the disk is refused whole"),
    ("read-only", "faults.py", "a folder that becomes read only"),
    ("read-only at the start", "faults.py", "programs that start on a read only folder"),
    ("foreign lock", "faults.py",
     "a foreign lock refuses writes and nobody reads the worse for it"),
    ("damaged rows", "faults.py", "overwritten rows give errors and no inventions"),
    ("file cut", "faults.py", "a file that was cut gives errors and no inventions"),
    ("newer database", "faults.py", "a database that is newer is refused and left alone"),
    ("upstreams of every kind", "coalesce.py",
     "everything else is a failure that the others do not suffer from"),
    ("an upstream that is late", "coalesce.py", "nobody waits longer than the deadline"),
    ("an upstream that keeps failing", "coalesce.py",
     "an insurer that keeps failing is no longer asked"),
    ("a program is killed", "run.py", "each program is back at once"),
    ("its watcher is killed", "run.py", "a watcher that is killed is replaced with its program"),
    ("a worker of nginx is killed", "run.py", "a worker of nginx that is killed is replaced"),
    ("nginx is gone", "run.py", "the end of nginx is the end of all"),
    ("caredesk run is killed", "run.py", "sigkill leaves nothing behind"),
    ("killed while it migrates", "torture_start.py",
     "a migration that is killed is done again and nothing is lost"),
    ("no memory at the start", "torture_start.py", "an allocation fails while a program starts"),
    ("nginx is gone, and back", "run.py", "it starts at once after sigkill"),
    ("killed while it writes", "crash.py", "no acknowledged change is lost or made twice"),
]


if __name__ == "__main__":
    harness.main()
