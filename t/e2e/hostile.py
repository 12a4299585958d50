"""Every hostile kind of request on every route, through nginx, with tokens and without: none is answered
with a 5xx, none breaks a connection that speaks HTTP, each refusal is a problem with the trace that
was asked by, and what is stored is the same before and after.

    HOSTILE=100000 HOSTILE_SEED=7 python3 t/e2e/hostile.py
"""
import collections
import contextlib
import faulthandler
import functools
import io
import itertools
import json
import os
import random
import socket
import sqlite3
import subprocess
import time

import harness
import images
from auth import AUTH, Secret, base64url, claims, target_of
from harness import Case
from ledger import BAD_BODIES

REQUESTS = int(os.environ.get("HOSTILE", 0))  # or all kinds on all routes, once
SEED = int(os.environ.get("HOSTILE_SEED", random.randrange(10**9) if REQUESTS else 1))  # ./check has the same each time
SUB = "hostile"
JSON, FORM, LINES = "application/json", "multipart/form-data; boundary=b0", "application/x-ndjson"
OWN = [("GET", path) for path in ("/ping", "/problems/not-found", "/docs/openapi.yaml", "/api/x/y",
                                  "/images/00/00000000000000000000000000000000.png", "/", "/nope")]
ABSENT = "987654321"
# Of the contract; 501 and 505 say that nginx does not know a coding or a version.
STATUSES = {200, 204, 304, 400, 401, 403, 404, 405, 406, 408, 409, 411, 412, 413, 414, 415, 422, 429,
            431}
UPSTREAM = {502, 504}
UNKNOWN_HTTP = {501, 505}
# What counts or tells of reads, and so may grow.
GROWING = {"stats": ("paths", "hours", "logs", "damaged", "state")}
READS = ("account read", "accounts listed", "session read", "sessions listed")

TICKS = [-10.5] * 15
GOOD = {  # bodies that would be taken
    "/accounts": {"name": "n", "email": "new@x.example", "address": ""},
    "/audios": {"session_id": 77, "ticks": TICKS, "selected_tick": 1, "step_count": 1},
    "/audios/{session_id}": {"ticks": TICKS, "selected_tick": 2, "step_count": 2},
    "/events": {"type_id": 1, "caregiver_id": 1, "start_time": "NOW"},
    "/events/types": {"name": "new", "amount_in_cents": 5},
    "/events/report": {},
}
GOOD["/accounts/{id}"], GOOD["/events/types/{id}"] = GOOD["/accounts"], GOOD["/events/types"]


# --- A request, and the bytes of it ---------------------------------------------------------------

class Request:
    """Texts are Latin-1: a character is a byte.  It is whole where it is HTTP, and so must be answered."""

    def __init__(self, method, target, fields=(), body=None):
        self.method, self.target, self.body = method, target, body
        self.line, self.fields = "{method} {target} HTTP/1.1", list(fields)
        self.trace = f"{random.getrandbits(128) | 1:032x}"
        self.traceparent = f"00-{self.trace}-b7ad6b7169203331-01"
        self.host = "Host: localhost"
        self.framing = None if body is None else f"Content-Length: {len(body)}"
        self.whole, self.expected = True, None

    def head(self):
        lines = [self.line.format(method=self.method, target=self.target), self.host]
        lines += [f"traceparent: {self.traceparent}"] if self.traceparent is not None else []
        lines += [f"{name}: {value}" for name, value in self.fields]
        lines += [self.framing] if self.framing is not None else []
        return "\r\n".join(line for line in [*lines, "", ""] if line is not None)

    def bytes(self):
        return self.head().encode("latin-1") + (self.body or b"")

    def put(self, name, value):
        """Instead of what there is of that name."""
        self.fields = [pair for pair in self.fields if pair[0].lower() != name.lower()]
        self.fields.append((name, value))

    def carry(self, body, kind=None):
        self.body, self.framing = body, f"Content-Length: {len(body)}"
        if kind is not None:
            self.put("Content-Type", kind)


# --- The kinds: each takes a request and makes it hostile -----------------------------------------

def line(chance, request):
    request.whole = False
    request.line = chance.choice([
        "{method}  {target} HTTP/1.1", "{method}\t{target}\tHTTP/1.1", "{method} {target}",
        "{method} {target} HTTP/1.1 x", "{method} {target} HTTP/9.9", "{method} {target} HTTP/2.0",
        "{method} {target} http/1.1", "{method} {target} HTTP/1", "{method} {target} HTTP/1.1\0",
        " {method} {target} HTTP/1.1", "\r\n\r\n{method} {target} HTTP/1.1", "{method}",
        "{method} http://evil.example{target} HTTP/1.1", "{method} {target} HTTP/-1.1", "",
        "{target} {method} HTTP/1.1", "{method} * HTTP/1.1", "\x16\x03\x01\x02\0\x01\0", "\0",
        "PRI * HTTP/2.0", "{method} {target} HTTP/1.10", "{method} {target} x HTTP/1.1",
        "{method} {target} HTTP/1.0", "{method} {target} HTTP/0.9", "{method} nope HTTP/1.1",
        "{method} http:// HTTP/1.1", "{method} //{target} HTTP/1.1", "{method} ?{target} HTTP/1.1"])


