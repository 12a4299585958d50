"""The programs' own doors: FastCGI peers of every kind on the Unix socket, and plain CGI."""
import contextlib
import errno
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import harness
from harness import Case, ROOT, insurers_config, note, program, wait_for
from upstreams import Insurer, answer, hang, slow

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, DATA, GET_VALUES = range(1, 10)
RESPONDER, AUTHORIZER, FILTER = 1, 2, 3
BOUND = 5  # seconds


# --- FastCGI, as nginx speaks it and as nobody should --------------------------------------------

def record(kind, content=b"", number=1, version=1, padding=0):
    return struct.pack(">BBHHBx", version, kind, number, len(content), padding) + content + \
        padding * b"\0"


def pair(name, value):
    """Name and value, both as bytes, with lengths of one byte or four."""
    lengths = b"".join(bytes([len(text)]) if len(text) < 128 else
                       struct.pack(">I", len(text) | 0x80000000) for text in (name, value))
    return lengths + name + value


def begin(keep=True, role=RESPONDER, number=1):
    return record(BEGIN, struct.pack(">HB5x", role, keep), number)


def params(number=1, **values):
    content = b"".join(pair(name.encode(), str(value).encode()) for name, value in values.items())
    return record(PARAMS, content, number) + record(PARAMS, number=number)


def request(target="/healthz/coalesce", method="GET", body=b"", length=None, keep=True, number=1,
            **values):
    """A whole request.  LENGTH is the one that is announced."""
    length = len(body) if length is None else length
    parts = [begin(keep, number=number),
             params(number, REQUEST_METHOD=method, REQUEST_URI=target, CONTENT_LENGTH=length or "",
                    **values)]
    parts += [record(STDIN, body[i:i + 65000], number) for i in range(0, len(body), 65000)]
    return b"".join(parts) + record(STDIN, number=number)


class Peer:
    """One connection to a program's socket."""

    def __init__(self, service, name="coalesce", timeout=harness.LONG):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(os.path.join(service.data, f"run/{name}.sock"))
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.file.close()
        self.socket.close()

    def send(self, data):
        with contextlib.suppress(OSError):  # the program may have had enough
            self.socket.sendall(data)

    def record(self):
        """(kind, number, content), or None at the end."""
        with contextlib.suppress(ConnectionResetError):
            head = self.file.read(8)
            if len(head) == 8:
                _, kind, number, length, padding = struct.unpack(">BBHHBx", head)
                content = self.file.read(length + padding)
                if len(content) == length + padding:
                    return kind, number, content[:length]
        return None

    def answer(self, number=1):
        """The bytes of one answer up to its end mark; None if the connection ends before that."""
        out = b""
        while (got := self.record()) is not None:
            kind, whose, content = got
            if whose != number:
                raise AssertionError(f"an answer to request {whose}, which was never made")
            if kind == STDOUT:
                out += content
            elif kind == END:
                return out
        return None

    def ask(self, *args, **options):
        self.send(request(*args, **options))
        return self.answer(options.get("number", 1))

    def answers(self):
        """All there are until the program closes."""
        found = []
        while (one := self.answer()) is not None:
            found.append(one)
        return found

    def end(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)


def status(out):
    """Of an answer in CGI's form."""
    head, _, body = out.partition(b"\r\n\r\n")
    first, *fields = head.decode("ascii").split("\r\n")
    name, _, value = first.partition(": ")
    if name != "Status":
        raise AssertionError(f"no status first: {first}")
    lengths = [int(field.split(": ")[1]) for field in fields
               if field.startswith("Content-Length: ")]
    if lengths and body and lengths != [len(body)]:
        raise AssertionError(f"{lengths} but {len(body)} bytes")
    return int(value.split(" ")[0])


