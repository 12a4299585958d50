"""events, asked through nginx: types and their prices, events, lists, conditions, retries, races,
imports, and clients that break off.  What is in the file is looked at, too."""
import contextlib
import json
import random
import socket
import time

import harness
from harness import at_once, wait_for
from ledger import (AMOUNT_MAX, BAD_BODIES, Client, ID_MAX, JSON, LINES, LedgerCase, database,
                    event, everything, fresh, lines, micros, next_page, pages, send, time_text)

RACERS = 64
MANY = 100000
DAY_US = 86400 * 10**6
EVENT_MEMBERS = {"id", "type_id", "caregiver_id", "start_time", "amount_in_cents", "currency",
                 "reimbursed", "reimbursed_at", "created_at"}
NOT_INTEGERS = ("1", 1.5, True, None, [], [1], {}, "", "x", 1e300)
BAD_TIMES = ("", "x", "2017-02-29T00:00:00Z", "2017-13-01T00:00:00Z", "2017-00-01T00:00:00Z",
             "2017-01-32T00:00:00Z", "2017-04-31T00:00:00Z", "2017-01-01T24:00:00Z",
             "2017-01-01T00:60:00Z", "2017-01-01T00:00:61Z", "2017-01-01", "2017-01-01T00:00Z",
             "2017-1-1T0:0:0Z", "2017-01-01T00:00:00+25:00", "2017-01-01T00:00:00+0100",
             "2017-01-01T00:00:00.Z", "2017-01-01T00:00:00Z ", " 2017-01-01T00:00:00Z",
             "+2017-01-01T00:00:00Z", "17-01-01T00:00:00Z", "1969-12-31T23:59:59Z",
             "10000-01-01T00:00:00Z", "2017-01-01T00:00:00ZZ", "now", "1483228800")
SAME_TIME = ("2017-06-30T22:30:00.123456Z", "2017-06-30T22:30:00.123456",
             "2017-06-30t22:30:00.123456z", "2017-07-01T00:30:00.123456+02:00",
             "2017-06-30T17:00:00.123456-05:30", "2017-06-30T22:30:00.123456789Z")


class Types(LedgerCase):
    def test_a_type_is_created_with_location_and_body(self):
        name = fresh()
        answer = self.send("POST", "/events/types", {"name": name, "amount_in_cents": 25050})
        self.assertEqual(answer.status, 201, answer)
        made = answer.json
        self.assertEqual(answer.field("Location"), f"/events/types/{made['id']}")
        self.assertEqual(made, {"id": made["id"], "name": name, "amount_in_cents": 25050,
                                "currency": "SEK"})
        self.assertCommon(answer)
        found = self.get(answer.field("Location"))
        self.assertEqual((found.status, found.json), (200, made))
        self.assertEqual(found.field("ETag"), answer.field("ETag"))

    def test_a_name_is_taken_once(self):
        name, other = fresh(), self.make_type()
        one = self.made("/events/types", {"name": name, "amount_in_cents": 1})["id"]
        again = self.send("POST", "/events/types", {"name": name, "amount_in_cents": 2})
        self.assertProblem(again, 409, "conflict")
        stolen = self.send("PUT", f"/events/types/{other}", {"name": name, "amount_in_cents": 3})
        self.assertProblem(stolen, 409, "conflict")
        self.assertEqual(self.get(f"/events/types/{other}").json["amount_in_cents"], 10000)
        own = self.send("PUT", f"/events/types/{one}", {"name": name, "amount_in_cents": 4})
        self.assertEqual((own.status, own.json["amount_in_cents"]), (200, 4))

    def test_a_name_that_was_given_up_is_free(self):
        name = fresh()
        first = self.made("/events/types", {"name": name, "amount_in_cents": 1})["id"]
        self.assertEqual(self.send("PUT", f"/events/types/{first}",
                                   {"name": fresh(), "amount_in_cents": 1}).status, 200)
        second = self.made("/events/types", {"name": name, "amount_in_cents": 1})["id"]
        self.assertEqual(self.send("DELETE", f"/events/types/{second}").status, 204)
        self.made("/events/types", {"name": name, "amount_in_cents": 1})

    def test_a_name_has_1_to_200_characters(self):
        target = f"/events/types/{self.make_type()}"
        for letter in ("x", "å", "€", "\N{PILL}"):
            name = fresh()
            name += (200 - len(name)) * letter
            made = self.made("/events/types", {"name": name, "amount_in_cents": 1})
            self.assertEqual(made["name"], name)
            self.assertEqual(self.get(f"/events/types/{made['id']}").json["name"], name)
            for method, where in (("POST", "/events/types"), ("PUT", target)):
                with self.subTest(letter=letter, method=method):
                    self.assertRefused(self.send(method, where, {
                        "name": name + letter, "amount_in_cents": 1}), "#/name")
        for name in ("", 1, None, True, [], {}, ["x"]):
            for method, where in (("POST", "/events/types"), ("PUT", target)):
                with self.subTest(name=name, method=method):
                    self.assertRefused(self.send(method, where, {
                        "name": name, "amount_in_cents": 1}), "#/name")

    def test_a_name_is_any_text(self):
        for text in ('"', "\\", "</script>", "'; DROP TABLE types;--", "\t\n", "%s%n", "\x7f",
                     "\N{BLACK HEART SUIT}", " ", "{}", "\u202e", "NULL"):
            with self.subTest(text):
                name = fresh() + text
                made = self.made("/events/types", {"name": name, "amount_in_cents": 1})
                self.assertEqual(self.get(f"/events/types/{made['id']}").json["name"], name)

    def test_an_amount_is_0_to_2147483647(self):
        target = f"/events/types/{self.make_type()}"
        for amount in (0, 1, AMOUNT_MAX, 5.0):
            made = self.made("/events/types", {"name": fresh(), "amount_in_cents": amount})
            self.assertEqual(made["amount_in_cents"], int(amount))
        for amount in (-1, AMOUNT_MAX + 1, 2**63, -2**63, *NOT_INTEGERS):
            for method, where in (("POST", "/events/types"), ("PUT", target)):
                with self.subTest(amount=amount, method=method):
                    self.assertRefused(self.send(method, where, {
                        "name": fresh(), "amount_in_cents": amount}), "#/amount_in_cents")

    def test_the_only_currency_is_sek(self):
        self.made("/events/types", {"name": fresh(), "amount_in_cents": 1, "currency": "SEK"})
        for currency in ("EUR", "sek", "", 1, "SEKK", []):
            with self.subTest(currency):
                self.assertRefused(self.send("POST", "/events/types", {
                    "name": fresh(), "amount_in_cents": 1, "currency": currency}), "#/currency")

    def test_every_bad_field_is_named_at_once(self):
        self.assertRefused(self.send("POST", "/events/types", {}), "#/name", "#/amount_in_cents")
        self.assertRefused(self.send("POST", "/events/types", {
            "name": "", "amount_in_cents": "1", "currency": "EUR"}),
            "#/name", "#/amount_in_cents", "#/currency")
        self.assertRefused(self.send("PUT", f"/events/types/{self.make_type()}", {
            "valid_from": "soon"}), "#/name", "#/amount_in_cents", "#/valid_from")

    def test_types_are_listed_by_id_in_pages(self):
        made = [self.make_type(amount) for amount in range(1, 8)]
        for limit in (1, 2, 3, 1000):
            found = list(pages(self.service, f"/events/types?limit={limit}"))
            self.assertTrue(all(len(page) <= limit for page in found))
            listed = [one for page in found for one in page]
            ids = [one["id"] for one in listed]
            self.assertEqual(ids, sorted(set(ids)))
            self.assertLessEqual(set(made), set(ids))
            for one in listed[-7:]:
                self.assertEqual(one, self.get(f"/events/types/{one['id']}").json)

    def test_a_type_without_events_is_deleted_and_its_id_not_used_again(self):
        last = self.make_type()
        answer = self.send("DELETE", f"/events/types/{last}")
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertProblem(self.send("DELETE", f"/events/types/{last}"), 404, "not-found")
        for target in (f"/events/types/{last}", f"/events/types/{last}/prices"):
            self.assertProblem(self.get(target), 404, "not-found")
        self.assertProblem(self.send("PUT", f"/events/types/{last}", {
            "name": fresh(), "amount_in_cents": 1}), 404, "not-found")
        self.assertGreater(self.make_type(), last)

    def test_a_type_that_events_use_is_kept(self):
        used = self.make_type()
        made = self.make_event(used)["id"]
        self.assertProblem(self.send("DELETE", f"/events/types/{used}"), 409, "conflict")
        self.assertEqual(self.get(f"/events/types/{used}").status, 200)
        self.assertEqual(self.send("DELETE", f"/events/{made}").status, 204)
        self.assertEqual(self.send("DELETE", f"/events/types/{used}").status, 204)

    def test_there_is_nothing_at_ids_that_were_never_given(self):
        for number in ("0", "999999", "x", "-1", "1.0", "1e0", "%31%00", str(ID_MAX), str(2**63),
                       str(2**64 + 1), "9" * 60, "+1", "0x1"):
            for target, method in (("/events/types/{}", "GET"), ("/events/types/{}", "DELETE"),
                                   ("/events/types/{}/prices", "GET"), ("/events/{}", "GET"),
                                   ("/events/{}", "DELETE"), ("/events/{}/reimburse", "POST")):
                with self.subTest(number=number, target=target, method=method):
                    answer = self.send(method, target.format(number))
                    self.assertProblem(answer, 400 if "%00" in number else 404)


