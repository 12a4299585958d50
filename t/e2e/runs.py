"""Load runs: real requests, whose count is proved by the statistics."""
import os
import re
import signal
import subprocess
import threading
import time

import harness
from harness import Case, wait_for

ASYNC = {"Prefer": "respond-async"}


class RunsCase(Case):
    def post(self, requests, **fields):
        return self.service.ask(f"/test/{requests}/", "POST", [
            (name.replace("_", "-"), value) for name, value in fields.items()])

    def begin(self, requests, **fields):
        """A run under way, by its address."""
        answer = self.post(requests, Prefer="respond-async", **fields)
        self.assertEqual(answer.status, 202, answer)
        return answer.field("Location")

    def run_at(self, location):
        answer = self.get(location)
        self.assertEqual(answer.status, 200, answer)
        return answer.json

    def ended(self, location):
        wait_for(lambda: self.run_at(location)["status"] != "running", "the run ends")
        return self.run_at(location)

    def under_way(self, location, done=1):
        wait_for(lambda: self.run_at(location)["succeeded"] >= done, "the run is under way")

    def stop(self, location):
        self.assertEqual(self.service.ask(location, "DELETE").status, 204)

    def tearDown(self):
        for run in self.get("/test/runs").json:
            if run["status"] == "running":
                self.stop(f"/test/runs/{run['id']}")
                self.ended(f"/test/runs/{run['id']}")

    def api_total(self):
        return sum(row["count"] for row in self.get("/stats/?prefix=/api/").json)


