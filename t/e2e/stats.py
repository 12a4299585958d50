"""Statistics: each request that nginx has logged counts once, whatever dies or is renamed meanwhile.

    CAREDESK_STATS_ROUNDS  of killing and rotating
"""
import collections
import csv
import faulthandler
import glob
import io
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
from harness import Case, note, wait_for

ROUNDS = int(os.environ.get("CAREDESK_STATS_ROUNDS", 25))
HOUR = "2026-11-21T04"


def normal(logged):
    """The path under which a logged one counts, as bytes."""
    return re.sub(b"/+", b"/", urllib.parse.unquote_to_bytes(logged))


def log_line(path, *, at=f"{HOUR}:18:58+00:00", status=200, method="GET", seconds="0.004"):
    return (f'{{"time":"{at}","trace_id":"{random.getrandbits(128):032x}","method":"{method}",'
            f'"path":"{path}","status":{status},"bytes":17,"seconds":{seconds},"cache":""}}\n')


class StatsCase(Case):
    def log(self, name="access.log"):
        return os.path.join(self.service.data, "log", name)

    def lines(self):
        """Those of all files of the log."""
        for name in sorted(glob.glob(self.log("access.log*"))):
            with open(name, "rb") as file:
                for line in file.read().split(b"\n")[:-1]:
                    yield line

    def logged(self):
        """What all whole lines of the log add up to, read without any code of ours."""
        found = collections.Counter()
        for line in self.lines():
            try:
                hit = json.loads(line.decode("utf-8", "surrogateescape"))
                path = hit["path"]
            except (ValueError, KeyError, TypeError):
                continue
            if hit["status"] > 999:
                continue
            found[normal(path.encode("utf-8", "surrogateescape"))] += 1
        return found

    def stored(self):
        """What is stored, by path."""
        file = os.path.join(self.service.data, "db/stats.db")
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        try:
            return {bytes(path): count
                    for path, count in connection.execute("SELECT path, count FROM paths")}, \
                connection.execute("SELECT total, (SELECT sum(count) FROM paths),"
                                   " (SELECT sum(count) FROM hours),"
                                   " (SELECT sum(lines - damaged) FROM logs) FROM state").fetchone()
        finally:
            connection.close()

    def list(self, query=""):
        answer = self.get(f"/stats/{query}")
        self.assertEqual(answer.status, 200, answer)
        return answer.json

    def count(self, path):
        return {row["path"]: row["count"] for row in self.list()}.get(path, 0)

    def assertExact(self):
        """Once all is taken in, it is what the log says, and adds up in every way."""
        def compare():
            expected = self.logged()
            found, totals = self.stored()
            return expected == found and len(set(totals)) == 1 and totals[0] == sum(found.values())

        try:
            wait_for(compare, "the counts are those of the log")
        except AssertionError:
            expected, (found, totals) = self.logged(), self.stored()
            wrong = [(path, expected.get(path), found.get(path))
                     for path in set(expected) | set(found) if expected.get(path) != found.get(path)]
            raise AssertionError(f"{wrong[:10]} of {len(wrong)}; {totals}") from None