class SocketCase(Case):
    @classmethod
    def config(cls):
        cls.insurer = Insurer("a")
        cls.addClassCleanup(cls.insurer.close)
        return insurers_config([cls.insurer], max_age_s=0, deadline_ms=2000,
                               circuit_failures=1000)

    def setUp(self):
        self.insurer.behaviour = answer(3, 2, 1)
        self.pid = self.service.pid("coalesce")

    def tearDown(self):
        """Whatever a peer did: the same process goes on answering."""
        self.assert_serving()
        self.assertEqual(self.service.pid("coalesce"), self.pid, "it has died")

    def assert_serving(self):
        reply = self.service.get("/healthz/coalesce")
        self.assertEqual(reply.status, 200, reply)
        self.assertLess(reply.seconds, BOUND)

    def peer(self, **options):
        return Peer(self.service, **options)


class WellFormed(SocketCase):
    def test_many_requests_on_one_connection(self):
        with self.peer() as peer:
            for _ in range(50):
                self.assertEqual(status(peer.ask()), 200)
                self.assertEqual(status(peer.ask("/nope")), 404)
                self.assertEqual(status(peer.ask(method="POST", body=100000 * b"x")), 405)

    def test_the_connection_is_closed_where_that_was_asked_for(self):
        with self.peer() as peer:
            self.assertEqual(status(peer.ask(keep=False)), 200)
            self.assertIsNone(peer.record())

    def test_records_may_be_cut_and_padded_anywhere(self):
        content = b"".join(pair(name, value) for name, value in (
            (b"REQUEST_METHOD", b"GET"), (b"REQUEST_URI", b"/healthz/coalesce"),
            (b"HTTP_X", 300 * b"y"), (b"X" * 200, b"")))
        for size, padding in ((1, 0), (1, 7), (3, 255), (50, 1), (len(content), 0)):
            with self.subTest(size=size), self.peer() as peer:
                peer.send(begin() + b"".join(
                    record(PARAMS, content[i:i + size], padding=padding)
                    for i in range(0, len(content), size)) + record(PARAMS) + record(STDIN))
                self.assertEqual(status(peer.answer()), 200)

    def test_a_request_that_comes_byte_by_byte_is_answered(self):
        with self.peer() as peer:
            for byte in request():
                peer.send(bytes([byte]))
            self.assertEqual(status(peer.answer()), 200)

    def test_a_body_is_drained_so_that_the_next_request_is_found(self):
        for size in (1, 7, 8, 9, 4095, 4096, 4097, 65535, 300000, 1048576):
            with self.subTest(size=size), self.peer() as peer:
                for _ in range(3):
                    self.assertEqual(status(peer.ask(method="PUT", body=size * b"\1")), 405)
                    self.assertEqual(status(peer.ask()), 200)


