"""Metrics: what each program has counted, as Prometheus reads it, and that nobody else says a word in it.

    CAREDESK_PROMTOOL  the checker of Prometheus; ./check says where it is
"""
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import harness
from harness import Case, PROGRAMS, at_once, insurers_config, wait_for
from upstreams import Insurer, Nobody, answer, by_member, say

PROMTOOL = (os.environ.get("CAREDESK_PROMTOOL") or shutil.which("promtool") or
            shutil.which(os.path.join(harness.SOURCE, "t/promtool/promtool")))
# As Prometheus 2.42 sends it.
ACCEPT = ("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
          "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
TYPE = "text/plain; version=0.0.4; charset=utf-8"
TARGETS = ("/metrics", *(f"/metrics/{name}" for name in PROGRAMS))
LABEL = r'([a-z]+)="((?:[^"\\]|\\[\\"n])*)"'
SAMPLE = re.compile(rf"([a-z_]+)\{{({LABEL}(?:,{LABEL})*)\}} (-?[0-9]+(?:\.[0-9]+)?)")
ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def parse(text):
    """Each sample, (name, labels) to its value; strictly, and each family once and in one piece."""
    samples, families, current = {}, {}, None
    assert text.endswith("\n"), text[-100:]
    lines = iter(text[:-1].split("\n"))
    for line in lines:
        if line.startswith("#"):
            current = re.fullmatch(r"# HELP ([a-z_]+) [^\\]+", line)[1]
            kind = re.fullmatch(rf"# TYPE {current} (counter|gauge|histogram)", next(lines))[1]
            assert current not in families, current
            families[current] = kind
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        suffix = match[1].removeprefix(current)
        assert suffix in (("_bucket", "_sum", "_count") if families[current] == "histogram"
                          else ("",)), line
        labels = frozenset((name, re.sub(r"\\.", lambda found: ESCAPES[found[0]], value))
                           for name, value in re.findall(LABEL, match[2]))
        assert (match[1], labels) not in samples, line
        samples[match[1], labels] = float(match[match.lastindex])
    return samples


class MetricsCase(Case):
    def read(self, target="/metrics"):
        reply = self.get(target, Accept=ACCEPT)
        self.assertEqual((reply.status, reply.field("Content-Type")), (200, TYPE), reply)
        return parse(reply.body.decode())

    def value(self, name, target="/metrics", **labels):
        """The sum of all samples of this name that have these labels."""
        return sum(value for (found, have), value in self.read(target).items()
                   if found == name and have >= set(labels.items()))

    def requests(self, program, **labels):
        return self.value("caredesk_http_requests_total", f"/metrics/{program}", program=program,
                          **labels)

    def await_more(self, before, look, more=1):
        """A request counts once its answer is on its way, so perhaps just after it has come."""
        wait_for(lambda: look() >= before + more, f"{more} more than {before}")
        self.assertEqual(look(), before + more)

    def post(self, target, value, **fields):
        return self.service.ask(target, "POST", {"Content-Type": "application/json", **fields},
                                json.dumps(value).encode())


class Requests(MetricsCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.post(cls, "/events/types", {"name": "a", "amount_in_cents": 1})

    def test_each_counts_under_its_template_method_and_status(self):
        for program, method, target, route, status in (
                ("audios", "GET", "/audios/4711", "/audios/{session_id}", 404),
                ("coalesce", "GET", "/api/coalescence/default?member_id=1",
                 "/api/coalescence/{method}", 200),
                ("coalesce", "GET", "/api/coalescence/nope?member_id=2",
                 "/api/coalescence/{method}", 400),
                ("coalesce", "DELETE", "/api/coalescence/default",
                 "/api/coalescence/{method}", 405),
                ("events", "GET", "/events/4711", "/events/{id}", 404),
                ("events", "HEAD", "/events/types/1", "/events/types/{id}", 200),
                ("events", "OPTIONS", "/events/1/reimburse", "/events/{id}/reimburse", 204),
                ("events", "POST", "/events", "/events", 400),
                ("report", "GET", "/events/report?format=nope", "/events/report", 400),
                ("stats", "GET", "/stats/?limit=1", "/stats", 200),
                ("health", "GET", "/healthz", "/healthz", 200)):
            with self.subTest(method=method, target=target):
                look = lambda: self.requests(program, route=route, method=method,
                                             status=str(status))
                timed = lambda: self.value("caredesk_http_request_duration_seconds_count",
                                           f"/metrics/{program}", route=route, method=method)
                before, timed_before = look(), timed()
                if method == "POST":
                    self.assertEqual(self.post(target, {}).status, status)
                else:
                    self.assertEqual(self.service.ask(target, method).status, status)
                self.await_more(before, look)
                self.await_more(timed_before, timed)

    def test_all_of_many_at_once_count(self):
        look = lambda: self.requests("events", route="/events/{id}", method="GET", status="404")
        before = look()

        def ask(_):
            with self.service.connect() as connection:
                for i in range(100):
                    connection.ask(f"/events/{1000 + i}")

        at_once(8, ask)
        self.await_more(before, look, 800)

    def test_nothing_that_a_client_says_becomes_a_label(self):
        before = self.requests("events", route="none", method="GET")
        for target in ("/events/hostile/x/y", "/events/1/hostile%22,x=%22y", "/events/types/1/hostile",
                       "/events/1/hostile%0Ax%20{}%201"):
            self.assertEqual(self.get(target).status, 404, target)
        for target in ("/events/hostile", "/events/%22%0Ahostile", "/events/hostile{id}",
                       "/events/types/hostile", "/events/hostile?a=hostile",
                       "/api/coalescence/hostile%22%7D", "/events/report?format=hostile",
                       "/events/%FFhostile", "/stats/hourly?path=hostile"):
            self.assertIn(self.get(target).status, (200, 400, 404), target)
        for method in ("HOSTILE", "hostile", 'GE"T'):
            self.service.raw(f"{method} /events/1 HTTP/1.1\r\nHost: localhost\r\n"
                             "Connection: close\r\n\r\n".encode())
        self.service.ask("/events/1", "HOSTILE", {"Accept": "hostile", "traceparent": "hostile",
                                                  "Idempotency-Key": "hostile"})
        self.await_more(before, lambda: self.requests("events", route="none", method="GET"), 5)
        self.assertGreaterEqual(self.requests("events", route="/events/{id}", method="other",
                                              status="405"), 1)
        body = self.get("/metrics").body.lower()
        self.assertNotIn(b"hostile", body)
        self.assertNotIn(b"%", body)
        known = {path for name in PROGRAMS for _, path in harness.routes(name)} | {"none"}
        methods = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}
        for (_, labels) in self.read():
            labels = dict(labels)
            self.assertIn(labels.get("route", "none"), known)
            self.assertIn(labels.get("method", "other"), methods)

    def test_histograms_are_cumulative_and_end_with_their_count(self):
        found = {}
        samples = self.read()
        for (name, labels), value in samples.items():
            if name.endswith("_bucket"):
                bound = float(dict(labels)["le"].replace("+Inf", "inf"))
                rest = frozenset(pair for pair in labels if pair[0] != "le")
                found.setdefault((name.removesuffix("_bucket"), rest), []).append((bound, value))
        self.assertGreater(len(found), 10)
        for (name, labels), buckets in found.items():
            bounds, values = zip(*buckets)
            self.assertEqual(list(bounds), sorted(set(bounds)))
            self.assertEqual(list(values), sorted(values))
            self.assertEqual(bounds[-1], float("inf"))
            self.assertEqual(values[-1], samples[f"{name}_count", labels])
            self.assertIn((f"{name}_sum", labels), samples)

    def test_each_program_tells_of_its_process(self):
        samples = self.read()
        for name in PROGRAMS:
            pid, own = self.service.pid(name), frozenset({("program", name)})
            with open(f"/proc/{pid}/status", encoding="utf-8") as file:
                resident = int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1]) * 1024
            self.assertAlmostEqual(samples["process_resident_memory_bytes", own], resident,
                                   delta=resident / 2)
            self.assertGreaterEqual(samples["caredesk_threads", own], 1)
            self.assertGreaterEqual(samples["process_open_fds", own], 5)
            self.assertLess(abs(time.time() - samples["process_start_time_seconds", own]), 600)
            self.assertGreater(samples["process_cpu_seconds_total", own], 0)

    def test_the_log_that_is_taken_in_is_told(self):
        look = lambda: self.value("caredesk_access_log_lines_total", "/metrics/stats")
        before = look()
        for _ in range(20):
            self.get("/api/counted")
        wait_for(lambda: look() >= before + 20, "the lines are taken in")
        wait_for(lambda: self.value("caredesk_access_log_lag_bytes") == 0, "nothing is left")

    def test_commits_and_their_changes_are_told(self):
        def committed():
            samples = self.read("/metrics/events")
            labels = frozenset({("program", "events"), ("database", "events")})
            return (samples["caredesk_commit_changes_sum", labels],
                    samples["caredesk_commit_changes_count", labels],
                    samples["caredesk_commit_duration_seconds_count", labels])

        def create(i):
            with self.service.connect() as connection:
                for _ in range(25):
                    reply = connection.ask(
                        "/events", "POST", {"Content-Type": "application/json"},
                        json.dumps({"type_id": 1, "caregiver_id": i + 1,
                                    "start_time": "2026-11-20T08:00:00Z"}).encode())
                    assert reply.status == 201, reply

        before = committed()
        at_once(16, create)
        # A change counts before its client has its answer.
        changes, transactions, timed = (now - then for now, then in zip(committed(), before))
        self.assertEqual(changes, 400)
        self.assertEqual(transactions, timed)
        self.assertLessEqual(1, transactions)
        self.assertLessEqual(transactions, 400)
        self.assertEqual(self.value("caredesk_commit_failures_total"), 0)
        # What changes nothing is no commit.
        before = committed()
        self.assertEqual(self.post("/events", {"type_id": 99, "caregiver_id": 1,
                                               "start_time": "2026-11-20T08:00:00Z"}).status, 400)
        self.assertEqual(committed(), before)

    def test_promtool_finds_nothing_to_say(self):
        if PROMTOOL is None:
            self.skipTest("there is no promtool")
        for target in TARGETS:
            done = subprocess.run([PROMTOOL, "check", "metrics"], input=self.get(target).body,
                                  capture_output=True, timeout=harness.LONG, check=False)
            with self.subTest(target):
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))