class Counting(StatsCase):
    def test_the_simulated_api_answers_any_path(self):
        for path in ("/api/one", "/api/one/", "/api/a/b/c/d/e/f", "/api/x?y=z", "/api/%61"):
            answer = self.get(path)
            self.assertEqual((answer.status, answer.json), (200, {"message": "ok"}), path)
            self.assertCommon(answer)
        self.assertProblem(self.get("/api/"), 404)
        self.assertProblem(self.get("/api"), 404)
        self.assertEqual(self.service.ask("/api/x", "HEAD").status, 200)
        self.assertEqual(self.service.ask("/api/x", "OPTIONS").status, 204)
        self.assertProblem(self.service.ask("/api/x", "DELETE"), 405)

    def test_a_request_that_was_answered_is_in_it(self):
        with self.service.connect() as connection:
            for i in range(100):
                path = f"/api/answered/{i % 7}"
                self.assertEqual(connection.ask(path).status, 200)
                self.assertEqual(self.count(path), i // 7 + 1)

    def test_queries_are_ignored_and_slashes_merged(self):
        for target in ("/api/q", "/api/q?a=1", "/api//q", "//api///q?b#c", "/api/%71", "/%61pi/q?"):
            self.get(target)
        self.get("/api/q/")
        self.assertEqual((self.count("/api/q"), self.count("/api/q/")), (6, 1))

    def test_what_nginx_refuses_counts_too(self):
        before = self.list()
        self.assertEqual(self.get("/refused/by/nginx").status, 404)
        self.assertEqual(self.service.ask("/refused/by/nginx", "DELETE").status, 404)
        self.service.raw(b"GET /refused/version HTTP/9.9\r\nHost: localhost\r\n\r\n")
        self.assertEqual(self.get("/refused/" + "x" * 9000).status, 414)
        counts = {row["path"]: row["count"] for row in self.list()}
        self.assertEqual(counts["/refused/by/nginx"], 2)
        self.assertEqual(counts["/refused/version"], 1)
        self.assertGreater(sum(counts.values()), sum(row["count"] for row in before) + 3)
        self.assertExact()

    def test_an_address_without_a_path_is_the_root(self):
        before = self.count("/"), self.count("")
        for rest in ("", "?a=1"):
            reply = self.service.raw(f"GET http://localhost:{self.service.port}{rest} HTTP/1.1\r\n"
                                     "Host: localhost\r\nConnection: close\r\n\r\n".encode())
            self.assertIn(b" 404 ", reply)
        self.assertEqual((self.count("/"), self.count("")), (before[0] + 2, before[1]))

    def test_a_refusal_whose_body_never_comes_counts_soon(self):
        before = self.count("/ping")
        with self.service.connect() as connection:
            connection.send(b"POST /ping HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n")
            self.assertEqual(connection.receive().status, 405)
            wait_for(lambda: self.count("/ping") == before + 1, "it counts", 2)

    def test_no_two_lines_are_the_same_whatever_the_trace(self):
        trace = {"traceparent": f"00-{32 * '7'}-b7ad6b7169203331-01"}
        for _ in range(2):
            with self.service.connect() as connection:
                for _ in range(20):
                    connection.ask("/api/same", fields=trace)
        self.assertEqual(self.count("/api/same"), 40)
        lines = [line for line in self.lines() if b"/api/same" in line]
        self.assertEqual((len(lines), len(set(lines))), (40, 40))

    def test_hostile_paths_come_out_harmless_and_right(self):
        paths = ["/api/\"quoted\"", "/api/back\\slash", "/api/%22%2C%22status%22%3A500%2C%22",
                 "/api/%0A%7B%22time%22%3A", "/api/%0D%0Aforged%3A%20header", "/api/%1B%5B2J",
                 "/api/%00", "/api/=1+1", "/api/%3Dcmd", "/api/,a\",b", "/api/%ff%fe", "/api/%C0%AF",
                 "/api/%ED%A0%80", "/api/\N{SNOWMAN}", "/api/%E2%98%83", "/api/%2525", "/api/%zz",
                 "/api/%", "/api/../up", "/api/" + "y" * 4000, "/api/<script>", "/api/'%3B--",
                 "/api/%5CxFF"]
        before = {row["path"]: row["count"] for row in self.list()}
        for path in paths:
            self.service.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                             .encode("utf-8"))
        answer = self.get("/stats/")
        rows = answer.json
        new = [row for row in rows if row["count"] != before.get(row["path"], 0)]
        found = {row["path"] for row in new}
        for expected in ('/api/"quoted"', "/api/back\\slash", '/api/","status":500,"',
                         '/api/\n{"time":', "/api/\r\nforged: header", "/api/\x1b[2J", "/api/\x00",
                         "/api/=1+1", "/api/=cmd", '/api/,a",b', "/api/\N{SNOWMAN}", "/api/%25",
                         "/api/%zz", "/api/%", "/api/../up", "/api/" + "y" * 4000, "/api/<script>",
                         "/api/';--", "/api/\\xFF\\xFE", "/api/\\xFF"):
            self.assertIn(expected, found)
        escaped = {row["path"] for row in new if row.get("escaped")}
        self.assertEqual(escaped, {"/api/\\xFF\\xFE", "/api/\\xC0\\xAF", "/api/\\xED\\xA0\\x80"})
        self.assertEqual(self.count("/api/\N{SNOWMAN}"), 2)
        self.assertExact()
        table = list(csv.reader(io.StringIO(self.get("/stats/?format=csv").body.decode(),
                                            newline="")))
        self.assertEqual(table[0], ["path", "count", "escaped"])
        self.assertTrue(found <= {row[0] for row in table[1:]})

    def test_the_largest_count_comes_first_and_pages_are_the_list(self):
        for i in range(30):
            for _ in range(i % 4 + 1):
                self.get(f"/api/paged/{i:02}")
        rows = self.list("?prefix=/api/paged/")
        self.assertEqual(rows, sorted(rows, key=lambda row: (-row["count"], row["path"])))
        self.assertEqual(len(rows), 30)
        target, pages = "/stats/?prefix=/api/paged/&limit=7", []
        while target:
            answer = self.get(target)
            self.assertLessEqual(len(answer.json), 7)
            pages += answer.json
            link = answer.field("Link")
            target = link and re.fullmatch(r'<(.*)>; rel="next"', link).group(1)
        self.assertEqual(pages, rows)

    def test_bad_questions_are_refused_by_name(self):
        for query, name in (("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"),
                            ("cursor=1", "cursor"), ("cursor=1-999999", "cursor"),
                            ("from=2026-11-21T04:00:01Z", "from"), ("to=x", "to"),
                            ("format=xml", "format"), ("prefix=" + "x" * 401, "prefix")):
            problem = self.assertProblem(self.get(f"/stats/?{query}"), 400, "invalid-input")
            self.assertEqual([one["pointer"] for one in problem["errors"]], [name], query)
        self.assertProblem(self.get("/stats/hourly?path=/a&prefix=/b"), 400)
        self.assertProblem(self.get("/stats/nothing"), 404)
        self.assertProblem(self.service.ask("/stats/", "POST"), 405)


