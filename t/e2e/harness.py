"""What the end-to-end tests share: TAP, the service as its operator starts it, HTTP by the byte.

A test file holds classes of Case, each with one service of its own, and ends with main().  Ports
and folders are the test's own, so that all files may run at once.
"""
import collections
import contextlib
import faulthandler
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import openapi

BUILD = os.environ.get("CAREDESK_BUILD", os.getcwd())
SOURCE = os.environ.get("CAREDESK_SOURCE", os.path.join(os.path.dirname(__file__), "../.."))


def _patience():
    """Seconds that anything is waited for that ought to come at once; sanitizers take their time."""
    try:
        with open(os.path.join(os.environ["CAREDESK_BUILD"], ".options"), encoding="utf-8") as file:
            return 60 if "san" in file.read() else 20
    except (KeyError, OSError):
        return 20


LONG = _patience()
ROOT = os.geteuid() == 0
DOCS_FILES = ("docs.js", "favicon-16x16.png", "favicon-32x32.png", "swagger-ui-bundle.js",
              "swagger-ui.css")
POLICY = "default-src 'none'; frame-ancestors 'none'"
PROGRAMS = ("accounts", "audios", "coalesce", "events", "health", "report", "stats")


def program(name):
    return os.path.join(BUILD, name)


def caredesk(*arguments, **options):
    """Runs the operator's command to its end."""
    return subprocess.run([program("caredesk"), *arguments], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=LONG, **options)


def has_docs():
    """Whether Swagger UI is where `caredesk run` looks for it, or else there is no /docs."""
    return os.path.exists(os.path.join(BUILD, "swagger-ui/swagger-ui-bundle.js"))


def routes(*names):
    """What the programs say that they answer: (method, path)."""
    lines = [line for name in names for line in
             subprocess.run([program(name), "--routes"], capture_output=True, text=True,
                            check=True).stdout.splitlines()]
    return [tuple(line.split()[:2]) for line in lines]


def wait_for(condition, what, seconds=LONG, pause=0.01):
    """Polls until CONDITION gives something true, and returns that."""
    until = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(pause)


def at_once(count, function):
    """FUNCTION(i) in COUNT threads that begin together; the results in order."""
    results, start = [None] * count, threading.Barrier(count)

    def run(i):
        start.wait()
        try:
            results[i] = function(i)
        except Exception as error:  # the caller looks at what it gets
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(6 * LONG)
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def folder(prefix="caredesk-", mode=0o755):
    """A new one that any user may walk, and that the caller removes."""
    path = tempfile.mkdtemp(prefix=prefix)
    os.chmod(path, mode)
    return path


# --- Ports and processes ---------------------------------------------------------------------

_reserved = []  # kept open: other test processes see that the port is taken


def _reserve(port):
    """By an abstract Unix socket, as a lock among tests, and a look whether both ports are free."""
    lock = socket.socket(socket.AF_UNIX)
    try:
        lock.bind(f"\0caredesk-test-{port}")
        for number in (port, port + 10000):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", number))
    except OSError:
        lock.close()
        return False
    _reserved.append(lock)
    return True


def free_port():
    """A port whose neighbour 10000 above, where the demo insurers are, is free too; both lie below
    those that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(10100, 22700)
        if _reserve(port):
            return port


Process = collections.namedtuple("Process", "pid parent state name")


def process(pid):
    """None once it has ended; one that nobody has waited for yet has ended, too."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    name, rest = text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2:].split()
    return None if rest[0] in "ZX" else Process(pid, int(rest[1]), rest[0], name)


def pids():
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def processes():
    return [one for one in map(process, pids()) if one is not None]


