"""coalesce, asked through nginx, over insurers of every kind."""
import collections
import itertools
import json
import os
import shutil
import signal
import threading
import time
import urllib.parse

import harness
import upstreams
from harness import Case, at_once, insurers_config, note, wait_for
from upstreams import FIELDS, Insurer, Nobody, answer, by_member, head, raw, say, slow

BOUND = 5  # seconds: what nobody may wait longer than, where the deadline is half a second
DEADLINE_MS = 500
NEVER_OPEN = 1000  # failures in a row

_numbers = itertools.count(1000)


def fresh():
    """A member nobody has asked for yet, so that nothing of it is cached."""
    return f"m{next(_numbers)}"


def url(method="default", member_id=None, **more):
    query = {"member_id": fresh() if member_id is None else member_id, **more}
    return f"/api/coalescence/{method}?{urllib.parse.urlencode(query)}"


def values(*numbers):
    return dict(zip(FIELDS, numbers))


def outcomes(body):
    return {source["name"]: source["outcome"] for source in body["sources"]}


class CoalesceCase(Case):
    """With three insurers a, b and c, unless told otherwise."""

    names = "abc"
    settings = {}

    @classmethod
    def make(cls):
        cls.insurers = {name: Insurer(name) for name in cls.names}
        return list(cls.insurers.values())

    @classmethod
    def config(cls):
        made = cls.make()
        for insurer in made:
            cls.addClassCleanup(insurer.close)
        return insurers_config(made, **{"deadline_ms": DEADLINE_MS, "max_age_s": 0,
                                        "circuit_failures": NEVER_OPEN, **cls.settings})

    def behave(self, **behaviours):
        for name, insurer in self.insurers.items():
            insurer.behaviour = behaviours.get(name, answer(10000, 8000, 1000))

    def ask(self, *args, **more):
        return self.get(url(*args, **more))

    def assertValues(self, reply, *numbers):
        self.assertEqual(reply.status, 200, reply)
        self.assertCommon(reply)
        self.assertEqual(reply.field("Content-Type"), "application/json")
        self.assertEqual({name: reply.json[name] for name in FIELDS}, values(*numbers))


class Merging(CoalesceCase):
    settings = {"methods": [
        {"name": "middle", "oop_max": "median", "remaining_oop_max": "median", "copay": "median"},
        {"name": "first", "oop_max": "first", "remaining_oop_max": "first", "copay": "first"},
        {"name": "most", "oop_max": "majority", "remaining_oop_max": "majority",
         "copay": "majority"},
        {"name": "bounded", "oop_max": "max", "remaining_oop_max": "max",
         "remaining_oop_max_at_most": "oop_max", "copay": "avg",
         "copay_at_most": "remaining_oop_max"},
        {"name": "chain", "oop_max": "min", "remaining_oop_max": "max",
         "remaining_oop_max_at_most": "oop_max", "copay": "max",
         "copay_at_most": "remaining_oop_max"},
    ]}
    #        a                    b                    c                     method -> merged
    table = [
        ((10000, 9000, 10000), (20000, 9000, 50000), (10000, 8000, 10000), {
            "default": (20000, 9000, 9000), "max": (20000, 9000, 50000),
            "min": (10000, 8000, 10000), "avg": (13333, 8667, 23333),
            "middle": (10000, 9000, 10000), "first": (10000, 9000, 10000),
            "most": (10000, 9000, 10000), "bounded": (20000, 9000, 9000),
            "chain": (10000, 9000, 9000)}),
        ((1, 2, 3), (4, 1, 3), (3, 3, 1), {
            "default": (4, 3, 3), "avg": (3, 2, 2), "middle": (3, 2, 3), "first": (1, 2, 3),
            "most": (1, 2, 3), "chain": (1, 1, 1)}),
        ((0, 0, 0), (0, 0, 0), (0, 0, 0), {
            "default": (0, 0, 0), "avg": (0, 0, 0), "middle": (0, 0, 0), "most": (0, 0, 0)}),
        ((10**11, 10**11, 10**11), (10**11, 10**11, 10**11), (10**11, 10**11 - 1, 0), {
            "default": (10**11, 10**11, 10**11), "min": (10**11, 10**11 - 1, 0),
            "avg": (10**11, 10**11, 66666666667), "most": (10**11, 10**11, 10**11)}),
    ]

    def test_each_method_merges_each_field_by_its_rule(self):
        for a, b, c, merged in self.table:
            self.behave(a=answer(*a), b=answer(*b), c=answer(*c))
            for method, expected in merged.items():
                with self.subTest(method=method, a=a, b=b, c=c):
                    self.assertValues(self.ask(method), *expected)

    def test_exact_halves_go_to_the_even_neighbour(self):
        """Of two answers, the third insurer knowing nobody."""
        for a, b, expected in (((0, 1, 2), (1, 2, 3), (0, 2, 2)),
                               ((3, 4, 5), (4, 5, 6), (4, 4, 6)),
                               ((10**11, 10**11 - 1, 7), (10**11 - 1, 10**11 - 2, 8),
                                (10**11, 10**11 - 2, 8))):
            self.behave(a=answer(*a), b=answer(*b), c=say("{}"))
            for method in ("avg", "middle"):
                with self.subTest(method=method, a=a, b=b):
                    self.assertValues(self.ask(method), *expected)

    def test_one_answer_alone_is_the_merged_one(self):
        self.behave(a=say("{}"), b=answer(7, 5, 3), c=say("{}"))
        for method in ("default", "max", "min", "avg", "middle", "first", "most", "chain"):
            with self.subTest(method=method):
                self.assertValues(self.ask(method), 7, 5, 3)

    def test_a_plain_answer_holds_the_three_integers_and_no_more(self):
        self.behave()
        self.assertEqual(self.ask().json, values(10000, 8000, 1000))

    def test_explain_adds_sources_and_spread(self):
        self.behave(a=answer(10, 20, 30), b=say("{}"), c=answer(40, 15, 30))
        body = self.ask(explain="true").json
        self.assertEqual(set(body), {*FIELDS, "sources", "spread"})
        self.assertEqual(body["spread"], values(30, 5, 0))
        self.assertEqual([source["name"] for source in body["sources"]], ["a", "b", "c"])
        self.assertEqual(outcomes(body), {"a": "answered", "b": "unknown_member", "c": "answered"})
        self.assertEqual(body["sources"][0]["values"], values(10, 20, 30))
        self.assertNotIn("values", body["sources"][1])
        for source in body["sources"]:
            self.assertGreaterEqual(source["milliseconds"], 0)

    def test_explain_is_true_or_false(self):
        self.behave()
        self.assertNotIn("sources", self.ask(explain="false").json)
        problem = self.assertProblem(self.ask(explain="1"), 400, "invalid-input")
        self.assertEqual([field["pointer"] for field in problem["errors"]], ["explain"])