class Hostile(SocketCase):
    def test_a_request_cut_anywhere_gets_no_answer_and_does_no_harm(self):
        whole = request("/healthz/coalesce", "POST", b"0123456789", HTTP_X="y")
        for end in range(len(whole)):
            with self.subTest(end=end), self.peer() as peer:
                peer.send(whole[:end])
                peer.end()
                out = peer.answer()
                # Also where all but the mark of the body's end was there.
                self.assertIsNone(out, out)

    def test_garbage_is_dropped(self):
        noise = random.Random(4711)
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 64, b"\xff" * 64, b"\1" * 64, b"\1\1",
                     record(BEGIN, b"", version=0), record(BEGIN, b""), record(BEGIN, b"\0" * 300),
                     record(STDIN, b"x" * 1000), record(99, b"x"), record(DATA, b"x"), record(END),
                     record(STDOUT, b"Status: 200 OK\r\n\r\n"), begin() + record(ABORT),
                     begin() + begin(), begin(role=AUTHORIZER), begin(role=FILTER),
                     begin(role=0xffff), record(GET_VALUES, pair(b"FCGI_MAX_CONNS", b""), 0),
                     begin() + record(PARAMS, b"\x80\0\0\xff" * 8) + record(PARAMS),
                     begin() + record(PARAMS, pair(b"REQUEST_METHOD", b"GET")[:-1]) +
                     record(PARAMS),
                     begin() + params() + record(STDIN),
                     begin() + params(REQUEST_METHOD="GET") + record(STDIN),
                     begin() + params(REQUEST_URI="/") + record(STDIN),
                     *(noise.randbytes(200) for _ in range(30)),
                     *(b"\1" + noise.randbytes(200) for _ in range(30)),
                     *(begin() + b"\1\4\0\1" + bytes(byte & 0x7f for byte in noise.randbytes(200))
                       for _ in range(30))):
            with self.subTest(data[:40]), self.peer() as peer:
                peer.send(data)
                peer.end()
                while peer.record() is not None:
                    pass
        self.assert_serving()

    def test_meta_variables_that_nginx_never_sends_are_answered_with_a_problem(self):
        for values in ({"target": ""}, {"target": "no-slash"}, {"target": "/" + 5000 * "x"},
                       {"method": ""}, {"method": "GET\r\nX: y"}, {"method": 3000 * "G"},
                       {"length": -1}, {"length": "1e3"}, {"length": "9" * 30}, {"target": "/\0"},
                       {"HTTP_ACCEPT": ";;,,/"}, {"HTTP_ACCEPT": 60000 * ","},
                       {"HTTP_TRACEPARENT": 3000 * "0"}, {"REQUEST_ID": "\r\nX: y"},
                       {"CONTENT_TYPE": "\r\n"}, {"target": "/%"}, {"target": "/\r\nX: y"}):
            with self.subTest(str(values)[:60]), self.peer() as peer:
                out = peer.ask(keep=False, **values)
                if out is None:  # that a length is a lie may be found out after the answer, too
                    self.assertIn("length", values)
                    continue
                self.assertIn(status(out), (200, 400, 404, 405, 406, 414))
                self.assertNotIn(b"\nX:", out)

    def test_idle_connections_by_the_hundred_block_nobody(self):
        with contextlib.ExitStack() as stack:
            for _ in range(400):
                stack.enter_context(self.peer())
            used = [stack.enter_context(self.peer()) for _ in range(100)]
            for peer in used:
                self.assertEqual(status(peer.ask()), 200)
            for _ in range(20):
                self.assert_serving()
            for peer in used:
                self.assertEqual(status(peer.ask()), 200)

    def test_a_slow_peer_blocks_nobody_else(self):
        for part in (request()[:4], request()[:30], request("/", "POST", b"x" * 99)[:-20]):
            with self.peer() as peer:
                peer.send(part)
                began = time.monotonic()
                for _ in range(20):
                    self.assert_serving()
                note(f"20 answers beside a peer that stalls: {time.monotonic() - began:.2f} s")

    def test_a_body_shorter_than_announced_is_no_request(self):
        for length in (11, 20, 1000, 10**6, 2**62):
            with self.subTest(length=length), self.peer() as peer:
                peer.send(request(method="POST", body=b"0123456789", length=length))
                # Of what follows nothing may be taken for the rest of the body.
                peer.send(request("/healthz/coalesce?second"))
                peer.end()
                for out in peer.answers():
                    self.assertIn(status(out), (200, 400, 405, 413))

    def test_a_body_longer_than_announced_cannot_smuggle_a_request(self):
        self.smuggle(lambda forged, pad: request(method="POST", body=pad + forged, length=len(pad)))

    def test_an_unread_body_cannot_smuggle_a_request(self):
        self.smuggle(lambda forged, pad: request(method="POST", body=pad + forged))
        self.smuggle(lambda forged, pad: request("/nope", "PUT", pad + 40000 * b"x" + forged))
        self.smuggle(lambda forged, pad: request(target="/", body=pad + forged, length=""))

    def smuggle(self, make):
        """A body that holds a whole request, at every alignment; the request after it is ours."""
        target = "/smuggled-in"
        forged = request(target, number=1)
        for size in range(0, 64):
            with self.peer() as peer:
                peer.send(make(forged, size * b"\0"))
                peer.send(request("/healthz/coalesce"))
                peer.end()
                found = [status(out) for out in peer.answers()]
                self.assertIn(found, ([], [200], [405], [404], [400], [405, 200], [404, 200],
                                      [400, 200], [200, 200]), size)
        self.assert_serving()
        self.assertEqual([line for line in self.service.events("request")
                          if line["path"] == target], [])

    def test_a_body_over_the_limit_ends_the_connection(self):
        with self.peer() as peer:
            sender = threading.Thread(target=peer.send, daemon=True, args=(
                request(method="POST", body=4 * 1048576 * b"x") + request(),))
            sender.start()
            found = [status(out) for out in peer.answers()]
            self.assertIn(found, ([], [405], [413]))
            peer.close()
            sender.join(harness.LONG)

    def test_a_peer_that_never_reads_is_left(self):
        with self.peer() as peer:
            peer.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                for _ in range(20000):
                    peer.socket.send(request("/nope"))
            self.assert_serving()