def method(chance, request):
    request.method = chance.choice(["TRACE", "CONNECT", "PATCH", "PROPFIND", "GETS", "G", 300 * "M",
                                    "LOCK", "MKCOL", "M-SEARCH", "get", "Get", "G@T", "", "G\0T", "G\xc3"])
    request.whole = request.method.isalpha() and request.method.isupper()


def spelling(spellings):
    """The kinds of address: an edit of the path, whatever stands behind it."""
    def kind(chance, request):
        path, mark, query = request.target.partition("?")
        request.target = chance.choice(spellings)(path) + mark + query
        request.whole = not any(c in request.target for c in "\0 \r\n\t")
    return kind


def coded(text):
    return "".join(f"%{ord(c):02x}" for c in text)


encoding = spelling([
    lambda path: "/" + coded(path[1:]), lambda path: coded(path), lambda path: path + "%",
    lambda path: path + "%4", lambda path: path + "%zz", lambda path: path + "%25", lambda path: path + "%u0041",
    lambda path: path.replace("/", "%2f"), lambda path: path + "%2f", lambda path: path + "%2541",
    lambda path: path + "%5c", lambda path: path + "%0d%0aX:y", lambda path: path + "%20", lambda path: path + "+",
    lambda path: path + "%e2%80%ae", lambda path: path + "%7f", lambda path: path.upper(), lambda path: path + ";x=1"])
nul = spelling([lambda path: path + "%00", lambda path: path + "/%00", lambda path: path + "\0",
                lambda path: "/%00" + path, lambda path: path + "%00.json", lambda path: path + "%c0%80"])
utf8 = spelling([
    functools.partial(lambda end, path: path + end, end) for end in (
        "%c0%af", "/%c0%ae%c0%ae", "%ed%a0%80", "%f4%90%80%80", "%ff", "%fe%ff", "%e2%82", "%80", "\xff", "\xc0\xaf",
        "%f8%88%80%80%80", "%c1%81", "\xe2\x98\xba", "%ef%bb%bf", "%ef%bf%be")])
dots = spelling([
    lambda path: "/." + path, lambda path: "/x/.." + path, lambda path: "/.." + path, lambda path: path + "/.",
    lambda path: path + "/..", lambda path: path + "/../..", lambda path: path + "/../../../../etc/passwd",
    lambda path: "/%2e%2e" + path, lambda path: path + "/%2e%2e/x", lambda path: path + "/..;/x",
    lambda path: "/x/%2e%2e" + path, lambda path: path + "/...", lambda path: path + "/..%2f..%2fdb",
    lambda path: path + "/..\\x", lambda path: "/docs/..%2f" + path])
slashes = spelling([
    lambda path: "/" + path, lambda path: path + "//", lambda path: path.replace("/", "//"),
    lambda path: "//evil.example" + path, lambda path: path + "/", lambda path: path + "/x", lambda path: "\\" + path,
    lambda path: path + 400 * "/", lambda path: path[1:], lambda path: path + "#x"])
length = spelling([functools.partial(lambda n, path: path + "/" + n * "x", n)
                   for n in (255, 512, 513, 1000, 4000, 7000, 9000, 40000)])

NUMBERS = ["-1", "+1", "1.0", "1e3", "0x1", " 1", "1 ", "", "9007199254740993", "9223372036854775808",
           "18446744073709551616", 300 * "9", "NaN", "null", "%d9%a1", "1%00", "--1", "1,", "[1]", "1/1"]
TIMES = ["2026-02-30T00:00:00Z", "2026-13-01", "2026-11-20T24:00:00Z", "2026-11-20T23:59:60Z", "0000-01-01T00:00:00Z",
         "2026-11-20T09:00:00+99:99", "99999-01-01T00:00:00Z", "2026-11-20T09:00:00.1234567890123Z", "now", "1763629200",
         "2026-11-20T09:00:00-00:00", "2026-11-20 09:00:00", "20261120T090000Z", "-2026-11-20T09:00:00Z"]
