"""report, asked through nginx: sums by month and caregiver, in three formats that say the same."""
import contextlib
import csv
import io
import json
import os
import random
import signal
import socket
import time

import harness
from harness import wait_for
from ledger import (AMOUNT_MAX, Client, ID_MAX, LINES, LedgerCase, MONTHS, event, lines, micros,
                    send, time_text)

HEAD = ["year", "month", "caregiver_id", "currency", "reimbursed_cents", "not_reimbursed_cents",
        "reimbursed_events", "not_reimbursed_events"]
BAD_FILTER_TIMES = ("x", "", "2017-02-29T00:00:00Z", "2017-13-01T00:00:00Z", "2017-01-01")


def kronor(cents):
    """As the contract has it: whole, or with one decimal, or with two."""
    whole, rest = divmod(cents, 100)
    return f"{whole}.{rest:02d}".rstrip("0") if rest else str(whole)


def raw(text):
    """JSON with its numbers as they are written and its members in their order, none twice."""
    def pairs(members):
        names = [name for name, _ in members]
        if len(set(names)) < len(names):
            raise AssertionError(f"a member is there twice: {names}")
        return dict(members)

    return json.loads(text, parse_int=str, parse_float=str, object_pairs_hook=pairs)


def as_rows(report):
    """The JSON of a report as (year, month, caregiver, paid, open), the last two as written."""
    return [(int(year), MONTHS.index(month) + 1, int(caregiver), sums.get("reimbursed SEK"),
             sums.get("non-reimbursed SEK"))
            for year, months in report.items() for month, caregivers in months.items()
            for caregiver, sums in caregivers.items()]


class ReportCase(LedgerCase):
    def report(self, query="", body=None, **fields):
        """What `report` holds, with the numbers as they are written."""
        if body is None:
            answer = self.send("GET", f"/events/report?{query}", **fields)
        else:
            answer = self.send("POST", f"/events/report?{query}", body, **fields)
        self.assertEqual(answer.status, 200, answer)
        found = raw(answer.body.decode())
        self.assertEqual(list(found), ["generated_at", "report"])
        micros(found["generated_at"])
        return found["report"]

    def rows_of(self, query=""):
        answer = self.get(f"/events/report?format=rows&{query}")
        self.assertEqual(answer.status, 200, answer)
        return [tuple(one.values()) for one in answer.json]

    def pay(self, caregiver_id, *times, type_id=None):
        for text in times:
            made = self.make_event(type_id or self.type_id, caregiver_id, text)
            self.assertEqual(self.reimburse(made["id"]).status, 200)

    def owe(self, caregiver_id, *times, type_id=None):
        for text in times:
            self.make_event(type_id or self.type_id, caregiver_id, text)


class Empty(ReportCase):
    def test_without_events_there_is_an_empty_report(self):
        for query in ("", "min_time=2017-01-01T00:00:00Z", "caregiver_ids=1"):
            answer = self.get(f"/events/report?{query}")
            self.assertEqual((answer.status, answer.json["report"]), (200, {}))
            self.assertEqual(self.get(f"/events/report?format=rows&{query}").json, [])
            self.assertEqual(self.get(f"/events/report?format=csv&{query}").body,
                             (",".join(HEAD) + "\r\n").encode())

    def test_nor_is_there_anything_left_once_all_are_deleted(self):
        made = self.make_event(self.make_type())["id"]
        self.assertEqual(len(as_rows(self.report())), 1)
        self.send("DELETE", f"/events/{made}")
        self.assertEqual(self.report(), {})
        self.assertEqual(self.rows("SELECT count(*) FROM sums"), [(0,)])