class Asking(CoalesceCase):
    """What is asked of the insurers, and what a question must be."""

    names = "ab"

    @classmethod
    def make(cls):
        cls.insurers = {"a": Insurer("a", path="/member?region=se&x=%20"),
                        "b": Insurer("b", path="/deep/er/")}
        return list(cls.insurers.values())

    def test_an_unknown_method_is_refused_before_a_missing_member_id(self):
        for target in ("/api/coalescence/nope", "/api/coalescence/nope?member_id=1",
                       "/api/coalescence/DEFAULT", "/api/coalescence/defaul",
                       "/api/coalescence/%64efaultx"):
            with self.subTest(target=target):
                problem = self.assertProblem(self.get(target), 400, "invalid-input")
                self.assertEqual([field["pointer"] for field in problem["errors"]], ["method"])

    def test_a_member_id_is_given_once_and_within_its_bounds(self):
        for query in ("", "?", "?member_id=", "?member_id", "?member_id=1&member_id=2",
                      "?member_id=" + 257 * "x", "?Member_id=1", "?member_id=" + 86 * "%E2%82%AC"):
            with self.subTest(query=query):
                before = self.insurers["a"].asked
                problem = self.assertProblem(self.get("/api/coalescence/default" + query), 400,
                                             "invalid-input")
                self.assertEqual([field["pointer"] for field in problem["errors"]], ["member_id"])
                self.assertEqual(self.insurers["a"].asked, before)

    def test_all_bad_parameters_are_named_at_once(self):
        reply = self.get("/api/coalescence/default?require=none&explain=maybe")
        problem = self.assertProblem(reply, 400, "invalid-input")
        self.assertEqual({field["pointer"] for field in problem["errors"]},
                         {"member_id", "require", "explain"})

    def test_a_member_id_reaches_the_insurer_as_given(self):
        for member in ("1", "a b", "a+b", "a&b=c", "a/b", "åäö", "100%", "%20", "?#", "\"'\\<>",
                       "€", "x" * 256, "\t", "😀", "../..", "m:1;2,3", "-._~"):
            with self.subTest(member=member):
                self.assertValues(self.ask(member_id=member), 10000, 8000, 1000)
                for insurer in self.insurers.values():
                    call = insurer.calls[-1]
                    self.assertEqual(call.member_id, member)
                    encoded = call.target.rpartition("member_id=")[2]
                    self.assertEqual(encoded, urllib.parse.quote(member, safe=""))

    def test_a_plus_in_the_query_is_a_space(self):
        self.get("/api/coalescence/default?member_id=a+b")
        self.assertEqual(self.insurers["a"].calls[-1].member_id, "a b")

    def test_the_insurers_own_path_and_query_are_kept(self):
        self.ask(member_id="7")
        self.assertEqual(self.insurers["a"].calls[-1].line,
                         "GET /member?region=se&x=%20&member_id=7 HTTP/1.1")
        self.assertEqual(self.insurers["b"].calls[-1].line,
                         "GET /deep/er/?member_id=7 HTTP/1.1")

    def test_nothing_else_of_the_client_reaches_the_insurer(self):
        self.get(url(), Cookie="secret=1", Authorization="Bearer secret", X_Other="secret",
                 User_Agent="secret")
        fields = self.insurers["a"].calls[-1].fields
        self.assertEqual(set(fields), {"host", "user-agent", "accept", "traceparent"})
        self.assertNotIn("secret", " ".join(fields.values()))
        self.assertEqual(fields["accept"], "application/json")

    def test_the_trace_of_the_client_reaches_the_insurers(self):
        trace = "0af7651916cd43dd8448eb211c80319c"
        for flags in ("00", "01"):
            self.get(url(), traceparent=f"00-{trace}-b7ad6b7169203331-{flags}")
            spans = set()
            for insurer in self.insurers.values():
                sent = insurer.calls[-1].field("traceparent")
                self.assertTrue(upstreams.is_traceparent(sent), sent)
                self.assertEqual(sent.split("-")[1], trace)
                self.assertEqual(sent.split("-")[3], flags)
                spans.add(sent.split("-")[2])
            self.assertNotIn("b7ad6b7169203331", spans)

    def test_a_request_without_a_trace_gets_one_that_its_log_line_has_too(self):
        self.ask()
        sent = self.insurers["a"].calls[-1].field("traceparent")
        self.assertTrue(upstreams.is_traceparent(sent), sent)
        wait_for(lambda: [line for line in self.service.events("request")
                          if line["trace_id"] == sent.split("-")[1]], "the log line")

    def test_connections_to_the_insurers_are_kept(self):
        before = self.insurers["a"].connections
        for _ in range(40):
            self.assertValues(self.ask(), 10000, 8000, 1000)
        # Each thread has one of its own.
        self.assertLess(self.insurers["a"].connections - before, 20)

    def test_require_is_any_or_all_or_a_number_of_insurers(self):
        for given in ("any", "all", "1", "2"):
            with self.subTest(given=given):
                self.assertValues(self.ask(require=given), 10000, 8000, 1000)
        for given in ("", "0", "3", "-1", "1.0", "+1", "ALL", "99999999999999999999", "1x", " 1"):
            with self.subTest(given=given):
                problem = self.assertProblem(self.ask(require=given), 400, "invalid-input")
                self.assertEqual([field["pointer"] for field in problem["errors"]], ["require"])


