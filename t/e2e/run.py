"""`caredesk run` and the rest of the operator's command: start, stop, and what dies meanwhile."""
import contextlib
import fcntl
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
import unittest
from unittest import mock

import harness
from harness import Case, ROOT, Service, at_once, caredesk, insurers_config, note, program, wait_for
from upstreams import Insurer, answer, hang, make_certificate, slow

URL = "/api/coalescence/default?member_id=1"
STOP_WITHIN = 5  # seconds; 2 are promised


def services(test, *args, **options):
    """A service that ends with the test at the latest."""
    service = Service(*args, **options)
    test.addCleanup(service.close)
    return service


class Commands(Case):
    start = False

    def setUp(self):
        self.folder = harness.folder()
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, text):
        name = os.path.join(self.folder, "test.yaml")
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
        return name

    def caredesk(self, *arguments, status=0):
        done = caredesk(*arguments, cwd=self.folder)
        self.assertEqual(done.returncode, status, done)
        if status == 0:
            self.assertEqual(done.stderr, "")
        return done

    def test_help_names_every_command(self):
        for arguments in (["help"], ["--help"], ["-h"]):
            text = self.caredesk(*arguments).stdout
            for name in ("run", "check-config", "render-nginx", "config", "problems", "version",
                         "help", "--config", "--listen", "--data"):
                self.assertIn(name, text)

    def test_version_is_one_line(self):
        for arguments in (["version"], ["--version"]):
            self.assertRegex(self.caredesk(*arguments).stdout, r"\Acaredesk \d+\.\d+\.\d+\n\Z")

    def test_unknown_commands_and_options_are_refused(self):
        for arguments in ([], ["nope"], ["--nope"], ["version", "version"], ["run", "--listen"]):
            with self.subTest(arguments):
                done = self.caredesk(*arguments, status=1)
                self.assertEqual(done.stdout, "")
                self.assertNotEqual(done.stderr, "")

    def test_config_describes_every_key(self):
        text = self.caredesk("config").stdout
        for key in ("listen", "data", "user", "upstreams", "url", "ca_file", "deadline_ms",
                    "max_age_s", "circuit_failures", "circuit_pause_ms", "methods",
                    "max_in_flight"):
            self.assertRegex(text, rf"(?m)^ *{key}: .*# \w")

    def test_problems_is_a_table_of_all(self):
        text = self.caredesk("problems").stdout
        self.assertGreater(text.count("| `/problems/"), 20)

    def test_check_config_says_that_it_is_good(self):
        self.assertIn("3 demo insurers", self.caredesk("check-config").stdout)
        name = self.write("coalesce:\n  upstreams:\n  - {name: a, url: 'http://127.0.0.1:1/'}\n")
        text = self.caredesk("check-config", "--config", name).stdout
        self.assertIn("1 upstreams", text)
        self.assertIn(name, text)

    def test_a_file_of_the_usual_name_is_taken_from_here(self):
        with open(os.path.join(self.folder, "caredesk.yaml"), "w", encoding="utf-8") as file:
            file.write("listen: 127.0.0.1:7777\n")
        self.assertIn("127.0.0.1:7777", self.caredesk("check-config").stdout)

    def test_a_bad_configuration_is_refused_with_file_line_and_reason(self):
        upstream = "coalesce:\n  upstreams:\n  - name: a\n    url: "
        method = ("coalesce:\n  methods:\n"
                  "  - {name: m, oop_max: max, remaining_oop_max: max, copay: ")
        for text, line, reason in (
                ("nope: 1\n", 1, "unknown key nope"),
                ("listen: 127.0.0.1:1\ncoalesce:\n  deadline: 5\n", 3, "unknown key deadline"),
                ("data: a\ndata: b\n", 2, "data is given twice"),
                ("coalesce:\n  deadline_ms: soon\n", 2, "deadline_ms must be a whole number"),
                ("coalesce:\n  deadline_ms: 9\n", 2, "10..60000"),
                ("coalesce:\n  deadline_ms: 60001\n", 2, "10..60000"),
                ("coalesce:\n  max_age_s: -1\n", 2, "max_age_s must be a whole number"),
                ("coalesce:\n  max_age_s: 1.5\n", 2, "max_age_s must be a whole number"),
                ("coalesce: []\n", 1, "coalesce must be"),
                ("- a\n", 1, "the top must be a mapping"),
                ("coalesce:\n  upstreams:\n  - name: a\n", 3, "url is missing"),
                ("coalesce:\n  upstreams:\n  - name: A b\n    url: 'http://x'\n", 3,
                 "name must be"),
                (upstream + "ftp://x/\n", 3, "http:// or https://"),
                (upstream + "http://user@x/\n", 3, "neither a user"),
                (upstream + "'http://x/#f'\n", 3, "fragment"),
                (upstream + "'http:///x'\n", 3, "must have a host"),
                (upstream + "http://x/\n  - {name: a, url: 'http://y/'}\n", 5,
                 "two upstreams named"),
                (method + "mean}\n", 3, "copay must be one of"),
                (method + "max, copay_at_most: copay}\n", 3, "bounds copay by itself"),
                (method.replace("m,", "default,") + "max}\n", 3, "is built in"),
                ("a: [\n", 2, "not YAML"),
                ("user: 'a b'\n", 1, "user must be"),
        ):
            for command in ("check-config", "render-nginx", "run"):
                with self.subTest(text=text, command=command):
                    name = self.write(text)
                    done = self.caredesk(command, "--config", name, status=1)
                    self.assertEqual(done.stdout, "")
                    self.assertEqual(done.stderr.find(f"caredesk: {name}:{line}: "), 0, done.stderr)
                    self.assertIn(reason, done.stderr)
        self.assertEqual(os.listdir(self.folder), ["test.yaml"], "something was left")

    def test_a_file_that_is_not_there_is_named(self):
        for command in ("check-config", "run"):
            done = self.caredesk(command, "--config", "nope.yaml", status=1)
            self.assertIn("nope.yaml: No such file", done.stderr)

    def test_only_the_loopback_is_listened_on(self):
        for listen in ("0.0.0.0:8080", "[::]:8080", "192.0.2.1:80", "localhost:80", "127.0.0.1",
                       "127.0.0.1:0", "127.0.0.1:65536", ":80", "127.0.0.1:x", "[::1:80"):
            with self.subTest(listen):
                done = self.caredesk("run", "--listen", listen, status=1)
                self.assertIn("--listen: ", done.stderr)
                self.assertIn(listen, done.stderr)

    def test_nginx_takes_the_configuration_that_is_rendered(self):
        for listen, demo in (("127.0.0.1:18080", 28080), ("127.0.0.1:60000", 50000),
                             ("[::1]:18080", 28080)):
            text = self.caredesk("render-nginx", "--listen", listen).stdout
            self.assertIn(f"listen {listen} ", text)
            self.assertIn(f"listen 127.0.0.1:{demo};", text)
            self.assertNotRegex(text, "@[a-z_]*@")
        name = self.write("coalesce: {max_age_s: 0, upstreams: [{name: a, url: 'http://x/'}]}\n")
        text = self.caredesk("render-nginx", "--config", name).stdout
        self.assertNotIn("fastcgi_cache coalesce", text)
        self.assertNotIn("listen 127.0.0.1:18080;", text)