class Runs(RunsCase):
    def test_each_request_is_counted(self):
        for requests in (0, 1, 63, 65, 5000):
            before = self.api_total()
            answer = self.post(requests)
            self.assertEqual(answer.status, 200, answer)
            run = answer.json
            self.assertEqual((run["status"], run["requested"], run["succeeded"], run["failed"],
                              run["counted"]), ("finished", requests, requests, 0, requests))
            self.assertEqual(self.api_total() - before, requests)
            self.assertEqual(self.run_at(answer.field("Content-Location")), run)
            if requests == 0:
                self.assertIsNone(run["latency_ms"])
                continue
            latency = run["latency_ms"]
            self.assertTrue(0 < latency["p50"] <= latency["p90"] <= latency["p99"]
                            <= latency["max"], latency)
            self.assertGreater(run["requests_per_second"], 0)

    def test_paths_are_three_words_in_one_to_six_segments(self):
        before = {row["path"] for row in self.get("/stats/?prefix=/api/").json}
        self.assertEqual(self.post(3000).status, 200)
        paths = {row["path"] for row in self.get("/stats/?prefix=/api/").json} - before
        lengths = {path.count("/") - 1 for path in paths}
        words = {word for path in paths for word in path.split("/")[2:]}
        self.assertEqual(lengths, {1, 2, 3, 4, 5, 6})
        self.assertEqual(len(words), 3)
        self.assertTrue(all(re.fullmatch("[a-z]{3}", word) for word in words))

    def test_what_is_no_whole_number_is_not_found(self):
        for number in ("abc", "-1", "+1", "1.5", "1e3", "0x10", "%20", "1%00", "\u0661", "1,000", ""):
            number = "".join(c if ord(c) < 128 else
                             "".join(f"%{b:02x}" for b in c.encode()) for c in number)
            answer = self.service.ask(f"/test/{number}", "POST")
            self.assertIn(answer.status, (400, 404) if "%00" in number else (404,), number)
        for number in ("1000001", "9223372036854775808", "9" * 100):
            problem = self.assertProblem(self.post(number), 400, "invalid-input")
            self.assertEqual([one["pointer"] for one in problem["errors"]], ["requests"])
        self.assertEqual(self.post("0007").json["requested"], 7)

    def test_other_methods_and_missing_runs_are_refused(self):
        self.assertEqual(self.assertMethods("/test/5", "GET"), "POST, OPTIONS")
        self.assertEqual(self.assertMethods("/test/runs", "POST"), "GET, HEAD, OPTIONS")
        self.assertEqual(self.assertMethods("/test/runs/1", "POST"), "GET, HEAD, DELETE, OPTIONS")
        for target in ("/test/runs/999999", "/test/runs/0", "/test/runs/x", "/test/runs/1/2"):
            self.assertProblem(self.get(target), 404, "not-found")
            self.assertProblem(self.service.ask(target, "DELETE"), 404, "not-found")

    def assertMethods(self, target, refused):
        answer = self.service.ask(target, refused)
        self.assertProblem(answer, 405, "method-not-allowed")
        self.assertEqual(self.service.ask(target, "OPTIONS").field("Allow"), answer.field("Allow"))
        return answer.field("Allow")

    def test_a_run_goes_on_by_itself_and_shows_how_far_it_is(self):
        answer = self.post(30000, Prefer="respond-async")
        self.assertEqual(answer.status, 202)
        self.assertEqual(answer.field("Preference-Applied"), "respond-async")
        self.assertEqual(answer.json["status"], "running")
        location, seen = answer.field("Location"), []
        self.assertEqual(location, f"/test/runs/{answer.json['id']}")
        while not seen or seen[-1]["status"] == "running":
            seen.append(self.run_at(location))
            time.sleep(0.02)
        done = [run["succeeded"] for run in seen]
        self.assertEqual(done, sorted(done))
        self.assertEqual((seen[-1]["status"], seen[-1]["counted"]), ("finished", 30000))
        self.assertTrue(all(run["counted"] is None and run["ended_at"] is None
                            for run in seen if run["status"] == "running"))
        self.assertLess(seen[-1]["begun_at"], seen[-1]["ended_at"])

    def test_a_run_that_is_stopped_says_how_far_it_came(self):
        location = self.begin(1000000)
        self.under_way(location)
        self.stop(location)
        run = self.ended(location)
        self.assertEqual(run["status"], "stopped")
        self.assertTrue(0 < run["succeeded"] < 1000000)
        self.assertEqual((run["failed"], run["counted"]), (0, run["succeeded"]))
        self.stop(location)  # again, and nothing changes
        self.assertEqual(self.run_at(location), run)

    def test_four_at_once_and_no_more_and_none_counts_anothers(self):
        locations = [self.begin(1000000) for _ in range(4)]
        answer = self.post(1)
        self.assertProblem(answer, 429, "too-many-requests")
        self.assertTrue(answer.field("Retry-After"))
        for location in locations:
            self.under_way(location)
        self.assertEqual(self.get("/ping").status, 200)
        self.assertEqual(self.get("/stats/?limit=1").status, 200)
        for location in locations:
            self.stop(location)
        for location in locations:
            run = self.ended(location)
            self.assertEqual((run["status"], run["failed"], run["counted"]),
                             ("stopped", 0, run["succeeded"]))
        self.assertEqual(self.post(1).status, 200)

    def test_runs_are_listed_by_pages(self):
        for _ in range(5):
            self.post(0)
        listed = self.get("/test/runs?limit=1000").json
        self.assertEqual([run["id"] for run in listed], sorted(run["id"] for run in listed))
        target, pages = "/test/runs?limit=2", []
        while target:
            answer = self.get(target)
            self.assertLessEqual(len(answer.json), 2)
            pages += answer.json
            link = answer.field("Link")
            target = link and re.fullmatch(r'<(.*)>; rel="next"', link).group(1)
        self.assertEqual(pages, listed)
        self.assertProblem(self.get("/test/runs?limit=0"), 400)

    def test_a_retry_with_the_same_key_does_nothing_twice(self):
        before = self.api_total()
        first = self.post(100, Idempotency_Key="one")
        again = self.post(100, Idempotency_Key="one")
        self.assertEqual((first.status, first.json), (again.status, again.json))
        self.assertEqual(self.api_total() - before, 100)
        self.assertProblem(self.post(101, Idempotency_Key="one"), 422, "idempotency-key-reused")
        self.assertProblem(self.post(1, Idempotency_Key="x" * 129), 400)
        location = self.begin(1000000, Idempotency_Key="two")
        self.assertEqual(self.begin(1000000, Idempotency_Key="two"), location)
        answers = []
        waiting = threading.Thread(
            target=lambda: answers.append(self.post(1000000, Idempotency_Key="two")))
        waiting.start()
        self.under_way(location)
        self.stop(location)
        waiting.join(harness.LONG)
        self.assertEqual(answers[0].json, self.run_at(location))

    def test_a_client_that_leaves_ends_nothing(self):
        known = [run["id"] for run in self.get("/test/runs?limit=1000").json]
        connection = self.service.connect()
        connection.send(b"POST /test/20000 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")

        def new():
            return [run for run in self.get("/test/runs?limit=1000").json if run["id"] not in known]

        wait_for(new, "the run has begun")
        connection.close()
        run = self.ended(f"/test/runs/{new()[0]['id']}")
        self.assertEqual((run["status"], run["counted"]), ("finished", 20000))