def working_folder(pid):
    """The programs', which are not dumpable, only root is told; they stand where their parent does."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except PermissionError:
        one = process(pid)
        return working_folder(one.parent) if one is not None and one.parent > 0 else ""


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


# --- HTTP ------------------------------------------------------------------------------------

class Broken(Exception):
    """What came is no whole HTTP response."""


class Answer:
    def __init__(self, status, fields, body, seconds=0.0):
        self.status, self.fields, self.body, self.seconds = status, fields, body, seconds

    def __repr__(self):
        return f"{self.status} {self.fields} {self.body[:300]!r}"

    def field(self, name):
        """None if it was not sent; it must not be sent twice."""
        found = [value for key, value in self.fields if key.lower() == name.lower()]
        if len(found) > 1:
            raise AssertionError(f"{name} was sent {len(found)} times")
        return found[0] if found else None

    @property
    def json(self):
        return json.loads(self.body.decode("utf-8"))


class Connection:
    """One TCP connection to nginx: bytes out, responses in, and nothing in between that repairs."""

    def __init__(self, port, timeout=LONG):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")
        self.port = port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def request(self, target, method="GET", fields=(), body=None):
        """A well-formed one; TARGET goes out as it is."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in dict(fields).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines + ["", ""]).encode("utf-8", "surrogateescape") + (body or b""))

    def ask(self, target, method="GET", fields=(), body=None):
        """A request, and its answer, which is held to the document."""
        began = time.monotonic()
        self.request(target, method, fields, body)
        answer = self.receive(method)
        answer.seconds = time.monotonic() - began
        hold_to_document(method, target, answer, fields, body)
        return answer

    def _line(self):
        line = self.file.readline(65536)
        if not line.endswith(b"\r\n"):
            raise Broken(f"the response breaks off in its head: {line!r}")
        return line[:-2].decode("latin-1")

    def _exactly(self, n):
        data = self.file.read(n)
        if len(data) < n:
            raise Broken(f"{len(data)} of {n} bytes came")
        return data

    def _chunks(self):
        body = []
        while True:
            size = int(self._line(), 16)
            chunk = self._exactly(size + 2)
            if not chunk.endswith(b"\r\n"):
                raise Broken("a chunk is longer than it says")
            if size == 0:
                return b"".join(body)
            body.append(chunk[:-2])

    def receive(self, method="GET"):
        """The next response, whole; Broken if it is not."""
        match = re.fullmatch(r"HTTP/1\.1 ([1-5]\d\d) ?.*", self._line())
        if match is None:
            raise Broken("no status line")
        status, fields = int(match[1]), []
        while line := self._line():
            name, _, value = line.partition(":")
            fields.append((name, value.strip()))
        answer = Answer(status, fields, b"")
        if method != "HEAD" and status not in (100, 204, 304):
            if answer.field("Transfer-Encoding") == "chunked":
                answer.body = self._chunks()
            elif answer.field("Content-Length") is not None:
                answer.body = self._exactly(int(answer.field("Content-Length")))
            else:
                answer.body = self.file.read()
        return answer

    def rest(self):
        """All bytes until the server closes."""
        with contextlib.suppress(ConnectionError):
            return self.file.read()
        return b""


DEVIATIONS = []  # of the answers of the test that runs, from what the document says


def hold_to_document(method, target, answer, fields=(), body=None):
    """Whoever asked, even a thread whose errors nobody sees: the test that runs fails."""
    try:
        found = openapi.document().deviations(method, target, answer, dict(fields), body)
    except AssertionError as error:  # a header that came twice
        found = [f"{method} {target}: {error}"]
    DEVIATIONS.extend(f"docs/openapi.yaml: {one}" for one in found)


def deviations():
    """Each once, and forgets them."""
    found = list(dict.fromkeys(DEVIATIONS))
    DEVIATIONS.clear()
    return found[:20] + [f"... and {len(found) - 20} more"] * (len(found) > 20)


# --- The service -----------------------------------------------------------------------------

LOG_MEMBERS = {"time": str, "level": str, "program": str, "event": str}
REQUEST_MEMBERS = {"trace_id": str, "method": str, "route": str, "path": str, "status": int,
                   "bytes": int, "ms": (int, float)}


