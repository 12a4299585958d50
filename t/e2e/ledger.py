"""What the tests of events and report share: a data folder that outlives its service, requests with
JSON, and a look into the database beside the server's own."""
import contextlib
import datetime
import itertools
import json
import os
import re
import shutil
import signal
import sqlite3
import time

import harness
from harness import Case, Service, wait_for

JSON, LINES = "application/json", "application/x-ndjson"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
AMOUNT_MAX = 2**31 - 1
ID_MAX = 2**63 - 1
EPOCH = datetime.datetime(1970, 1, 1)
# No JSON, or JSON that a careful reader refuses.
BAD_BODIES = (b"", b" ", b"{", b"}", b"[]", b"null", b"1", b'"x"', b"{}{}", b"{} x", b"{}\0",
              b'{"a":1,}', b"{'a':1}", b'{"a":01}', b'{"a":NaN}', b'{"a":1e400}', b'{"a":"\xff"}',
              b'{"a":"\xc0\xaf"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\\ud800"}', b'{"a":"\\u0000"}',
              b'{"a":"\0"}', b'{"a":"\n"}', b'\xef\xbb\xbf{}', b'{"a":' * 40 + b"1" + b"}" * 40,
              b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b"\xff\xfe{\0}\0", b"<event/>",
              b'{"a":123456789012345678901234567890123456789}')

_numbers = itertools.count(1)


def fresh(word="type"):
    """A name that no other test has."""
    return f"{word} {next(_numbers)}"


# --- Times: whole microseconds since 1970, as the database has them.

def micros(text):
    """Of a time in UTC, RFC 3339, with up to six decimals."""
    found = datetime.datetime.fromisoformat(text.rstrip("Z"))
    return (found - EPOCH) // datetime.timedelta(microseconds=1)