class Files(StatsCase):
    """The log, as it is found."""

    def setUp(self):
        self.name = f"/api/{self.id().rpartition('.')[2]}"

    def test_hours_and_classes_add_up(self):
        with open(self.log(), "a", encoding="utf-8") as file:
            for at, status, seconds in (("04:00:00", 200, "0.100"), ("04:59:59", 404, "0.300"),
                                        ("05:00:00", 500, "1.000"), ("07:10:00", 200, "0.001")):
                file.write(log_line(self.name, at=f"2026-03-01T{at}+00:00", status=status,
                                    seconds=seconds))
        rows = [{"hour": "2026-03-01T04:00:00.000000Z", "requests": 2, "errors": 1,
                 "mean_ms": 200, "max_ms": 300},
                {"hour": "2026-03-01T05:00:00.000000Z", "requests": 1, "errors": 1,
                 "mean_ms": 1000, "max_ms": 1000},
                {"hour": "2026-03-01T07:00:00.000000Z", "requests": 1, "errors": 0,
                 "mean_ms": 1, "max_ms": 1}]
        for query, part in (("", rows), ("&from=2026-03-01T05:00:00Z", rows[1:]),
                            ("&to=2026-03-01T07:00:00Z", rows[:2]),
                            ("&from=2026-03-01T05:00:00Z&to=2026-03-01T06:00:00Z", rows[1:2])):
            for key in ("path", "prefix"):
                self.assertEqual(self.get(f"/stats/hourly?{key}={self.name}{query}").json, part)
        self.assertEqual(self.list(f"?prefix={self.name}&from=2026-03-01T05:00:00Z"
                                   "&to=2026-03-01T08:00:00Z"), [{"path": self.name, "count": 2}])
        self.assertIn("2026-03-01T04:00:00.000000Z,2,1,200.000,300\r\n",
                      self.get(f"/stats/hourly?path={self.name}&format=csv").body.decode())
        self.assertEqual(self.get("/stats/hourly?path=/never/asked/for").json, [])

    def test_a_line_counts_once_its_end_is_there(self):
        line = log_line(self.name)
        for i in range(1, len(line), 37):
            time.sleep(0.1)  # nginx's own last line is there
            with open(self.log(), "a", encoding="utf-8") as file:
                file.write(line[:i])
            time.sleep(0.05)
            with open(self.log(), "a", encoding="utf-8") as file:
                file.write(line[i:])
            self.assertGreaterEqual(self.count(self.name), i // 37 + 1)
        self.assertEqual(self.count(self.name), (len(line) + 35) // 37)

    def test_damaged_lines_are_counted_and_kept_aside(self):
        damaged = ["", "nonsense", "{}", log_line(self.name)[:-20] + "\n", "x" * 1200000 + "\n",
                   log_line(self.name, status=20000)]
        with open(self.log(), "a", encoding="utf-8") as file:
            for line in damaged:
                file.write(line if line.endswith("\n") else line + "\n")
            file.write(log_line(self.name))
        self.assertEqual(self.count(self.name), 1)
        self.assertExact()
        connection = sqlite3.connect(os.path.join(self.service.data, "db/stats.db"))
        kept = [bytes(row[0]) for row in
                connection.execute("SELECT line FROM damaged ORDER BY id DESC LIMIT 6")]
        connection.close()
        self.assertEqual(sorted(kept), sorted(line.strip("\n").encode()[:1000] for line in damaged))
        wait_for(lambda: self.service.events("log_damaged"), "it is said")

    def test_rotation_by_rename_loses_nothing(self):
        for i in range(5):
            self.get(self.name)
            os.rename(self.log(), self.log(f"access.log.{time.time_ns()}"))
            self.get(self.name)
            self.service.process.send_signal(signal.SIGUSR1)
            wait_for(lambda: os.path.exists(self.log()), "the log is there again")
            self.get(self.name)
        wait_for(lambda: self.count(self.name) == 15, "all are counted")
        self.assertExact()

    def test_a_copy_and_a_cut_lose_nothing_that_was_taken_in(self):
        self.get(self.name)
        self.assertEqual(self.count(self.name), 1)
        with open(self.log(), "rb") as file:
            text = file.read()
        with open(self.log("access.log.copy"), "wb") as file:
            file.write(text)
        os.truncate(self.log(), 0)
        self.get(self.name)
        wait_for(lambda: self.count(self.name) == 2, "both are counted")
        wait_for(lambda: self.service.events("log_truncated"), "it is said")
        self.assertExact()

    def test_a_log_that_has_lost_its_name_is_followed_also_after_a_start(self):
        self.get(self.name)
        self.assertEqual(self.count(self.name), 1)
        old = self.log(f"access.log.{time.time_ns()}")
        os.rename(self.log(), old)
        os.utime(old, (1, 1))
        pid = self.service.pid("stats")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.service.pids("stats") not in ([], [pid]), "stats is there again")
        wait_for(lambda: self.get("/healthz/stats").status == 200, "stats is well")
        self.get(self.name)
        self.assertEqual(self.count(self.name), 2)
        self.service.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: os.path.exists(self.log()), "the log is there again")
        self.assertExact()

    def test_several_files_are_taken_in_after_a_pause(self):
        self.service.stop()
        for i in range(3):
            with open(self.log(), "a", encoding="utf-8") as file:
                file.write(log_line(self.name) * (i + 1))
            os.rename(self.log(), self.log(f"access.log.{time.time_ns()}"))
        type(self).service = harness.Service(data=self.service.data, port=self.service.port)
        type(self).addClassCleanup(self.service.close)
        self.assertEqual(self.count(self.name), 6)
        self.assertExact()

    def test_a_log_that_vanishes_is_said_to_and_nothing_invented(self):
        self.get(self.name)
        self.assertEqual(self.count(self.name), 1)
        os.unlink(self.log())
        self.get(self.name)  # into the file that nobody can see any more
        wait_for(lambda: self.service.events("log_vanished"), "it is said")
        self.service.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: os.path.exists(self.log()), "the log is there again")
        self.get(self.name)
        self.assertEqual(self.count(self.name), 3)