class Starting(Case):
    start = False

    def fails(self, service, *words):
        """It ends with status 1 and a message, and leaves nothing behind."""
        self.assertEqual(service.wait(), 1, service.lines)
        self.assertEqual(service.output, [])
        said = "\n".join(service.lines)
        for word in words:
            self.assertIn(word, said)
        self.assertTrue([line for line in service.lines if line.startswith("caredesk: ")], said)
        self.assertEqual(service.left(), [])
        return said

    def test_a_folder_with_something_else_in_it_is_left_alone(self):
        for inside in ("run", "run/lock/", "log", "file"):
            with self.subTest(inside), tempfile.TemporaryDirectory() as folder:
                os.makedirs(os.path.join(folder, inside))
                os.chmod(folder, 0o711)
                self.fails(services(self, data=folder, ready=False), "not one of caredesk's")
                self.assertEqual(stat.S_IMODE(os.stat(folder).st_mode), 0o711)

    def test_a_configuration_in_the_data_folder_is_not_taken(self):
        service = services(self)
        service.stop()
        with open(os.path.join(service.data, "caredesk.yaml"), "w", encoding="ascii") as file:
            file.write("nonsense: 1\n")
        again = services(self, data=service.data, port=service.port)
        self.assertEqual(again.get(URL).status, 200)
        again.stop()

    def test_answers_that_were_kept_are_gone_after_the_stop(self):
        service = services(self)
        service.get(URL)
        self.assertEqual(os.listdir(os.path.join(service.data, "cache")), ["coalesce"])
        service.stop()
        self.assertEqual(os.listdir(os.path.join(service.data, "cache")), [])

    def test_sigusr1_opens_the_access_log_anew(self):
        service = services(self)
        log = os.path.join(service.data, "log/access.log")
        os.rename(log, log + ".1")
        os.kill(service.process.pid, signal.SIGUSR1)
        wait_for(lambda: os.path.exists(log), "the new log")

        def written():      # the workers open it after the master
            service.get("/after")
            with open(log, encoding="utf-8") as file:
                return '"path":"/after"' in file.read()
        wait_for(written, "a line in the new log")
        service.stop()

    def test_ready_is_said_once_when_everything_answers(self):
        service = services(self, ready=False)
        service.await_ready()
        for target in ("/ping", URL, "/healthz"):
            self.assertEqual(service.get(target).status, 200)
        service.stop()
        self.assertEqual(service.output, [service.ready_line])

    def run_slowly(self, script):
        """With a spawn-fcgi that does this first, for stats."""
        folder = harness.folder()
        self.addCleanup(shutil.rmtree, folder)
        with open(os.path.join(folder, "spawn-fcgi"), "w", encoding="ascii") as file:
            file.write(f"#!/bin/sh\ncase $* in *run/stats.sock*)\n{script}\nesac\n"
                       f'exec {shutil.which("spawn-fcgi")} "$@"\n')
        os.chmod(file.name, 0o755)
        began = time.monotonic()
        with mock.patch.dict(os.environ, PATH=f"{folder}:{os.environ['PATH']}"):
            service = services(self)
        took = time.monotonic() - began
        service.stop()
        return took, service.events("nginx")

    def test_nobody_is_asked_before_all_programs_can_be_reached(self):
        _, said = self.run_slowly("until [ -e run/http.sock ]; do sleep 0.01; done; sleep 0.5")
        self.assertEqual(said, [])

    def test_what_nginx_says_brings_no_question_forward(self):
        """About a socket that is there, and nobody behind it."""
        took, said = self.run_slowly(
            "python3 -c 'import socket; socket.socket(1).bind(\"run/stats.sock\")'\n"
            "until [ -e run/http.sock ]; do sleep 0.01; done; sleep 0.5; rm run/stats.sock")
        note(f"{len(said)} lines in {took:.2f} s")
        self.assertTrue(said)
        self.assertLessEqual(len(said), took / 0.02)

    def test_two_run_side_by_side(self):
        first, second = services(self), services(self)
        for service in (first, second, first):
            self.assertEqual(service.get(URL).status, 200)
        first.stop()
        self.assertEqual(second.get(URL).status, 200)
        second.stop()

    def test_a_port_that_is_taken_is_named(self):
        port = harness.free_port()
        for taken, listens in ((port, "127.0.0.1"), (port + 10000, "127.0.0.1"), (port, "0.0.0.0")):
            with self.subTest(taken=taken, listens=listens), socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind((listens, taken))
                other.listen()
                service = services(self, port=port, ready=False)
                self.fails(service, "cannot listen on 127.0.0.1 port %d" % taken, "in use")

    def test_a_data_folder_in_use_is_refused(self):
        first = services(self)
        second = services(self, data=first.data, ready=False)
        said = self.fails_beside(second)
        self.assertIn("another caredesk runs there", said)
        self.assertEqual(first.get(URL).status, 200)
        first.stop()
        third = services(self, data=first.data)
        third.stop()

    def fails_beside(self, service):
        self.assertEqual(service.wait(), 1)
        return "\n".join(service.lines)

    def test_a_data_folder_that_cannot_be_is_refused(self):
        folder = harness.folder()
        self.addCleanup(shutil.rmtree, folder)
        with open(os.path.join(folder, "file"), "w", encoding="ascii"):
            pass
        for data in (f"{folder}/file", f"{folder}/file/data", "/proc/nope/data"):
            with self.subTest(data):
                self.fails(services(self, data=data, ready=False), "data folder")

    def test_a_data_folder_is_made_with_those_above_it(self):
        folder = harness.folder()
        self.addCleanup(shutil.rmtree, folder)
        service = services(self, data=os.path.join(folder, "a/b/c"))
        self.assertEqual(service.get(URL).status, 200)
        service.stop()

    def test_a_relative_data_folder_lies_where_it_was_started(self):
        service = services(self, data="here")
        service.data = os.path.join(service.folder, "here")
        self.assertEqual(service.get(URL).status, 200)
        self.assertTrue(os.path.exists(os.path.join(service.data, "run/lock")))
        service.stop()

    def test_a_file_that_is_missing_is_named_with_its_line(self):
        config = {"coalesce": {"upstreams": [{"name": "a", "url": "https://127.0.0.1:1/",
                                              "ca_file": "/nonexistent/ca.pem"}]}}
        service = services(self, config, ready=False)
        said = self.fails(service, "caredesk.yaml:")
        self.assertIn("/nonexistent/ca.pem: No such file", said)
        service.await_gone()

    @unittest.skipUnless(ROOT, "not root")
    def test_a_program_that_cannot_start_is_named_with_its_reason(self):
        folder = harness.folder()
        self.addCleanup(shutil.rmtree, folder)
        with tempfile.NamedTemporaryFile() as secret:     # root's own
            with open(make_certificate(folder)[0], "rb") as certificate:
                shutil.copyfileobj(certificate, secret)
            secret.flush()
            config = {"coalesce": {"upstreams": [{"name": "a", "url": "https://127.0.0.1:1/",
                                                  "ca_file": secret.name}]}}
            service = services(self, config, ready=False)
            said = self.fails(service, "coalesce")
            self.assertIn(f"{secret.name}: Permission denied", said)
            service.await_gone()

    @unittest.skipUnless(ROOT, "not root")
    def test_a_user_who_does_not_exist_is_named(self):
        self.fails(services(self, {"user": "nobody-of-that-name"}, ready=False),
                   "user nobody-of-that-name does not exist")

    def test_a_restart_keeps_the_data_folder(self):
        first = services(self)
        first.get(URL)
        first.stop()
        kept = os.path.join(first.data, "log/access.log")
        with open(kept, encoding="utf-8") as file:
            before = file.read()
        self.assertIn('"path":"/api/coalescence/default"', before)
        second = services(self, data=first.data, port=first.port)
        second.get("/again")
        second.stop()
        with open(kept, encoding="utf-8") as file:
            after = file.read()
        self.assertTrue(after.startswith(before))
        self.assertIn('"path":"/again"', after)

    def test_what_was_cached_before_a_restart_is_not_kept_for_longer(self):
        insurer = Insurer("a", answer(5, 4, 3))
        self.addCleanup(insurer.close)
        config = insurers_config([insurer], max_age_s=1)
        first = services(self, config)
        self.assertEqual(first.get(URL).json["copay"], 3)
        first.stop()
        insurer.behaviour = answer(7, 6, 5)
        second = services(self, config, data=first.data, port=first.port)
        wait_for(lambda: second.get(URL).json["copay"] == 5, "the new answer")
        second.stop()