class Parallel(CoalesceCase):
    settings = {"deadline_ms": 20000}

    def test_all_insurers_are_asked_at_the_same_time(self):
        """They answer only once all three hold the question."""
        meeting = upstreams.meet(threading.Barrier(3), answer(3, 2, 1))
        self.behave(a=meeting, b=meeting, c=meeting)
        self.assertValues(self.ask(require="all"), 3, 2, 1)


GOOD = upstreams.body_of(10, 8, 1)
JSON = "Content-Type: application/json"


def with_field(text):
    """A body whose copay is TEXT."""
    return f'{{"oop_max": 10, "remaining_oop_max": 8, "copay": {text}}}'


# What counts as an answer, with the values 10, 8, 1.
ANSWERS = {
    "of a known length": say(GOOD),
    "in chunks": upstreams.chunked(10, 8, 1),
    "up to the close": upstreams.close_delimited(10, 8, 1),
    "of HTTP/1.0": upstreams.http_1_0(10, 8, 1),
    "after a 103": raw(head("103 Early Hints") + head("200 OK", "Content-Length: %d" % len(GOOD))
                       + GOOD),
    "of another type": say(GOOD, kind="text/html"),
    "with more members": say(b'{"x": {"y": [1, null, "\xc3\xa5"]}, ' + GOOD[1:]),
    "with spaces": say(b" \r\n\t" + GOOD + b"\n "),
    "with exact floats": say('{"oop_max": 10.0, "remaining_oop_max": 0.8e1, "copay": 1e0}'),
    "with escaped names": say('{"oop_m\\u0061x": 10, "remaining_oop_max": 8, "copay": 1}'),
    "after 200 ms": slow(0.2, say(GOOD)),
    "of 64 KiB": say(GOOD + b" " * (65536 - len(GOOD))),
}