def time_text(us):
    """As the server prints it."""
    return (EPOCH + datetime.timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def month_of(us):
    """year * 12 + month - 1"""
    found = EPOCH + datetime.timedelta(microseconds=us)
    return found.year * 12 + found.month - 1


def month_start(month):
    return (datetime.datetime(month // 12, month % 12 + 1, 1) - EPOCH) // datetime.timedelta(
        microseconds=1)


# --- Requests.

def send(via, method, target, value=None, *, kind=JSON, body=None, **fields):
    """By a Service, a Connection or a Client; VALUE goes as JSON, BODY as it is."""
    fields = {name.replace("_", "-"): text for name, text in fields.items()}
    if value is not None:
        body = json.dumps(value).encode()
    if body is not None and kind is not None:
        fields["Content-Type"] = kind
    return via.ask(target, method, fields, body)


def lines(events):
    """Events as NDJSON."""
    return b"".join(json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in events)


def event(type_id, caregiver_id=1, start_time="2017-01-02T03:04:05Z", **more):
    return {"type_id": type_id, "caregiver_id": caregiver_id, "start_time": start_time, **more}


IDLE_S = 8  # nginx ends what is idle for 15 s, perhaps just when it is used


class Client:
    """One thread's connection, kept open; opened anew after whatever broke the one before.  Nothing
    is sent twice by itself."""

    def __init__(self, service, timeout=harness.LONG):
        self.service, self.timeout, self.connection = service, timeout, None
        self.used = 0

    def close(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def ask(self, target, method="GET", fields=(), body=None):
        if time.monotonic() - self.used > IDLE_S:
            self.close()
        if self.connection is None:
            self.connection = self.service.connect(self.timeout)
        try:
            answer = self.connection.ask(target, method, fields, body)
        except (harness.Broken, OSError):
            self.close()
            raise
        self.used = time.monotonic()
        if (answer.field("Connection") or "").lower() == "close":
            self.close()
        return answer


def next_page(answer):
    """The target of the Link to the next page, or None."""
    link = answer.field("Link")
    if link is None:
        return None
    found = re.fullmatch(r'<(/[^<>]*)>; rel="next"', link)
    if found is None:
        raise AssertionError(f"no link to the next page: {link}")
    return found[1]


def pages(via, target, limit=None):
    """Each page's list, by Link to the end, or LIMIT pages of it."""
    count = 0
    while target is not None and count != limit:
        answer = via.ask(target)
        if answer.status != 200:
            raise AssertionError(f"{target}: {answer}")
        yield answer.json
        target = next_page(answer)
        count += 1


def everything(via, target):
    return [one for page in pages(via, target) for one in page]


# --- The database.

def database_file(data):
    return os.path.join(data, "db/events.db")


@contextlib.contextmanager
def database(data, mode="ro"):
    """A connection that never checkpoints; for MODE ro only while the service runs, or ran."""
    connection = sqlite3.connect(f"file:{database_file(data)}?mode={mode}", uri=True,
                                 isolation_level=None, timeout=harness.LONG)
    try:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        yield connection
    finally:
        connection.close()


def rows(data, sql, *parameters):
    with database(data) as connection:
        return connection.execute(sql, parameters).fetchall()


# Of the raw events, by nothing that the programs have worked out.
_COUNTED = """
    SELECT strftime('%Y', start_time / 1000000, 'unixepoch') * 12
            + strftime('%m', start_time / 1000000, 'unixepoch') - 1, caregiver_id,
        sum(iif(reimbursed_at IS NULL, 0, amount_in_cents)),
        sum(iif(reimbursed_at IS NULL, amount_in_cents, 0)),
        sum(reimbursed_at IS NOT NULL), sum(reimbursed_at IS NULL)
    FROM events GROUP BY 1, 2"""
_STORED = """SELECT month, caregiver_id, reimbursed_cents, open_cents, reimbursed_events,
        open_events FROM sums"""


def miscounted(connection):
    """The rows in which the stored sums and a recount differ, as (whose, ...)."""
    both = f"WITH counted AS ({_COUNTED}), stored AS ({_STORED})"
    found = []
    for name, one, other in (("stored", "stored", "counted"), ("counted", "counted", "stored")):
        found += [(name, *row) for row in connection.execute(
            f"{both} SELECT * FROM {one} EXCEPT SELECT * FROM {other} LIMIT 10")]
    return found


class LedgerCase(Case):
    """With a data folder of its own, so that the service can be started anew on it."""

    @classmethod
    def setUpClass(cls):
        home = harness.folder()
        cls.addClassCleanup(shutil.rmtree, home, ignore_errors=True)
        cls.data = os.path.join(home, "data")
        cls.service = None
        if cls.start:
            cls.begin()

    @classmethod
    def begin(cls, **options):
        """Starts the service, on the port it had before."""
        port = cls.service.port if cls.service is not None else None
        cls.service = Service(cls.config(), data=cls.data, port=port, **options)
        cls.addClassCleanup(cls.service.close)

    @classmethod
    def restart(cls):
        cls.service.stop()
        cls.begin()

    @classmethod
    def kill(cls, name):
        """kill -9; what watches it starts it anew, and nginx forgets the connections it had."""
        pid = cls.service.pid(name)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: harness.process(pid) is None, f"{name} is dead")
        wait_for(lambda: cls.service.get(f"/healthz/{name}").status in (200, 503),
                 f"{name} is there again")

    def send(self, method, target, value=None, **more):
        return send(self.service, method, target, value, **more)

    def made(self, target, value, **more):
        """What POST has created there."""
        answer = self.send("POST", target, value, **more)
        self.assertEqual(answer.status, 201, answer)
        return answer.json

    def make_type(self, amount_in_cents=10000, **more):
        """The id of a new one."""
        return self.made("/events/types", {"name": fresh(), "amount_in_cents": amount_in_cents,
                                           **more})["id"]

    def make_event(self, type_id, caregiver_id=1, start_time="2017-01-02T03:04:05Z"):
        return self.made("/events", event(type_id, caregiver_id, start_time))

    def reimburse(self, event_id, **fields):
        return self.send("POST", f"/events/{event_id}/reimburse", **fields)

    def set_price(self, type_id, amount_in_cents, **more):
        name = self.get(f"/events/types/{type_id}").json["name"]
        answer = self.send("PUT", f"/events/types/{type_id}",
                           {"name": name, "amount_in_cents": amount_in_cents, **more})
        self.assertEqual(answer.status, 200, answer)
        return answer.json

    def count(self):
        """How many events there are, in the file."""
        return rows(self.data, "SELECT count(*) FROM events")[0][0]

    def rows(self, sql, *parameters):
        return rows(self.data, sql, *parameters)

    def assertCounted(self):
        with database(self.data) as connection:
            self.assertEqual(miscounted(connection), [])

    def assertRefused(self, answer, *pointers):
        """400 that names just these fields."""
        problem = self.assertProblem(answer, 400, "invalid-input")
        self.assertEqual(sorted(one["pointer"] for one in problem.get("errors", [])),
                         sorted(pointers), problem)
        return problem