class Stopping(Case):
    start = False

    def test_sigterm_and_sigint_stop_it_cleanly(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with self.subTest(number):
                service = services(self)
                self.assertEqual(service.get(URL).status, 200)
                took = service.stop(number)
                note(f"{number.name}: {took:.2f} s")
                self.assertLess(took, STOP_WITHIN)
                self.assertEqual({line["program"] for line in service.events("stopped")},
                                 set(harness.PROGRAMS))
                for name in (*harness.PROGRAMS, "http"):
                    with socket.socket(socket.AF_UNIX) as probe:
                        path = os.path.join(service.data, f"run/{name}.sock")
                        self.assertNotEqual(probe.connect_ex(path), 0, name)

    def test_idle_clients_do_not_delay_the_end(self):
        service = services(self)
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(service.connect()).ask("/ping")
            stack.enter_context(service.connect()).send(b"GET /pi")
            stack.enter_context(service.connect())
            self.assertLess(service.stop(), STOP_WITHIN)

    def test_what_is_under_way_is_answered_first(self):
        insurer = Insurer("a", slow(0.5, answer(3, 2, 1)))
        self.addCleanup(insurer.close)
        service = services(self, insurers_config([insurer], max_age_s=0))
        replies = []
        client = threading.Thread(target=lambda: replies.append(service.get(URL)))
        client.start()
        wait_for(lambda: insurer.asked, "the question")
        self.assertLess(service.stop(), STOP_WITHIN)
        client.join()
        self.assertEqual(replies[0].status, 200, replies[0])
        self.assertEqual(replies[0].json["copay"], 1)

    def test_what_never_ends_is_cut(self):
        insurer = Insurer("a", hang())
        self.addCleanup(insurer.close)
        service = services(self, insurers_config([insurer], max_age_s=0, deadline_ms=60000))

        def ask():
            with contextlib.suppress(harness.Broken, OSError):
                service.get(URL)

        client = threading.Thread(target=ask)
        client.start()
        wait_for(lambda: insurer.asked, "the question")
        self.assertLess(service.stop(), STOP_WITHIN)
        client.join(harness.LONG)

    def test_a_stop_before_it_is_ready_is_clean_too(self):
        for seconds in (0, 0.005, 0.01, 0.02, 0.04):
            with self.subTest(seconds):
                service = services(self, ready=False)
                wait_for(lambda: os.path.exists(os.path.join(service.data, "nginx.conf")), "files")
                time.sleep(seconds)  # any moment is as good as another
                wait_for(lambda: service.processes() or service.output, "it runs")
                service.process.terminate()
                self.assertIn(service.wait(), (0, -signal.SIGTERM))
                service.await_gone()

    def test_sigkill_leaves_nothing_behind(self):
        service = services(self)
        self.assertGreater(len(service.processes()), 5)
        service.process.kill()
        service.wait()
        service.await_gone()
        after = services(self, data=service.data, port=service.port)
        self.assertEqual(after.get(URL).status, 200)
        after.stop()

    def test_programs_end_with_those_who_watch_them(self):
        service = services(self)
        watchers = service.pids("multiwatch")
        self.assertEqual(len(watchers), len(service.get("/healthz").json["programs"]))
        service.process.kill()
        for pid in watchers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        service.wait()
        service.await_gone()

    def test_it_starts_at_once_after_sigkill(self):
        service = services(self)
        for _ in range(5):
            service.process.kill()
            service.wait()
            service = services(self, data=service.data, port=service.port)
            self.assertEqual(service.get(URL).status, 200)
        service.stop()

    def test_it_does_not_start_beside_what_an_earlier_one_has_left(self):
        service = services(self)
        service.stop()
        command = [harness.program("caredesk"), "run", "--data", service.data, "--listen",
                   f"127.0.0.1:{service.port}"]
        with open(os.path.join(service.data, "run/alive"), "rb") as left:
            fcntl.flock(left, fcntl.LOCK_SH)  # as each of its processes does
            process = subprocess.run(command, capture_output=True, text=True, check=False,
                                     timeout=harness.LONG)
        self.assertEqual(process.returncode, 1)
        self.assertIn("still run there", process.stderr)
        services(self, data=service.data, port=service.port).stop()

    def test_the_end_of_nginx_is_the_end_of_all(self):
        for number in (signal.SIGKILL, signal.SIGTERM):
            with self.subTest(number):
                service = services(self)
                master = [one.pid for one in service.processes() if one.name == "nginx" and
                          one.parent == service.process.pid]
                self.assertEqual(len(master), 1)
                os.kill(master[0], number)
                self.assertEqual(service.wait(), 1)
                self.assertIn("nginx has ended by itself", service.lines[-1])
                service.await_gone()


class Killing(Case):
    """Programs and workers that die."""

    @classmethod
    def config(cls):
        cls.insurer = Insurer("a")
        cls.addClassCleanup(cls.insurer.close)
        return insurers_config([cls.insurer], max_age_s=0, circuit_failures=1000,
                               deadline_ms=10000)

    def setUp(self):
        self.insurer.behaviour = answer(3, 2, 1)

    def answers(self, target):
        with contextlib.suppress(harness.Broken, OSError):
            reply = self.service.get(target)
            if reply.status == 200:
                return True
            self.assertProblem(reply, 502, "upstream-failed")
        return False

    def kill(self, name, number=signal.SIGKILL):
        """Returns the seconds until it answers again."""
        pid = self.service.pid(name)
        os.kill(pid, number)
        began = time.monotonic()
        wait_for(lambda: harness.process(pid) is None, "its end")
        wait_for(lambda: self.answers(f"/healthz/{name}"), "the first answer", 5)
        self.assertNotEqual(self.service.pid(name), pid)
        return time.monotonic() - began

    def test_each_program_is_back_at_once(self):
        for name in harness.PROGRAMS:
            for number in (signal.SIGKILL, signal.SIGABRT, signal.SIGTERM):
                with self.subTest(name=name, number=number):
                    took = self.kill(name, number)
                    note(f"{name}, {number.name}: back after {took:.3f} s")

    def test_ten_kills_in_a_row_are_survived(self):
        for name in harness.PROGRAMS:
            longest = max(self.kill(name) for _ in range(10))
            note(f"{name}: back after {longest:.3f} s at the most")
        self.assertEqual(self.service.get("/healthz").status, 200)
        self.assertIsNone(self.service.process.poll())

    def test_a_watcher_that_is_killed_is_replaced_with_its_program(self):
        for name in harness.PROGRAMS:
            watched = self.service.pid(name)
            watcher = harness.process(watched).parent
            self.assertEqual(harness.process(watcher).name, "multiwatch")
            os.kill(watcher, signal.SIGKILL)
            for pid in (watcher, watched):
                wait_for(lambda pid=pid: harness.process(pid) is None, "its end")
            wait_for(lambda: self.service.pids(name) and self.answers(f"/healthz/{name}"),
                     "an answer")
            self.kill(name)

    def test_the_client_of_a_lost_request_gets_a_clear_502(self):
        """Or the answer, if nginx took a kept connection, and so may ask again on a new one."""
        statuses = []
        while 502 not in statuses and len(statuses) < 20:
            self.insurer.behaviour = hang()
            before = self.insurer.asked
            replies = []
            client = threading.Thread(target=lambda: replies.append(self.service.get(URL)))
            client.start()
            wait_for(lambda: self.insurer.asked > before, "the question")
            self.insurer.behaviour = answer(3, 2, 1)
            self.kill("coalesce")
            client.join(harness.LONG)
            if replies[0].status != 200:
                self.assertProblem(replies[0], 502, "upstream-failed")
            statuses.append(replies[0].status)
        note(f"{statuses}")
        self.assertIn(502, statuses)

    def test_kept_connections_to_a_program_that_died_cost_nothing(self):
        """nginx holds many; the next requests must not meet them."""
        for _ in range(3):
            at_once(16, lambda i: self.service.get("/healthz/coalesce"))
            self.kill("coalesce")
            for _ in range(40):
                self.assertEqual(self.service.get("/healthz/coalesce").status, 200)

    def test_a_worker_of_nginx_that_is_killed_is_replaced(self):
        workers = self.service.workers()
        self.assertGreaterEqual(len(workers), 1)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(set(self.service.workers()) - set(workers)) == len(workers),
                 "new ones")
        wait_for(lambda: self.answers(URL), "an answer")
        for pid in workers:
            wait_for(lambda: [one for one in self.service.events("nginx") if re.search(
                rf"\[alert\] \d+#\d+: worker process {pid} exited on signal 9$",
                one["detail"])], f"the whole message about {pid}")


