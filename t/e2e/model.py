"""events and report against a model: random changes, then random questions, all answers of which
must be those of the model, to the cent and in all formats.

    CAREDESK_MODEL_EVENTS      how many events are imported, beside those registered one by one
    CAREDESK_MODEL_OPERATIONS  how many other changes
    CAREDESK_MODEL_FILTERS     how many reports, and lists
    CAREDESK_MODEL_CAREGIVERS  whose events they are
    CAREDESK_MODEL_YEARS       within which they are
    CAREDESK_MODEL_SEED        the same run again, but for what happens at once
"""
import array
import bisect
import concurrent.futures
import faulthandler
import itertools
import os
import random
import threading
import time

import harness
from harness import note
from ledger import (AMOUNT_MAX, Client, ID_MAX, LINES, LedgerCase, event, lines, micros,
                    month_of, month_start, next_page, send, time_text)
from report import HEAD, as_rows, kronor, raw


def setting(name, default):
    return int(os.environ.get(f"CAREDESK_MODEL_{name}", default))


EVENTS = setting("EVENTS", 5000)
OPERATIONS = setting("OPERATIONS", 2000)
FILTERS = setting("FILTERS", 1000)
CAREGIVERS = setting("CAREGIVERS", 15)
YEARS = setting("YEARS", 2)
SEED = setting("SEED", random.SystemRandom().randrange(10**9))
PHASES = 4  # changes and questions by turns
AT_ONCE = 8
PAGES = 3  # of each list
ABSENT, OPEN, PAID = range(3)


class Book:
    """The model: what is registered and what it is paid, by rules as plain as can be."""

    def __init__(self):
        self.prices = {}  # type: [(valid_from, when it was said, amount)]
        self.said = itertools.count()
        self.types, self.caregivers, self.starts, self.amounts = (
            array.array("q") for _ in range(4))
        self.states = bytearray()
        self.put(0, 0, 0, 0, ABSENT)  # there is no id 0

    def set_price(self, type_id, valid_from, amount):
        self.prices.setdefault(type_id, []).append((valid_from, next(self.said), amount))

    def price(self, type_id, at):
        return max(one for one in self.prices[type_id] if one[0] <= at)[2]

    def put(self, type_id, caregiver_id, start, amount, state):
        for column, value in ((self.types, type_id), (self.caregivers, caregiver_id),
                              (self.starts, start), (self.amounts, amount)):
            column.append(value)
        self.states.append(state)

    def add(self, number, type_id, caregiver_id, start):
        """An event by its id; those between the last one and this one were never there."""
        while len(self.states) < number:
            self.put(0, 0, 0, 0, ABSENT)
        amount = self.price(type_id, start)
        if number == len(self.states):
            self.put(type_id, caregiver_id, start, amount, OPEN)
            return
        assert self.states[number] == ABSENT and self.types[number] == 0, f"{number} is used again"
        self.types[number], self.caregivers[number] = type_id, caregiver_id
        self.starts[number], self.amounts[number] = start, amount
        self.states[number] = OPEN

    # What questions need: each caregiver's events by time, with the running sums beside them.

    def index(self):
        present = [i for i, state in enumerate(self.states) if state != ABSENT]
        self.by_caregiver = {}
        for number in present:
            self.by_caregiver.setdefault(self.caregivers[number], []).append(number)
        self.by_time = sorted(present, key=self.starts.__getitem__)
        self.times = array.array("q", (self.starts[number] for number in self.by_time))
        self.running = {}
        for caregiver, numbers in self.by_caregiver.items():
            numbers = sorted(numbers, key=self.starts.__getitem__)
            columns = [array.array("q", [0]) for _ in range(4)]
            for number in numbers:
                paid, amount = self.states[number] == PAID, self.amounts[number]
                for column, more in zip(columns, (paid * amount, (not paid) * amount, paid,
                                                  not paid)):
                    column.append(column[-1] + more)
            self.running[caregiver] = (array.array("q", (self.starts[n] for n in numbers)), columns)

    def report(self, ids, low, high):
        """(year, month, caregiver, cents paid, cents open, events paid, events open), ascending."""
        if not self.times:
            return []
        first = self.times[0] if low is None else max(self.times[0], low + 1)
        end = self.times[-1] + 1 if high is None else min(self.times[-1] + 1, high)
        if first >= end:
            return []
        months = range(month_of(first), month_of(end - 1) + 1)
        bounds = [first, *(month_start(month) for month in months[1:]), end]
        rows = []
        for caregiver in (set(ids) & set(self.running) if ids else self.running):
            times, columns = self.running[caregiver]
            places = [bisect.bisect_left(times, bound) for bound in bounds]
            for month, begin, until in zip(months, places, places[1:]):
                if begin < until:
                    rows.append((month // 12, month % 12 + 1, caregiver,
                                 *(column[until] - column[begin] for column in columns)))
        rows.sort()
        return rows

    def listed(self, query):
        """Ids in their order; lazily, since only some pages are looked at."""
        low, high = query.get("min_time"), query.get("max_time")
        begin = 0 if low is None else bisect.bisect_right(self.times, low)
        end = len(self.times) if high is None else bisect.bisect_left(self.times, high)
        if "caregiver_id" in query:
            numbers = self.by_caregiver.get(query["caregiver_id"], ())
        elif end - begin < len(self.times) // 5:
            numbers = sorted(self.by_time[begin:max(begin, end)])
        else:
            numbers = range(1, len(self.states))
        for number in numbers:
            if self.states[number] != ABSENT and \
                    query.get("caregiver_id") in (None, self.caregivers[number]) and \
                    query.get("type_id") in (None, self.types[number]) and \
                    query.get("reimbursed") in (None, self.states[number] == PAID) and \
                    (low is None or self.starts[number] > low) and \
                    (high is None or self.starts[number] < high):
                yield number

    def event(self, number):
        return {"id": number, "type_id": self.types[number],
                "caregiver_id": self.caregivers[number],
                "start_time": time_text(self.starts[number]),
                "amount_in_cents": self.amounts[number], "currency": "SEK",
                "reimbursed": self.states[number] == PAID}