class Sums(ReportCase):
    def setUp(self):
        self.caregiver = random.randrange(1, 2**40)
        self.query = f"caregiver_ids={self.caregiver}"
        self.type_id = self.make_type(2500)

    def test_the_example_of_the_contract(self):
        whole, half = self.make_type(250000), self.make_type(50050)
        self.pay(self.caregiver, "2017-01-10T08:00:00Z", type_id=whole)
        self.owe(self.caregiver, "2017-01-11T08:00:00Z", type_id=half)
        answer = self.get(f"/events/report?{self.query}")
        text = answer.body.decode()
        at = raw(text)["generated_at"]
        self.assertEqual(text, '{"generated_at":"%s","report":{"2017":{"Jan":{"%d":{'
                         '"reimbursed SEK":2500,"non-reimbursed SEK":500.5}}}}}'
                         % (at, self.caregiver))
        self.assertEqual(answer.field("Content-Type"), "application/json")
        self.assertEqual(self.rows_of(self.query), [
            (2017, 1, self.caregiver, "SEK", 250000, 50050, 1, 1)])

    def test_each_key_is_there_only_if_there_are_such_events(self):
        free = self.make_type(0)
        self.pay(self.caregiver, "2017-01-10T08:00:00Z", type_id=free)
        self.owe(self.caregiver, "2017-02-10T08:00:00Z", type_id=free)
        self.assertEqual(self.report(self.query), {"2017": {
            "Jan": {str(self.caregiver): {"reimbursed SEK": "0"}},
            "Feb": {str(self.caregiver): {"non-reimbursed SEK": "0"}}}})

    def test_it_is_told_when_it_was_made(self):
        self.owe(self.caregiver, "2017-01-10T08:00:00Z")
        before = time.time_ns() // 1000
        at = micros(self.get(f"/events/report?{self.query}").json["generated_at"])
        self.assertTrue(before <= at <= time.time_ns() // 1000)

    def test_years_months_and_caregivers_ascend(self):
        ids = (2, 10, 100, 99, ID_MAX, 1, 2**53 + 1)
        choose = random.Random(3)
        times = [f"{year}-{month:02d}-15T00:00:00Z" for year in (1970, 2016, 2017, 9999)
                 for month in range(1, 13)]
        todo = [(number, text) for number in ids for text in times]
        choose.shuffle(todo)
        self.made("/events", None, kind=LINES, body=lines(
            event(self.type_id, number, text) for number, text in todo))
        query = "caregiver_ids=" + ",".join(map(str, ids))
        expected = [(year, month, number) for year in (1970, 2016, 2017, 9999)
                    for month in range(1, 13) for number in sorted(ids)]
        report = self.report(query)
        self.assertEqual([row[:3] for row in as_rows(report)], expected)
        self.assertEqual(list(report["2017"]), list(MONTHS))
        self.assertEqual([row[:3] for row in self.rows_of(query)], expected)

    def test_odd_cents_print_without_rounding(self):
        for cents in (1, 5, 9, 10, 11, 50, 99, 100, 101, 110, 199, 1000, 1005, 12345, 29, 57, 58,
                      113, 114, 115, 116, 435, 100000001, AMOUNT_MAX):
            type_id = self.make_type(cents)
            number = self.caregiver + cents
            self.owe(number, "2017-03-01T00:00:00Z", type_id=type_id)
            with self.subTest(cents):
                self.assertEqual(self.report(f"caregiver_ids={number}"), {"2017": {"Mar": {
                    str(number): {"non-reimbursed SEK": kronor(cents)}}}})

    def test_large_amounts_add_up_exactly(self):
        type_id, count = self.make_type(AMOUNT_MAX), 20001
        one = lines([event(type_id, self.caregiver, "2017-03-01T00:00:00Z")])
        self.made("/events", None, kind=LINES, body=one * count)
        total = AMOUNT_MAX * count
        self.assertGreater(total, 2**45)
        self.assertEqual(self.report(self.query)["2017"]["Mar"][str(self.caregiver)],
                         {"non-reimbursed SEK": kronor(total)})
        self.assertEqual(self.rows_of(self.query), [
            (2017, 3, self.caregiver, "SEK", 0, total, 0, count)])
        cut = (self.query + "&min_time=2017-02-28T23:59:59.999999Z"
               "&max_time=2017-03-01T00:00:00.000001Z")
        self.assertEqual(self.rows_of(cut), [(2017, 3, self.caregiver, "SEK", 0, total, 0, count)])

    def test_many_odd_cents_add_up_exactly(self):
        """Where floating point would not: 0.01 ten thousand times, and each a bit more."""
        type_id = self.make_type(7)
        self.made("/events", None, kind=LINES, body=10001 * lines(
            [event(type_id, self.caregiver, "2017-03-01T00:00:00Z")]))
        self.assertEqual(self.report(self.query)["2017"]["Mar"][str(self.caregiver)],
                         {"non-reimbursed SEK": "700.07"})

    def test_months_are_those_of_utc(self):
        self.owe(self.caregiver, "2017-01-01T00:30:00+01:00", "2016-12-31T23:30:00-01:00",
                 "2017-02-01T00:00:00Z", "2017-01-31T23:59:59.999999Z", "2016-02-29T23:59:59Z",
                 "2016-03-01T00:00:00Z", "2000-02-29T12:00:00Z", "2100-02-28T23:59:59.999999Z",
                 "2100-03-01T00:00:00Z")
        self.assertEqual([row[:2] for row in as_rows(self.report(self.query))],
                         [(2000, 2), (2016, 2), (2016, 3), (2016, 12), (2017, 1), (2017, 2),
                          (2100, 2), (2100, 3)])

    def test_late_events_and_every_change_are_in_it_at_once(self):
        seen = []

        def look(change):
            before = time.time_ns() // 1000
            change()
            report = self.report(self.query)
            seen.append([row[2:] for row in self.rows_of(self.query)])
            self.assertEqual(len(as_rows(report)), len(seen[-1]))
            return before

        made = []
        look(lambda: made.append(self.make_event(self.type_id, self.caregiver,
                                                 "2017-06-10T00:00:00Z")["id"]))
        look(lambda: made.append(self.make_event(self.type_id, self.caregiver,
                                                 "1999-06-10T00:00:00Z")["id"]))  # late
        look(lambda: self.reimburse(made[0]))
        look(lambda: self.send("DELETE", f"/events/{made[1]}"))
        look(lambda: self.set_price(self.type_id, 9999, valid_from="1970-01-01T00:00:00Z"))
        number = self.caregiver
        old = (number, "SEK", 0, 2500, 0, 1)
        self.assertEqual(seen, [[old], [old, old], [old, (number, "SEK", 2500, 0, 1, 0)],
                                [(number, "SEK", 2500, 0, 1, 0)], [(number, "SEK", 2500, 0, 1, 0)]])


class Filters(ReportCase):
    """Events at the ends of months, and one microsecond beside them."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.type_id = send(cls.service, "POST", "/events/types",
                           {"name": "f", "amount_in_cents": 100}).json["id"]
        edges = [micros(f"2017-{month:02d}-01T00:00:00") for month in range(1, 8)]
        cls.times = sorted(us + off for us in edges for off in (-2, -1, 0, 1, 2, 10**11))
        cls.ids = (1, 2, 17, 30, ID_MAX)
        cls.all = [(us, number) for us in cls.times for number in cls.ids]
        made = send(cls.service, "POST", "/events", kind=LINES, body=lines(
            event(cls.type_id, number, time_text(us)) for us, number in cls.all))
        assert made.status == 201, made
        cls.paid = set(random.Random(4).sample(range(len(cls.all)), 60))
        for i in cls.paid:
            send(cls.service, "POST", f"/events/{i + 1}/reimburse")

    def expected(self, ids=(), low=None, high=None):
        found = {}
        for i, (us, number) in enumerate(self.all):
            if (ids and number not in ids) or (low is not None and us <= low) or \
                    (high is not None and us >= high):
                continue
            year, month = map(int, time_text(us).split("-")[:2])
            sums = found.setdefault((year, month, number), [0, 0, 0, 0])
            paid = i in self.paid
            sums[0 if paid else 1] += 100
            sums[2 if paid else 3] += 1
        return [(*key, "SEK", *sums) for key, sums in sorted(found.items())]

    def assertReport(self, client, ids=(), low=None, high=None):
        expected = self.expected(ids, low, high)
        query, body = ["format=rows"], {}
        if ids:
            query.append("caregiver_ids=" + ",".join(map(str, ids)))
            body["caregiver_ids"] = list(ids)
        for name, us in (("min_time", low), ("max_time", high)):
            if us is not None:
                query.append(f"{name}={time_text(us)}")
                body[name] = time_text(us)
        for answer in (client.ask("/events/report?" + "&".join(query)),
                       send(client, "POST", "/events/report?format=rows", body)):
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual([tuple(one.values()) for one in answer.json], expected)

    def test_bounds_are_exclusive_to_the_microsecond_and_cut_months_at_both_ends(self):
        bounds = [None, *sorted({us + off for us in self.times[:18] for off in (-1, 0, 1)}),
                  *self.times[-7:]]
        choose = random.Random(6)
        with Client(self.service) as client:
            for low in bounds:
                for high in choose.sample(bounds, 6):
                    with self.subTest(low=low, high=high):
                        self.assertReport(client, (), low, high)

    def test_one_month_is_cut_twice(self):
        start = micros("2017-03-01T00:00:00")
        with Client(self.service) as client:
            for low in (-1, 0, 1, 2):
                for high in (1, 2, 3, 10**11, 10**11 + 1):
                    self.assertReport(client, (), start + low, start + high)
                    self.assertReport(client, (2, 30), start + low, start + high)

    def test_whole_months_and_years(self):
        with Client(self.service) as client:
            for low, high in (("2016-12-31T23:59:59.999999", "2017-03-01T00:00:00"),
                              ("2017-01-31T23:59:59.999999", "2017-03-01T00:00:00"),
                              ("2016-12-31T23:59:59.999999", "2018-01-01T00:00:00"),
                              ("1970-01-01T00:00:00", "9999-12-31T23:59:59.999999")):
                self.assertReport(client, (), micros(low), micros(high))

    def test_an_empty_period_is_empty(self):
        with Client(self.service) as client:
            for low, high in ((10, 10), (10, 11), (11, 10), (0, 0), (self.times[5], self.times[3]),
                              (self.times[-1] + 1, None), (None, self.times[0])):
                self.assertReport(client, (), low, high)
                self.assertReport(client, (17,), low, high)

    def test_caregivers_are_a_list_of_any_order(self):
        with Client(self.service) as client:
            for ids in ((1,), (2, 1), (ID_MAX, 17, 1), (17, 17, 17), (3,), (3, 4, 5, 30), (1, 3),
                        (ID_MAX - 1, ID_MAX), self.ids, tuple(range(1, 200))):
                for low, high in ((None, None), (self.times[4], None), (None, self.times[20]),
                                  (self.times[4], self.times[20])):
                    with self.subTest(ids=ids, low=low, high=high):
                        self.assertReport(client, ids, low, high)

    def test_10000_caregivers_in_a_post(self):
        for ids in (list(range(1, 10001)), list(range(ID_MAX - 9999, ID_MAX + 1)),
                    random.Random(7).sample(range(1, 10**9), 9999) + [17]):
            answer = self.send("POST", "/events/report?format=rows", {"caregiver_ids": ids})
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual([tuple(one.values()) for one in answer.json], self.expected(set(ids)))
            answer = self.send("POST", "/events/report", {
                "caregiver_ids": ids, "format": "rows", "min_time": time_text(self.times[4]),
                "max_time": time_text(self.times[22])})
            self.assertEqual([tuple(one.values()) for one in answer.json],
                             self.expected(set(ids), self.times[4], self.times[22]))

    def test_no_caregivers_are_no_filter(self):
        whole = self.expected()
        for body in ({}, {"caregiver_ids": []}, {"caregiver_ids": None}, {"min_time": None},
                     {"max_time": None, "min_time": None, "caregiver_ids": None, "nope": 1}):
            answer = self.send("POST", "/events/report?format=rows", body)
            self.assertEqual([tuple(one.values()) for one in answer.json], whole, body)
        for query in ("", "caregiver_ids=", "nope=1"):
            self.assertEqual(self.rows_of(query), whole)

    def test_times_may_have_any_offset_or_none(self):
        whole = self.expected((), micros("2017-02-28T23:00:00"))
        for text in ("2017-02-28T23:00:00Z", "2017-02-28T23:00:00", "2017-03-01T00:00:00%2b01:00",
                     "2017-02-28T17:30:00-05:30", "2017-02-28t23:00:00.000000z"):
            self.assertEqual(self.rows_of(f"min_time={text}"), whole, text)

    def test_bad_filters_are_named(self):
        for name, values in {"caregiver_ids": ("0", "-1", "x", "1,x", "1,0", ",", "1,,2", "1;2",
                                               str(2**63), "1.0", "1,-2", "%20"),
                             "min_time": BAD_FILTER_TIMES, "max_time": BAD_FILTER_TIMES,
                             "format": ("xml", "", "JSON", "csv,rows")}.items():
            for value in values:
                with self.subTest(name=name, value=value):
                    self.assertRefused(self.get(f"/events/report?{name}={value}"), name)
        self.assertRefused(self.get(
            "/events/report?caregiver_ids=x&min_time=x&max_time=x&format=x"),
            "caregiver_ids", "min_time", "max_time", "format")
        for name in ("min_time", "max_time"):
            self.assertRefused(self.get(f"/events/report?{name}=2017-01-01T00:00:00Z"
                                        f"&{name}=2017-01-01T00:00:00Z"), name)

    def test_bad_bodies_are_named_by_member(self):
        for body, pointer in (
                ({"caregiver_ids": "1"}, "#/caregiver_ids"),
                ({"caregiver_ids": 1}, "#/caregiver_ids"),
                ({"caregiver_ids": {}}, "#/caregiver_ids"),
                ({"caregiver_ids": [1, "2"]}, "#/caregiver_ids/1"),
                ({"caregiver_ids": [0]}, "#/caregiver_ids/0"),
                ({"caregiver_ids": [1, 2, -1]}, "#/caregiver_ids/2"),
                ({"caregiver_ids": [1, None]}, "#/caregiver_ids/1"),
                ({"caregiver_ids": [1.5]}, "#/caregiver_ids/0"),
                ({"caregiver_ids": [[1]]}, "#/caregiver_ids/0"),
                ({"caregiver_ids": [2**63]}, "#/caregiver_ids/0"),
                ({"min_time": 1}, "#/min_time"), ({"min_time": "x"}, "#/min_time"),
                ({"max_time": "2017-02-29T00:00:00Z"}, "#/max_time"),
                ({"format": "xml"}, "#/format"),
                ({"format": 1}, "#/format")):
            with self.subTest(body):
                self.assertRefused(self.send("POST", "/events/report", body), pointer)
        self.assertRefused(self.send("POST", "/events/report", {
            "caregiver_ids": [0], "min_time": "x", "max_time": "x", "format": "x"}),
            "#/caregiver_ids/0", "#/min_time", "#/max_time", "#/format")

    def test_unreadable_bodies_are_refused(self):
        for body in (b"", b"{", b"[]", b"null", b"1", b"{}{}", b'{"a":1,"a":2}', b'{"a":"\xff"}',
                     b'{"caregiver_ids":[1,]}', b'{"caregiver_ids":[01]}', b'{"x":' * 40 + b"1"):
            with self.subTest(body):
                self.assertProblem(self.send("POST", "/events/report", body=body), 400)
        for kind in (None, "text/plain", "application/x-www-form-urlencoded", LINES):
            with self.subTest(kind):
                self.assertProblem(self.send("POST", "/events/report", body=b"{}", kind=kind), 415)
        answer = self.send("POST", "/events/report", body=b"{}", Content_Encoding="gzip")
        self.assertProblem(answer, 415)

    def test_a_body_over_1_mib_is_413(self):
        with self.service.connect() as connection:
            connection.send(b"POST /events/report HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                            b"application/json\r\nContent-Length: 1048577\r\n\r\n")
            self.assertProblem(connection.receive("POST"), 413, "too-large")

    def test_filters_in_the_query_of_a_post_are_not_passed_over(self):
        """The one or the other is refused, or counts: never a report of more than was asked."""
        answer = self.send("POST", "/events/report?format=rows&caregiver_ids=17", {})
        if answer.status == 200:
            self.assertEqual([tuple(one.values()) for one in answer.json], self.expected((17,)))
        else:
            self.assertRefused(answer, "caregiver_ids")


class Formats(ReportCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        choose = random.Random(8)
        types = [send(cls.service, "POST", "/events/types", {
            "name": str(cents), "amount_in_cents": cents}).json["id"]
            for cents in (0, 1, 33, 10, 25050, AMOUNT_MAX)]
        base = micros("2016-11-01T00:00:00")
        send(cls.service, "POST", "/events", kind=LINES, body=lines(event(
            choose.choice(types), choose.randrange(1, 30), time_text(
                base + choose.randrange(600 * 86400) * 10**6)) for _ in range(3000)))
        with Client(cls.service) as client:
            for number in choose.sample(range(1, 3001), 300):
                send(client, "POST", f"/events/{number}/reimburse")

    def test_json_rows_and_csv_say_the_same(self):
        for query in ("", "caregiver_ids=3,4", "min_time=2017-01-15T12:00:00Z",
                      "min_time=2017-01-15T12:00:00Z&max_time=2017-06-30T00:00:00Z",
                      "caregiver_ids=1,29&max_time=2017-06-30T00:00:00Z", "caregiver_ids=999"):
            with self.subTest(query):
                found = self.rows_of(query)
                text = self.get(f"/events/report?format=csv&{query}").body.decode()
                self.assertTrue(text.endswith("\r\n"))
                table = list(csv.reader(io.StringIO(text)))
                self.assertEqual(table[0], HEAD)
                self.assertEqual([tuple(map(str, row)) for row in found],
                                 [tuple(row) for row in table[1:]])
                self.assertEqual(
                    as_rows(self.report(query)),
                    [(year, month, number, kronor(paid) if paid_events else None,
                      kronor(owed) if owed_events else None)
                     for year, month, number, _, paid, owed, paid_events, owed_events in found])

    def test_the_rows_have_the_names_of_the_csv(self):
        for one in self.get("/events/report?format=rows").json[:5]:
            self.assertEqual(list(one), HEAD)

    def test_the_sums_are_those_of_the_events(self):
        self.assertCounted()
        stored = self.rows("SELECT sum(amount_in_cents), count(*) FROM events")[0]
        found = self.rows_of()
        self.assertEqual((sum(row[4] + row[5] for row in found),
                          sum(row[6] + row[7] for row in found)), stored)

    def test_format_and_accept_choose(self):
        csv_type = "text/csv"
        for query, accept, kind in (
                ("", None, "application/json"), ("", "*/*", "application/json"),
                ("", "application/json", "application/json"), ("", "text/csv", csv_type),
                ("", "text/*", csv_type), ("", "text/csv, application/json", "application/json"),
                ("", "text/csv, */*;q=0.1", None), ("", "application/json;q=0, text/csv", csv_type),
                ("", "application/*", "application/json"),
                ("format=csv", None, csv_type), ("format=csv", "*/*", csv_type),
                ("format=csv", "text/csv", csv_type), ("format=json", "*/*", "application/json"),
                ("format=rows", None, "application/json"),
                ("format=rows", "*/*", "application/json")):
            fields = {"Accept": accept} if accept else {}
            for answer in (self.send("GET", f"/events/report?{query}", **fields),
                           self.send("POST", f"/events/report?{query}", {}, **fields)):
                with self.subTest(query=query, accept=accept):
                    self.assertEqual(answer.status, 200, answer)
                    self.assertCommon(answer)
                    if kind is not None:
                        self.assertEqual(answer.field("Content-Type").split(";")[0], kind)
                    self.assertIn("accept", answer.field("Vary").lower())
        for accept in ("text/html", "image/png", "application/xml", "application/json;q=0"):
            self.assertProblem(self.get("/events/report", Accept=accept), 406, "not-acceptable")

    def test_a_format_in_the_body_counts_too(self):
        for name, kind in (("csv", "text/csv"), ("rows", "application/json"),
                           ("json", "application/json"), (None, "application/json")):
            answer = self.send("POST", "/events/report", {"format": name})
            self.assertEqual(answer.field("Content-Type").split(";")[0], kind)

    def test_head_is_a_get_without_its_body(self):
        for query in ("", "format=csv", "format=rows", "caregiver_ids=3"):
            get = self.get(f"/events/report?{query}")
            with self.service.connect() as connection:
                head = connection.ask(f"/events/report?{query}", "HEAD")
                self.assertEqual((head.status, head.body), (200, b""))
                for name in ("Content-Type", "ETag", "Cache-Control", "Vary"):
                    self.assertEqual(head.field(name), get.field(name))
                self.assertEqual(connection.ask("/ping").status, 200)

    def test_every_format_has_a_tag_of_its_own_and_is_304_by_it(self):
        tags = {}
        for query, accept in (("", "*/*"), ("format=rows", "*/*"), ("format=csv", "*/*"),
                              ("", "text/csv")):
            answer = self.get(f"/events/report?{query}", Accept=accept)
            etag = answer.field("ETag")
            tags[query, accept] = etag
            self.assertRegex(etag, '^(W/)?"[^"]+"$')
            self.assertEqual(answer.field("Cache-Control"), "no-cache")
            for method in ("GET", "HEAD"):
                again = self.send(method, f"/events/report?{query}", Accept=accept,
                                  If_None_Match=etag)
                self.assertEqual((again.status, again.body), (304, b""), again)
                self.assertEqual(again.field("ETag"), etag)
                self.assertIn("accept", again.field("Vary").lower())
            self.assertEqual(self.get(f"/events/report?{query}", Accept=accept,
                                      If_None_Match='"x"').status, 200)
        self.assertEqual(len(set(tags.values())), 3)  # of JSON, rows and CSV, however asked for

    def test_a_body_with_the_same_tag_is_the_same(self):
        """A strong one says that of every byte."""
        for query in ("format=rows", "format=csv"):
            one, other = (self.get(f"/events/report?{query}") for _ in range(2))
            self.assertEqual(one.field("ETag"), other.field("ETag"))
            self.assertEqual(one.body, other.body)
        one, other = (self.get("/events/report") for _ in range(2))
        if one.body != other.body:
            self.assertTrue(one.field("ETag").startswith("W/"))

    def test_a_post_is_never_304(self):
        etag = self.get("/events/report").field("ETag")
        for tags in (etag, "*"):
            answer = self.send("POST", "/events/report", {}, If_None_Match=tags)
            self.assertEqual(answer.status, 200)
            self.assertTrue(answer.body)

    def test_every_change_changes_the_tag(self):
        type_id = self.make_type(77)
        made = [self.make_event(type_id, 555)["id"] for _ in range(2)]
        queries = ("", "format=rows", "format=csv", "caregiver_ids=555")
        tags = {query: [self.get(f"/events/report?{query}").field("ETag")] for query in queries}
        for change in (lambda: self.make_event(type_id, 555), lambda: self.reimburse(made[0]),
                       lambda: self.send("DELETE", f"/events/{made[1]}"),
                       lambda: self.send("POST", "/events", kind=LINES,
                                         body=lines([event(type_id, 555)]))):
            change()
            for query in queries:
                answer = self.get(f"/events/report?{query}", If_None_Match=tags[query][-1])
                self.assertEqual(answer.status, 200, query)
                self.assertNotIn(answer.field("ETag"), tags[query])
                tags[query].append(answer.field("ETag"))
        last = {query: known[-1] for query, known in tags.items()}
        self.restart()
        for query, etag in last.items():
            self.assertEqual(self.get(f"/events/report?{query}", If_None_Match=etag).status, 304)

    def test_reports_do_not_hinder_the_writer(self):
        type_id = self.make_type(1)
        for _ in range(20):
            with self.service.connect() as connection:
                connection.send(b"GET /events/report?format=rows HTTP/1.1\r\n"
                                b"Host: localhost\r\n\r\n")
                made = self.make_event(type_id, 556)
                connection.receive()
            self.assertEqual(self.send("DELETE", f"/events/{made['id']}").status, 204)


class Streams(ReportCase):
    """An answer of megabytes, and what breaks off in it."""

    CELLS = 120000

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        type_id = send(cls.service, "POST", "/events/types", {
            "name": "s", "amount_in_cents": 333}).json["id"]
        with cls.service.connect(6 * harness.LONG) as connection:
            made = send(connection, "POST", "/events", kind=LINES, body=b"".join(
                b'{"type_id":%d,"caregiver_id":%d,"start_time":"2017-%02d-03T00:00:00Z"}\n'
                % (type_id, 10**12 + i // 12, i % 12 + 1) for i in range(cls.CELLS)))
        assert made.status == 201, made

    def slow(self, query="format=rows"):
        """A reader who has asked, with small buffers, and reads nothing yet."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(harness.LONG)
        sock.connect(("127.0.0.1", self.service.port))
        sock.sendall(f"GET /events/report?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        return sock

    @staticmethod
    def read_all(sock):
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while part := sock.recv(65536):
                found += part
        return found

    def test_a_large_report_comes_whole_in_every_format(self):
        for query, count in (("format=rows", lambda body: len(json.loads(body))),
                             ("format=csv", lambda body: body.count(b"\r\n") - 1),
                             ("", lambda body: len(as_rows(raw(body.decode())["report"])))):
            answer = self.get(f"/events/report?{query}")
            self.assertEqual((answer.status, count(answer.body)), (200, self.CELLS))
        self.assertEqual(answer.field("Transfer-Encoding"), "chunked")

    def test_a_slow_reader_gets_all_of_it(self):
        sock = self.slow()
        time.sleep(0.3)
        text = bytearray()  # grows without a copy for each part
        with sock:
            while not text.endswith(b"0\r\n\r\n"):
                part = sock.recv(65536)
                if not part:
                    break
                text += part
        self.assertTrue(text.endswith(b"]\r\n0\r\n\r\n"), text[-100:])

    def test_what_breaks_off_is_a_broken_transfer(self):
        """The program is killed while nginx holds but a part of its answer."""
        for query in ("format=rows", "format=csv", ""):
            with self.subTest(query), self.slow(query) as sock:
                begin = sock.recv(2000)
                self.assertTrue(begin.startswith(b"HTTP/1.1 200 "), begin)
                self.assertIn(b"Transfer-Encoding: chunked", begin)
                pid = self.service.pid("report")
                os.kill(pid, signal.SIGKILL)
                wait_for(lambda: harness.process(pid) is None, "report is dead")
                rest = self.read_all(sock)
                self.assertLess(len(begin + rest), 60 * self.CELLS // 2, "it came whole")
                self.assertFalse((begin + rest).endswith(b"\r\n0\r\n\r\n"), "a short success")
            wait_for(lambda: self.get("/events/report?caregiver_ids=1").status == 200,
                     "report answers again")

    def test_a_reader_who_leaves_does_no_harm(self):
        for _ in range(20):
            with self.slow() as sock:
                sock.recv(1000)
        self.assertEqual(len(self.rows_of()), self.CELLS)
        self.assertEqual(len(self.service.pids("report")), 1)

    def test_slow_readers_keep_nobody_waiting(self):
        # More than threads are active; each report takes some seconds under a sanitizer.
        socks = [self.slow() for _ in range(40 if harness.LONG <= 20 else 12)]
        try:
            for _ in range(5):
                self.assertEqual(self.get("/events/report?caregiver_ids=1000000000001").status, 200)
            self.make_event(self.make_type(), 5)
        finally:
            for sock in socks:
                sock.close()


if __name__ == "__main__":
    harness.main()