class EveryRoute(Case):
    """Bodies that are not what was announced, on each route of each program, between good requests."""

    FORGED = "/smuggled-in"

    def strange(self, method, target):
        """(what a peer sends, whether the connection may go on) of each kind of body."""
        forged = request(self.FORGED)
        kind = {"CONTENT_TYPE": "application/json"}
        for pad in (b"", 5 * b"\0", 4000 * b" "):
            body = pad + forged
            yield request(target, method, body, **kind), True  # refused, or never looked at
            yield request(target, method, body, length=len(pad), **kind), False
            yield request(target, method, body, length=len(body) + 9, **kind), False
            yield request(target, method, body, length="", **kind), False  # as if in chunks

    def own(self, peer, name):
        """Asks what only this question has the answer to: a problem with its trace."""
        trace = os.urandom(16).hex()
        out = peer.ask(f"/nope/{name}", HTTP_TRACEPARENT=f"00-{trace}-b7ad6b7169203331-01")
        if out is None:
            return False
        self.assertEqual((status(out), json.loads(out.partition(b"\r\n\r\n")[2])["trace_id"]),
                         (404, trace))
        return True

    def test_no_body_smuggles_a_request_or_shifts_the_answers(self):
        for name in harness.PROGRAMS:
            pid = self.service.pid(name)
            for method, path in harness.routes(name):
                target = re.sub(r"\{[^}]*\}", "987654321", path)
                for sent, stays in self.strange(method, target):
                    with self.subTest(method=method, path=path), \
                            Peer(self.service, name) as peer:
                        self.assertTrue(self.own(peer, name))
                        peer.send(sent)
                        out = peer.answer()
                        self.assertIn(status(out) if out else 400, (200, 400, 404, 413, 415))
                        self.assertTrue(self.own(peer, name) or not stays)
            self.assertEqual(self.service.pid(name), pid, f"{name} has died")
        self.assertEqual([line for line in self.service.events("request")
                          if line["path"] == self.FORGED], [])


class Exhausting(Case):
    """libfcgi asks for as much memory as a peer announces, and gives up if there is not as much."""

    def test_a_parameter_of_gigabytes_costs_a_restart_at_most(self):
        for _ in range(3):
            with Peer(self.service) as peer:
                peer.send(begin() + record(PARAMS, b"\xff" * 65535) + record(PARAMS))
                peer.end()
                self.assertIsNone(peer.answer())
            wait_for(lambda: self.service.get("/healthz/coalesce").status == 200, "an answer",
                     BOUND)
        # These are the C library's words, the only ones that are no JSON.
        self.service.lines[:] = [line for line in self.service.lines if not line.startswith(
            "coalesce: fcgiapp.c:75: Malloc: Assertion ")]