class Thinning(StatsCase):
    """Old hours, on one folder under several settings."""

    start = False
    path = "/api/thin"

    def ages(self):
        """Hours back from now: with keep_days 2, the first three go."""
        return (400 * 24, 100, 60, 40, 1)

    def run_with(self, keep_days, data=None):
        service = harness.Service({"stats": {"keep_days": keep_days}}, data=data)
        self.addCleanup(service.close)
        self.service = service
        return service

    def hour(self, number):
        return time.strftime("%Y-%m-%dT%H:00:00Z", time.gmtime(number * 3600))

    def asked(self, query):
        return self.get(f"/stats/{query}")

    def state(self):
        connection = sqlite3.connect(os.path.join(self.service.data, "db/stats.db"))
        try:
            return [row[0] for row in connection.execute(
                "SELECT kept_from_hour FROM state UNION ALL"
                " SELECT * FROM (SELECT DISTINCT hour FROM hours ORDER BY hour)")]
        finally:
            connection.close()

    def assertRefused(self, query, kept_from):
        problem = self.assertProblem(self.asked(query), 400, "invalid-input")
        self.assertEqual([one["pointer"] for one in problem["errors"]], ["from"], query)
        self.assertIn(self.hour(kept_from)[:-1], problem["errors"][0]["detail"])

    def assertThinned(self, kept_from, now):
        """What is told, and that nothing is told of what is not kept."""
        prefix = f"prefix={self.path}"
        for query in (f"?{prefix}&from={self.hour(kept_from - 1)}",
                      f"?{prefix}&to={self.hour(now)}",
                      f"?{prefix}&from={self.hour(now - 100)}&to={self.hour(now - 90)}",
                      f"?{prefix}&from=1970-01-01T00:00:00Z",
                      f"hourly?path={self.path}&from={self.hour(kept_from - 1)}",
                      f"hourly?{prefix}&from={self.hour(now - 9600)}&to={self.hour(now)}"):
            self.assertRefused(query, kept_from)
        refused = self.assertProblem(
            self.asked(f"hourly?path={self.path}&to={self.hour(kept_from)}"), 400, "invalid-input")
        self.assertEqual([one["pointer"] for one in refused["errors"]], ["to"])
        since = f"from={self.hour(kept_from)}"
        self.assertEqual(self.asked(f"?{prefix}&{since}").json, [{"path": self.path, "count": 2}])
        self.assertEqual(self.asked(f"?{prefix}").json, [{"path": self.path, "count": 5}])
        for kind in ("path", "prefix"):
            for more in ("", f"&{since}", f"&to={self.hour(now + 1)}"):
                rows = self.asked(f"hourly?{kind}={self.path}{more}").json
                self.assertEqual([row["hour"][:13] for row in rows],
                                 [self.hour(now - age)[:13] for age in (40, 1)])

    def test_old_hours_are_removed_and_never_told_of_in_part(self):
        now = int(time.time()) // 3600
        service = self.run_with(0)
        with open(self.log(), "a", encoding="utf-8") as file:
            for age in self.ages():
                file.write(log_line(self.path, at=self.hour(now - age).replace("Z", "+00:00")))
        self.assertEqual(self.count(self.path), 5)
        self.assertEqual(len(self.asked(f"hourly?path={self.path}").json), 5)
        self.assertEqual(self.asked(f"?prefix={self.path}&to={self.hour(now)}").json[0]["count"], 5)
        self.assertEqual(self.state()[0], 0)
        service.stop()
        service = self.run_with(2, service.data)
        wait_for(lambda: self.state()[0] > 0 and self.state()[1] == now - 40, "the old ones go")
        kept_from = self.state()[0]
        self.assertLessEqual(abs(kept_from - (now - 48)), 1)
        self.assertThinned(kept_from, now)
        done = harness.caredesk("recount", "stats", "--data", service.data)
        self.assertEqual(done.returncode, 0, done)
        service.stop()
        for keep_days in (0, 365):
            service = self.run_with(keep_days, service.data)
            with open(self.log(), "a", encoding="utf-8") as file:
                file.write(log_line("/api/late", at=self.hour(now - 70).replace("Z", "+00:00")))
            wait_for(lambda: self.count("/api/late") > 0, "it is counted")
            self.assertEqual(self.asked("hourly?path=/api/late").json, [])
            self.assertEqual(self.state()[0], kept_from)
            self.assertThinned(kept_from, now)
            service.stop()

    def test_counting_goes_on_while_much_is_removed(self):
        service = self.run_with(0)
        self.assertEqual(self.get(self.path).status, 200)
        service.stop()
        connection = sqlite3.connect(os.path.join(service.data, "db/stats.db"))
        with connection:
            connection.execute(
                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 299999)"
                " INSERT INTO hours SELECT 1000 + i / 50000, 100 + i % 50000, 1, 2, 1, 1, 1, 1"
                " FROM n")
        connection.close()
        service = self.run_with(1, service.data)
        longest = 0
        for i in range(2, 1000):
            self.assertEqual(self.get(self.path).status, 200)
            began = time.monotonic()
            self.assertEqual(self.count(self.path), i)
            longest = max(longest, time.monotonic() - began)
            if self.state()[1] > 10000:
                break
        self.assertGreater(self.state()[1], 10000)
        note(f"300,000 rows in {i} questions, the longest of {longest:.3f} s")
        service.stop()