class Model(LedgerCase):
    @classmethod
    def setUpClass(cls):
        faulthandler.cancel_dump_traceback_later()  # the long run takes as long as it takes
        super().setUpClass()
        cls.book, cls.choose = Book(), random.Random(SEED)
        cls.begin_us = micros("2015-01-01T00:00:00")
        cls.end_us = micros(f"{2015 + YEARS}-01-01T00:00:00")
        cls.ids = [1, 2, ID_MAX, *cls.choose.sample(range(3, 10 * CAREGIVERS), CAREGIVERS - 3)]
        cls.local = threading.local()
        cls.clients = []
        cls.addClassCleanup(lambda: [client.close() for client in cls.clients])
        cls.pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
        cls.addClassCleanup(cls.pool.shutdown)
        cls.client = Client(cls.service, 600)
        cls.clients.append(cls.client)

    # --- Chances.

    def instant(self):
        """Within the years; often at the end of a month or where an event is."""
        choose = self.choose
        kind = choose.random()
        if kind < 0.2:
            month = choose.randrange(month_of(self.begin_us), month_of(self.end_us) + 1)
            return month_start(month) + choose.choice((-1, 0, 1))
        if kind < 0.4 and len(self.book.states) > 1:
            number = choose.randrange(1, len(self.book.states))
            if self.book.starts[number]:
                return self.book.starts[number] + choose.choice((-1, 0, 1))
        return choose.randrange(self.begin_us, self.end_us)

    def entry(self):
        return (self.choose.choice(list(self.book.prices)), self.choose.choice(self.ids),
                self.instant())

    def amount(self):
        return self.choose.choice((self.choose.randrange(AMOUNT_MAX + 1),
                                   self.choose.randrange(1, 100000)))

    # --- Changes; each makes its own in the model, once the server has acknowledged it.

    def new_type(self):
        amount = self.choose.choice((0, 1, AMOUNT_MAX, self.amount(), self.amount()))
        self.book.set_price(self.make_type(amount), 0, amount)

    def new_price(self):
        type_id, amount = self.choose.choice(list(self.book.prices)), self.amount()
        if self.choose.random() < 0.2:  # from now on; all events are in the past
            self.set_price(type_id, amount)
            self.book.set_price(type_id, time.time_ns() // 1000, amount)
        else:
            at = self.instant()
            self.set_price(type_id, amount, valid_from=time_text(at))
            self.book.set_price(type_id, at, amount)

    def load(self, count):
        entries = [self.entry() for _ in range(count)]
        answer = send(self.client, "POST", "/events", kind=LINES, body=lines(
            event(type_id, caregiver, time_text(start)) for type_id, caregiver, start in entries))
        self.assertEqual((answer.status, answer.json), (201, {"created": count}), answer)
        # The ids of one import follow one another; should they not, the lists will tell.
        first = len(self.book.states)
        for i, one in enumerate(entries):
            self.book.add(first + i, *one)

    def bad_load(self):
        entries = [event(*self.entry()[:2], time_text(self.instant())) for _ in range(20)]
        entries[self.choose.randrange(20)]["type_id"] = 10**9
        answer = send(self.client, "POST", "/events", kind=LINES, body=lines(entries))
        self.assertEqual(answer.status, 400, answer)

    def together(self):
        """Some creations, reimbursements and deletions of different events at once."""
        book, choose, todo, seen = self.book, self.choose, [], set()
        for _ in range(2 * AT_ONCE):
            kind = choose.choice(("create", "create", "reimburse", "reimburse", "delete"))
            if kind == "create":
                todo.append((kind, self.entry()))
            elif len(book.states) > 1:
                number = choose.randrange(1, len(book.states))
                if number not in seen:
                    seen.add(number)
                    todo.append((kind, number))
        for (kind, what), answer in zip(todo, self.pool.map(self.change, todo)):
            getattr(self, kind)(what, answer)
        return len(todo)

    def change(self, one):
        kind, what = one
        client = getattr(self.local, "client", None)
        if client is None:
            client = self.local.client = Client(self.service)
            self.clients.append(client)
        if kind == "create":
            return send(client, "POST", "/events", event(what[0], what[1], time_text(what[2])))
        if kind == "reimburse":
            return send(client, "POST", f"/events/{what}/reimburse")
        return send(client, "DELETE", f"/events/{what}")

    def create(self, entry, answer):
        self.assertEqual(answer.status, 201, answer)
        made = answer.json
        self.book.add(made["id"], *entry)
        self.assertShown(made, made["id"])

    def reimburse(self, number, answer):
        state = self.book.states[number]
        self.assertEqual(answer.status, {ABSENT: 404, OPEN: 200, PAID: 409}[state], answer)
        if state == OPEN:
            self.book.states[number] = PAID
            self.assertShown(answer.json, number)

    def delete(self, number, answer):
        state = self.book.states[number]
        self.assertEqual(answer.status, {ABSENT: 404, OPEN: 204, PAID: 409}[state], answer)
        if state == OPEN:
            self.book.states[number] = ABSENT

    def changes(self, operations, events):
        while operations > 0 or events > 0:
            kind = self.choose.random()
            if kind < 0.1:
                self.new_price()
            elif kind < 0.14:
                self.new_type()
            elif kind < 0.16:
                self.bad_load()
            elif kind < 0.3 and events > 0 or operations <= 0:
                count = min(events, self.choose.randrange(1, max(2, EVENTS // 25)))
                self.load(count)
                events -= count
            else:
                operations -= self.together()
            operations -= 1

    # --- Questions.

    def assertShown(self, shown, number):
        expected = self.book.event(number)
        self.assertEqual({name: shown[name] for name in expected}, expected)
        self.assertEqual(shown["reimbursed_at"] is not None, expected["reimbursed"])

    def bounds(self):
        choose = self.choose
        low = self.instant() if choose.random() < 0.7 else None
        high = self.instant() if choose.random() < 0.7 else None
        if low is not None and high is not None and low > high and choose.random() < 0.9:
            low, high = high, low
        return low, high

    def some_ids(self):
        choose = self.choose
        if choose.random() < 0.3:
            return []
        count = choose.choice((1, 1, 2, 3, CAREGIVERS // 2 + 1, CAREGIVERS))
        ids = choose.sample(self.ids, min(count, CAREGIVERS))
        return ids + [choose.randrange(1, ID_MAX)] * choose.choice((0, 0, 1))

    def asked(self, ids, low, high, name):
        """The report in the format NAME, by GET or by POST."""
        body = {key: value for key, value in (
            ("caregiver_ids", ids), ("min_time", None if low is None else time_text(low)),
            ("max_time", None if high is None else time_text(high))) if value}
        if self.choose.random() < 0.5 or len(ids) > 100:
            answer = send(self.client, "POST", f"/events/report?format={name}", body)
        else:
            body = {**body, "caregiver_ids": ",".join(map(str, ids))}
            answer = self.client.ask(f"/events/report?format={name}&" + "&".join(
                f"{key}={value}" for key, value in body.items()))
        self.assertEqual(answer.status, 200, answer)
        return answer.body.decode()

    def assertReport(self, ids, low, high):
        expected = self.book.report(ids, low, high)
        # Whole, since lists that differ take minutes to be shown where they are long.
        rows = [tuple(one.values()) for one in raw(self.asked(ids, low, high, "rows"))]
        text = [tuple(map(str, (*row[:3], "SEK", *row[3:]))) for row in expected]
        self.assertTrue(rows == text, f"{ids} {low} {high}: "
                        f"{sorted(set(rows) ^ set(text))[:10]} ...")
        table = "\r\n".join(map(",".join, (HEAD, *text))) + "\r\n"
        self.assertTrue(self.asked(ids, low, high, "csv") == table, f"csv of {ids} {low} {high}")
        report = as_rows(raw(self.asked(ids, low, high, "json"))["report"])
        self.assertTrue(report == [
            (year, month, caregiver, kronor(paid) if paid_events else None,
             kronor(owed) if open_events else None)
            for year, month, caregiver, paid, owed, paid_events, open_events in expected],
            f"json of {ids} {low} {high}")

    def assertList(self):
        choose, query = self.choose, {}
        if choose.random() < 0.4:
            query["caregiver_id"] = choose.choice(self.ids)
        if choose.random() < 0.3:
            query["type_id"] = choose.choice(list(self.book.prices))
        if choose.random() < 0.3:
            query["reimbursed"] = choose.random() < 0.5
        if choose.random() < 0.5:
            low, high = self.bounds()
            query.update({name: us for name, us in (("min_time", low), ("max_time", high))
                          if us is not None})
        limit = choose.choice((1, 7, 50, 100))
        expected = list(itertools.islice(self.book.listed(query), PAGES * limit + 1))
        target = f"/events?limit={limit}" + "".join(
            f"&{name}={str(value).lower() if name == 'reimbursed' else time_text(value)}"
            if name not in ("caregiver_id", "type_id") else f"&{name}={value}"
            for name, value in query.items())
        found = []
        for _ in range(PAGES):
            answer = self.client.ask(target)
            self.assertEqual(answer.status, 200, answer)
            found += answer.json
            target = next_page(answer)
            if target is None:
                break
        self.assertEqual([one["id"] for one in found], expected[:PAGES * limit], query)
        self.assertEqual(target is not None, len(expected) > PAGES * limit, query)
        for one in found[:3] + found[-3:]:
            self.assertShown(one, one["id"])

    def test_all_answers_are_those_of_the_model(self):
        print(f"# CAREDESK_MODEL_SEED={SEED}", flush=True)
        self.new_type()
        for phase in range(PHASES):
            with self.subTest(seed=SEED, phase=phase):
                self.changes(OPERATIONS // PHASES, EVENTS // PHASES)
                self.book.index()
                self.assertReport([], None, None)
                for _ in range(FILTERS // PHASES):
                    self.assertReport(self.some_ids(), *self.bounds())
                    if self.choose.random() < 0.5:
                        self.assertList()
        counts = [self.book.states.count(state) for state in (OPEN, PAID)]
        note(f"{FILTERS} reports of {sum(counts)} events, {counts[1]} of them paid, "
             f"{len(self.book.prices)} types")

    def test_the_file_holds_what_the_model_does(self):
        self.assertCounted()
        found = self.rows("SELECT id, type_id, caregiver_id, start_time, amount_in_cents, "
                          "reimbursed_at IS NOT NULL FROM events ORDER BY id")
        book = self.book
        self.assertTrue(found == [
            (i, book.types[i], book.caregivers[i], book.starts[i], book.amounts[i], state == PAID)
            for i, state in enumerate(book.states) if state != ABSENT])
        done = harness.caredesk("recount", "--data", self.data)
        self.assertEqual(done.returncode, 0, done)

    def test_it_is_the_same_after_kill_9_and_a_restart(self):
        for again in (lambda: (self.kill("events"), self.kill("report")), self.restart):
            again()
            self.client.close()
            harness.wait_for(lambda: self.get("/healthz").status == 200, "all is well again")
            for _ in range(10):
                self.assertReport(self.some_ids(), *self.bounds())
                self.assertList()


if __name__ == "__main__":
    harness.main()