class Leaving(SocketCase):
    def in_flight(self):
        return self.service.get("/healthz/coalesce").json["upstreams"][0]["in_flight"]

    def last(self, path):
        return [line for line in self.service.events("request") if line["path"] == path]

    def test_a_client_that_goes_away_meanwhile_does_no_harm(self):
        self.insurer.behaviour = slow(0.2, answer(3, 2, 1))
        before = self.insurer.asked
        for i in range(20):
            with self.service.connect() as connection:
                connection.send(f"GET /api/coalescence/default?member_id={i} HTTP/1.1\r\n"
                                "Host: localhost\r\n\r\n".encode())
                wait_for(lambda: self.insurer.asked > before + i, "the question")
        reply = self.service.get("/api/coalescence/default?member_id=x")
        self.assertEqual(reply.status, 200, reply)

    def test_a_peer_that_goes_away_meanwhile_is_logged_as_gone(self):
        self.insurer.behaviour = slow(0.2, answer(3, 2, 1))
        before = self.insurer.asked
        with self.peer() as peer:
            peer.send(request("/api/coalescence/max?member_id=1"))
            wait_for(lambda: self.insurer.asked > before, "the question")
        wait_for(lambda: self.last("/api/coalescence/max"), "the log line")

    def test_many_that_go_away_at_once_leave_no_thread_behind(self):
        self.insurer.behaviour = hang()
        before = self.insurer.asked
        peers = [self.peer() for _ in range(64)]
        for peer in peers:
            peer.send(request("/api/coalescence/max?member_id=1"))
        wait_for(lambda: self.insurer.asked >= before + len(peers), "the questions")
        for peer in peers:
            peer.close()
        self.assert_serving()
        self.insurer.behaviour = answer(3, 2, 1)
        wait_for(lambda: self.in_flight() == 0, "no question is under way")
        self.assertEqual(self.service.get("/api/coalescence/min?member_id=1").status, 200)