class Graceful(Case):
    """A program that is told to stop loses no request of anybody."""

    @classmethod
    def config(cls):
        cls.insurer = Insurer("a")
        cls.addClassCleanup(cls.insurer.close)
        return insurers_config([cls.insurer], max_age_s=0)

    def test_no_request_is_lost_when_programs_are_renewed_under_load(self):
        done = threading.Event()
        replaced = []

        def load(i):
            count, wrong = 0, []
            with self.service.connect() as connection:
                while not done.is_set():
                    reply = connection.ask(f"/api/coalescence/max?member_id={i}")
                    count += 1
                    if reply.status != 200:
                        wrong.append(reply)
            return count, wrong

        def renew():
            try:
                for _ in range(5):
                    pid = self.service.pid("coalesce")
                    os.kill(pid, signal.SIGTERM)
                    wait_for(lambda: harness.process(pid) is None, "its end")
                    replaced.append(pid)
                    self.service.pid("coalesce")
                    time.sleep(0.15)  # longer than what counts as a crash
            finally:
                done.set()

        renewing = threading.Thread(target=renew)
        renewing.start()
        results = at_once(8, load)
        renewing.join()
        total = sum(count for count, _ in results)
        note(f"{total} requests over {len(replaced)} renewals")
        self.assertEqual(len(replaced), 5)
        self.assertEqual([reply for _, wrong in results for reply in wrong], [])
        self.assertGreater(total, 100)