class Prices(LedgerCase):
    def amount(self, type_id, us):
        return self.make_event(type_id, 1, time_text(us))["amount_in_cents"]

    def test_an_event_is_paid_what_is_in_force_when_it_starts(self):
        first, second = micros("2018-01-01T00:00:00"), micros("2019-07-01T12:00:00.5")
        type_id = self.make_type(100)
        self.set_price(type_id, 300, valid_from=time_text(second))
        self.set_price(type_id, 200, valid_from=time_text(first))
        for us, amount in ((0, 100), (first - 1, 100), (first, 200), (first + 1, 200),
                           (second - 1, 200), (second, 300), (second + 1, 300),
                           (micros("9999-12-31T23:59:59.999999"), 300)):
            with self.subTest(time_text(us)):
                self.assertEqual(self.amount(type_id, us), amount)
        self.assertEqual(self.get(f"/events/types/{type_id}").json["amount_in_cents"], 300)

    def test_a_price_is_in_force_from_now_on_unless_it_says_from_when(self):
        type_id = self.make_type(100)
        before = time.time_ns() // 1000
        changed = self.set_price(type_id, 200)
        after = time.time_ns() // 1000
        self.assertEqual(changed["amount_in_cents"], 200)
        self.assertEqual(self.amount(type_id, before - 1), 100)
        self.assertEqual(self.amount(type_id, after + 1), 200)
        self.set_price(type_id, 300, valid_from=time_text(after + DAY_US))
        self.assertEqual(self.get(f"/events/types/{type_id}").json["amount_in_cents"], 200)
        self.assertEqual(self.amount(type_id, after + DAY_US - 1), 200)
        self.assertEqual(self.amount(type_id, after + DAY_US), 300)

    def test_a_later_price_never_alters_what_is_registered(self):
        type_id = self.make_type(100)
        made = [self.make_event(type_id, 1, text) for text in
                ("2017-01-02T03:04:05Z", "2050-01-02T03:04:05Z")]
        for valid_from in ("1970-01-01T00:00:00Z", "2017-01-01T00:00:00Z", "2050-01-01T00:00:00Z"):
            self.set_price(type_id, 999, valid_from=valid_from)
        for one in made:
            self.assertEqual(self.get(f"/events/{one['id']}").json, one)
        paid = self.reimburse(made[0]["id"])
        self.assertEqual((paid.status, paid.json["amount_in_cents"]), (200, 100))

    def test_of_two_prices_from_the_same_instant_the_later_said_counts(self):
        type_id, at = self.make_type(100), "2018-01-01T00:00:00Z"
        for amount in (200, 300, 100, 250):
            self.set_price(type_id, amount, valid_from=at)
            self.assertEqual(self.amount(type_id, micros(at)), amount)

    def test_a_price_stays_as_it_was_set_whatever_is_set_before_it(self):
        """100 from 2020 on was said, though 100 was in force then anyway."""
        type_id = self.make_type(100)
        self.set_price(type_id, 100, valid_from="2020-01-01T00:00:00Z")
        self.set_price(type_id, 50, valid_from="2019-01-01T00:00:00Z")
        self.assertEqual(self.amount(type_id, micros("2019-06-01T00:00:00")), 50)
        self.assertEqual(self.amount(type_id, micros("2020-06-01T00:00:00")), 100)

    def test_the_history_of_prices_is_kept(self):
        type_id = self.make_type(100)
        self.set_price(type_id, 300, valid_from="2019-01-01T00:00:00Z")
        self.set_price(type_id, 200, valid_from="2018-01-01T01:00:00+01:00")
        found = self.get(f"/events/types/{type_id}/prices").json
        self.assertEqual([(one["amount_in_cents"], one["valid_from"]) for one in found],
                         [(100, "1970-01-01T00:00:00.000000Z"),
                          (300, "2019-01-01T00:00:00.000000Z"),
                          (200, "2018-01-01T00:00:00.000000Z")])

    def test_an_import_is_paid_likewise(self):
        type_id = self.make_type(100)
        self.set_price(type_id, 200, valid_from="2018-01-01T00:00:00Z")
        self.set_price(type_id, 300, valid_from="2019-01-01T00:00:00Z")
        times = ["2019-01-01T00:00:00Z", "2018-12-31T23:59:59.999999Z", "2018-01-01T00:00:00Z",
                 "2017-12-31T23:59:59.999999Z", "2019-01-01T00:00:00.000001Z"]
        self.made("/events", None, kind=LINES,
                  body=lines(event(type_id, 77, text) for text in times))
        self.assertEqual([one["amount_in_cents"] for one in
                          everything(self.service, f"/events?type_id={type_id}")],
                         [300, 200, 200, 100, 300])

    def test_bad_instants_are_refused(self):
        type_id = self.make_type()
        for text in (*BAD_TIMES, 1, True, []):
            with self.subTest(text):
                self.assertRefused(self.send("PUT", f"/events/types/{type_id}", {
                    "name": fresh(), "amount_in_cents": 1, "valid_from": text}), "#/valid_from")