class Service:
    """`caredesk run`, in a folder of its own, by default awaited until it is ready."""

    def __init__(self, config=None, *, data=None, port=None, ready=True, arguments=()):
        self.folder = folder()
        self.data = data or os.path.join(self.folder, "data")
        self.port = port or free_port()
        self.scheme = "https" if isinstance(config, dict) and "tls" in config else "http"
        self.config_file = None
        if config is not None:
            self.config_file = os.path.join(self.folder, "caredesk.yaml")
            with open(self.config_file, "w", encoding="utf-8") as file:
                # JSON is YAML, too.
                file.write(config if isinstance(config, str) else json.dumps(config, indent=1))
        command = [program("caredesk"), "run", "--listen", f"127.0.0.1:{self.port}",
                   "--data", self.data, *arguments]
        if self.config_file is not None:
            command += ["--config", self.config_file]
        self.output, self.lines, self.known = [], [], set()
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=self.folder,
                                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError:
            shutil.rmtree(self.folder)
            raise
        self.readers = [threading.Thread(target=self._collect, args=pair, daemon=True)
                        for pair in ((self.process.stdout, self.output),
                                     (self.process.stderr, self.lines))]
        for reader in self.readers:
            reader.start()
        if ready:
            self.await_ready()

    @staticmethod
    def _collect(stream, lines):
        with stream:
            for line in stream:
                lines.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))

    @property
    def ready_line(self):
        return f"ready {self.scheme}://127.0.0.1:{self.port}/"

    def await_ready(self):
        with contextlib.suppress(AssertionError):
            wait_for(lambda: self.output or self.process.poll() is not None, "the ready line")
        if self.ready_line not in self.output:
            self.close()
            raise AssertionError(f"not ready: {self.output} {self.lines}")

    # Asking it.

    def connect(self, timeout=LONG):
        return Connection(self.port, timeout)

    def ask(self, target, method="GET", fields=(), body=None, timeout=LONG):
        with self.connect(timeout) as connection:
            return connection.ask(target, method, fields, body)

    def get(self, target, **fields):
        return self.ask(target, fields={k.replace("_", "-"): v for k, v in fields.items()})

    def raw(self, data, timeout=LONG):
        """Bytes there, and all bytes back until nginx closes."""
        with self.connect(timeout) as connection:
            with contextlib.suppress(ConnectionError):
                connection.send(data)
            return connection.rest()

    # Its logs.

    @property
    def log(self):
        """The lines on standard error, each as an object."""
        return [json.loads(line) for line in list(self.lines)]

    def events(self, name):
        return [line for line in self.log if line.get("event") == name]

    @property
    def access_log(self):
        with open(os.path.join(self.data, "log/access.log"), encoding="utf-8",
                  errors="surrogateescape") as file:  # paths are as they were sent
            return [json.loads(line) for line in file]

    # Its processes.

    def processes(self):
        """Whoever stands in the data folder, whoever's child it is by now."""
        found = [one for one in map(process, filter(self._is_ours, pids())) if one is not None]
        self.known.update(one.pid for one in found)
        return found

    def pids(self, name):
        """Of the program NAME itself, without what watches it."""
        return [one.pid for one in self.processes() if one.name == name]

    def pid(self, name):
        return wait_for(lambda: self.pids(name), f"a process {name}")[0]

    def workers(self):
        """nginx's, without its master and its cache's keepers."""
        def is_worker(pid):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                return b"worker process" in file.read()
            return False

        return [pid for pid in self.pids("nginx") if is_worker(pid)]

    def left(self):
        self.processes()
        return [one for one in map(process, self.known) if one is not None]

    def await_gone(self, seconds=LONG):
        wait_for(lambda: not self.left(), f"no process is left: {self.left()}", seconds)
        wait_for(lambda: not listening(self.port), "the port is free", seconds)

    # Its end.

    def wait(self, seconds=LONG):
        """Its exit status, and all it said."""
        status = self.process.wait(seconds)
        for reader in self.readers:
            reader.join(LONG)
        return status

    def stop(self, signal_number=signal.SIGTERM):
        """As the operator does, and proves that the end is clean; returns the seconds it took."""
        self.processes()
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        status = self.wait()
        took = time.monotonic() - began
        if status != 0:
            raise AssertionError(f"exit status {status}: {self.lines[-5:]}")
        self.await_gone()
        self.check_log()
        return took

    def check_log(self):
        """Every line is JSON with its members; no sanitizer and no killed child is among them."""
        for line in list(self.lines):
            if "Sanitizer" in line or "runtime error" in line:
                raise AssertionError("a sanitizer reports:\n" + "\n".join(self.lines[-60:]))
        for line in list(self.lines):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise AssertionError(f"no JSON: {line}") from error
            members = dict(LOG_MEMBERS)
            if entry.get("event") == "request":
                members.update(REQUEST_MEMBERS)
            wrong = [name for name, kind in members.items()
                     if not isinstance(entry.get(name), kind)]
            if wrong or len(line) > 4096:
                raise AssertionError(f"{wrong} in {line}")

    def kill(self):
        """Whatever may have gone wrong before: nothing stays behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        while ours := [one.pid for one in self.left() if self._is_ours(one.pid)]:
            for pid in ours:  # one of them may just be starting another
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.001)

    def _is_ours(self, pid):
        with contextlib.suppress(OSError):
            return working_folder(pid).startswith(os.path.realpath(self.data))
        return False

    def close(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


# --- Tests -----------------------------------------------------------------------------------

class Case(unittest.TestCase):
    """A class of behaviours, with one service for all of them unless START is False."""

    start = True
    service = None

    @classmethod
    def config(cls):
        """What the service is started with; None for the defaults."""
        return None

    @classmethod
    def setUpClass(cls):
        if cls.start:
            cls.service = Service(cls.config())
            cls.addClassCleanup(cls.service.close)

    @classmethod
    def tearDownClass(cls):
        if cls.start:
            cls.service.stop()

    def get(self, target, **fields):
        return self.service.get(target, **fields)

    def assertCommon(self, answer, policy=POLICY):
        """What is sent with everything."""
        self.assertEqual(answer.field("X-Content-Type-Options"), "nosniff", answer)
        self.assertEqual(answer.field("Content-Security-Policy"), policy, answer)
        self.assertEqual(answer.field("Referrer-Policy"), "no-referrer", answer)
        self.assertEqual(answer.field("Server"), "nginx", answer)
        self.assertIsNotNone(answer.field("Cache-Control"), answer)
        self.assertIsNotNone(answer.field("Date"), answer)

    def assertProblem(self, answer, status, name=None):
        """An RFC 9457 problem as the contract has it; returns it."""
        self.assertEqual(answer.status, status, answer)
        self.assertCommon(answer)
        self.assertEqual(answer.field("Content-Type"), "application/problem+json", answer)
        self.assertEqual(answer.field("Cache-Control"), "no-store", answer)
        problem = answer.json
        self.assertEqual(problem["status"], status)
        self.assertRegex(problem["type"], "^/problems/[a-z-]+$")
        if name is not None:
            self.assertEqual(problem["type"], f"/problems/{name}")
        for member in ("title", "detail"):
            self.assertTrue(isinstance(problem[member], str) and problem[member], problem)
        self.assertRegex(problem["trace_id"], "^(?!0{32})[0-9a-f]{32}$")
        for field in problem.get("errors", []):
            self.assertTrue(field["detail"] and field["pointer"], problem)
        if status == 405:
            self.assertTrue(answer.field("Allow"), answer)
        self.assertEqual(answer.field("Retry-After") is not None, status in (429, 503), answer)
        return problem


def insurers_config(insurers, **settings):
    """The configuration that asks INSURERS, with further keys of coalesce."""
    return {"coalesce": {"upstreams": [insurer.config for insurer in insurers], **settings}}


class TapResult(unittest.TestResult):
    """A line a behaviour, at once."""

    def __init__(self):
        super().__init__()
        self.count = 0
        self.failed = False
        self.notes = []

    def _say(self, ok, name, lines=(), directive=""):
        self.count += 1
        self.failed |= not ok
        text = [f"{'ok' if ok else 'not ok'} {self.count} - {name}{directive}"]
        text += [f"# {line}" for line in lines]
        print("\n".join(text), flush=True)

    @staticmethod
    def _name(test):
        if hasattr(test, "description"):  # setUpClass or tearDownClass, by unittest's holder
            stage, _, where = test.description.partition(" (")
            return (f"{_words(where.rstrip(')').rpartition('.')[2])}: the service "
                    f"{'starts' if stage == 'setUpClass' else 'stops cleanly'}")
        method = test.id().rpartition(".")[2].removeprefix("test_").replace("_", " ")
        return f"{_words(type(test).__name__)}: {method}"

    def rest_deviates(self, reasons):
        self._say(False, "the answers outside of the tests fit the document", reasons)

    def startTest(self, test):
        super().startTest(test)
        self.reasons, NOTES[:] = [], []

    def _add(self, test, error):
        lines = self._exc_info_to_string(error, test).splitlines()
        if isinstance(test, unittest.TestCase):
            self.reasons += lines
        else:
            self._say(False, self._name(test), lines)

    def addError(self, test, err):
        self._add(test, err)

    addFailure = addError

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.reasons.append(str(subtest._subDescription()))
            self._add(test, err)

    def addSkip(self, test, reason):
        self._say(True, self._name(test), directive=f" # SKIP {reason}")
        self.skipping = test

    def stopTest(self, test):
        super().stopTest(test)
        self.reasons += deviations()
        if getattr(self, "skipping", None) is not test:
            self._say(not self.reasons, self._name(test), NOTES + self.reasons)


NOTES = []  # what a test wants to have said in its report


def note(text):
    NOTES.append(text)


def _words(name):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


class _Loader(unittest.TestLoader):
    """Tests in the order in which they are written."""

    def getTestCaseNames(self, testCaseClass):
        return [name for base in reversed(testCaseClass.__mro__) for name in vars(base)
                if name.startswith("test_") and callable(getattr(testCaseClass, name))]


def main():
    """Runs the tests of the file that was started, or those whose names hold an argument."""
    faulthandler.dump_traceback_later(14 * LONG, exit=True)
    module = sys.modules["__main__"]
    suite = unittest.TestSuite()
    for kind in vars(module).values():
        if isinstance(kind, type) and issubclass(kind, unittest.TestCase) and kind is not Case:
            tests = _Loader().loadTestsFromTestCase(kind)
            suite.addTests(test for test in tests
                           if all(word in test.id() for word in sys.argv[1:]))
    result = TapResult()
    suite.run(result)
    if left := deviations():
        result.rest_deviates(left)
    print(f"1..{result.count}", flush=True)
    sys.exit(1 if result.failed or result.count == 0 else 0)