CURSORS = ["", "x", 300 * "A", "AAAA", "eyJpZCI6MX0", "%00", "-1", "1", "' OR 1=1 --", "../../db", 9000 * "c", "=", "%ff",
           "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
WORDS = ["'", "\"", "%", "\\", "%00", "%ff", "%c0%af", "%ed%a0%80", "<script>", "${x}", "*", "1;DROP", 5000 * "x", "%0d%0a",
         "a&a=b", "=", "&&", "%f0%9f%92%a9", "{}", "[]"]
PARAMETERS = {"limit": NUMBERS, "cursor": CURSORS, "caregiver_id": NUMBERS, "type_id": NUMBERS, "member_id": WORDS,
              "caregiver_ids": NUMBERS, "session_id": NUMBERS, "step_count": NUMBERS, "selected_tick": NUMBERS,
              "min_time": TIMES, "max_time": TIMES, "reimbursed": WORDS, "format": WORDS, "require": WORDS,
              "explain": WORDS, "prefix": WORDS, "path": WORDS, "name": WORDS, "email": WORDS, "address": WORDS,
              "expires": NUMBERS, "signature": CURSORS}


def parameters(names):
    def kind(chance, request):
        pairs = [(name, chance.choice(PARAMETERS[name])) for name in chance.choices(names, k=2)]
        query = "&".join(f"{name}={value}" for name, value in pairs).replace(" ", "+")
        request.target += ("&" if "?" in request.target else "?") + query
    return kind


cursor = parameters(["cursor", "cursor", "limit"])
moment = parameters(["min_time", "max_time"])
number = parameters([name for name, values in PARAMETERS.items() if values is NUMBERS])
word = parameters([name for name, values in PARAMETERS.items() if values is WORDS])


def query(chance, request):
    request.target = request.target.partition("?")[0] + chance.choice([
        "?", "??", "?=", "?&&&", "?a", "?a=%", "?a=%zz", "?%00=1", "?a=\xff", "?" + "&".join(33 * ["a=1"]),
        "?a=" + 8192 * "x", "?" + 7000 * "&", "?limit=1&limit=2", "?%6cimit=1&limit=1", "?limit[]=1", "?a=1#b",
        "?;a=1", "?a=1;b=2", "?member_id=1&member_id=2", "?cursor=&cursor="])


def ids(chance, request):
    """Of what the path names; of those that change something, none that is there."""
    head, slash, tail = request.target.partition("?")[0].rpartition(ABSENT)
    if not slash:
        head, slash, tail = request.target.partition("?")[0].rpartition("1")
    if slash:
        request.target = head + chance.choice(NUMBERS).replace(" ", "%20") + tail
    else:
        request.target += "/" + chance.choice(["-1", "1.0", "x", "%00", 300 * "9"])


def repeated(chance, request):
    name, values = chance.choice([
        ("Host", ["localhost", "evil.example"]), ("Content-Type", [JSON, "text/plain"]), ("Accept", ["*/*", "x/y"]),
        ("Authorization", ["Bearer a.b.c", "Bearer "]), ("traceparent", [request.traceparent]), ("If-Match", ["*", '"x"']),
        ("Idempotency-Key", ["a", "b"]), ("Prefer", ["a", "b"]), ("If-None-Match", ['"x"', "*"]), ("Expect", ["", "x"]),
        ("X-Forwarded-For", ["127.0.0.1", "::1"]), ("Cookie", ["a=b", "a=c"]), ("Content-Encoding", ["gzip", "br"]),
        ("Connection", ["keep-alive", "close"]), ("User-Agent", ["a", "b"])])
    request.fields += [(name, value) for value in values]


def folded(chance, request):
    request.whole = False
    request.fields.insert(0, chance.choice([
        ("X-A", "b\r\n c"), ("X-A", "b\r\n\tContent-Length: 5"), ("X-A", "b\nContent-Length: 7"), ("X-A", "b\rX-B: c"),
        (" X-A", "b"), ("X-A ", "b"), ("X A", "b"), ("", "b"), ("X-A\0", "b"), ("X-A", "b\0c"), ("X_A", "b"), ("X-A", "\x01"),
        ("X-A", "\xff\xfe"), ("Transfer-Encoding ", "chunked"), ("Content_Length", "5"), ("Authorization\t", "Bearer x"),
        ("Host", ""), ("\xe2\x98\xba", "b"), ("Content-Length\0", "5"), ("(", ")")]))


def huge(chance, request):
    name = chance.choice(["X-Long", "Cookie", "Authorization", "Accept", "If-Match", "Prefer", "Idempotency-Key", "Referer"])
    n = chance.choice([1000, 4097, 8100, 8300, 30000])
    request.fields += chance.choice([[(name, n * "a")], [(f"X-{i}", "b") for i in range(n // 30)],
                                     [(f"X-{i}", 7000 * "c") for i in range(n // 4000)], [(n * "N", "v")]])


def host(chance, request):
    request.whole = False
    request.host = chance.choice(["Host: evil.example", "Host: ", None, "Host: a/b", "Host: localhost:99999", "Host: \xff",
                                  "Host: 127.0.0.1@evil", "Host: [::1", "Host: localhost.", "Host: 127.0.0.1.evil.example",
                                  "Host: localhost\0", "Host: ../x", "Host: LOCALHOST"])


def lies(chance, request):
    """About the length; the rest of such a body must not be taken for a request."""
    request.whole = False
    body = chance.choice([b'{"a":1}', b"GET /hostile/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"])
    request.carry(body, JSON)
    n = len(body)
    request.framing = chance.choice([
        f"Content-Length: {n + 5}", "Content-Length: -1", "Content-Length: 0x7", "Content-Length: 1e1", "Content-Length: +7",
        f"Content-Length: {n}, {n}", "Content-Length: ", f"Content-Length: {2**63}", f"Content-Length: {2**64 + n}",
        f"Content-Length: {n}\r\nContent-Length: {n + 1}", f"Content-Length: {n}\r\nTransfer-Encoding: chunked",
        f"Transfer-Encoding: chunked\r\nContent-Length: {n}", "Transfer-Encoding: identity", "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", f"Content-Length: {n}\r\nContent-Length: {n}",
        "Content-Length: 99999999999", f"Content-Length: {n} ", f"Content-Length: 1 {n}"])


def pieces(body, chance):
    found = b""
    while body:
        n = chance.randint(1, len(body))
        found += f"{n:x}".encode() + chance.choice([b"", b";x=y", b' ; a="b"']) + b"\r\n" + body[:n] + b"\r\n"
        body = body[n:]
    return found


def chunked(chance, request):
    request.body = pieces(request.body or b'{"a":1}', chance) + chance.choice(
        [b"0\r\n\r\n", b"000\r\n\r\n", b"0\r\nX-Trailer: y\r\n\r\n"])
    request.framing = "Transfer-Encoding: " + chance.choice(["chunked", "Chunked"])


def chunks_lie(chance, request):
    request.whole, request.framing = False, "Transfer-Encoding: chunked"
    request.body = chance.choice([
        b"zz\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n0\r\n\r\n", b"ffffffffffffffff\r\n{}", b"2\r\n{}0\r\n\r\n", b"2\r\n{}\r\n", b"",
        b"5\r\n{}\r\n0\r\n\r\n", b"2\n{}\n0\n\n", b"0x2\r\n{}\r\n0\r\n\r\n", b"2 \r\n{}\r\n0\r\n\r\n", b"\r\n", b"0\r\n",
        b"10000000000000002\r\n{}\r\n0\r\n\r\n", b"2;" + 9000 * b"x" + b"\r\n{}\r\n0\r\n\r\n",
        b"0\r\n\r\nGET /hostile/smuggled HTTP/1.1\r\n\r\n", b"2\r\n{}\r\n0\r\nX\0: y\r\n\r\n"])


def large(chance, request):
    request.carry(chance.choice([2**20 + 1, 2 * 2**20]) * b" ", chance.choice([JSON, FORM, "text/plain"]))


def field(*pairs):
    """The kinds that are one field of many values."""
    choices = [(name, value) for name, values in pairs for value in values]

    def kind(chance, request):
        request.put(*chance.choice(choices))
    return kind


expect = field(("Expect", ["100-continue", "100-Continue", "200-ok", "", "100-continue, x"]))
ranges = field(("Range", ["bytes=0-0", "bytes=-1", "bytes=1-", "bytes=0-0,2-3", "bytes=9-1", "bytes=0-" + 30 * "9", "x=1-2",
                          "bytes=" + ",".join(300 * ["0-0"]), "bytes=", "="]),
               ("If-Range", ['"x"', "Wed, 21 Oct 2015 07:28:00 GMT", "", "W/"]))
conditions = field(*[(name, ['"', '""', '"x", ', "W/", 'W/"x"', "x", '"x" "y"', '"\xff"', ",,,", 2000 * '"a",', '"a\\"b"'])
                     for name in ("If-Match", "If-None-Match")],
                   ("If-Modified-Since", ["x", "", "Wed, 21 Oct 2037 07:28:00 GMT", 300 * "9", "-1"]),
                   ("If-Unmodified-Since", ["x", "Thu, 01 Jan 1970 00:00:00 GMT", "0"]))
accept = field(("Accept", ["", ",", "/", "*", "*/*;q=0", "*/*;q=2", "x/y", 900 * "a/b,", ";;,,/", "application/json;q=0.0001",
                           "text/*;q=x", "\xff", "*/json", "application/json;q=0,*/*", '"', "application/json;a=\"b"]),
               ("Accept-Encoding", ["gzip;q=9", "*;q=0", "", 300 * "x,"]), ("Accept-Charset", ["utf-7"]),
               ("Accept-Language", [900 * "x,"]))
prefer = field(("Prefer", ["", "return", "return=", "return=minimal;", "wait=-1", "handling=strict, handling=lenient", 900 * "a,",
                           "=", '"', "respond-async", "\xff"]))
key = field(("Idempotency-Key", ["", " ", "a b", 129 * "k", 4000 * "k", "\xff", '"', '"a', "\xe2\x98\xba", "a,b", "'; DROP", "\x7f"]))
media = field(("Content-Type", ["", "x", "/", "text/plain", "application/json; charset=latin-1", "application/json;", "\xff",
                                "multipart/form-data", "multipart/form-data; boundary=", "application/jsonx", LINES,
                                "multipart/form-data; boundary=" + 71 * "b", "multipart/mixed; boundary=b0", 900 * "a;"]),
              ("Content-Encoding", ["gzip", "br", "identity", "", "x", "gzip, gzip"]))
spoofed = field(("X-HTTP-Method-Override", ["DELETE"]), ("X-Original-URL", ["/metrics"]), ("X-Rewrite-URL", ["/private/x"]),
                ("CAREDESK-OPERATOR", ["1"]), ("X-Accel-Redirect", ["/.cached/coalesce"]), ("Proxy", ["http://evil.example"]),
                ("X-Forwarded-For", ["127.0.0.1", "x", 900 * "1,"]), ("X-Forwarded-Host", ["evil.example"]),
                ("Forwarded", ["for=127.0.0.1"]), ("Script-Name", ["/x"]), ("Request-Uri", ["/x"]), ("Status", ["500"]),
                ("Content-Disposition", ["x"]), ("Remote-Addr", ["127.0.0.1"]), ("Remote-User", ["operator"]))
upgrades = field(("Upgrade", ["h2c", "websocket", "TLS/1.0"]), ("TE", ["trailers", "gzip"]), ("Via", [900 * "x,"]),
                 ("Connection", ["upgrade", "close, x", "Content-Length", "", "Authorization", "\xff"]), ("Trailer", ["Content-Length"]),
                 ("HTTP2-Settings", ["AAMAAABkAAQAAP__"]), ("Keep-Alive", ["timeout=99999"]), ("Max-Forwards", ["0"]))
sites = field(("Origin", ["null", "http://evil.example", "", "\xff"]), ("Sec-Fetch-Site", ["cross-site", "same-site", "x"]),
              ("Access-Control-Request-Method", ["DELETE", "\xff"]), ("Referer", ["http://evil.example/?x"]))


def trace(chance, request):
    """None of these is to be believed."""
    given, request.trace = request.trace, None
    request.refused_trace = given
    request.traceparent = chance.choice([
        "", "00", f"00-{given}", f"00-{given}-{16 * '0'}-01", f"ff-{given}-b7ad6b7169203331-01", f"00-{given}x-b7ad6b7169203331-01",
        f"00-{given}-b7ad6b7169203331-01-x", f"00-{given}-B7AD6B7169203331-01", f"00_{given}_b7ad6b7169203331_01",
        f"00-{32 * '0'}-b7ad6b7169203331-01", 3000 * "0", '"}\\n', "\xff", f"00-{given}-b7ad6b7169203331-1", f"{given}"])


# --- Bodies ---------------------------------------------------------------------------------------

MEMBERS = [b'"zz":NaN,', b'"zz":1e400,', b'"zz":"\xff",', b'"zz":"\xc0\xaf",', b'"zz":"\xed\xa0\x80",', b'"zz":"\\ud800",',
           b'"zz":"\\udc00\\ud800",', b'"zz":"\\u0000",', b'"zz":"\0",', b'"zz":"\n",', b'"zz":01,', b'"zz":+1,', b'"zz":1.,',
           b'"zz":.5,', b'"zz":-,', b"'zz':1,", b"zz:1,", b'"zz":1,"zz":2,', b'"zz":1,"\\u007az":2,', b'"zz":tru,', b'"zz":,', b",",
           b'"zz":Infinity,', b'"zz":"\\x",', b'"zz":"\\u12",', b'"zz" 1,', b'"zz":1;', b"/* */", b'"zz":[1,],', b'"zz":{"a":1,},',
           b'"zz":' + 40 * b"[" + 40 * b"]" + b",", b'"zz":' + 20000 * b"[", b'"zz":[}],', b'"zz":0x10,', b'"\xff":1,', b'"zz":"\x7f\x1f",']
OUTSIDE = [lambda body: b"\xef\xbb\xbf" + body, lambda body: body + b"\0", lambda body: body + body, lambda body: body + b"x",
           lambda body: body[:-1], lambda body: body[1:], lambda body: b"[" + body + b"]", lambda body: b"\0" + body, lambda body: b"",
           lambda body: body.decode().encode("utf-16"), lambda body: body.decode().encode("utf-32-le"), lambda body: b"null"]


def good_json(path):
    body = json.dumps(GOOD[path]).encode()
    return body.replace(b"NOW", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()).encode())


def json_kind(chance, request):
    """A body that would be taken, but for one thing."""
    if request.path not in GOOD or request.method not in ("POST", "PUT"):
        request.carry(chance.choice(BAD_BODIES), JSON)
        return
    body, damage = good_json(request.path), chance.choice([*MEMBERS, *OUTSIDE])
    request.carry(damage(body) if callable(damage) else b"{" + damage + body[1:], JSON)
    if request.path == "/events/report" and request.body == b"":
        return  # nothing is asked for, so all is given
    request.target, request.expected = request.present, {400}


def values(chance, request):
    """A member of another type, or out of its bounds; or one that is missing."""
    if not GOOD.get(request.path) or request.method not in ("POST", "PUT"):
        request.carry(b'{"a":' + chance.choice([b"1", b"[]", b"{}", b'"x"']) + b"}", JSON)
        return
    good = json.loads(good_json(request.path))
    name = chance.choice(sorted(good))
    wrong = [None, True, [], {}, 10**30, [1], {"a": 1}, -2**63, 2**63, 2**64, -1, 1.5, "\0"]
    if name in ("name", "email", "address"):
        wrong += ["x" * 5000, 0]
    good[name] = chance.choice([one for one in wrong if not (isinstance(good[name], list) and one == good[name])])
    if chance.random() < 0.2:
        del good[name]
    if request.path == "/audios/{session_id}" and name == "session_id":
        good.pop(name, None)
    request.carry(json.dumps(good).encode(), JSON)
    request.target, request.expected = request.present, {400}


def multipart(chance, request):
    """Every one is to be refused, or is on an account that is not there."""
    whole = images.form(images.png())
    part = images.part(images.png())
    body = chance.choice([
        whole[:-4], whole[:len(whole) // 2], b"", b"--b0--\r\n", whole.replace(b"\r\n", b"\n"), whole.replace(b"b0", b"b1"),
        images.form(b""), images.form(b"GIF89a"), images.form(images.png()[:-20]), images.form(images.jpeg()),
        images.form(images.png(), filename="a.exe"), images.form(images.png(), filename="a.jpg"), images.form(images.png(), name="nope"),
        images.form(images.png(), kind="text/html"), images.parted(*[part] * 9), images.parted(part, part),
        images.parted(images.part(images.png(), more="X: " + 2000 * "y" + "\r\n")), images.form(images.png(), filename="a.png\0"),
        images.parted(images.part(images.png(), more="Content-Transfer-Encoding: base64\r\n")), 3000 * b"--b0\r\n",
        images.parted(images.part(whole, kind="multipart/mixed; boundary=b0")), b"preamble" + whole[:30], b"--b0\r\n\r\n\r\n--b0--",
        images.form(images.black(20000, 20000)), images.form(images.png() + b"<script>")[:60], images.form(b"{}", filename="a.json", name="audio"),
        images.form(b'{"session_id":1,"session_id":2}', filename="a.json", kind=JSON, name="audio")])
    request.carry(body, chance.choice([FORM, FORM, FORM, "multipart/form-data; boundary=\"b0", "multipart/form-data; boundary=b0; boundary=b1"]))


def imports(chance, request):
    """Good lines, and one that is not: nothing is taken."""
    good = good_json("/events")
    lines = [good, good, chance.choice([b"{}", b"x", b"\0", b'{"a":', b"[]", b"\xff", 70000 * b" ", good[:-1], good + good, b"null"])]
    chance.shuffle(lines)
    request.carry(b"\n".join(lines) + chance.choice([b"", b"\n", b"\r\n"]), LINES)


def tokens(chance, request):
    """Each on a request that would change something, could it be let in."""
    head, body, signature = request.maker.token.split(".")
    sign, now = request.maker.sign, int(time.time())
    token = chance.choice([
        "abc", "..", "", "a.b.c", f"{head}.{body}.", f"{head}.{body}.{signature[:-1]}", f"{head}.{body}.{signature}=", f"{head}.{body}",
        f"{head}.{body}.{signature}.x", f"{base64url(b'{}')}.{body}.{signature}", 5000 * "a", "\xff", f"{body}.{head}.{signature}",
        f"{base64url(json.dumps({'alg': 'none'}).encode())}.{body}.", f"{head}.{base64url(json.dumps(claims(roles=['admin'])).encode())}.{signature}",
        sign({"alg": "HS512"}), sign({"crit": ["exp"]}), sign({"jku": "http://x"}), sign({"kid": "../../../dev/null"}), sign({"kid": "' OR 1=1"}),
        sign({"zip": "DEF"}), sign({"jwk": {"kty": "oct", "k": "AA"}}), sign(exp=now - 61), sign(exp=now + 86400), sign(exp=None), sign(exp="1"),
        sign(exp=2**64), sign(nbf=now + 120), sign(iss="x"), sign(aud=["x"]), sign(sub=None), sign(sub="operator"), sign(sub="a\n"), sign(more="x" * 4000)])
    good = request.maker.good(request.role_method, request.path)
    if request.guarded:
        request.method, request.target, request.fields, request.body = good.method, good.target, good.fields, good.body
        request.framing, request.expected = good.framing, {401}
    request.put("Authorization", chance.choice(["Bearer ", "bearer ", "Bearer  ", "Basic ", "", "Token "]) + token
                if chance.random() < 0.3 else f"Bearer {token}")


KINDS = {
    "request line": line, "method": method, "percent-encoding": encoding, "NUL": nul, "UTF-8": utf8, "dot segments": dots,
    "slashes": slashes, "long path": length, "query": query, "cursor": cursor, "times": moment, "numbers": number, "words": word,
    "ids": ids, "repeated field": repeated, "folded field": folded, "huge header": huge, "host": host, "length lies": lies,
    "chunked": chunked, "chunks lie": chunks_lie, "large body": large, "expect": expect, "range": ranges, "conditions": conditions,
    "accept": accept, "prefer": prefer, "idempotency key": key, "media type": media, "spoofed field": spoofed, "upgrade": upgrades,
    "site": sites, "trace": trace, "JSON": json_kind, "values": values, "multipart": multipart, "import": imports, "token": tokens,
}


# --- Requests to begin with -------------------------------------------------------------------------

class Maker:
    """Of requests that change nothing, since what they name is not there or what they carry is no good."""

    def __init__(self, secret):
        self.secret = secret
        self.token = self.sign(sub=SUB, roles=["admin", "accountant"])
        self.guarded = {(method, path) for method, path, roles in routes() if "anyone" not in roles}

    def sign(self, header=None, **more):
        return self.secret.sign(header, **more) if self.secret else "a.b.c"

    def begin(self, method, path, target, body=None, kind=None):
        request = Request(method, target)
        if self.secret:
            request.put("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.carry(body, kind)
        request.path, request.maker, request.role_method = path, self, method
        request.guarded = self.secret is not None and (method, path) in self.guarded
        request.present = target_of(path)
        return request

    def harmless(self, method, path):
        named = path.replace("{requests}", "9" + ABSENT).replace("{id}", ABSENT).replace("{session_id}", ABSENT)
        if method == "GET":
            return self.begin(method, path, target_of(path))
        if "/upload" in path:
            return self.begin(method, path, target_of(path), images.form(b"no picture"), FORM)
        if method != "DELETE" and path in GOOD:
            return self.begin(method, path, target_of(path), b"{}" if path == "/events/report" else b'{"a":1}', JSON)
        return self.begin(method, path, named)

    def good(self, method, path):
        """What would be done, were it let in."""
        if method in ("POST", "PUT") and path in GOOD:
            return self.begin(method, path, target_of(path), good_json(path), JSON)
        if "/upload" in path:
            return self.begin(method, path, target_of(path), images.form(images.png(shade=9)), FORM)
        return self.begin(method, path, target_of(path))


def routes():
    """(method, path, roles) of every program."""
    return [line.split() for name in harness.PROGRAMS for line in subprocess.run(
        [harness.program(name), "--routes"], capture_output=True, text=True, check=True).stdout.splitlines()]


# --- What comes back --------------------------------------------------------------------------------

class Wire(harness.Connection):
    """As HTTP has it, with what comes before an answer left out."""

    def final(self, method):
        while (answer := self.receive(method)).status == 100:
            pass
        return answer


def all_of(data, method):
    """The answers in these bytes; HTTP/0.9 has no head, and is none."""
    wire = Wire.__new__(Wire)
    wire.file, found = io.BytesIO(data), []
    if not data.startswith(b"HTTP/1.1 "):
        return found
    while wire.file.tell() < len(data):
        found.append(wire.final(method))
    return found


def stored(data):
    """All rows of all databases, but for those that reads and counting add, and the names of all images."""
    found = {"blobs": sorted(name for _, _, names in os.walk(os.path.join(data, "blobs")) for name in names)}
    for name in ("accounts", "audios", "events", "stats"):
        path = os.path.join(data, f"db/{name}.db")
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            tables = [row[0] for row in db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
            for table in tables:
                if table in GROWING.get(name, ()):
                    continue
                rows = db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
                found[f"{name}.{table}"] = [row for row in rows
                                            if table != "audit" or not set(row) & set(READS)]
    return found


class Hostile:
    """What both services must stand."""

    share = 1

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.maker = Maker(cls.secret())
        for target, path in (("/accounts", "/accounts"), ("/events/types", "/events/types"), ("/events", "/events"),
                             ("/audios", "/audios")):
            body = good_json(path).replace(b"new", b"old").replace(b"77", b"1")
            made = cls.ask(cls.maker.begin("POST", path, target, body, JSON))
            assert made.status == 201, made
        made = cls.ask(cls.maker.begin("POST", "/accounts/{id}/upload_image", "/accounts/1/upload_image",
                                       images.form(images.png()), FORM))
        assert made.status == 200, made
        cls.ask(cls.maker.begin("POST", "/test/{requests}", "/test/1"))

    @classmethod
    def secret(cls):
        return None

    @classmethod
    def ask(cls, request):
        with Wire(cls.service.port) as wire:
            wire.send(request.bytes())
            return wire.final(request.method)

    def setUp(self):
        self.wire, self.bad, self.statuses = None, [], collections.Counter()
        self.seen = collections.defaultdict(collections.Counter)
        self.addCleanup(self.leave)

    def leave(self):
        if self.wire is not None:
            self.wire.close()
        self.wire = None

    def cut(self, request):
        """What may be no HTTP: all that comes back until the end."""
        with Wire(self.service.port) as wire:
            with contextlib.suppress(OSError):  # it may have had enough
                wire.send(request.bytes())
                wire.socket.shutdown(socket.SHUT_WR)
            return all_of(wire.rest(), request.method)

    def kept(self, request):
        """On the connection of the one before, as long as nginx keeps it."""
        if self.wire is None:
            self.wire = Wire(self.service.port)
        with contextlib.suppress(ConnectionError):  # a refusal may come before all was sent
            self.wire.send(request.bytes())
        try:
            answer = self.wire.final(request.method)
        except (harness.Broken, OSError):
            self.leave()
            raise
        # nginx closes after a 412 of its own, without a word.
        if answer.field("Connection") == "close" or answer.status == 412:
            self.leave()
        return [answer]

    def hold(self, request, answer):
        allowed = STATUSES | (UPSTREAM if request.path.startswith("/api/coalescence") else set())
        allowed |= set() if request.whole else UNKNOWN_HTTP
        self.assertIn(answer.status, allowed)
        if request.expected is not None:
            self.assertIn(answer.status, request.expected)
        if answer.status == 200 and "script-src" in (answer.field("Content-Security-Policy") or ""):
            self.assertIn(b"HTTP interface", answer.body[:200])  # the page at /docs, with a policy of its own
            return
        self.assertCommon(answer)
        if answer.status < 400:
            return
        self.assertEqual(answer.field("Content-Type"), "application/problem+json")
        if request.method == "HEAD":
            return
        said = self.assertProblem(answer, answer.status)["trace_id"]
        # What nginx refuses for its first line, it refuses before it has read the trace.
        unread = answer.status in (400, 414, 431) and answer.field("Connection") == "close"
        if request.whole and request.trace is not None and not unread:
            self.assertEqual(said, request.trace)
        if request.trace is None:
            self.assertNotEqual(said, request.refused_trace)

    def one(self, chance, kind, method, path):
        request = self.maker.harmless(method, path)
        KINDS[kind](chance, request)
        try:
            answers = self.kept(request) if request.whole else self.cut(request)
            for answer in answers:
                self.hold(request, answer)
                self.statuses[answer.status] += 1
                self.seen[kind][answer.status] += 1
        except (AssertionError, harness.Broken, OSError, ValueError) as error:
            self.bad.append(f"{kind}: {request.bytes()[:400]}: {type(error).__name__} {str(error)[-600:]}")

    def combined(self, chance):
        """Every kind on every route in another order, again and again."""
        every = [(method, path) for method, path, _ in routes()] + OWN
        while True:
            pairs = list(itertools.product(KINDS, every))
            chance.shuffle(pairs)
            yield from pairs

    def test_every_kind_on_every_route_is_answered_and_changes_nothing(self):
        if REQUESTS:
            faulthandler.cancel_dump_traceback_later()
        chance = random.Random(SEED)
        random.seed(SEED)
        pids = {name: self.service.pids(name) for name in harness.PROGRAMS}
        self.ask(self.maker.harmless("GET", "/accounts"))  # whoever reads has a name in the audit
        self.ask(self.maker.harmless("GET", "/audios"))
        before, begun = stored(self.service.data), len(self.service.log)
        count = REQUESTS or len(KINDS) * (len(routes()) + len(OWN)) // self.share
        for kind, (method, path) in itertools.islice(self.combined(chance), count):
            self.one(chance, kind, method, path)
        harness.note(f"HOSTILE_SEED={SEED}: {count} requests, " + " ".join(
            f"{status}: {n}" for status, n in sorted(self.statuses.items())))
        self.assertEqual(self.bad[:5], [], f"{len(self.bad)} in all")
        after = stored(self.service.data)
        self.assertEqual([name for name in before if before[name] != after[name]], [])
        self.assertEqual({name: self.service.pids(name) for name in pids}, pids)
        self.assertEqual([line for line in self.service.log[begun:]  # nginx says error of what it refuses
                          if line["level"] == "error" and line["event"] != "nginx"], [])
        self.assertNotIn("/hostile/smuggled", [line["path"] for line in self.service.access_log
                                               if line["status"] == 200])
        for kind, found in self.seen.items():  # what is never refused is not hostile
            self.assertTrue(any(status >= 400 for status in found), kind)


class WithTokens(Hostile, Case):
    @classmethod
    def config(cls):
        return {"auth": AUTH}

    @classmethod
    def secret(cls):
        return Secret(cls.service.data)


class WithoutTokens(Hostile, Case):
    share = 3

    def test_a_body_that_is_no_http_is_a_problem_where_nobody_reads_it_too(self):
        for target in ("/", "/nope", "/ping", "/images/x", "/api/x", "/problems/not-found", "/events"):
            for body in (b"\r\n", b"zz\r\n{}\r\n", b"10000000000000002\r\n{}\r\n0\r\n\r\n"):
                with Wire(self.service.port) as wire:
                    wire.send(f"POST {target} HTTP/1.1\r\nHost: localhost\r\n"
                              "Transfer-Encoding: chunked\r\n\r\n".encode() + body)
                    self.assertProblem(wire.final("POST"), 400, "invalid-input")


if __name__ == "__main__":
    harness.main()
