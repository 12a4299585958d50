"""Insurers made by the tests: honest, slow, broken and hostile ones, all on the loopback.

An Insurer is a TCP server whose behaviour, a function of (call) that writes bytes, may be changed
at any time.  It keeps what it was asked.
"""
import contextlib
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.parse

FIELDS = ("oop_max", "remaining_oop_max", "copay")


class Call:
    """One request, and the connection to answer it on."""

    def __init__(self, insurer, connection, line, fields):
        self.insurer, self.connection = insurer, connection
        self.line, self.fields = line, fields
        self.target = line.split(" ")[1]
        query = self.target.partition("?")[2]
        self.member_id = dict(urllib.parse.parse_qsl(query, keep_blank_values=True)).get(
            "member_id")

    def send(self, data):
        self.connection.sendall(data)

    def field(self, name):
        return self.fields.get(name.lower())

    def wait(self, seconds=60):
        """Until the peer leaves or the insurer is closed, or SECONDS have passed."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.insurer.closing.is_set():
            self.connection.settimeout(0.05)
            try:
                if self.connection.recv(4096) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break


class Insurer:
    """Answers by BEHAVIOUR; refuses all connections while that is `refuse`."""

    def __init__(self, name, behaviour=None, *, path="/", host="127.0.0.1",
                 certificate=None, **settings):
        self.name, self.host, self.settings = name, host, settings
        self.behaviour = behaviour or answer(10000, 8000, 1000)
        self.calls, self.connections = [], 0
        self.closing = threading.Event()
        self.context = None
        if certificate is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        self.path = path
        self.open = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def config(self):
        scheme = "http" if self.context is None else "https"
        return {"name": self.name, "url": f"{scheme}://{self.host}:{self.port}{self.path}",
                **self.settings}

    @property
    def asked(self):
        return len(self.calls)

    def members(self):
        return [call.member_id for call in list(self.calls)]

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            self.open.add(connection)
            with connection, connection.makefile("rb") as file:
                while (call := self._read(connection, file)) is not None:
                    self.calls.append(call)
                    if not self.behaviour(call):
                        break
        self.open.discard(connection)

    def _read(self, connection, file):
        if file.peek(1)[:1] == b"\x16":
            return None  # TLS, spoken to a plain server
        line = file.readline(65536)
        fields = {}
        while line:
            field = file.readline(65536)
            if field in (b"\r\n", b""):
                break
            name, _, value = field.decode("latin-1").partition(":")
            fields[name.lower()] = value.strip()
        if not line.endswith(b"\r\n"):
            return None
        return Call(self, connection, line.decode("latin-1").rstrip("\r\n"), fields)

    def close(self):
        self.closing.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Nobody:
    """An address where every connection is refused."""

    def __init__(self, name):
        self.name = name
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))  # taken, but nobody listens
        self.config = {"name": name,
                       "url": f"http://127.0.0.1:{self.socket.getsockname()[1]}/"}

    def close(self):
        self.socket.close()


def make_certificate(folder):
    """One self-signed certificate for 127.0.0.1: (it alone, it with its key)."""
    alone, key, both = (os.path.join(folder, name) for name in ("ca.pem", "key.pem", "both.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=insurer", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", key, "-out", alone], check=True, capture_output=True)
    with open(both, "w", encoding="ascii") as out:
        for name in (alone, key):
            with open(name, encoding="ascii") as file:
                out.write(file.read())
    os.chmod(alone, 0o644)
    return alone, both


# --- Behaviours: functions of a call; true if the connection stays open ------------------------

def body_of(*values):
    return json.dumps(dict(zip(FIELDS, values))).encode()


def head(status, *fields):
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *fields, "")).encode()


def say(body, status="200 OK", kind="application/json"):
    """A whole response with this body."""
    data = body if isinstance(body, bytes) else body.encode()

    def behave(call):
        call.send(head(status, f"Content-Type: {kind}", f"Content-Length: {len(data)}") + data)
        return True
    return behave


def answer(*values):
    return say(body_of(*values))


def raw(data, keep=False):
    """These bytes, and then the end of the connection."""
    def behave(call):
        call.send(data)
        return keep
    return behave


def close_delimited(*values):
    return raw(head("200 OK", "Content-Type: application/json", "Connection: close") +
               body_of(*values))


def http_1_0(*values):
    return raw(b"HTTP/1.0 200 OK\r\n\r\n" + body_of(*values))


def chunks(body, size=7):
    parts = [body[i:i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def chunked(*values):
    return raw(head("200 OK", "Content-Type: application/json", "Transfer-Encoding: chunked") +
               chunks(body_of(*values)), keep=True)


def slow(seconds, then):
    def behave(call):
        call.insurer.closing.wait(seconds)
        return then(call)
    return behave


def hang(data=b""):
    """Sends DATA, then nothing, until the other side gives up."""
    def behave(call):
        call.send(data)
        call.wait()
        return False
    return behave


def drip(data, seconds=1.0):
    """A byte at a time."""
    def behave(call):
        for i in range(len(data)):
            call.send(data[i:i + 1])
            if call.insurer.closing.wait(seconds):
                break
        return False
    return behave


def reset(call):
    call.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def flood(begin, piece, count):
    """BEGIN, then PIECE again and again, as long as the other side takes it."""
    def behave(call):
        call.send(begin)
        for _ in range(count):
            call.send(piece)
        return False
    return behave


def meet(barrier, then):
    """Answers only once all those who share BARRIER are asked."""
    def behave(call):
        try:
            barrier.wait(5)
        except threading.BrokenBarrierError:
            return say("too late", "500 Broken")(call)
        return then(call)
    return behave


def by_member(behaviours, otherwise=None):
    """Another behaviour for each member id."""
    def behave(call):
        return (behaviours.get(call.member_id) or otherwise or say("{}"))(call)
    return behave


def is_traceparent(text):
    return re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", text or "") is not None