# What says that it does not know the member.
UNKNOWNS = {
    "{}": say("{}"),
    "null": say("null"),
    "[]": say("[]"),
    "spaced": say(" {\n} "),
    "chunked": raw(head("200 OK", "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n", True),
    "404": say("", "404 Not Found"),
    "404 in HTML": say("<html>no</html>", "404 Not Found", "text/html"),
}

# What is a failure, and which.
FAILURES = {
    "reset": (upstreams.reset, "broken"),
    "closed": (raw(b""), "broken"),
    "reset after its head": (lambda call: call.send(head("200 OK", "Content-Length: 80")) or
                             upstreams.reset(call), "broken"),
    "hangs before its head": (upstreams.hang(), "timeout"),
    "hangs in its head": (upstreams.hang(b"HTTP/1.1 200 OK\r\nContent-"), "timeout"),
    "hangs in its body": (upstreams.hang(head("200 OK", "Content-Length: 80") + b'{"oop'),
                          "timeout"),
    "hangs in a chunk": (upstreams.hang(head("200 OK", "Transfer-Encoding: chunked") +
                                        b"50\r\n{"), "timeout"),
    "hangs after all of an endless body": (upstreams.hang(head("200 OK") + GOOD), "timeout"),
    "drips": (upstreams.drip(head("200 OK", "Content-Length: 52") + GOOD), "timeout"),
    "drips 100 Continue": (upstreams.drip(head("100 Continue") * 99, 0.01), "timeout"),
    "cut short": (raw(head("200 OK", JSON, "Content-Length: 80") + GOOD), "broken"),
    "cut in a chunk": (raw(head("200 OK", "Transfer-Encoding: chunked") + b"80\r\n" + GOOD),
                       "broken"),
    "without a last chunk": (raw(head("200 OK", "Transfer-Encoding: chunked") +
                                 upstreams.chunks(GOOD)[:-5]), "broken"),
    "a bad chunk size": (raw(head("200 OK", "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n"),
                         "broken"),
    "garbage": (raw(bytes(range(256)) * 8), "broken"),
    "another protocol": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "broken"),
    "HTTP/0.9": (raw(GOOD), "broken"),
    "no status": (raw(b"HTTP/1.1 \r\n\r\n" + GOOD), "broken"),
    "two lengths": (raw(head("200 OK", "Content-Length: 52", "Content-Length: 2") + GOOD), None),
    "a negative length": (raw(head("200 OK", "Content-Length: -1") + GOOD), "broken"),
    "endless head": (upstreams.flood(b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 8000 + b"\r\n", 400),
                     "broken"),
    "huge, by its length": (raw(head("200 OK", "Content-Length: 65537") + b" " * 65537),
                            "too_large"),
    "huge, by its 10^18": (raw(head("200 OK", f"Content-Length: {10**18}") + b" "), "too_large"),
    "huge, in chunks": (upstreams.flood(head("200 OK", "Transfer-Encoding: chunked"),
                                        b"1000\r\n" + b" " * 4096 + b"\r\n", 64), "too_large"),
    "huge, without an end": (upstreams.flood(head("200 OK"), b" " * 4096, 64), "too_large"),
    "500": (say(GOOD, "500 Internal Server Error"), "wrong_status"),
    "201": (say(GOOD, "201 Created"), "wrong_status"),
    "204": (raw(head("204 No Content"), True), "wrong_status"),
    "206": (say(GOOD, "206 Partial Content"), "wrong_status"),
    "304": (raw(head("304 Not Modified"), True), "wrong_status"),
    "401": (say("", "401 Unauthorized"), "wrong_status"),
    "403": (say("{}", "403 Forbidden"), "wrong_status"),
    "429": (say("{}", "429 Too Many Requests"), "wrong_status"),
    "410": (say("", "410 Gone"), "wrong_status"),
    "no body": (say(""), "malformed"),
    "spaces only": (say("   "), "malformed"),
    "HTML": (say("<html>10000</html>", kind="text/html"), "malformed"),
    "a string": (say('"10"'), "malformed"),
    "a number": (say("10"), "malformed"),
    "true": (say("true"), "malformed"),
    "nu ll": (say("nu ll"), "malformed"),
    "an array": (say(b"[" + GOOD + b"]"), "malformed"),
    "cut JSON": (say(GOOD[:-1]), "malformed"),
    "more behind": (say(GOOD + GOOD), "malformed"),
    "a NUL behind": (say(GOOD + b"\0"), "malformed"),
    "a byte order mark": (say(b"\xef\xbb\xbf" + GOOD), "malformed"),
    "single quotes": (say(GOOD.replace(b'"', b"'")), "malformed"),
    "a trailing comma": (say(GOOD[:-1] + b",}"), "malformed"),
    "not UTF-8": (say(GOOD[:-1] + b', "x": "\xff"}'), "malformed"),
    "UTF-16": (say(GOOD.decode().encode("utf-16")), "malformed"),
    "gzip": (raw(head("200 OK", "Content-Encoding: gzip", "Content-Length: 4") + b"\x1f\x8b\x08\0"),
             "malformed"),
    "deep": (say(GOOD[:-1] + b', "x": ' + b"[" * 5000 + b"]" * 5000 + b"}"), "malformed"),
    "a member twice": (say(GOOD[:-1] + b', "copay": 1}'), "malformed"),
    "a member missing": (say('{"oop_max": 10, "remaining_oop_max": 8}'), "malformed"),
    "another case": (say(GOOD.replace(b"copay", b"Copay")), "malformed"),
    **{f"a copay of {text}": (say(with_field(text)), "malformed")
       for text in ("null", '"1"', "true", "[]", "[1]", "{}", "1.5", "1e-1", "-1", "-0.5", "01",
                    "+1", "0x1", "NaN", "Infinity", "1e400", "100000000001", str(10**30),
                    str(-10**30), str(2**63), str(2**64 + 1), "1" + 400 * "0", "0." + 300 * "0")},
}


class Answers(CoalesceCase):
    """Insurer a answers 10, 8, 1; b in every way that there is."""

    names = "ab"

    def setUp(self):
        self.behave(a=answer(10, 8, 1))

    def ask_b(self, behaviour, **more):
        self.insurers["b"].behaviour = behaviour
        reply = self.ask(explain="true", **more)
        self.assertLess(reply.seconds, BOUND)
        return reply

    def test_an_answer_in_every_form_that_http_and_json_have(self):
        for name, behaviour in ANSWERS.items():
            with self.subTest(name):
                reply = self.ask_b(behaviour)
                self.assertValues(reply, 10, 8, 1)
                self.assertEqual(outcomes(reply.json), {"a": "answered", "b": "answered"})
                self.assertEqual(reply.json["sources"][1]["values"], values(10, 8, 1))

    def test_nothing_null_and_404_are_members_that_an_insurer_does_not_know(self):
        for name, behaviour in UNKNOWNS.items():
            with self.subTest(name):
                reply = self.ask_b(behaviour)
                self.assertValues(reply, 10, 8, 1)
                self.assertEqual(outcomes(reply.json)["b"], "unknown_member")

    def test_everything_else_is_a_failure_that_the_others_do_not_suffer_from(self):
        for name, (behaviour, outcome) in FAILURES.items():
            with self.subTest(name):
                reply = self.ask_b(behaviour)
                self.assertValues(reply, 10, 8, 1)
                self.assertEqual(reply.json["sources"][0]["outcome"], "answered")
                self.assertEqual(reply.json["spread"], values(0, 0, 0))
                got = outcomes(reply.json)["b"]
                self.assertEqual(got, outcome or got)
                self.assertNotIn(got, ("answered", "unknown_member"))

    def test_an_insurer_that_has_failed_in_any_way_answers_the_next_question(self):
        for name, (behaviour, outcome) in FAILURES.items():
            if outcome == "timeout":
                continue
            with self.subTest(name):
                self.ask_b(behaviour)
                self.assertEqual(outcomes(self.ask_b(answer(1, 2, 3)).json)["b"], "answered")

    def test_failures_are_counted_and_logged(self):
        def state():
            body = self.get("/healthz/coalesce").json
            return {one["name"]: one for one in body["upstreams"]}["b"]

        before = state()
        self.ask_b(say("x"))
        after = state()
        self.assertEqual(after["failures"], before["failures"] + 1)
        self.assertEqual(after["answers"], before["answers"])
        self.assertEqual(after["last_failure"], "malformed")
        self.assertEqual(after["circuit"], "closed")
        lines = wait_for(lambda: self.service.events("upstream_failed"), "the log line")
        self.assertTrue(lines[0]["detail"].startswith("b: "), lines)


UNKNOWN, FAILED, LATE, FINE = say("{}"), say("x", "500 Broken"), upstreams.hang(), answer(1, 1, 1)


class Shortage(CoalesceCase):
    """What is answered if there are too few answers."""

    def check(self, status, expected, **behaviours):
        more = behaviours.pop("more", {})
        self.behave(**behaviours)
        reply = self.ask(**more)
        names = {404: "not-found", 502: "upstream-failed", 504: "upstream-timeout"}
        problem = self.assertProblem(reply, status, names[status])
        self.assertLess(reply.seconds, BOUND)
        if status == 404:
            self.assertNotIn("sources", problem)
        else:
            self.assertEqual([source["name"] for source in problem["sources"]], list("abc"))
            self.assertEqual([source["outcome"] for source in problem["sources"]], expected)
        return problem

    def test_nobody_knows_the_member_is_404(self):
        self.check(404, None, a=say("{}"), b=say("[]"), c=say("", "404 Not Found"))
        self.check(404, None, a=say("null"), b=UNKNOWN, c=UNKNOWN,
                   more={"require": "all"})

    def test_all_failed_is_502(self):
        self.check(502, ["wrong_status", "broken", "malformed"], a=FAILED, b=raw(b""),
                   c=say("x"))

    def test_one_failed_and_nobody_else_knows_the_member_is_502(self):
        self.check(502, ["unknown_member", "wrong_status", "unknown_member"], a=UNKNOWN,
                   b=FAILED, c=UNKNOWN)

    def test_only_late_ones_failed_is_504(self):
        self.check(504, ["timeout", "timeout", "timeout"], a=LATE, b=LATE, c=LATE)
        self.check(504, ["unknown_member", "timeout", "unknown_member"], a=UNKNOWN,
                   b=LATE, c=UNKNOWN)

    def test_late_ones_beside_broken_ones_are_502(self):
        self.check(502, ["timeout", "wrong_status", "unknown_member"], a=LATE, b=FAILED,
                   c=UNKNOWN)

    def test_fewer_answers_than_required_are_502_or_504(self):
        everyone, two = {"require": "all"}, {"require": "2"}
        self.check(502, ["answered", "answered", "wrong_status"], a=FINE, b=FINE,
                   c=FAILED, more=everyone)
        self.check(504, ["answered", "answered", "timeout"], a=FINE, b=FINE,
                   c=LATE, more=everyone)
        self.check(502, ["answered", "wrong_status", "unknown_member"], a=FINE,
                   b=FAILED, c=UNKNOWN, more=two)
        self.check(502, ["answered", "unknown_member", "unknown_member"], a=FINE,
                   b=UNKNOWN, c=UNKNOWN, more=two)

    def test_as_many_answers_as_required_are_enough(self):
        self.behave(a=FINE, b=FAILED, c=FINE)
        self.assertValues(self.ask(require="2"), 1, 1, 1)
        self.assertValues(self.ask(require="any"), 1, 1, 1)

    def test_the_problem_tells_the_values_of_those_that_answered(self):
        problem = self.check(502, ["answered", "wrong_status", "wrong_status"], a=FINE,
                             b=FAILED, c=FAILED, more={"require": "3"})
        self.assertEqual(problem["sources"][0]["values"], values(1, 1, 1))


class Addresses(CoalesceCase):
    """Where insurers are: nowhere, behind TLS, elsewhere."""

    settings = {"deadline_ms": 10 * DEADLINE_MS}

    @classmethod
    def make(cls):
        folder = harness.folder()
        cls.addClassCleanup(shutil.rmtree, folder)
        alone, both = upstreams.make_certificate(folder)
        cls.target = Insurer("target", answer(99, 99, 99))
        cls.addClassCleanup(cls.target.close)
        named = Insurer("named", answer(5, 5, 5), host="localhost", private_network=True)
        cls.insurers = {
            "trusted": Insurer("trusted", answer(5, 4, 3), certificate=both, ca_file=alone),
            "untrusted": Insurer("untrusted", answer(5, 4, 3), certificate=both),
            "elsewhere": Insurer("elsewhere", raw(
                head("301 Moved", f"Location: http://127.0.0.1:{cls.target.port}/",
                     "Content-Length: 0"), True)),
            "plain": Insurer("plain", answer(5, 4, 3)),
        }
        nobody = Nobody("nobody")
        tls_to_plain = Nobody("tls-to-plain")
        tls_to_plain.config["url"] = f"https://127.0.0.1:{cls.insurers['plain'].port}/"
        return [*cls.insurers.values(), nobody, tls_to_plain, named]

    def test_each_is_asked_as_its_address_says(self):
        expected = {
            "trusted": "answered", "untrusted": "unreachable", "elsewhere": "wrong_status",
            "plain": "answered", "nobody": "unreachable", "tls-to-plain": "unreachable",
            "named": "answered"}
        self.assertEqual(outcomes(self.ask(explain="true").json), expected)

    def test_an_insurer_whose_certificate_is_not_trusted_is_never_asked(self):
        self.ask()
        self.assertEqual(self.insurers["untrusted"].asked, 0)
        self.assertGreater(self.insurers["trusted"].asked, 0)


class Redirects(CoalesceCase):
    """One that is elsewhere, and where it says it is."""

    names = "a"

    @classmethod
    def make(cls):
        cls.target = Insurer("target", answer(99, 99, 99))
        cls.addClassCleanup(cls.target.close)
        return super().make()

    def test_redirects_are_not_followed(self):
        for status in ("301 Moved", "302 Found", "303 Other", "307 Temporary", "308 Permanent"):
            for place in (f"http://127.0.0.1:{self.target.port}/", "//127.0.0.1/", "file:///etc",
                          "http://[::1]/"):
                self.insurers["a"].behaviour = raw(
                    head(status, f"Location: {place}", "Content-Length: 0"), True)
                with self.subTest(status=status, place=place):
                    self.assertEqual(outcomes(self.ask(explain="true").json),
                                     {"a": "wrong_status"})
        self.assertEqual(self.target.connections, 0)


class Deadline(CoalesceCase):
    """Two that never come to an end, one that does."""

    settings = {"deadline_ms": DEADLINE_MS}

    def setUp(self):
        self.behave(a=upstreams.hang(), b=upstreams.drip(head("200 OK") + GOOD),
                    c=answer(4, 3, 2))

    def test_nobody_waits_longer_than_the_deadline(self):
        reply = self.ask(explain="true")
        self.assertValues(reply, 4, 3, 2)
        self.assertEqual(outcomes(reply.json), {"a": "timeout", "b": "timeout", "c": "answered"})
        self.assertLess(reply.seconds, BOUND)

    def test_many_clients_at_once_all_get_the_answers_that_are_there(self):
        replies = at_once(64, lambda i: self.ask(explain="true"))
        for reply in replies:
            self.assertValues(reply, 4, 3, 2)
            self.assertEqual(outcomes(reply.json)["c"], "answered")
        slowest = max(reply.seconds for reply in replies)
        note(f"the slowest of 64 took {slowest:.2f} s; the deadline is {DEADLINE_MS} ms")
        self.assertLess(slowest, BOUND)

    def test_other_paths_are_answered_while_all_threads_wait_for_insurers(self):
        waiting = threading.Thread(target=at_once, args=(64, lambda i: self.ask()))
        waiting.start()
        worst = 0
        while waiting.is_alive():
            reply = self.get("/healthz/coalesce")
            self.assertEqual(reply.status, 200, reply)
            worst = max(worst, reply.seconds)
        self.assertLess(worst, BOUND)


class Bound(CoalesceCase):
    """No more than two questions at once reach an insurer that hangs."""

    @classmethod
    def make(cls):
        cls.insurers = {"a": Insurer("a", max_in_flight=2), "b": Insurer("b")}
        return list(cls.insurers.values())

    def test_an_insurer_is_never_asked_more_at_once_than_its_bound(self):
        self.behave(a=upstreams.hang(), b=answer(6, 5, 4))
        replies = at_once(12, lambda i: self.ask(explain="true"))
        counted = collections.Counter(outcomes(reply.json)["a"] for reply in replies)
        for reply in replies:
            self.assertValues(reply, 6, 5, 4)
        self.assertEqual(set(counted), {"timeout", "overloaded"})
        self.assertEqual(counted["timeout"], self.insurers["a"].asked)
        self.behave()
        self.assertEqual(outcomes(self.ask(explain="true").json)["a"], "answered")


class CircuitCase(CoalesceCase):
    names = "ab"

    def circuit(self, name="a"):
        """As health tells it."""
        reply = self.get("/healthz/coalesce")
        return {one["name"]: one["circuit"] for one in reply.json["upstreams"]}[name]

    def open_circuit(self, behaviour=say("x", "500 Broken")):
        self.behave(a=behaviour)
        return wait_for(lambda: self.ask() and self.circuit() == "open", "the circuit is open")


class CircuitOpen(CircuitCase):
    settings = {"circuit_failures": 3, "circuit_pause_ms": 3600000}

    def test_an_insurer_that_keeps_failing_is_no_longer_asked(self):
        self.behave(a=say("x", "500 Broken"), b=answer(3, 2, 1))
        seen = [outcomes(self.ask(explain="true").json)["a"] for _ in range(8)]
        self.assertEqual(seen, 3 * ["wrong_status"] + 5 * ["circuit_open"])
        self.assertEqual(self.insurers["a"].asked, 3)

    def test_health_and_log_tell_of_an_open_circuit(self):
        self.open_circuit()
        reply = self.get("/healthz/coalesce")
        self.assertEqual(reply.status, 200, reply)
        self.assertEqual(reply.json["status"], "degraded")
        self.assertEqual(reply.json["upstreams"][0]["last_failure"], "wrong_status")
        self.assertEqual(self.get("/healthz").json["status"], "degraded")
        lines = wait_for(lambda: self.service.events("circuit_opened"), "the log line")
        self.assertEqual(len(lines), 1)
        self.assertTrue(lines[0]["detail"].startswith("a: 3 failures in a row"), lines)

    def test_with_every_circuit_open_the_answer_is_quick_and_health_is_503(self):
        self.open_circuit()
        self.insurers["b"].behaviour = say("x", "500 Broken")
        wait_for(lambda: self.ask() and self.circuit("b") == "open", "the circuit of b")
        problem = self.assertProblem(self.ask(), 502, "upstream-failed")
        self.assertEqual(outcomes(problem), {"a": "circuit_open", "b": "circuit_open"})
        problem = self.assertProblem(self.get("/healthz/coalesce"), 503, "unavailable")
        self.assertEqual([one["circuit"] for one in problem["upstreams"]], ["open", "open"])
        problem = self.assertProblem(self.get("/healthz"), 503, "unavailable")
        self.assertIn({"name": "coalesce", "status": "unavailable"}, problem["programs"])


class CircuitOpenLate(CircuitCase):
    names = "a"
    settings = {"circuit_failures": 2, "circuit_pause_ms": 3600000, "deadline_ms": 200}

    def test_a_circuit_opened_by_lateness_is_504(self):
        self.open_circuit(upstreams.hang())
        problem = self.assertProblem(self.ask(), 504, "upstream-timeout")
        self.assertEqual(outcomes(problem), {"a": "circuit_open"})


class CircuitCloses(CircuitCase):
    settings = {"circuit_failures": 2, "circuit_pause_ms": 100}

    def test_it_is_tried_again_and_closes_by_itself(self):
        self.open_circuit()
        self.behave()
        wait_for(lambda: outcomes(self.ask(explain="true").json)["a"] == "answered",
                 "a is asked again")
        self.assertEqual(self.circuit(), "closed")
        self.assertEqual(self.get("/healthz/coalesce").json["status"], "ok")
        wait_for(lambda: self.service.events("circuit_closed"), "the log line")

    def test_only_one_question_tries_it(self):
        self.open_circuit()
        self.behave(a=upstreams.hang())
        before = self.insurers["a"].asked
        seen = []

        def look(_):
            self.ask()
            seen.append(self.circuit())

        wait_for(lambda: self.ask() and self.insurers["a"].asked > before, "the first trial")
        tried = self.insurers["a"].asked
        began = time.monotonic()
        at_once(16, look)
        trials = self.insurers["a"].asked - tried
        # Each lasts to the deadline, and a longer pause follows.
        self.assertLessEqual(trials, 1 + (time.monotonic() - began) * 1000 / DEADLINE_MS)
        self.assertTrue(set(seen) <= {"open", "half_open"}, seen)

    def test_a_trial_under_way_is_half_open(self):
        self.open_circuit()
        self.behave(a=upstreams.hang())

        def half_open_seen():
            client = threading.Thread(target=self.ask)
            client.start()
            seen = set()
            while client.is_alive():
                seen.add(self.circuit())
            return "half_open" in seen

        wait_for(half_open_seen, "half_open")


class Caching(CoalesceCase):
    """Answers are kept for two seconds, and for two more while a new one is fetched."""

    names = "ab"
    settings = {"max_age_s": 2, "deadline_ms": 10000}

    def asked(self, member):
        return [insurer.members().count(member) for insurer in self.insurers.values()]

    def setUp(self):
        self.behave()

    def test_the_second_request_is_a_hit(self):
        member = fresh()
        first, second = self.ask(member_id=member), self.ask(member_id=member)
        self.assertValues(first, 10000, 8000, 1000)
        self.assertEqual(first.field("Cache-Status"), "caredesk; fwd=uri-miss")
        self.assertRegex(first.field("Cache-Control"), r"^max-age=2\b")
        self.assertEqual(second.field("Cache-Status"), "caredesk; hit")
        self.assertEqual(second.body, first.body)
        self.assertEqual(second.field("Date"), first.field("Date"))
        self.assertEqual(self.asked(member), [1, 1])

    def test_a_hit_is_logged_as_one(self):
        member = fresh()
        self.ask(member_id=member)
        trace = "1af7651916cd43dd8448eb211c80319c"
        self.get(url(member_id=member), traceparent=f"00-{trace}-b7ad6b7169203331-01")
        line = wait_for(lambda: [line for line in self.service.access_log
                                 if line["trace_id"] == trace], "the line")[0]
        self.assertEqual(line["cache"], "HIT")

    def test_each_method_member_and_parameter_has_an_answer_of_its_own(self):
        member = fresh()
        self.behave(a=answer(10, 8, 6), b=answer(20, 2, 1))
        targets = {url("max", member): (20, 8, 6), url("min", member): (10, 2, 1),
                   url("avg", member): (15, 5, 4), url("max", member, explain="true"): (20, 8, 6)}
        for _ in range(2):
            for target, expected in targets.items():
                self.assertValues(self.get(target), *expected)
        self.assertEqual(self.asked(member), [len(targets)] * 2)

    def test_failures_are_never_kept(self):
        for behaviours, status in (({"a": say("x"), "b": say("x")}, 502),
                                   ({"a": say("{}"), "b": say("{}")}, 404)):
            member = fresh()
            self.behave(**behaviours)
            for _ in range(2):
                self.assertProblem(self.ask(member_id=member), status)
            self.assertEqual(self.asked(member), [2, 2])
            self.behave()
            self.assertValues(self.ask(member_id=member), 10000, 8000, 1000)

    def test_bad_requests_are_never_kept(self):
        for target in ("/api/coalescence/default", "/api/coalescence/nope?member_id=1"):
            for _ in range(2):
                reply = self.get(target)
                self.assertProblem(reply, 400)
                self.assertEqual(reply.field("Cache-Status"), "caredesk; fwd=uri-miss")

    def test_an_answer_that_lacks_an_insurer_is_never_kept(self):
        member = fresh()
        self.behave(b=say("x"))
        for _ in range(2):
            reply = self.ask(member_id=member)
            self.assertValues(reply, 10000, 8000, 1000)
            self.assertEqual(reply.field("Cache-Control"), "no-store")
        self.assertEqual(self.asked(member), [2, 2])

    def test_an_answer_without_an_insurer_that_does_not_know_the_member_is_kept(self):
        member = fresh()
        self.behave(b=say("{}"))
        for _ in range(2):
            self.assertValues(self.ask(member_id=member), 10000, 8000, 1000)
        self.assertEqual(self.asked(member), [1, 1])

    def test_clients_that_come_together_share_one_question(self):
        member, clients = fresh(), 64
        self.behave(a=slow(0.1, answer(1, 1, 1)), b=answer(1, 1, 1))
        for reply in at_once(clients, lambda i: self.ask(member_id=member)):
            self.assertValues(reply, 1, 1, 1)
        note(f"{clients} clients: asked {self.asked(member)} times")
        self.assertLess(max(self.asked(member)), clients / 8)

    def test_a_stale_answer_is_given_while_one_request_fetches_the_next(self):
        member = fresh()
        self.ask(member_id=member)
        release = threading.Event()

        def held(call):
            release.wait(harness.LONG)
            return answer(2, 2, 2)(call)

        self.behave(a=by_member({member: held}), b=by_member({member: answer(2, 2, 2)}))
        wait_for(lambda: self.ask(member_id=member) and self.asked(member)[0] == 2, "the refresh")
        replies = at_once(16, lambda i: self.ask(member_id=member))
        release.set()
        for reply in replies:
            self.assertValues(reply, 10000, 8000, 1000)
            self.assertRegex(reply.field("Cache-Status"), "^caredesk; hit; detail=")
        wait_for(lambda: self.ask(member_id=member).json["copay"] == 2, "the new answer")
        self.assertEqual(self.asked(member), [2, 2])

    def test_get_and_head_have_their_own_bodies_in_any_order(self):
        for order in (("HEAD", "GET", "HEAD", "GET"), ("GET", "HEAD", "GET", "HEAD")):
            target = url()
            for method in order:
                with self.subTest(order=order, method=method):
                    reply = self.service.ask(target, method)
                    self.assertEqual(reply.status, 200)
                    expected = json.dumps(values(10000, 8000, 1000), separators=(",", ":"))
                    self.assertEqual(reply.field("Content-Length"), str(len(expected)))
                    self.assertEqual(reply.body.decode(), expected if method == "GET" else "")

    def test_whoever_does_not_accept_json_gets_406_also_if_json_is_kept(self):
        refused = ("text/html", "application/json;q=0", "application/json; q=0.0",
                   "application/jsonp", "application/json-patch+json", "x/application/json",
                   "image/*", "text/*/*", "application/json;q=0, text/html")
        admitted = ("", "*/*", "application/*", "application/json", "APPLICATION/JSON",
                    "text/html, */*;q=0.1", "text/html,application/json;q=0.9",
                    "application/json; charset=utf-8", "text/html;q=0, application/json")
        for kept in (True, False):
            for accept in refused + admitted:
                with self.subTest(accept=accept, kept=kept):
                    target = url()
                    if kept:
                        self.get(target)
                    reply = self.get(target, Accept=accept)
                    if accept in refused:
                        self.assertProblem(reply, 406, "not-acceptable")
                    else:
                        self.assertValues(reply, 10000, 8000, 1000)

    def test_conditions_and_ranges_do_not_harm_what_is_kept(self):
        target = url()
        for fields in ({"Range": "bytes=0-3"}, {"If_None_Match": "*"}, {},
                       {"If_Modified_Since": "Mon, 01 Jan 2035 00:00:00 GMT"}, {}):
            reply = self.get(target, **fields)
            self.assertIn(reply.status, (200, 206, 304), reply)
            if not fields:
                self.assertValues(reply, 10000, 8000, 1000)

    def test_post_is_refused_whatever_is_kept(self):
        target = url()
        self.get(target)
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            self.assertProblem(self.service.ask(target, method), 405, "method-not-allowed")


class NotCaching(CoalesceCase):
    names = "a"
    settings = {"max_age_s": 0}

    def test_a_max_age_of_0_never_caches(self):
        self.behave()
        member = fresh()
        for i in range(3):
            reply = self.ask(member_id=member)
            self.assertValues(reply, 10000, 8000, 1000)
            self.assertEqual(reply.field("Cache-Control"), "no-store")
            self.assertNotIn("hit", reply.field("Cache-Status") or "")
            self.assertEqual(self.insurers["a"].asked, i + 1)


class Crowd(CoalesceCase):
    """More insurers than fit on a page, of which some are of no use."""

    @classmethod
    def make(cls):
        cls.insurers = {f"i{n}": Insurer(f"i{n}", answer(n, n, n)) for n in range(40)}
        return list(cls.insurers.values()) + [Nobody("nobody")]

    def test_forty_insurers_are_merged_and_explained(self):
        reply = self.ask("avg", explain="true")
        self.assertValues(reply, 20, 20, 20)  # 19.5
        self.assertEqual(len(reply.json["sources"]), 41)
        self.assertEqual(reply.json["spread"], values(39, 39, 39))


class Privacy(CoalesceCase):
    """A member id is personal data: it stands in no log, whatever goes wrong."""

    names = "ab"
    settings = {"circuit_failures": 3, "circuit_pause_ms": 50, "deadline_ms": 100}
    marker = "Marked4711"

    def assert_unmarked(self):
        found = []
        for where, _, files in os.walk(os.path.join(self.service.data, "log")):
            for name in files:
                with open(os.path.join(where, name), "rb") as file:
                    if self.marker.encode() in file.read():
                        found.append(name)
        self.assertEqual(found, [])
        self.assertEqual([line for line in list(self.service.lines + self.service.output)
                          if self.marker in line], [])

    def test_no_log_holds_a_member_id_after_answers_and_failures(self):
        for behaviour in (answer(1, 1, 1), say("{}"), say(self.marker), upstreams.hang(),
                          raw(f"{self.marker}\r\n".encode()), upstreams.reset,
                          say(self.marker, f"500 {self.marker}"),
                          raw(head("302 x", f"Location: http://127.0.0.1/?{self.marker}"))):
            self.behave(a=behaviour, b=behaviour)
            for _ in range(4):
                self.ask(member_id=f"{self.marker} \n{self.marker}")
        trace = os.urandom(16).hex()
        for target in (f"/api/coalescence/nope?member_id={self.marker}",
                       f"/api/coalescence/default?member_id={self.marker}&member_id=1",
                       f"/api/coalescence/default?x={self.marker}",
                       f"/ping?member_id={self.marker}", f"/nope?member_id={self.marker}"):
            self.get(target, traceparent=f"00-{trace}-b7ad6b7169203331-01")
        wait_for(lambda: len([line for line in self.service.access_log
                              if line["trace_id"] == trace]) == 5, "their lines")
        self.assert_unmarked()

    def test_nor_does_what_nginx_says_of_requests_it_cannot_pass_on(self):
        """nginx quotes the whole request, and the page it came from, in its errors."""
        socket_file = os.path.join(self.service.data, "run/coalesce.sock")
        os.rename(socket_file, socket_file + ".away")
        os.kill(self.service.pid("coalesce"), signal.SIGKILL)  # and with it nginx's connections
        for target in (f"/api/coalescence/default?member_id={self.marker}",
                       f'/api/coalescence/default?member_id="{self.marker}',
                       f'/api/coalescence/default?x="HTTP/1.1",&member_id={self.marker}',
                       f"/api/coalescence/default?x=?&member_id={self.marker}",
                       f"/api/coalescence/default?x={1000 * 'y'}&member_id={self.marker}",
                       "/api/coalescence/default?" + 300 * f"{self.marker}&",
                       f"/api/coalescence/default?{1700 * '%22'}{self.marker}"):
            for referer in ("http://x/", f"http://x/?member_id={self.marker}",
                            f'http://x/"?a="{self.marker}'):
                before = len(self.service.events("nginx"))
                reply = self.get(target, Referer=referer)
                problem = self.assertProblem(reply, 502, "upstream-failed")
                self.assertNotIn("sources", problem)
                wait_for(lambda: len(self.service.events("nginx")) > before, "nginx's line")
        os.rename(socket_file + ".away", socket_file)
        self.service.ask(f"/ping?{self.marker}", "POST", {"Content-Length": "9999999"})
        self.assert_unmarked()


if __name__ == "__main__":
    harness.main()