class Access(MetricsCase):
    def test_prometheus_is_answered_and_others_by_what_they_accept(self):
        for target in TARGETS:
            for accept in (ACCEPT, "text/plain", "text/plain;version=0.0.4", "text/*", "*/*"):
                self.assertEqual(self.get(target, Accept=accept).field("Content-Type"), TYPE)
            for accept in ("application/json", "application/openmetrics-text", "text/html",
                           "text/plain;q=0, */*"):
                self.assertProblem(self.get(target, Accept=accept), 406, "not-acceptable")

    def test_another_address_is_refused_in_the_form_of_every_problem(self):
        for target in (*TARGETS, "/metrics/", "//metrics//stats", "/%6detrics"):
            with self.subTest(target), self.from_elsewhere() as connection:
                problem = self.assertProblem(connection.ask(target), 403, "forbidden")
                self.assertIn("127.0.0.1", problem["detail"])
        with self.from_elsewhere() as connection:
            self.assertEqual(connection.ask("/ping").status, 200)
            self.assertEqual(connection.ask("/healthz").status, 200)
            self.assertProblem(connection.ask("/metrics/nope"), 404, "not-found")

    def from_elsewhere(self):
        """A connection that does not come from 127.0.0.1."""
        connection = self.service.connect()
        connection.close()
        connection.socket = socket.create_connection(
            ("127.0.0.1", self.service.port), harness.LONG, source_address=("127.0.0.2", 0))
        connection.file = connection.socket.makefile("rb")
        return connection