class Killed(StatsCase):
    """Under load, with files renamed meanwhile."""

    def load(self, stop, sent, answered, seed):
        choose = random.Random(seed)
        while not stop.is_set():
            try:
                with self.service.connect() as connection:
                    for _ in range(50):
                        path = f"/api/{choose.choice('abc')}/{int(choose.paretovariate(0.7)) % 999}"
                        sent[path] += 1
                        if connection.ask(path).status == 200:
                            answered[path] += 1
            except (OSError, AssertionError, ValueError, harness.Broken):
                time.sleep(0.01)  # nginx's worker was killed

    def rotate(self):
        os.rename(self.log(), self.log(f"access.log.{time.time_ns()}"))
        self.service.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: os.path.exists(self.log()), "the log is there again")

    def kill_stats(self):
        for pid in self.service.pids("stats"):
            os.kill(pid, signal.SIGKILL)

    def kill_stats_while_rotating(self):
        self.rotate()
        self.kill_stats()

    def kill_worker(self):
        for pid in self.service.workers()[:1]:
            os.kill(pid, signal.SIGKILL)

    def kill_all(self):
        self.service.kill()
        type(self).service = harness.Service(data=self.service.data, port=self.service.port)
        type(self).addClassCleanup(self.service.close)

    ACTIONS = {kill_stats: 8, rotate: 6, kill_stats_while_rotating: 5, kill_worker: 4, kill_all: 2}

    def test_no_request_is_lost_or_counted_twice(self):
        faulthandler.dump_traceback_later(280 + 2 * ROUNDS, exit=True)
        stop, choose = threading.Event(), random.Random(4)
        tallies = [(collections.Counter(), collections.Counter()) for _ in range(3)]
        threads = [threading.Thread(target=self.load, args=(stop, *pair, i), daemon=True)
                   for i, pair in enumerate(tallies)]
        for thread in threads:
            thread.start()
        rounds = collections.Counter()
        for _ in range(ROUNDS):
            time.sleep(choose.uniform(0.02, 0.2))
            action, = choose.choices(list(self.ACTIONS), self.ACTIONS.values())
            action(self)
            rounds[action.__name__] += 1
        stop.set()
        for thread in threads:
            thread.join(harness.LONG)
        wait_for(lambda: self.get("/healthz/stats").status == 200, "stats is there")
        self.assertExact()
        found, _ = self.stored()
        sent = sum((pair[0] for pair in tallies), collections.Counter())
        answered = sum((pair[1] for pair in tallies), collections.Counter())
        self.assertEqual([path for path, n in sent.items() if found.get(path.encode(), 0) > n], [])
        # Only nginx's death can come between an answer and its line, once for each client.
        unlogged = sum(max(0, n - found.get(path.encode(), 0)) for path, n in answered.items())
        self.assertLessEqual(unlogged, len(threads) * (rounds["kill_worker"] + rounds["kill_all"]))
        note(f"{sum(sent.values())} sent, {sum(answered.values())} answered, {unlogged} of them not "
             f"in the log; {dict(rounds)}")


if __name__ == "__main__":
    harness.main()