@unittest.skipUnless(ROOT, "not root")
class Strangers(SocketCase):
    """Another user of the machine."""

    STRANGER = 65534

    def as_stranger(self, path):
        """Connects there as somebody else; an errno, or the bytes that came back."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            said = "?"
            try:
                os.setgroups([])
                os.setgid(self.STRANGER)
                os.setuid(self.STRANGER)
                with socket.socket(socket.AF_UNIX) as peer:
                    peer.settimeout(harness.LONG)
                    peer.connect(path)
                    with contextlib.suppress(BrokenPipeError):
                        peer.sendall(request())
                    said = str(len(peer.recv(4096)))
            except OSError as error:
                said = errno.errorcode[error.errno]
            finally:
                os.write(writer, said.encode())
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as file:
            said = file.read()
        os.waitpid(child, 0)
        return said

    def test_the_sockets_are_out_of_reach(self):
        for name in (*harness.PROGRAMS, "http"):
            path = os.path.join(self.service.data, f"run/{name}.sock")
            self.assertEqual(self.as_stranger(path), "EACCES")

    def test_whoever_reaches_one_all_the_same_is_refused(self):
        place = harness.folder()
        self.addCleanup(shutil.rmtree, place)
        inside = os.path.join(self.service.data, "run/coalesce.sock")
        outside = os.path.join(place, "coalesce.sock")
        try:
            os.link(inside, outside)
        except OSError as error:
            self.skipTest(f"no second name for a socket here: {error}")
        mode = os.stat(inside).st_mode
        os.chmod(inside, 0o666)
        try:
            self.assertIn(self.as_stranger(outside), ("0", "ECONNRESET"))
        finally:
            os.chmod(inside, mode & 0o777)
        wait_for(lambda: self.service.events("peer_refused"), "the log line")


class PlainCgi(Case):
    start = False

    def setUp(self):
        self.folder = harness.folder()
        self.addCleanup(shutil.rmtree, self.folder)

    def run_cgi(self, name="coalesce", body=b"", **environment):
        """Its exit status, answer and log."""
        with tempfile.TemporaryFile() as stdin:
            stdin.write(body)
            stdin.seek(0)
            done = subprocess.run([program(name), "--data", self.folder], stdin=stdin,
                                  capture_output=True, timeout=harness.LONG,
                                  env={"PATH": os.environ["PATH"], **environment,
                                       **{name: value for name, value in os.environ.items()
                                          if name.endswith("SAN_OPTIONS")}})
        self.assertNotIn(b"Sanitizer", done.stderr)
        self.assertNotIn(b"runtime error", done.stderr)
        return done.returncode, done.stdout, done.stderr

    def test_a_request_in_the_environment_is_answered_on_standard_output(self):
        for name, target, expected in (("coalesce", "/healthz/coalesce", 200),
                                       ("health", "/healthz/health", 200),
                                       ("coalesce", "/nope", 404),
                                       ("coalesce", "/api/coalescence/nope", 400),
                                       ("coalesce", "/api/coalescence/default", 400)):
            with self.subTest(target):
                code, out, log = self.run_cgi(name, REQUEST_METHOD="GET", REQUEST_URI=target)
                self.assertEqual((code, status(out)), (0, expected))
                head, _, body = out.partition(b"\r\n\r\n")
                kind = "application/json" if expected == 200 else "application/problem+json"
                self.assertIn(f"\r\nContent-Type: {kind}\r\n".encode(), head)
                json.loads(body)
                line = json.loads(log.splitlines()[-1])
                self.assertEqual((line["event"], line["status"]), ("request", expected))

    def test_insurers_are_asked_as_ever(self):
        insurer = Insurer("a")
        self.addCleanup(insurer.close)
        with open(os.path.join(self.folder, "c.yaml"), "w", encoding="ascii") as file:
            json.dump(insurers_config([insurer]), file)
        done = subprocess.run(
            [program("coalesce"), "--data", self.folder, "--config", file.name],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=harness.LONG,
            env={"REQUEST_METHOD": "GET", "REQUEST_URI": "/api/coalescence/max?member_id=1"})
        self.assertEqual(status(done.stdout), 200)
        self.assertTrue(done.stdout.endswith(
            b'{"oop_max":10000,"remaining_oop_max":8000,"copay":1000}'), done)

    def test_methods_and_bodies(self):
        for method, body, expected in (("HEAD", b"", 200), ("OPTIONS", b"", 204),
                                       ("POST", b"0123456789", 405), ("", b"", 405)):
            with self.subTest(method):
                code, out, _ = self.run_cgi(body=body, REQUEST_METHOD=method,
                                            REQUEST_URI="/healthz/coalesce",
                                            CONTENT_LENGTH=str(len(body)))
                self.assertEqual((code, status(out)), (0, expected))
                if method == "HEAD":
                    self.assertTrue(out.endswith(b"\r\n\r\n"))

    def test_without_a_request_the_reason_is_said(self):
        for name in ("coalesce", "health"):
            code, out, log = self.run_cgi(name)
            self.assertEqual((code, out), (1, b""))
            line = json.loads(log.splitlines()[-1])
            self.assertEqual((line["program"], line["level"], line["event"]),
                             (name, "error", "start_failed"))
            self.assertIn("REQUEST_METHOD", line["detail"])

    def test_without_a_data_folder_the_reason_is_said(self):
        self.folder += "/nope"
        code, out, log = self.run_cgi(REQUEST_METHOD="GET", REQUEST_URI="/")
        self.folder = os.path.dirname(self.folder)
        self.assertEqual((code, out), (1, b""))
        self.assertIn("data folder", json.loads(log)["detail"])


class Busy(Case):
    def test_more_connections_than_a_program_takes_wait_for_it(self):
        path = os.path.join(self.service.data, "run/report.sock")
        pid = self.service.pid("report")
        waiting = []
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(1500):
                one = socket.socket(socket.AF_UNIX)
                waiting.append(one)
                one.setblocking(False)  # as nginx is: what does not wait is refused
                one.connect(path)
        finally:
            os.kill(pid, signal.SIGCONT)
            for one in waiting:
                one.close()
        self.assertEqual(self.get("/healthz/report").status, 200)


if __name__ == "__main__":
    harness.main()