class Upstreams(MetricsCase):
    @classmethod
    def config(cls):
        cls.alpha = Insurer("alpha", by_member({"1": answer(3, 2, 1), "2": say("{}"),
                                                "3": say("no", "500 Oh"), "4": say("nonsense")}))
        cls.beta = Nobody("beta")
        cls.addClassCleanup(cls.alpha.close)
        cls.addClassCleanup(cls.beta.close)
        return insurers_config([cls.alpha, cls.beta], circuit_failures=3,
                               circuit_pause_ms=60000, max_age_s=0)

    def calls(self, upstream, outcome):
        return self.value("caredesk_upstream_calls_total", "/metrics/coalesce", program="coalesce",
                          upstream=upstream, outcome=outcome)

    def made(self, upstream):
        return self.value("caredesk_upstream_call_duration_seconds_count", "/metrics/coalesce",
                          program="coalesce", upstream=upstream)

    def test_each_call_counts_by_its_outcome(self):
        for member, outcome in (("1", "answered"), ("2", "unknown_member"), ("3", "wrong_status"),
                                ("4", "malformed"), ("1", "answered")):
            before, made = self.calls("alpha", outcome), self.made("alpha")
            self.get(f"/api/coalescence/default?member_id={member}")
            self.assertEqual(self.calls("alpha", outcome), before + 1, outcome)
            self.assertEqual(self.made("alpha"), made + 1)
        # Three failures have opened the circuit of the other one.
        self.assertEqual(self.calls("beta", "unreachable"), 3)
        self.assertEqual(self.calls("beta", "circuit_open"), 2)
        self.assertEqual(self.made("beta"), 3)