@unittest.skipUnless(ROOT, "not root")
class AsRoot(Case):
    """Started by root, below a folder that only root may walk."""

    start = False

    @classmethod
    def setUpClass(cls):
        cls.hidden = harness.folder(mode=0o700)
        cls.addClassCleanup(shutil.rmtree, cls.hidden)
        cls.service = Service(data=os.path.join(cls.hidden, "data"))
        cls.addClassCleanup(cls.service.close)

    @classmethod
    def tearDownClass(cls):
        cls.service.stop()

    def uids(self, pid):
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return set(re.search(r"(?m)^Uid:\s+(.*)$", file.read())[1].split())

    def test_it_answers(self):
        for target in (URL, URL, "/healthz", "/problems/not-found", "/ping"):
            self.assertEqual(self.service.get(target).status, 200, target)
        body = 100000 * b"x"
        self.assertEqual(self.service.ask("/healthz", "POST", body=body).status, 405)

    def test_neither_programs_nor_workers_are_root(self):
        user = str(pwd.getpwnam("www-data").pw_uid)
        for pid in [pid for name in harness.PROGRAMS for pid in self.service.pids(name)] + \
                self.service.workers():
            self.assertEqual(self.uids(pid), {user})

    def test_nobody_else_gets_into_the_data_folder(self):
        mode = os.stat(self.service.data).st_mode
        self.assertEqual(stat.S_IMODE(mode) & 0o007, 0, oct(mode))
        for where, folders, files in os.walk(self.service.data):
            for name in folders + files:
                mode = os.lstat(os.path.join(where, name)).st_mode
                if not stat.S_ISSOCK(mode):
                    self.assertEqual(stat.S_IMODE(mode) & 0o002, 0, f"{name} {oct(mode)}")

    def test_a_program_killed_there_comes_back(self):
        for name in harness.PROGRAMS:
            pid = self.service.pid(name)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: harness.process(pid) is None, "its end")
            wait_for(lambda: self.service.get(f"/healthz/{name}").status == 200, "an answer")


class Programs(Case):
    """The programs' own command line."""

    start = False

    def run_program(self, name, *arguments):
        return subprocess.run([program(name), *arguments], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=harness.LONG,
                              env={"PATH": os.environ["PATH"]})

    def test_each_tells_its_routes_version_and_usage(self):
        for name in harness.PROGRAMS:
            routes = self.run_program(name, "--routes")
            self.assertEqual((routes.returncode, routes.stderr), (0, ""))
            for line in routes.stdout.splitlines():
                self.assertRegex(line, r"^(GET|POST|PUT|DELETE) /[a-z_{}/-]+ [a-z,]+$")
            self.assertRegex(self.run_program(name, "--version").stdout, rf"\A{name} \d")
            self.assertIn("--routes", self.run_program(name, "--help").stdout)

    def test_unknown_options_are_refused(self):
        for name in harness.PROGRAMS:
            done = self.run_program(name, "--nope")
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn("Usage:", done.stderr)


if __name__ == "__main__":
    harness.main()