class Events(LedgerCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.type_id = send(cls.service, "POST", "/events/types", {
            "name": fresh(), "amount_in_cents": 12345}).json["id"]

    def test_ids_are_integers_from_1_never_used_again(self):
        self.assertEqual(self.count(), 0)
        ids = [self.make_event(self.type_id)["id"] for _ in range(3)]
        self.assertEqual((ids[0], ids), (1, sorted(set(ids))))
        for number in ids[1:]:
            self.assertEqual(self.send("DELETE", f"/events/{number}").status, 204)
        self.assertGreater(self.make_event(self.type_id)["id"], ids[-1])
        self.restart()
        last = self.make_event(self.type_id)["id"]
        self.send("DELETE", f"/events/{last}")
        self.kill("events")
        self.assertGreater(self.make_event(self.type_id)["id"], last)

    def test_an_event_is_registered_with_location_and_body(self):
        before = time.time_ns() // 1000
        answer = self.send("POST", "/events", event(self.type_id, 17, "2017-01-02T03:04:05"))
        after = time.time_ns() // 1000
        self.assertEqual(answer.status, 201, answer)
        self.assertCommon(answer)
        made = answer.json
        self.assertEqual(answer.field("Location"), f"/events/{made['id']}")
        self.assertEqual(answer.field("Content-Type"), JSON)
        self.assertEqual(set(made), EVENT_MEMBERS)
        self.assertTrue(before <= micros(made.pop("created_at")) <= after)
        self.assertEqual(made, {
            "id": made["id"], "type_id": self.type_id, "caregiver_id": 17,
            "start_time": "2017-01-02T03:04:05.000000Z", "amount_in_cents": 12345,
            "currency": "SEK", "reimbursed": False, "reimbursed_at": None})
        found = self.get(answer.field("Location"))
        self.assertEqual((found.status, found.body), (200, answer.body))
        self.assertEqual(found.field("ETag"), answer.field("ETag"))
        self.assertRegex(found.field("ETag"), '^"[^"]+"$')
        self.assertEqual(found.field("Cache-Control"), "no-cache")

    def test_given_id_and_reimbursed_and_unknown_members_are_ignored(self):
        made = self.made("/events", event(
            self.type_id, id=999, reimbursed=True, reimbursed_at="2017-01-01T00:00:00Z",
            amount_in_cents=1, currency="EUR", created_at=None, x={"y": [1, 2, {}]}))
        self.assertLess(made["id"], 900)
        self.assertEqual((made["reimbursed"], made["reimbursed_at"], made["amount_in_cents"]),
                         (False, None, 12345))

    def test_what_a_get_gave_can_be_posted_again(self):
        made = self.make_event(self.type_id)
        again = self.made("/events", made)
        self.assertNotEqual(again["id"], made["id"])

    def test_times_are_one_instant_however_they_are_written(self):
        for text in SAME_TIME:
            with self.subTest(text):
                self.assertEqual(self.make_event(self.type_id, 1, text)["start_time"],
                                 "2017-06-30T22:30:00.123456Z")

    def test_the_first_and_the_last_instant(self):
        for text in ("1970-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z",
                     "2016-02-29T00:00:00.000001Z", "2000-02-29T23:59:59.000000Z"):
            self.assertEqual(self.make_event(self.type_id, 1, text)["start_time"], text)

    def test_impossible_times_are_refused(self):
        for text in (*BAD_TIMES, 1, 1483228800, None, True, [], {}):
            with self.subTest(text):
                self.assertRefused(self.send("POST", "/events", event(self.type_id, 1, text)),
                                   "#/start_time")

    def test_a_caregiver_is_1_to_2_63_minus_1(self):
        for number in (1, ID_MAX, ID_MAX - 1, 2**53 + 1):
            made = self.make_event(self.type_id, number)
            self.assertEqual(made["caregiver_id"], number)
            self.assertEqual(self.get(f"/events/{made['id']}").json["caregiver_id"], number)
        self.assertEqual(self.make_event(self.type_id, 7.0)["caregiver_id"], 7)
        for number in (0, -1, 2**63, 2**64 + 1, -2**63, *NOT_INTEGERS):
            with self.subTest(number):
                self.assertRefused(self.send("POST", "/events", event(self.type_id, number)),
                                   "#/caregiver_id")

    def test_an_unknown_type_is_refused(self):
        for number in (999999, ID_MAX, 0, -1, 2**63, *NOT_INTEGERS):
            with self.subTest(number):
                self.assertRefused(self.send("POST", "/events", event(number)), "#/type_id")

    def test_every_bad_field_is_named_at_once(self):
        self.assertRefused(self.send("POST", "/events", {}),
                           "#/type_id", "#/caregiver_id", "#/start_time")
        self.assertRefused(self.send("POST", "/events", {
            "type_id": "1", "caregiver_id": 0, "start_time": "x"}),
            "#/type_id", "#/caregiver_id", "#/start_time")

    def test_a_member_given_twice_is_named(self):
        for name in ("type_id", "caregiver_id", "start_time", "x"):
            whole = json.dumps(event(self.type_id, x=1))
            value = json.dumps({**event(self.type_id), "x": 1}[name])
            body = whole[:-1] + f', "{name}": {value}}}'
            with self.subTest(name):
                self.assertRefused(self.send("POST", "/events", body=body.encode()), f"#/{name}")

    def test_unreadable_bodies_are_refused_everywhere(self):
        made = self.make_event(self.type_id)["id"]
        before = self.count()
        for body in BAD_BODIES:
            for method, target in (("POST", "/events"), ("POST", "/events/types"),
                                   ("PUT", f"/events/types/{self.type_id}")):
                with self.subTest(body=body, target=target):
                    self.assertProblem(self.send(method, target, body=body), 400, "invalid-input")
        self.assertEqual(self.count(), before)
        self.assertEqual(self.get(f"/events/{made}").status, 200)

    def test_a_body_is_json_in_utf_8_and_not_encoded(self):
        body = json.dumps(event(self.type_id)).encode()
        for kind in ("application/json", "application/json; charset=utf-8", "Application/JSON",
                     "application/json;charset=UTF-8"):
            self.assertEqual(self.send("POST", "/events", body=body, kind=kind).status, 201, kind)
        before = self.count()
        for kind in (None, "", "text/plain", "application/xml", "application/jsonx",
                     "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
                     "application/x-ndjsonx", "json", "text/json"):
            for method, target in (("POST", "/events"), ("POST", "/events/types"),
                                   ("PUT", f"/events/types/{self.type_id}")):
                with self.subTest(kind=kind, target=target):
                    self.assertProblem(self.send(method, target, body=body, kind=kind), 415,
                                       "unsupported-media-type")
        for encoding in ("gzip", "deflate", "br", "x"):
            for kind in (JSON, LINES):
                self.assertProblem(self.send("POST", "/events", body=body, kind=kind,
                                             Content_Encoding=encoding), 415)
        self.assertEqual(self.count(), before)

    def test_a_body_over_the_limit_is_413(self):
        for size in (1024 * 1024 + 1, 5 * 1024 * 1024):
            body = json.dumps(event(self.type_id, x=(size // 4000 + 1) * [3990 * "y"])).encode()
            for method, target in (("POST", "/events"), ("POST", "/events/types"),
                                   ("PUT", f"/events/types/{self.type_id}")):
                with self.service.connect() as connection:
                    connection.send(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n"
                                    f"Content-Type: {JSON}\r\n"
                                    f"Content-Length: {len(body)}\r\n\r\n".encode())
                    self.assertProblem(connection.receive(), 413, "too-large")

    def test_an_event_is_deleted_once(self):
        made = self.make_event(self.type_id)["id"]
        answer = self.send("DELETE", f"/events/{made}")
        self.assertEqual((answer.status, answer.body), (204, b""), answer)
        self.assertCommon(answer)
        for method, target in (("DELETE", f"/events/{made}"), ("GET", f"/events/{made}"),
                               ("POST", f"/events/{made}/reimburse")):
            self.assertProblem(self.send(method, target), 404, "not-found")
        self.assertCounted()

    def test_an_event_is_reimbursed_once(self):
        made = self.make_event(self.type_id)
        before = time.time_ns() // 1000
        answer = self.reimburse(made["id"])
        after = time.time_ns() // 1000
        self.assertEqual(answer.status, 200, answer)
        paid = answer.json
        self.assertTrue(before <= micros(paid["reimbursed_at"]) <= after)
        self.assertEqual(paid, {**made, "reimbursed": True, "reimbursed_at": paid["reimbursed_at"]})
        self.assertProblem(self.reimburse(made["id"]), 409, "conflict")
        found = self.get(f"/events/{made['id']}")
        self.assertEqual(found.json, paid)
        self.assertEqual(found.field("ETag"), answer.field("ETag"))
        self.assertCounted()

    def test_what_is_reimbursed_is_not_deleted(self):
        made = self.make_event(self.type_id)["id"]
        self.assertEqual(self.reimburse(made).status, 200)
        self.assertProblem(self.send("DELETE", f"/events/{made}"), 409, "conflict")
        self.assertTrue(self.get(f"/events/{made}").json["reimbursed"])

    def test_a_trailing_slash_makes_no_difference(self):
        made = self.made("/events/", event(self.type_id))["id"]
        self.made("/events/", None, kind=LINES, body=lines([event(self.type_id)]))
        self.made("/events/types/", {"name": fresh(), "amount_in_cents": 1})
        self.assertEqual(self.get(f"/events/{made}/").json["id"], made)
        self.assertEqual(self.send("PUT", f"/events/types/{self.type_id}/", {
            "name": fresh(), "amount_in_cents": 12345}).status, 200)
        self.assertEqual(self.send("POST", f"/events/{made}/reimburse/").status, 200)
        self.assertProblem(self.send("DELETE", f"/events/{made}/"), 409)

    def test_no_answer_tells_of_the_inside(self):
        for answer in (self.send("POST", "/events", event(999999)), self.get("/events/999999"),
                       self.send("POST", "/events", body=b"{"), self.get("/events?limit=x"),
                       self.send("DELETE", f"/events/types/{self.type_id}")):
            for word in (b"SQL", b"sqlite", b"constraint", b".sql", b".db", b".c:", b"SELECT",
                         self.data.encode()):
                self.assertNotIn(word, answer.body)


class Lists(LedgerCase):
    """Events of three caregivers and two types over some days, some of them paid."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        post = lambda target, value: send(cls.service, "POST", target, value).json
        cls.types = [post("/events/types", {"name": fresh(), "amount_in_cents": 100})["id"]
                     for _ in range(2)]
        base = micros("2017-05-30T23:59:59.999999")
        choose = random.Random(5)
        for _ in range(60):
            start = base + choose.choice((0, 1, 2, DAY_US, DAY_US + 1, 40 * DAY_US))
            post("/events", event(choose.choice(cls.types), choose.choice((3, 5, ID_MAX)),
                                  time_text(start)))
        for number in choose.sample(range(1, 61), 20):
            send(cls.service, "POST", f"/events/{number}/reimburse")
        send(cls.service, "DELETE", "/events/" + str(next(
            one["id"] for one in everything(cls.service, "/events") if not one["reimbursed"])))
        cls.all = everything(cls.service, "/events")
        cls.base = base

    FILTERS = {
        "caregiver_id": lambda event, value: event["caregiver_id"] == int(value),
        "type_id": lambda event, value: event["type_id"] == int(value),
        "reimbursed": lambda event, value: event["reimbursed"] == (value == "true"),
        "min_time": lambda event, value: micros(event["start_time"]) > micros(value),
        "max_time": lambda event, value: micros(event["start_time"]) < micros(value),
    }

    def expected(self, query):
        return [one for one in self.all
                if all(self.FILTERS[name](one, value) for name, value in query.items())]

    @staticmethod
    def target(query, **more):
        return "/events?" + "&".join(f"{name}={value}" for name, value in {**query, **more}.items())

    def test_all_events_by_id(self):
        self.assertEqual(len(self.all), 59)
        self.assertEqual([one["id"] for one in self.all], sorted(one["id"] for one in self.all))
        for one in self.all[:5]:
            self.assertEqual(self.get(f"/events/{one['id']}").json, one)

    def queries(self):
        times = [time_text(self.base + us) for us in (-1, 0, 1, 2, 3, DAY_US, 41 * DAY_US)]
        yield {}
        for number in (3, 5, ID_MAX, 4):
            yield {"caregiver_id": number}
        for number in (*self.types, 999):
            yield {"type_id": number}
        for flag in ("true", "false"):
            yield {"reimbursed": flag}
            yield {"reimbursed": flag, "caregiver_id": 5, "type_id": self.types[0]}
            yield {"reimbursed": flag, "type_id": self.types[1], "min_time": times[1]}
            yield {"reimbursed": flag, "min_time": times[1], "max_time": times[5]}
        for low in times:
            yield {"min_time": low}
            yield {"max_time": low}
            for high in times:
                yield {"min_time": low, "max_time": high}
        yield {"caregiver_id": 3, "min_time": times[1], "max_time": times[-1]}

    def test_each_filter_and_all_of_them_together(self):
        with Client(self.service) as client:
            for query in self.queries():
                with self.subTest(query):
                    self.assertEqual(everything(client, self.target(query)), self.expected(query))

    def test_every_page_leads_to_the_next_until_the_end(self):
        with Client(self.service) as client:
            for query in self.queries():
                expected = self.expected(query)
                for limit in (1, 7, len(expected), len(expected) + 1):
                    if limit == 0 or (limit == 1 and "min_time" in query):
                        continue
                    with self.subTest(query=query, limit=limit):
                        found = list(pages(client, self.target(query, limit=limit)))
                        self.assertEqual([one for page in found for one in page], expected)
                        for page in found[:-1]:
                            self.assertEqual(len(page), limit)
                        self.assertTrue(found[-1] or not expected)

    def test_the_pages_that_follow_keep_filter_and_limit(self):
        answer = self.get(self.target({"caregiver_id": 5, "reimbursed": "false",
                                       "min_time": "2017-05-01T00:00:00%2B00:00"}, limit=3))
        target = next_page(answer)
        for part in ("caregiver_id=5", "reimbursed=false", "min_time=2017-05-01T00:00:00",
                     "limit=3", "cursor="):
            self.assertIn(part, target)

    def test_a_limit_is_1_to_1000_and_100_if_it_is_not_given(self):
        for target in ("/events", "/events/types"):
            for limit in ("1", "1000"):
                self.assertEqual(self.get(f"{target}?limit={limit}").status, 200)
            for limit in ("0", "1001", "-1", "", "x", "1.0", "+1", "%201", "1%00", str(2**64 + 1),
                          "99999999999999999999"):
                with self.subTest(target=target, limit=limit):
                    answer = self.get(f"{target}?limit={limit}")
                    self.assertProblem(answer, 400, "invalid-input")
                    if "%00" not in limit:
                        self.assertRefused(answer, "limit")

    def test_a_cursor_is_one_that_a_link_gave(self):
        for target in ("/events", "/events/types"):
            for cursor in ("", "x", "azA=", "2", "%27", "a" * 500,
                           "azk5OTk5OTk5OTk5OTk5OTk5OTk5OTk"):
                with self.subTest(target=target, cursor=cursor):
                    self.assertRefused(self.get(f"{target}?cursor={cursor}"), "cursor")

    def test_a_parameter_is_given_once(self):
        for target, name, value in (("/events", "limit", "1"), ("/events", "caregiver_id", "3"),
                                    ("/events", "type_id", "1"), ("/events", "reimbursed", "true"),
                                    ("/events", "min_time", "2017-01-01T00:00:00Z"),
                                    ("/events", "max_time", "2017-01-01T00:00:00Z"),
                                    ("/events", "cursor", "azI"), ("/events/types", "limit", "1"),
                                    ("/events/types", "cursor", "azI")):
            with self.subTest(target=target, name=name):
                self.assertEqual(self.get(f"{target}?{name}={value}").status, 200)
                self.assertRefused(self.get(f"{target}?{name}={value}&{name}={value}"), name)
                self.assertRefused(self.get(f"{target}?{name}={value}&{name}=?"), name)

    def test_bad_filters_are_named_all_at_once(self):
        for name, values in {
                "caregiver_id": ("0", "-1", "x", "", str(2**63), "1.0"),
                "type_id": ("0", "x", "", str(2**63)),
                "reimbursed": ("1", "True", "yes", "", "null"),
                "min_time": ("x", "", "2017-02-29T00:00:00Z", "2017-01-01T00:00:00+01:00"),
                "max_time": ("x", "", "2017-13-01T00:00:00Z")}.items():
            for value in values:
                with self.subTest(name=name, value=value):
                    self.assertRefused(self.get(f"/events?{name}={value}"), name)
        self.assertRefused(
            self.get("/events?caregiver_id=x&type_id=x&reimbursed=x&min_time=x&max_time=x&limit=x"
                     "&cursor=%2b"), "caregiver_id", "type_id", "reimbursed", "min_time",
            "max_time", "limit", "cursor")

    def test_unknown_parameters_are_ignored(self):
        self.assertEqual(self.get("/events?nope=1&limit=1000").json, self.all)

    def test_an_empty_list_has_no_next_page(self):
        for target in ("/events?caregiver_id=999", "/events/?caregiver_id=999"):
            answer = self.get(target)
            self.assertEqual((answer.status, answer.json, answer.field("Link")), (200, [], None))

    def test_what_comes_meanwhile_moves_no_page(self):
        walk = pages(self.service, "/events?caregiver_id=3&limit=5")
        found = next(walk)
        made = self.make_event(self.types[0], 3)
        try:
            found += [one for page in walk for one in page]
            self.assertEqual(found, self.expected({"caregiver_id": 3}) + [made])
        finally:
            self.send("DELETE", f"/events/{made['id']}")


class Conditions(LedgerCase):
    def setUp(self):
        self.type_id = self.make_type()
        self.event_id = self.make_event(self.type_id)["id"]
        self.targets = [f"/events/types/{self.type_id}", f"/events/{self.event_id}"]

    def test_a_get_with_the_tag_it_gave_is_304(self):
        for target in self.targets:
            etag = self.get(target).field("ETag")
            for tags in (etag, "*", f'"x", {etag}', f"W/{etag}", f'{etag},"y"',
                         f'W/"x" , W/{etag}'):
                for method in ("GET", "HEAD"):
                    with self.subTest(target=target, tags=tags, method=method):
                        answer = self.send(method, target, If_None_Match=tags)
                        self.assertEqual((answer.status, answer.body), (304, b""))
                        self.assertEqual(answer.field("ETag"), etag)
                        self.assertEqual(answer.field("Cache-Control"), "no-cache")
            for tags in ('"x"', 'W/"x"', etag.strip('"'), f"{etag[:-1]}x\"", '""', "x"):
                with self.subTest(target=target, tags=tags):
                    self.assertEqual(self.get(target, If_None_Match=tags).status, 200)

    def test_a_tag_changes_with_what_it_names(self):
        etag = self.get(self.targets[1]).field("ETag")
        self.reimburse(self.event_id)
        self.assertEqual(self.get(self.targets[1], If_None_Match=etag).status, 200)
        seen = set()
        for name, amount in (("a", 1), ("a", 2), ("b", 2), ("a", 1), ("a", 1)):
            answer = self.send("PUT", self.targets[0], {"name": f"{self.type_id}{name}",
                                                        "amount_in_cents": amount})
            self.assertEqual(answer.field("ETag"), self.get(self.targets[0]).field("ETag"))
            seen.add((answer.field("ETag"), answer.body))
        self.assertEqual(len({etag for etag, _ in seen}), 5)

    def test_no_two_resources_have_one_tag(self):
        other = self.make_event(self.type_id)["id"]
        self.assertNotEqual(self.get(self.targets[1]).field("ETag"),
                            self.get(f"/events/{other}").field("ETag"))

    def change(self, **fields):
        return self.send("PUT", self.targets[0], {"name": fresh(), "amount_in_cents": 777},
                         **fields)

    def test_a_change_with_the_tag_is_made_and_answered_as_made(self):
        """nginx knows If-Match, too, and would find it wrong once the tag has changed."""
        for weave in ("{}", '"x", {}', '{} , "y"'):
            etag = self.get(self.targets[0]).field("ETag")
            answer = self.change(If_Match=weave.format(etag))
            self.assertEqual((answer.status, answer.json["amount_in_cents"]), (200, 777), answer)
            self.assertNotEqual(answer.field("ETag"), etag)
        self.assertEqual(self.change(If_Match="*").status, 200)
        etag = self.get(self.targets[1]).field("ETag")
        answer = self.reimburse(self.event_id, If_Match=etag)
        self.assertEqual((answer.status, answer.json["reimbursed"]), (200, True), answer)
        other = self.make_event(self.type_id)["id"]
        etag = self.get(f"/events/{other}").field("ETag")
        self.assertEqual(self.send("DELETE", f"/events/{other}", If_Match=etag).status, 204)
        unused = self.make_type()
        etag = self.get(f"/events/types/{unused}").field("ETag")
        self.assertEqual(self.send("DELETE", f"/events/types/{unused}", If_Match=etag).status, 204)

    def test_a_change_with_another_tag_is_412_and_not_made(self):
        before = [self.get(target).body for target in self.targets]
        etags = [self.get(target).field("ETag") for target in self.targets]
        self.assertEqual(self.change().status, 200)
        stale, before[0] = etags[0], self.get(self.targets[0]).body
        unused = self.make_type()
        for tags in (stale, '"x"', f"W/{self.get(self.targets[0]).field('ETag')}", "x", '""'):
            with self.subTest(tags):
                for answer in (self.change(If_Match=tags),
                               self.reimburse(self.event_id, If_Match=tags),
                               self.send("DELETE", self.targets[1], If_Match=tags),
                               self.send("DELETE", f"/events/types/{unused}", If_Match=tags)):
                    self.assertProblem(answer, 412, "precondition-failed")
        self.assertEqual([self.get(target).body for target in self.targets], before)
        self.assertEqual(self.get(f"/events/types/{unused}").status, 200)

    def test_conditions_by_time_and_those_of_a_get_do_no_harm_to_a_change(self):
        for fields in ({"If_Unmodified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
                       {"If_Modified_Since": "Fri, 01 Jan 2100 00:00:00 GMT"}):
            self.assertEqual(self.change(**fields).status, 200)
            for target in self.targets:
                self.assertEqual(self.get(target, **fields).status, 200)

    def test_of_what_is_not_there_it_is_404(self):
        for method, target in (("GET", "/events/999999"), ("DELETE", "/events/999999"),
                               ("DELETE", "/events/types/999999")):
            for fields in ({"If_Match": '"x"'}, {"If_None_Match": "*"}):
                self.assertProblem(self.send(method, target, **fields), 404)

    def test_a_list_says_when_it_is_as_it_was(self):
        etag = self.get("/events").field("ETag")
        self.assertEqual(self.get("/events", If_None_Match=etag).status, 304)
        for change in (lambda: self.make_event(self.type_id), lambda: self.reimburse(self.event_id),
                       lambda: self.send("DELETE", f"/events/{self.event_id + 1}")):
            change()
            answer = self.get("/events", If_None_Match=etag)
            self.assertEqual(answer.status, 200)
            etag = answer.field("ETag")


def same(one, other):
    """Whether a retry was answered as the first time."""
    told = lambda answer: (answer.status, answer.body, *map(
        answer.field, ("Location", "ETag", "Content-Type")))
    return told(one) == told(other)


class Retries(LedgerCase):
    def setUp(self):
        self.type_id = self.make_type()
        self.key = fresh("key").replace(" ", "-")

    def posts(self):
        """Each POST that creates or pays, once: (name, function of the key)."""
        paid = self.make_event(self.type_id)["id"]
        typed = {"name": fresh(), "amount_in_cents": 1}
        return {
            "type": lambda key: self.send("POST", "/events/types", typed, Idempotency_Key=key),
            "event": lambda key: self.send("POST", "/events", event(self.type_id, 9),
                                           Idempotency_Key=key),
            "import": lambda key: self.send("POST", "/events", kind=LINES, Idempotency_Key=key,
                                            body=lines(50 * [event(self.type_id, 10)])),
            "reimburse": lambda key: self.reimburse(paid, Idempotency_Key=key)}

    def retried(self, between=lambda: None):
        posts = self.posts()
        first = {name: post(f"{self.key}-{name}") for name, post in posts.items()}
        self.assertEqual({name: answer.status for name, answer in first.items()},
                         {"type": 201, "event": 201, "import": 201, "reimburse": 200})
        counted = self.rows("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM types), "
                            "(SELECT count(*) FROM audit)")
        between()
        for _ in range(2):
            for name, post in posts.items():
                again = post(f"{self.key}-{name}")
                self.assertTrue(same(first[name], again), f"{name}: {first[name]} {again}")
        self.assertEqual(self.rows("SELECT (SELECT count(*) FROM events), "
                                   "(SELECT count(*) FROM types), (SELECT count(*) FROM audit)"),
                         counted)
        self.assertCounted()

    def test_the_same_again_is_answered_as_the_first_time(self):
        self.retried()

    def test_also_after_a_restart(self):
        self.retried(self.restart)

    def test_also_after_kill_9(self):
        self.retried(lambda: self.kill("events"))

    def test_also_when_the_event_has_changed_or_gone(self):
        body = event(self.type_id)
        one, other = (self.send("POST", "/events", body, Idempotency_Key=f"{self.key}{i}")
                      for i in range(2))
        self.reimburse(one.json["id"])
        self.send("DELETE", f"/events/{other.json['id']}")
        for i, first in enumerate((one, other)):
            again = self.send("POST", "/events", body, Idempotency_Key=f"{self.key}{i}")
            self.assertTrue(same(first, again), again)

    def test_with_another_request_it_is_422(self):
        first = self.send("POST", "/events", event(self.type_id, 1), Idempotency_Key=self.key)
        made = self.make_event(self.type_id)["id"]
        before = self.count()
        for answer in (
                self.send("POST", "/events", event(self.type_id, 2), Idempotency_Key=self.key),
                self.send("POST", "/events", kind=LINES, body=lines([event(self.type_id, 2)]),
                          Idempotency_Key=self.key),
                self.send("POST", "/events/types", {"name": fresh(), "amount_in_cents": 1},
                          Idempotency_Key=self.key),
                self.reimburse(made, Idempotency_Key=self.key)):
            self.assertProblem(answer, 422, "idempotency-key-reused")
        self.assertEqual(self.count(), before)
        self.assertFalse(self.get(f"/events/{made}").json["reimbursed"])
        again = self.send("POST", "/events", event(self.type_id, 1), Idempotency_Key=self.key)
        self.assertTrue(same(first, again))

    def test_a_key_pays_one_event_only(self):
        one, other = (self.make_event(self.type_id)["id"] for _ in range(2))
        self.assertEqual(self.reimburse(one, Idempotency_Key=self.key).status, 200)
        self.assertProblem(self.reimburse(other, Idempotency_Key=self.key), 422)
        self.assertEqual(self.reimburse(one, Idempotency_Key=self.key).status, 200)
        self.assertProblem(self.reimburse(one), 409, "conflict")

    def test_another_key_is_another_request(self):
        made = [self.made("/events", event(self.type_id), Idempotency_Key=f"{self.key}{case}")["id"]
                for case in ("a", "A", "b")]
        self.assertEqual(len(set(made)), 3)

    def test_what_was_refused_may_be_tried_again(self):
        refused = self.send("POST", "/events", event(999999), Idempotency_Key=self.key)
        self.assertRefused(refused, "#/type_id")
        self.made("/events", event(self.type_id), Idempotency_Key=self.key)

    def test_a_key_is_1_to_128_printable_characters(self):
        for key in ("!", "~", 128 * "k", '{"a":1}', "a,b;c=d"):
            self.made("/events", event(self.type_id), Idempotency_Key=key)
        made = self.make_event(self.type_id)["id"]
        for key in (129 * "k", 4000 * "k", "a b", "a\tb", "å", "\x7f"):
            for answer in (self.send("POST", "/events", event(self.type_id), Idempotency_Key=key),
                           self.send("POST", "/events", kind=LINES, Idempotency_Key=key,
                                     body=lines([event(self.type_id)])),
                           self.reimburse(made, Idempotency_Key=key)):
                with self.subTest(key=key):
                    self.assertRefused(answer, "Idempotency-Key")

    def test_two_at_once_are_one(self):
        for body, kind in ((json.dumps(event(self.type_id)).encode(), JSON),
                           (lines(2000 * [event(self.type_id)]), LINES)):
            before = self.count()
            key = f"{self.key}-{len(kind)}"
            one, other = at_once(2, lambda _: self.send("POST", "/events", body=body, kind=kind,
                                                        Idempotency_Key=key))
            self.assertEqual((one.status, other.status), (201, 201))
            self.assertTrue(same(one, other))
            self.assertEqual(self.count() - before, 1 if kind == JSON else 2000)


class Races(LedgerCase):
    def setUp(self):
        self.type_id = self.make_type()

    def race(self, function, count=RACERS):
        """Over connections that stand already; how many of each status."""
        clients = [Client(self.service) for _ in range(count)]
        for client in clients:
            client.ask("/ping")
        try:
            answers = at_once(count, lambda i: function(clients[i], i))
        finally:
            for client in clients:
                client.close()
        found = {}
        for answer in answers:
            found.setdefault(answer.status, []).append(answer)
        return found

    def counted(self, found):
        return {status: len(answers) for status, answers in found.items()}

    def test_one_of_64_reimburses(self):
        for _ in range(5):
            made = self.make_event(self.type_id)["id"]
            found = self.race(lambda client, i: send(client, "POST", f"/events/{made}/reimburse"))
            self.assertEqual(self.counted(found), {200: 1, 409: RACERS - 1})
            self.assertEqual(found[200][0].json, self.get(f"/events/{made}").json)
            self.assertEqual(self.rows("SELECT count(*) FROM audit WHERE subject = ? AND "
                                       "what = 'event reimbursed'", made), [(1,)])
        self.assertCounted()

    def test_one_of_64_with_keys_of_their_own_reimburses(self):
        made = self.make_event(self.type_id)["id"]
        found = self.race(lambda client, i: send(client, "POST", f"/events/{made}/reimburse",
                                                 Idempotency_Key=f"race-{made}-{i}"))
        self.assertEqual(self.counted(found), {200: 1, 409: RACERS - 1})

    def test_64_with_one_key_make_one_event(self):
        before, body = self.count(), event(self.type_id)
        found = self.race(lambda client, i: send(client, "POST", "/events", body,
                                                 Idempotency_Key=f"one-{self.type_id}"))
        self.assertEqual(self.counted(found), {201: RACERS})
        self.assertEqual(len({answer.body for answer in found[201]}), 1)
        self.assertEqual(self.count(), before + 1)
        self.assertCounted()

    def test_64_with_one_key_reimburse_once_and_all_are_told(self):
        made = self.make_event(self.type_id)["id"]
        found = self.race(lambda client, i: send(client, "POST", f"/events/{made}/reimburse",
                                                 Idempotency_Key=f"pay-{made}"))
        self.assertEqual(self.counted(found), {200: RACERS})
        self.assertEqual(len({answer.body for answer in found[200]}), 1)

    def test_64_with_one_key_and_different_bodies_make_one_event(self):
        before = self.count()
        found = self.race(lambda client, i: send(client, "POST", "/events",
                                                 event(self.type_id, i + 1),
                                                 Idempotency_Key=f"many-{self.type_id}"))
        self.assertEqual(self.counted(found), {201: 1, 422: RACERS - 1})
        self.assertEqual(self.count(), before + 1)

    def test_one_of_64_takes_a_name(self):
        name = fresh()
        found = self.race(lambda client, i: send(client, "POST", "/events/types",
                                                 {"name": name, "amount_in_cents": i}))
        self.assertEqual(self.counted(found), {201: 1, 409: RACERS - 1})

    def test_one_of_64_deletes(self):
        made = self.make_event(self.type_id)["id"]
        found = self.race(lambda client, i: send(client, "DELETE", f"/events/{made}"))
        self.assertEqual(self.counted(found), {204: 1, 404: RACERS - 1})
        self.assertCounted()

    def test_one_of_64_changes_what_all_have_seen(self):
        target = f"/events/types/{self.type_id}"
        etag = self.get(target).field("ETag")
        found = self.race(lambda client, i: send(
            client, "PUT", target, {"name": fresh(), "amount_in_cents": i}, If_Match=etag))
        self.assertEqual(self.counted(found), {200: 1, 412: RACERS - 1})

    def test_an_event_is_paid_or_deleted_never_both(self):
        for _ in range(10):
            made = self.make_event(self.type_id)["id"]
            found = self.counted(self.race(lambda client, i: send(
                client, *(("POST", f"/events/{made}/reimburse") if i % 2 else
                          ("DELETE", f"/events/{made}"))), 8))
            self.assertIn(found, ({200: 1, 409: 7}, {204: 1, 404: 7}))
        self.assertCounted()

    def test_a_type_is_used_or_deleted_never_both(self):
        for _ in range(10):
            type_id = self.make_type()
            found = self.counted(self.race(lambda client, i: send(
                client, *(("POST", "/events", event(type_id)) if i % 2 else
                          ("DELETE", f"/events/types/{type_id}"))), 8))
            self.assertIn(found, ({201: 4, 409: 4}, {204: 1, 404: 3, 400: 4}))

    def test_a_request_that_fails_does_not_disturb_its_neighbours(self):
        def ask(client, i):
            if i % 2:
                return send(client, "POST", "/events", event(999999, i))
            return send(client, "POST", "/events", event(self.type_id, 5000 + i))

        before = self.count()
        found = self.race(ask)
        self.assertEqual(self.counted(found), {201: RACERS // 2, 400: RACERS // 2})
        for answer in found[400]:
            self.assertRefused(answer, "#/type_id")
        self.assertEqual(self.count(), before + RACERS // 2)
        self.assertEqual({answer.json["caregiver_id"] for answer in found[201]},
                         {5000 + i for i in range(0, RACERS, 2)})
        self.assertCounted()


class Imports(LedgerCase):
    def setUp(self):
        self.type_id = self.make_type(101)

    def load(self, body, **fields):
        with self.service.connect(6 * harness.LONG) as connection:
            return send(connection, "POST", "/events", body=body, kind=LINES, **fields)

    def many(self, caregiver_id, count=MANY):
        base = micros("2018-01-01T00:00:00")
        return b"".join(b'{"type_id":%d,"caregiver_id":%d,"start_time":"%s"}\n' % (
            self.type_id, caregiver_id + i % 3, time_text(base + i * 600 * 10**6).encode())
            for i in range(count))

    def report(self, caregiver_id):
        return sum(one["not_reimbursed_cents"] for one in self.get(
            f"/events/report?format=rows&caregiver_ids={caregiver_id}").json)

    def test_100000_lines_with_their_length(self):
        body = self.many(100)
        self.assertGreater(len(body), 4 * 1024 * 1024)
        answer = self.load(body)
        self.assertEqual((answer.status, answer.json), (201, {"created": MANY}), answer)
        self.assertEqual(sum(map(self.report, (100, 101, 102))), MANY * 101)
        last = everything(self.service, "/events?caregiver_id=100&limit=1000")
        self.assertEqual(len(last), (MANY + 2) // 3)
        self.assertEqual([one["start_time"] for one in last],
                         sorted(one["start_time"] for one in last))
        self.assertCounted()

    def test_100000_lines_in_chunks_of_any_size(self):
        body, choose, at = self.many(200), random.Random(1), 0
        with self.service.connect() as connection:
            connection.send(f"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {LINES}\r\n"
                            "Transfer-Encoding: chunked\r\n\r\n".encode())
            while at < len(body):
                part = body[at:at + choose.choice((1, 17, 1000, 32768, 100000, 1000000))]
                connection.send(b"%x\r\n%s\r\n" % (len(part), part))
                at += len(part)
            connection.send(b"0\r\n\r\n")
            answer = connection.receive("POST")
        self.assertEqual((answer.status, answer.json), (201, {"created": MANY}), answer)
        self.assertEqual(sum(map(self.report, (200, 201, 202))), MANY * 101)
        self.assertCounted()

    def test_others_are_served_meanwhile(self):
        body = self.many(300)
        made, stop = [], []

        def others(i):
            if i == 0:
                answer = self.load(body)
                stop.append(True)
                return answer
            with Client(self.service) as client:
                while not stop:
                    self.assertEqual(client.ask(f"/events/types/{self.type_id}").status, 200)
                    answer = send(client, "POST", "/events", event(self.type_id, 310))
                    if answer.status == 201:
                        made.append(answer.json["id"])
                    else:  # it waited for 5 s; not done
                        self.assertProblem(answer, 503, "unavailable")
            return None

        self.assertEqual(at_once(3, others)[0].status, 201)
        self.assertEqual(len(everything(self.service, "/events?caregiver_id=310&limit=1000")),
                         len(made))
        self.assertCounted()

    def test_ends_of_lines_and_empty_lines_do_not_count(self):
        one = json.dumps(event(self.type_id, 400)).encode()
        for body, count in ((one, 1), (one + b"\n" + one, 2), (one + b"\r\n" + one + b"\r\n", 2),
                            (b"\n\n" + one + b"\n \t\n\r\n" + one + b"\n\n", 2),
                            (b"  " + one + b"  \n", 1)):
            with self.subTest(body):
                answer = self.load(body)
                self.assertEqual((answer.status, answer.json), (201, {"created": count}), answer)

    def test_no_lines_are_no_events(self):
        before = self.count()
        for body in (b"", b"\n", b"\n\n \r\n"):
            answer = self.load(body)
            self.assertIn((answer.status, answer.body), ((201, b'{"created":0}'),
                                                         (400, answer.body)))
        self.assertEqual(self.count(), before)

    def test_the_type_may_have_parameters_and_any_case(self):
        body = lines([event(self.type_id, 401)])
        for kind in ("application/x-ndjson", "application/x-ndjson; charset=utf-8",
                     "Application/X-NDJSON", "application/x-ndjson;charset=UTF-8"):
            answer = self.send("POST", "/events", body=body, kind=kind)
            self.assertEqual((answer.status, answer.json), (201, {"created": 1}), answer)

    def test_bad_lines_are_named_by_number_and_nothing_is_stored(self):
        good = json.dumps(event(self.type_id, 500))
        table = {
            "{": "#", "[]": "#", "x": "#", "null": "#", good + good: "#", good[:-1]: "#",
            good.replace("500", "0"): "#/caregiver_id",
            good.replace("500", '"1"'): "#/caregiver_id",
            good.replace("500", str(2**63)): "#/caregiver_id",
            json.dumps(event("1", 500)): "#/type_id", json.dumps(event(0, 500)): "#/type_id",
            json.dumps(event(999999, 500)): "#/type_id",
            json.dumps(event(self.type_id, 500, "2017-02-29T00:00:00Z")): "#/start_time",
            json.dumps({"type_id": self.type_id, "caregiver_id": 500}): "#/start_time",
            good[:-1] + ', "type_id": 1}': "#/type_id",
        }
        before = self.count()
        for bad, pointer in table.items():
            for number in (1, 7, 3000):
                with self.subTest(bad=bad, number=number):
                    text = "".join((number - 1) * [good + "\n"]) + bad + "\n" + 5 * (good + "\n")
                    problem = self.assertProblem(self.load(text.encode()), 400, "invalid-input")
                    self.assertEqual([one["pointer"] for one in problem["errors"]], [pointer])
                    self.assertTrue(problem["errors"][0]["detail"].startswith(f"line {number}: "),
                                    problem)
        self.assertEqual(self.count(), before)

    def test_bytes_that_are_no_text_are_a_bad_line(self):
        good = json.dumps(event(self.type_id, 500)).encode()
        for bad in (b"\xff", b"\0", good.replace(b"500", b"5\x0000"), b"\xef\xbb\xbf" + good,
                    good.replace(b"caregiver", b"caregiver\xff")):
            problem = self.assertProblem(self.load(good + b"\n" + bad + b"\n"), 400)
            self.assertTrue(problem["errors"][0]["detail"].startswith("line 2: "), problem)

    def test_of_many_bad_lines_the_first_ones_are_named(self):
        bad = b"".join(b"{}\n" if i % 2 else json.dumps(event(self.type_id)).encode() + b"\n"
                       for i in range(2000))
        problem = self.assertProblem(self.load(bad), 400, "invalid-input")
        numbers = [int(one["detail"].split(":")[0].removeprefix("line "))
                   for one in problem["errors"]]
        self.assertEqual(sorted(set(numbers)), list(range(2, 2 * len(set(numbers)) + 1, 2)))
        unknown = lines(event(999999 if i in (3, 500, 501) else self.type_id) for i in range(1000))
        problem = self.assertProblem(self.load(unknown), 400, "invalid-input")
        self.assertEqual([one["detail"].split(":")[0] for one in problem["errors"]],
                         ["line 4", "line 501", "line 502"])

    def test_a_line_over_64_kib_is_a_bad_one(self):
        good = json.dumps(event(self.type_id, 501)).encode()
        fine = json.dumps(event(self.type_id, 501, x=15 * [4000 * "y"])).encode()
        answer = self.load(good + b"\n" + fine + b"\n" + good)
        self.assertEqual((answer.status, answer.json), (201, {"created": 3}), answer)
        for size in (70000, 3000000):
            long = json.dumps(event(self.type_id, 501, x=(size // 4000) * [4000 * "y"])).encode()
            for body in (good + b"\n" + long + b"\n" + good + b"\n{}\n", good + b"\n" + long):
                problem = self.assertProblem(self.load(body), 400, "invalid-input")
                details = [one["detail"] for one in problem["errors"]]
                self.assertTrue(details[0].startswith("line 2: "), problem)
                self.assertTrue(all(one.startswith("line 4: ") for one in details[1:]), problem)

    def test_an_import_over_1_mib_goes_only_there(self):
        body = self.many(600, 30000)
        self.assertGreater(len(body), 1024 * 1024)
        for target in ("/events/types", "/events/1/reimburse", "/events/report", "/ping",
                       "/.import/events"):
            with self.subTest(target), self.service.connect() as connection:
                connection.send(f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                                f"{LINES}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
                answer = connection.receive("POST")
                self.assertIn(answer.status, (404, 413), answer)
                self.assertProblem(answer, answer.status)
        self.assertProblem(self.get("/.import/events"), 404, "not-found")

    def test_only_a_post_imports(self):
        body = lines([event(self.type_id)])
        for method in ("PUT", "DELETE", "PATCH"):
            answer = self.send(method, "/events", body=body, kind=LINES)
            self.assertProblem(answer, 405, "method-not-allowed")
        self.assertEqual(self.send("GET", "/events", body=body, kind=LINES).status, 200)


class BrokenClients(LedgerCase):
    def setUp(self):
        self.type_id = self.make_type(103)

    def head(self, length, kind=JSON):
        return (f"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n" +
                (f"Content-Length: {length}\r\n\r\n" if length is not None else
                 "Transfer-Encoding: chunked\r\n\r\n")).encode()

    def served(self):
        """Until all that came before is done with, as far as anyone can tell."""
        for _ in range(3):
            self.assertEqual(self.get("/healthz").status, 200)

    def test_a_client_that_leaves_in_the_middle_of_a_body_leaves_nothing(self):
        before = self.rows("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM audit)")
        one = json.dumps(event(self.type_id)).encode()
        many = lines(3000 * [event(self.type_id)])
        for body, kind in ((one, JSON), (many, LINES)):
            for share in (0, 1, len(body) // 2, len(body) - 2, len(body) - 1):
                for length in (len(body), None):
                    part = body[:share]
                    if length is None and part:  # a chunk that is whole, and no last one
                        part = b"%x\r\n%s\r\n" % (len(part), part)
                    for reset in (False, True):
                        with self.service.connect() as connection:
                            if reset:
                                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                                             b"\1\0\0\0\0\0\0\0")
                            connection.send(self.head(length, kind) + part)
        self.served()
        self.assertEqual(self.rows("SELECT (SELECT count(*) FROM events), "
                                   "(SELECT count(*) FROM audit)"), before)

    def test_a_client_that_leaves_after_sending_leaves_a_whole_event_or_none(self):
        count = 60
        for i in range(count):
            body = json.dumps(event(self.type_id, 1000 + i)).encode()
            with self.service.connect() as connection:
                connection.send(self.head(len(body)) + body)
                if i % 3:
                    time.sleep(0.001 * (i % 7))
        self.served()
        found = wait_for(lambda: everything(self.service, f"/events?type_id={self.type_id}"),
                         "some of them were registered")
        self.assertLessEqual(len(found), count)
        self.assertEqual(len({one["caregiver_id"] for one in found}), len(found))
        for one in found:
            self.assertEqual((one["amount_in_cents"], one["reimbursed"]), (103, False))
        self.assertCounted()
        harness.note(f"{len(found)} of {count} events of clients that did not wait are there")

    def test_an_import_whose_client_leaves_is_whole_or_none(self):
        size = 5000
        for i in range(6):
            body = lines(size * [event(self.type_id, 2000 + i)])
            with self.service.connect() as connection:
                connection.send(self.head(len(body), LINES) + body)
                time.sleep(0.01 * i)
        self.served()
        self.make_event(self.type_id, 2999)  # behind all that waits at the writer
        found = dict(self.rows("SELECT caregiver_id, count(*) FROM events WHERE caregiver_id "
                               "BETWEEN 2000 AND 2100 GROUP BY 1"))
        self.assertLessEqual(set(found.values()), {size})
        self.assertCounted()

    def test_a_retry_after_leaving_finds_what_was_done(self):
        for i in range(20):
            key = f"left-{self.type_id}-{i}"
            body = json.dumps(event(self.type_id, 3000 + i)).encode()
            with self.service.connect() as connection:
                connection.send(self.head(len(body)).replace(
                    b"\r\n\r\n", f"\r\nIdempotency-Key: {key}\r\n\r\n".encode()) + body)
            self.made("/events", None, body=body, Idempotency_Key=key)
        self.served()
        self.assertEqual(self.rows("SELECT caregiver_id, count(*) FROM events WHERE type_id = ? "
                                   "GROUP BY 1 HAVING count(*) <> 1", self.type_id), [])
        self.assertEqual(len(everything(self.service, f"/events?type_id={self.type_id}")), 20)


class Audit(LedgerCase):
    def test_each_change_leaves_a_row_that_says_who_and_when(self):
        type_id = self.make_type(100)
        self.set_price(type_id, 200, valid_from="2018-01-01T00:00:00Z")
        made = [self.make_event(type_id, 7, "2018-01-02T00:00:00Z") for _ in range(2)]
        paid = self.reimburse(made[0]["id"]).json
        self.send("DELETE", f"/events/{made[1]['id']}")
        self.made("/events", None, kind=LINES, body=lines(3 * [event(type_id)]))
        unused = self.make_type(5)
        self.send("DELETE", f"/events/types/{unused}")
        found = self.rows("SELECT name, what, subject, detail, at FROM audit"
                          " JOIN audit_actors ON id = actor ORDER BY seq")
        self.assertEqual([row[:3] for row in found], [("anonymous", *row) for row in (
            ("type created", type_id), ("type changed", type_id),
            ("event created", made[0]["id"]), ("event created", made[1]["id"]),
            ("event reimbursed", made[0]["id"]), ("event deleted", made[1]["id"]),
            *(("event created", made[1]["id"] + i) for i in (1, 2, 3)), ("type created", unused),
            ("type deleted", unused))])
        details = [json.loads(row[3]) if row[3] else {} for row in found]
        self.assertEqual(details[0]["amount_in_cents"], 100)
        self.assertEqual(details[1], {"amount_in_cents": 200,
                                      "valid_from_us": micros("2018-01-01T00:00:00")})
        self.assertEqual(details[5], {"type_id": type_id, "caregiver_id": 7,
                                      "start_time_us": micros("2018-01-02T00:00:00"),
                                      "amount_in_cents": 200})
        self.assertEqual(found[2][4], micros(made[0]["created_at"]))
        self.assertEqual(found[4][4], micros(paid["reimbursed_at"]))
        self.assertEqual([row[4] for row in found], sorted(row[4] for row in found))

    def test_what_was_refused_leaves_none(self):
        made = self.make_event(self.make_type())["id"]
        self.reimburse(made)
        before = self.rows("SELECT count(*) FROM audit")
        self.reimburse(made)
        self.send("DELETE", f"/events/{made}")
        self.send("POST", "/events", event(999999))
        self.send("POST", "/events", kind=LINES, body=lines([event(999999)]))
        self.send("DELETE", "/events/999999")
        self.assertEqual(self.rows("SELECT count(*) FROM audit"), before)

    def test_rows_are_neither_changed_nor_deleted(self):
        self.make_type()
        with database(self.data, "rw") as connection:
            for statement in ("UPDATE audit SET subject = 1", "DELETE FROM audit"):
                connection.execute("BEGIN IMMEDIATE")
                with self.assertRaisesRegex(Exception, "append-only"):
                    connection.execute(statement)
                with contextlib.suppress(Exception):
                    connection.execute("ROLLBACK")


if __name__ == "__main__":
    harness.main()