class Many(MetricsCase):
    """As many insurers as a configuration may well have."""

    @classmethod
    def config(cls):
        return {"coalesce": {"upstreams": [{"name": f"insurer-{i:04}", "url": "http://127.0.0.1:1/"}
                                           for i in range(1000)]}}

    def test_what_a_thousand_insurers_give_is_told(self):
        self.get("/api/coalescence/default?member_id=1")
        alone = self.get("/metrics/coalesce", Accept=ACCEPT)
        harness.note(f"{len(alone.body)} bytes")
        self.assertGreater(len(alone.body), 1024 * 1024)
        samples = self.read()
        self.assertEqual(samples["caredesk_up", frozenset({("program", "coalesce")})], 1)
        self.assertEqual(len({dict(labels)["upstream"] for name, labels in samples
                              if name == "caredesk_upstream_calls_total"}), 1000)


class Death(MetricsCase):
    def await_up(self, *away):
        """That exactly these are 0, and what was read then."""
        def look():
            samples = self.read()
            found = {name for name in PROGRAMS
                     if samples["caredesk_up", frozenset({("program", name)})] == 0}
            return samples if found == set(away) else None

        return wait_for(look, f"only {away} are away")

    def test_a_program_that_is_away_is_0_and_the_others_are_there(self):
        self.await_up()
        pid = self.service.pid("events")
        os.kill(pid, signal.SIGSTOP)
        try:
            told = {dict(labels)["program"] for name, labels in self.await_up("events")
                    if name.startswith("process_")}
            self.assertEqual(told, set(PROGRAMS) - {"events"})
        finally:
            os.kill(pid, signal.SIGCONT)
        self.await_up()

    def test_a_program_that_is_killed_comes_back_with_new_counts(self):
        self.await_up()
        for _ in range(5):
            self.get("/events/types")
        look = lambda: self.value("caredesk_http_requests_total", program="events",
                                  route="/events/types")
        start = lambda: self.value("process_start_time_seconds", program="events")
        wait_for(lambda: look() >= 5, "the requests count")
        before, started = self.requests("stats"), start()
        os.kill(self.service.pid("events"), signal.SIGKILL)
        wait_for(lambda: start() > started, "another process tells")
        self.await_up()
        self.assertEqual(look(), 0)
        self.assertGreater(self.requests("stats"), before)

    def test_what_answers_nonsense_is_0(self):
        """The socket of a program, taken over by somebody who speaks no FastCGI."""
        self.await_up()
        path = os.path.join(self.service.data, "run/report.sock")
        os.rename(path, path + ".away")
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
                os.chmod(path, 0o777)
                listener.listen()
                threading.Thread(target=self.babble, args=(listener,), daemon=True).start()
                os.kill(self.service.pid("report"), signal.SIGKILL)  # and nginx's connections end
                self.await_up("report")
        finally:
            os.rename(path + ".away", path)
        self.await_up()

    @staticmethod
    def babble(listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"# HELP a b\n# TYPE a gauge\na 1\n")


if __name__ == "__main__":
    harness.main()
