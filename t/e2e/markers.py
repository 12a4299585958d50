"""What people are called, and what they are let in by, stays where it belongs: marked requests to every
route, good and bad, and then a look into all that is written and into others' answers."""
import contextlib
import json
import os
import re
import time
import urllib.parse

import harness
import images
from auth import AUTH, JSON, Secret, base64url, bearer
from harness import Case
import hostile
from hostile import FORM, GOOD, LINES, good_json, routes

MARK = "qzxmarkqzx"  # with the word of what it is behind it
MARKS = ("name", "mail", "address", "member", "token", "key", "file", "cursor", "other", "part")
# Where what is stored may be.
HOMES = {"name": ("db/accounts.db",), "mail": ("db/accounts.db",), "address": ("db/accounts.db",)}


def mark(what):
    return MARK + what


def coded(text):
    """As base64 has it, wherever it begins."""
    return [base64url(b"_" * i + text.encode())[4:-4] for i in range(3)]


class Markers(Case):
    count = 0  # of the keys: each is another

    @classmethod
    def config(cls):
        return {"auth": AUTH}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.secret = Secret(cls.service.data)
        cls.tokens = [cls.secret.sign(sub="admin", roles=["admin", "accountant"], more=mark("token")),
                      cls.secret.sign(sub=mark("token"), exp=1), mark("token"),
                      cls.secret.sign({"kid": mark("token")})]

    def fields(self, token, kind=None):
        self.count += 1
        found = {**bearer(token), "Idempotency-Key": f"{mark('key')}{self.count}", "Cookie": mark("other"),
                 "Referer": f"http://x/{mark('other')}", "User-Agent": mark("other"),
                 "If-None-Match": f'"{mark("other")}"'}
        return {**found, "Content-Type": kind} if kind else found

    @staticmethod
    def bodies(path):
        """(type, body): one that is taken where there is one, and such as are not."""
        person = {"name": mark("name"), "email": f"{mark('mail')}@x.example", "address": mark("address")}
        good = json.loads(good_json(path)) if path in GOOD else {}
        text = json.dumps({**good, **(person if path.startswith("/accounts") else {}),
                           "unknown": mark("other")})
        form = images.form(images.png(), filename=f"{mark('file')}.png")
        return [(JSON["Content-Type"], text.encode()), (JSON["Content-Type"], text[:-1].encode()),
                (JSON["Content-Type"], json.dumps({**person, "name": 1, mark("other"): 2}).encode()),
                (JSON["Content-Type"], json.dumps({name: mark("other") for name in good}).encode()),
                (FORM, form), (FORM, form[:-9]), (FORM, form.replace(b".png", b".exe")),
                (FORM, images.form(mark("part").encode(), filename=mark("file"), name=mark("part"))),
                (LINES, (text + "\n").encode() + mark("other").encode()), (mark("other"), text.encode())]

    @staticmethod
    def queries(path):
        pairs = {"name": mark("name"), "email": f"{mark('mail')}@x.example", "address": mark("address"),
                 "member_id": mark("member"), "cursor": mark("cursor"), mark("other"): mark("other")}
        own = {"/accounts": ["name", "email", "address"], "/api/coalescence/{method}": ["member_id"]}
        yield ""
        yield urllib.parse.urlencode({name: pairs[name] for name in own.get(path, [])})
        yield urllib.parse.urlencode(pairs)
        yield f"cursor={mark('cursor')}"
        yield f"member_id={mark('member')}&member_id={mark('member')}"
        yield f"name={mark('name')}%ff&email={9000 * 'x'}"

    def target(self, path):
        return re.sub(r"\{[^}]*\}", lambda found: {"{method}": "max", "{requests}": "0"}.get(found[0], "1"), path)

    def requests(self):
        for method, path, _ in routes():
            if method == "DELETE":
                continue  # what is deleted cannot be looked at any more
            for token in self.tokens:
                if method == "GET":
                    for query in self.queries(path):
                        yield self.target(path) + (f"?{query}" if query else ""), method, self.fields(token), None
                else:
                    for kind, body in self.bodies(path):
                        yield self.target(path), method, self.fields(token, kind), body

    def broken(self):
        """What nginx refuses, and would quote in its own log."""
        for data in (f"GET /accounts?name={mark('name')}\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
                     f"GET /accounts?name={mark('name')}{9000 * 'x'} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                     f"GET /accounts HTTP/1.1\r\nAuthorization: Bearer {mark('token')}\x01\r\nHost: localhost\r\n\r\n",
                     f"GET /accounts HTTP/1.1\r\nHost: localhost\r\n{mark('other')}: {9000 * 'x'}\r\n\r\n",
                     f"GET /accounts HTTP/1.1\r\nHost: {mark('other')}/\r\n\r\n",
                     f"POST /accounts?name={mark('name')} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n"
                     f"\r\n{mark('name')}"):
            with self.service.connect() as connection:
                with contextlib.suppress(OSError):
                    connection.send(data.encode("latin-1"))
                    connection.socket.shutdown(1)
                connection.rest()

    def files(self):
        for where, _, names in os.walk(self.service.data):
            for path in (os.path.join(where, name) for name in names):
                with contextlib.suppress(OSError), open(path, "rb") as file:  # sockets are no files
                    yield os.path.relpath(path, self.service.data), file.read()

    def test_what_is_sent_is_found_where_it_belongs_and_nowhere_else(self):
        statuses = set()
        for target, method, fields, body in self.requests():
            statuses.add(self.service.ask(target, method, fields, body).status)
        self.broken()
        time.sleep(1.2)  # why a token was refused is said once a second
        self.assertLessEqual({200, 201, 400, 401, 415}, statuses)
        own, others = bearer(self.secret.sign(sub="other", roles=["admin"])), []
        for target in ("/metrics", "/healthz", "/stats", "/events", "/accounts/x", "/accounts?limit=x", "/test/runs/x",
                       "/audios/-1", "/api/coalescence/max", "/nope", "/events/types?cursor=x"):
            others.append((f"the answer to {target}", self.service.ask(target, fields=own).body))
        log = "\n".join(self.service.lines).encode()
        places = [*self.files(), ("the log", log), *others]
        self.assertIn("log/access.log", [name for name, _ in places])
        for what in MARKS:
            held = {name for name, data in places if mark(what).encode() in data.lower()
                    or any(text.encode() in data for text in coded(mark(what)))}
            homes = HOMES.get(what, ())
            self.assertEqual([name for name in held if not name.startswith(homes or ("\0",))], [], what)
            self.assertTrue(held or not homes, what)


if __name__ == "__main__":
    harness.main()