class Killed(RunsCase):
    def test_a_run_whose_program_dies_was_interrupted_and_its_requests_are_counted(self):
        location = self.begin(1000000)
        self.under_way(location, 1000)
        pid = self.service.pid("stats")
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.service.pids("stats") not in ([], [pid]), "stats is there again")
        wait_for(lambda: self.get("/healthz/stats").status == 200, "stats is well")
        run = self.run_at(location)
        self.assertEqual((run["status"], run["ended_at"], run["counted"]),
                         ("interrupted", None, None))
        self.assertIn(run, self.get("/test/runs?limit=1000").json)
        self.stop(location)
        with open(os.path.join(self.service.data, "log/access.log"), "rb") as file:
            lines = sum(b'"path":"/api/' in line for line in file)
        self.assertEqual(self.api_total(), lines)
        self.assertGreaterEqual(lines, 1000)
        self.assertEqual(self.post(10).json["counted"], 10)
        self.assertNotEqual(self.post(0).json["id"], run["id"])

    def test_runs_keep_nobody_from_stopping(self):
        service = harness.Service()
        self.addCleanup(service.close)
        waiting = threading.Thread(
            target=lambda: service.raw(b"POST /test/1000000 HTTP/1.1\r\nHost: localhost\r\n"
                                       b"Content-Length: 0\r\nConnection: close\r\n\r\n"))
        waiting.start()
        wait_for(lambda: service.get("/test/runs").json and
                 service.get("/test/runs").json[0]["succeeded"] > 0, "the run is under way")
        service.stop()
        waiting.join(harness.LONG)
        self.assertEqual([event for event in service.events("killed")], [])


class Command(RunsCase):
    def load(self, number, *arguments, port=None, **options):
        return harness.caredesk("load", str(number), "--data", self.service.data, "--listen",
                                f"127.0.0.1:{port or self.service.port}", *arguments, **options)

    def test_it_says_what_was_sent_and_counted(self):
        for number in (0, 1, 3000):
            done = self.load(number)
            self.assertEqual(done.returncode, 0, done)
            self.assertIn(f"{number} requests in ", done.stdout)
            self.assertIn(f"succeeded {number}  failed 0  counted {number}\n", done.stdout)
        self.assertRegex(done.stdout, r"latency p50 [\d.]+  p90 [\d.]+  p99 [\d.]+  max [\d.]+ ms")
        rows = re.findall(r"up to +([\d.]+) ms +(\d+)", done.stdout)
        self.assertEqual(sum(int(count) for _, count in rows), 3000)

    def test_bad_numbers_and_a_service_that_is_away_are_said(self):
        for number in ("x", "-1", "1.5", "1000000001"):
            done = self.load(number)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, "whole number|no option")
        done = self.load(1, port=harness.free_port())
        self.assertEqual(done.returncode, 1)
        self.assertIn("1 requests failed", done.stderr)
        away = harness.Service()
        self.addCleanup(away.close)
        away.stop()
        done = harness.caredesk("load", "1", "--data", away.data, "--listen", f"127.0.0.1:{away.port}")
        self.assertEqual(done.returncode, 1)
        self.assertIn("the statistics do not answer", done.stderr)

    def test_an_interrupt_stops_it_and_it_tells_how_far_it_came(self):
        process = subprocess.Popen(
            [harness.program("caredesk"), "load", "1000000000", "--data", self.service.data,
             "--listen", f"127.0.0.1:{self.service.port}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        before = self.api_total()
        wait_for(lambda: self.api_total() > before + 1000, "it sends")
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=harness.LONG)
        self.assertEqual(process.returncode, 0, said)
        sent, counted = re.search(r"succeeded (\d+)  failed 0  counted (\d+)", out).groups()
        self.assertEqual(sent, counted)
        self.assertIn("stopped", out)


if __name__ == "__main__":
    harness.main()
