"""What holds for every resource: methods, addresses, errors, traces, health and logs."""
import contextlib
import json
import os
import re
import signal
import socket
import time

import harness
from harness import Case, REQUEST_MEMBERS, caredesk, routes, wait_for

TRACE = "0af7651916cd43dd8448eb211c80319c"

PROGRAMS = ("accounts", "audios", "coalesce", "events", "health", "report")
# What a target answers with, by how it begins; JSON else.
TYPES = {"/problems": "text/html", "/metrics": "text/plain; version=0.0.4; charset=utf-8",
         "/docs/openapi.yaml": "application/yaml", "/docs": "text/html"}
METHODS = ("GET", "POST", "PUT", "DELETE")  # those that routes may have

# A target for each route of the programs, by its template.
EXAMPLES = {
    "/accounts": "/accounts",
    "/accounts/{id}": "/accounts/1",
    "/accounts/{id}/upload_image": "/accounts/1/upload_image",
    "/accounts/{id}/upload-image": "/accounts/1/upload-image",
    "/audios": "/audios",
    "/audios/{session_id}": "/audios/1",
    "/healthz/audios": "/healthz/audios",
    "/metrics/audios": "/metrics/audios",
    "/api/coalescence/{method}": "/api/coalescence/default?member_id=1",
    "/events": "/events",
    "/events/{id}": "/events/1",
    "/events/{id}/reimburse": "/events/1/reimburse",
    "/events/types": "/events/types",
    "/events/types/{id}": "/events/types/1",
    "/events/types/{id}/prices": "/events/types/1/prices",
    "/events/report": "/events/report",
    "/healthz/accounts": "/healthz/accounts",
    "/healthz/coalesce": "/healthz/coalesce",
    "/healthz/events": "/healthz/events",
    "/healthz/health": "/healthz/health",
    "/healthz/report": "/healthz/report",
    "/healthz": "/healthz",
    "/metrics/accounts": "/metrics/accounts",
    "/metrics/coalesce": "/metrics/coalesce",
    "/metrics/events": "/metrics/events",
    "/metrics/health": "/metrics/health",
    "/metrics/report": "/metrics/report",
    "/metrics": "/metrics",
}
OWN = ["/ping", "/problems/not-found", "/docs/openapi.yaml", *["/docs"] * harness.has_docs()]  # nginx's
# What a page may load, where it may load anything.
POLICIES = {"/docs": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
                     "font-src 'self'; connect-src 'self'; form-action 'none'; "
                     "frame-ancestors 'none'; base-uri 'none'"}


def kind_of(target):
    return next((TYPES[prefix] for prefix in TYPES if target.startswith(prefix)),
                "application/json")


def problem_names():
    return re.findall(r"`/problems/([a-z-]+)`", caredesk("problems").stdout)


def responses(data):
    """The status of each response in these bytes."""
    return [int(status) for status in re.findall(rb"(?:^|\n|\}|>)HTTP/1\.1 (\d\d\d) ", data)]


class Methods(Case):
    @classmethod
    def setUpClass(cls):
        """With an account 1, a type 1, an event 1 and a session 1."""
        super().setUpClass()
        for target, value in (("/accounts", {"name": "a", "email": "a@b", "address": ""}),
                              ("/events/types", {"name": "a", "amount_in_cents": 1}),
                              ("/events", {"type_id": 1, "caregiver_id": 1,
                                           "start_time": "2017-01-02T03:04:05Z"}),
                              ("/audios", {"session_id": 1, "ticks": 15 * [-10],
                                           "selected_tick": 0, "step_count": 0})):
            made = cls.service.ask(target, "POST", {"Content-Type": "application/json"},
                                   json.dumps(value).encode())
            assert (made.status, made.field("Location")) == (201, target + "/1"), made

    def methods(self):
        """Each target with the methods that its routes have."""
        found = {target: {"GET"} for target in OWN}
        listed = routes(*PROGRAMS)
        self.assertEqual({path for _, path in listed}, set(EXAMPLES))
        for method, path in listed:
            self.assertIn(method, METHODS)
            found.setdefault(EXAMPLES[path], set()).add(method)
        return found

    def targets(self):
        """Those that can be read."""
        return [target for target, methods in self.methods().items() if "GET" in methods]

    def allowed(self):
        """Each target with what its Allow must be."""
        return {target: methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
                for target, methods in self.methods().items()}

    def assertAllow(self, reply, methods):
        found = reply.field("Allow").split(", ")
        self.assertEqual((set(found), len(found)), (methods, len(methods)))

    def ask(self, target, method, fields=(), body=None):
        return self.service.ask(target, method, fields, body)

    def test_get_is_answered_on_every_route(self):
        for target in self.targets():
            with self.subTest(target):
                reply = self.get(target)
                self.assertEqual(reply.status, 200, reply)
                self.assertCommon(reply, POLICIES.get(target, harness.POLICY))
                self.assertEqual(reply.field("Content-Type"), kind_of(target))

    def test_head_is_a_get_without_the_body(self):
        for target in self.targets():
            with self.subTest(target):
                # With one another's length, where the body does not change.
                get, head = self.get(target), self.ask(target, "HEAD")
                self.assertEqual((head.status, head.body), (200, b""))
                self.assertCommon(head, POLICIES.get(target, harness.POLICY))
                grows = target.startswith(("/healthz", "/metrics"))
                apart = {"Cache-Status"} | ({"Content-Length", "Transfer-Encoding"} if grows
                                            else set())
                names = [{name for name, _ in reply.fields} - apart for reply in (get, head)]
                self.assertEqual(*names)
                if not grows:
                    self.assertEqual(head.field("Content-Length"), str(len(get.body)))

    def test_nothing_follows_the_answer_to_a_head(self):
        for target in [*self.methods(), "/nope", "/api/coalescence/nope", "/events/99"]:
            with self.subTest(target), self.service.connect() as connection:
                connection.ask(target, "HEAD")
                self.assertEqual(connection.ask("/ping").body, b'{"message":"pong"}')

    def test_options_names_the_methods(self):
        for target, methods in self.allowed().items():
            for form in (target, target + "/" if "?" not in target else target):
                with self.subTest(form):
                    reply = self.ask(form, "OPTIONS")
                    self.assertEqual((reply.status, reply.body), (204, b""), reply)
                    self.assertAllow(reply, methods)
                    self.assertCommon(reply)

    def test_other_methods_are_405_with_allow(self):
        for target, methods in self.allowed().items():
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECTED",
                           "GETS"):
                if method in methods:
                    continue
                with self.subTest(target=target, method=method):
                    reply = self.ask(target, method)
                    if method == "HEAD":
                        self.assertEqual(reply.status, 405)
                    else:
                        self.assertProblem(reply, 405, "method-not-allowed")
                    self.assertAllow(reply, methods)

    def test_the_methods_of_a_route_are_never_405(self):
        for target, methods in self.methods().items():
            for method in sorted(methods - {"DELETE"}):
                with self.subTest(target=target, method=method):
                    self.assertIn(self.ask(target, method).status, (200, 400, 409, 415))
        for target in ("/audios/999", "/events/999", "/events/types/999"):
            self.assertProblem(self.ask(target, "DELETE"), 404, "not-found")

    def test_a_body_that_nobody_reads_does_no_harm(self):
        body = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000
        for target in self.targets():
            for method in ("POST", "GET", "PUT", "PATCH"):
                with self.subTest(target=target, method=method), \
                        self.service.connect() as connection:
                    self.assertIn(connection.ask(target, method, body=body).status,
                                  (200, 405, 415))
                    with contextlib.suppress(harness.Broken, ConnectionError):
                        self.assertEqual(connection.ask("/ping").body, b'{"message":"pong"}')
        self.assertEqual([line for line in self.service.access_log
                          if "smuggled" in line["path"]], [])

    def test_a_trailing_slash_and_repeated_slashes_make_no_difference(self):
        for target in self.targets():
            path, mark, query = target.partition("?")
            for other in (path + "/", path.replace("/", "//"), path + "//", "//" + path):
                with self.subTest(target=target, other=other):
                    reply = self.get(other + mark + query)
                    self.assertEqual(reply.status, 200, reply)
                    self.assertIsNone(reply.field("Location"))

    def test_an_unknown_address_is_404_for_every_method(self):
        for target in ("/", "/nope", "/pingx", "/ping/x", "/healthz/nope", "/healthz/coalesce/x",
                       "/healthzz", "/metrics/nope", "/metrics/events/x", "/metricsx", "/api", "/api/", "/api/coalescence/", "/stats/x",
                       "/api/coalescence/default/x?member_id=1", "/.change/events",
                       "/problems", "/problems/", "/docs/nope", "/docs/index.html", "/docs/part", "/docs/x/y", "/.problem/404", "/.problem/200",
                       "/favicon.ico", "/nginx.conf", "/run/lock", "/PING", "/event", "/eventsx",
                       "/events/1/x", "/events/1/reimburse/x", "/events/types/1/x",
                       "/events/types/1/prices/x", "/events/report/x", "/reports", "/Events",
                       "/.import/events", "/.import", "/db/events.db", "/healthz/events/x"):
            for method in ("GET", "POST", "DELETE"):
                with self.subTest(target=target, method=method):
                    self.assertProblem(self.ask(target, method), 404, "not-found")

    def test_accept_is_obeyed_where_a_program_answers(self):
        for target in self.targets():
            if target in OWN:
                continue
            with self.subTest(target):
                self.assertProblem(self.get(target, Accept="text/html"), 406, "not-acceptable")
                for accept in ("*/*", kind_of(target), "text/html, */*;q=0.5"):
                    self.assertEqual(self.get(target, Accept=accept).status, 200)


class Crossing(Case):
    """What a page of another site has a browser send."""

    TYPE = {"name": "a", "amount_in_cents": 1}
    CHANGES = (("POST", "/events/types"), ("POST", "/events"), ("DELETE", "/events/1"),
               ("PUT", "/events/types/1"), ("POST", "/test/10"), ("DELETE", "/test/runs/1"),
               ("PATCH", "/ping"), ("POST", "/api/x"), ("DELETE", "/nope"), ("POST", "/metrics"))

    def ask(self, method, target, site):
        return self.service.ask(target, method, {"Content-Type": "application/json",
                                                 **({"Sec-Fetch-Site": site} if site else {})},
                                json.dumps(self.TYPE).encode())

    def test_it_changes_nothing(self):
        for site in ("cross-site", "same-site"):
            for method, target in self.CHANGES:
                with self.subTest(site=site, method=method, target=target):
                    reply = self.ask(method, target, site)
                    problem = self.assertProblem(reply, 403, "forbidden")
                    self.assertIn("another site", problem["detail"])
        self.get("/healthz")
        self.assertEqual([line for line in self.service.events("request")
                          if line["method"] != "GET"], [])  # no program has heard of it
        self.assertEqual(self.get("/events/types").json, [])
        self.assertEqual({line["status"] for line in self.service.access_log
                          if line["method"] != "GET"}, {403})

    def test_it_may_read_as_before(self):
        for site in ("cross-site", "same-site"):
            for method in ("GET", "HEAD"):
                for target in ("/ping", "/events/types", "/metrics", "/healthz"):
                    self.assertEqual(self.ask(method, target, site).status, 200)
                self.assertEqual(self.ask(method, "/nope", site).status, 404)

    def test_a_page_of_ours_and_whoever_is_no_page_may_change(self):
        for site in ("same-origin", "none", None):
            made = self.ask("POST", "/events/types", site)
            self.assertEqual(made.status, 201, made)
            gone = self.ask("DELETE", made.field("Location"), site)
            self.assertEqual(gone.status, 204, gone)


class Problems(Case):
    def test_every_type_has_a_page(self):
        names = problem_names()
        self.assertGreater(len(names), 20)
        for name in names:
            with self.subTest(name):
                reply = self.get(f"/problems/{name}")
                self.assertEqual(reply.status, 200, reply)
                self.assertEqual(reply.field("Content-Type"), "text/html")
                self.assertRegex(reply.body.decode(),
                                 r"(?s)<!doctype html>.*<h1>[45]\d\d .*</html>")
                self.assertIn("max-age=", reply.field("Cache-Control"))
                self.assertCommon(reply)

    def test_the_page_of_a_problem_that_was_sent_is_there(self):
        for target in ("/nope", "/api/coalescence/nope"):
            page = self.get(self.get(target).json["type"])
            self.assertEqual(page.status, 200)

    def test_no_other_file_is_served(self):
        for target in ("/problems/nope", "/problems/not-found.html", "/problems/not-found/x",
                       "/problems/.", "/problems/..", "/problems/../nginx.conf",
                       "/problems/%2e%2e/nginx.conf", "/problems/..%2fnginx.conf",
                       "/problems/%2e%2e%2f%2e%2e%2fnginx.conf", "/problems/..%5cnginx.conf",
                       "/problems/....//nginx.conf", "/problems/not-found%00", "/problems/%00",
                       "/problems/not-found%0a", "/problems/NOT-FOUND", "/problems/" + 41 * "a",
                       "/problems/../../run/lock", "/../../etc/passwd", "/..%2f..%2fetc/passwd",
                       "/problems//etc/passwd", "/problems/%252e%252e/nginx.conf",
                       "/problems/internal/../../nginx.conf", "/html/problems/not-found.html"):
            with self.subTest(target):
                reply = self.get(target)
                self.assertProblem(reply, reply.status)
                self.assertIn(reply.status, (400, 404))

    def test_no_problem_tells_of_the_inside(self):
        folder = self.service.data
        for target in ("/nope", "/api/coalescence/nope", "/api/coalescence/default?member_id=%ff",
                       "/problems/nope", "/%00", "/healthz/nope"):
            body = self.get(target).body.decode()
            for word in (folder, "nginx", ".sock", ".c:", "unix:"):
                self.assertNotIn(word, body)


class Refusals(Case):
    """What is malformed, oversized or ambiguous, and who says so in which form."""

    GET = "GET /api/coalescence/default?member_id=1 HTTP/1.1\r\nHost: localhost\r\n"

    def refused(self, data, *statuses):
        """One problem, and then the end of the connection."""
        with self.service.connect() as connection:
            connection.send(data if isinstance(data, bytes) else data.encode())
            reply = connection.receive()
            problem = self.assertProblem(reply, reply.status)
            self.assertIn(reply.status, statuses, reply)
            page = self.get(problem["type"])
            self.assertEqual(page.status, 200, problem)
            connection.socket.shutdown(socket.SHUT_WR)
            self.assertEqual(connection.rest(), b"", "more than one answer")
        return problem

    def test_a_foreign_host_gets_no_answer(self):
        for host in ("evil.example", "localhost.evil.example", "10.0.0.1", "127.0.0.1.example"):
            with self.subTest(host), self.service.connect() as connection:
                connection.send(f"GET /ping HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                with self.assertRaises(ConnectionResetError):
                    connection.socket.recv(1000)

    def test_malformed_requests_are_400(self):
        for data in ("GET\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "\0\r\n\r\n",
                     "get / HTTP/1.1\r\n\r\n",
                     "GET / HTTP/1.1\r\nHost: localhost\r\nHost: y\r\n\r\n", "GET / HTTX/1.1\r\n\r\n",
                     "GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n", "G(T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                     "GET nope HTTP/1.1\r\nHost: localhost\r\n\r\n",
                     "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
                     "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "GET / HTTP/1.1\r\nHost: \r\n\r\n",
                     "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n", "\x16\x03\x01\x02\r\n\r\n",
                     "GET / HTTP/1.x\r\nHost: localhost\r\n\r\n", "GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
                     "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
                     "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1x\r\n\r\n",
                     "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
                     "GET / HTTP/1.1\r\nHost: localhost\r\nA b: c\r\n\r\n"):
            with self.subTest(data):
                self.refused(data, 400)

    def test_other_versions_of_http(self):
        self.refused("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505)
        self.refused("GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 400, 505)
        reply = self.service.raw(b"GET /ping HTTP/1.0\r\n\r\n")
        self.assertEqual(responses(reply), [200])
        self.assertTrue(reply.endswith(b'{"message":"pong"}'))
        reply = self.service.raw(b"GET /api/coalescence/default?member_id=1 HTTP/1.0\r\n\r\n")
        self.assertEqual(responses(reply), [200])
        self.assertIn(b'{"oop_max":20000,', reply)
        reply = self.service.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.assertNotIn(b"HTTP/1.1 200", reply)

    def test_bodies_over_the_limit_are_413(self):
        for target in ("/ping", "/api/coalescence/default", "/healthz", "/problems/not-found"):
            for length in (1048577, 10**12, 2**62):
                with self.subTest(target=target, length=length):
                    self.refused(f"POST {target} HTTP/1.1\r\nHost: localhost\r\n"
                                 f"Content-Length: {length}\r\n\r\n", 413)
        data = self.GET.replace("GET", "POST") + "Transfer-Encoding: chunked\r\n\r\n"
        reply = self.service.raw(data.encode() + 40 * (b"8000\r\n" + b"x" * 0x8000 + b"\r\n"))
        self.assertEqual(responses(reply), [413])

    def test_who_takes_a_while_to_send_too_much_is_told_so(self):
        with self.service.connect() as connection:
            connection.send(b"POST /ping HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n")
            for _ in range(20):
                connection.send(50000 * b"x")
                time.sleep(0.03)
            self.assertProblem(connection.receive(), 413, "too-large")

    def test_addresses_over_the_limit_are_414(self):
        for target in ("/" + 9000 * "x", "/ping?" + 40000 * "x",
                       "/api/coalescence/default?member_id=" + 8200 * "x"):
            self.refused(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n", 414)
        for target in ("/api/coalescence/" + 500 * "x", "/healthz" + 600 * "/",
                       "/healthz/" + 250 * "%2e"):
            reply = self.get(target)
            self.assertIn(reply.status, (404, 414), reply)
            self.assertProblem(reply, reply.status)

    def test_more_parameters_than_anyone_needs_are_400(self):
        for query in ("&".join(f"p{i}=" for i in range(33)), "member_id=1&" + 40 * "a&"):
            self.assertProblem(self.get("/api/coalescence/default?" + query), 400)
        self.assertEqual(self.get("/api/coalescence/default?member_id=1" + 3000 * "&").status, 200)

    def test_headers_over_the_limit_are_431(self):
        for name, fields in {
                "one long": "X: " + 9000 * "y" + "\r\n",
                "a long name": 9000 * "y" + ": x\r\n",
                "many long": "".join(f"X{i}: {4000 * 'y'}\r\n" for i in range(12)),
                "a cookie": "Cookie: " + 20000 * "y" + "\r\n"}.items():
            with self.subTest(name):
                self.refused(self.GET + fields + "\r\n", 431)
        for count in (90, 3000):
            reply = self.service.raw((self.GET + "Connection: close\r\n" + "".join(
                f"X{i}: y\r\n" for i in range(count)) + "\r\n").encode())
            self.assertIn(responses(reply), ([200], [400], [431]))

    def test_a_length_beside_chunks_and_two_lengths_are_refused(self):
        """Whoever stands before us may have read another end of the body: request smuggling."""
        inner = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
        chunk = f"{len(inner):x}\r\n{inner}\r\n0\r\n\r\n"
        for name, fields in {
                "both": "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "both, turned": "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
                "two lengths": "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
                "one length twice": "Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
                "a list": "Content-Length: 5, 5\r\n\r\nabcde",
                "a sign": "Content-Length: +5\r\n\r\nabcde",
                "hexadecimal": "Content-Length: 0x5\r\n\r\nabcde",
                "two encodings": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
                                 + chunk,
                "an unknown encoding": "Transfer-Encoding: xchunked\r\n\r\n" + chunk,
                "a list of encodings": "Transfer-Encoding: gzip, chunked\r\n\r\n" + chunk,
                "identity": "Transfer-Encoding: identity\r\n\r\n" + chunk,
                "a space before the colon": "Transfer-Encoding : chunked\r\n\r\n" + chunk,
                "a bad chunk size": "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + inner,
                "a huge chunk size": "Transfer-Encoding: chunked\r\n\r\n" + 17 * "f" + "\r\n" +
                                     inner}.items():
            for target in ("/api/coalescence/default?member_id=1", "/healthz"):
                with self.subTest(name, target=target):
                    data = f"POST {target} HTTP/1.1\r\nHost: localhost\r\n{fields}"
                    self.refused(data, 400, 501)
        self.assertEqual([line for line in self.service.access_log
                          if "smuggled" in line["path"]], [])

    def test_what_looks_like_a_second_request_within_a_body_is_none(self):
        inner = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for fields, body in ((b"Content-Length: %d" % len(inner), inner),
                             (b"Transfer-Encoding: chunked",
                              b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)),
                             (b"Transfer-Encoding: CHUNKED",
                              b"%x;a=b\r\n%s\r\n0\r\nX: y\r\n\r\n" % (len(inner), inner))):
            data = (b"POST /healthz HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n\r\n" + body +
                    b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            reply = self.service.raw(data)
            self.assertEqual(responses(reply), [405, 200], reply)
        self.assertEqual([line for line in self.service.access_log
                          if "smuggled" in line["path"]], [])

    def test_pipelined_requests_are_answered_in_order(self):
        targets = 5 * ["/ping", "/api/coalescence/max?member_id=1", "/nope", "/healthz/coalesce"]
        with self.service.connect() as connection:
            connection.send("".join(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"
                                    for target in targets).encode())
            self.assertEqual([connection.receive().status for _ in targets],
                             5 * [200, 200, 404, 200])

    def test_escapes_and_dots_in_the_path_never_lead_astray(self):
        for target in ("/api/coalescence/default%2Fx?member_id=1", "/api/coalescence/%2e%2e",
                       "/api/coalescence%2Fdefault?member_id=1", "/api/coalescence/%00",
                       "/api/coalescence/default%00?member_id=1",
                       "/api/coalescence/%ff?member_id=1",
                       "/api/coalescence/%c0%af?member_id=1", "/api/coalescence/%ed%a0%80",
                       "/api/coalescence/%?member_id=1", "/api/coalescence/%4?member_id=1",
                       "/api/coalescence/%gg", "/api/coalescence/./default?member_id=1",
                       "/api/coalescence/../coalescence/default?member_id=1",
                       "/api/coalescence/x/../default?member_id=1", "/api/coalescence/..",
                       "/../api/coalescence/default", "/%2e%2e/ping", "/healthz/%2e/coalesce",
                       "/healthz/%00", "/healthz/coalesce%2f", "/healthz%2fcoalesce",
                       "/healthz/coalesce%00", "/api/coalescence/a\\b",
                       "/api/coalescence/default;x",
                       "/api/coalescence/default%20?member_id=1", "/api/coalescence/%0d%0aX:y"):
            with self.subTest(target):
                reply = self.get(target)
                self.assertProblem(reply, reply.status)
                self.assertIn(reply.status, (400, 404))

    def test_escapes_in_the_query_are_checked_too(self):
        for query in ("%", "%0", "%zz", "%00", "%ff", "%c0%af", "%ed%a0%80", "a%00b"):
            for name in (f"member_id={query}", f"{query}=1&member_id=1"):
                with self.subTest(name):
                    self.assertProblem(self.get(f"/api/coalescence/default?{name}"), 400,
                                       "invalid-input")

    def test_an_escaped_letter_is_the_letter(self):
        for target in ("/api/coalescence/%64efault?member_id=1", "/%70ing", "/healthz/%63oalesce",
                       "/api/coalescence/default?%6dember_id=%31"):
            with self.subTest(target):
                self.assertEqual(self.get(target).status, 200)


class Gateway(Case):
    """Programs that are killed, away or stopped."""

    def test_a_program_that_cannot_be_reached_is_502(self):
        name = os.path.join(self.service.data, "run/coalesce.sock")
        os.rename(name, name + ".away")
        os.kill(self.service.pid("coalesce"), signal.SIGKILL)  # and with it the connections kept
        try:
            for method in ("GET", "POST"):
                reply = self.service.ask("/api/coalescence/default?member_id=1", method)
                self.assertProblem(reply, 502, "upstream-failed")
            self.assertProblem(self.get("/healthz/coalesce"), 502, "upstream-failed")
            problem = self.assertProblem(self.get("/healthz"), 503, "unavailable")
            self.assertEqual({one["name"]: one["status"] for one in problem["programs"]},
                             {name: "unavailable" if name == "coalesce" else "ok"
                              for name in harness.PROGRAMS})
            self.assertEqual(self.get("/healthz/health").status, 200)
            self.assertEqual(self.get("/ping").status, 200)
        finally:
            os.rename(name + ".away", name)
        wait_for(lambda: self.get("/healthz").status == 200, "all is well again")

    def test_what_nginx_says_of_it_is_whole_but_for_what_the_client_sent(self):
        name = os.path.join(self.service.data, "run/coalesce.sock")
        os.rename(name, name + ".away")
        os.kill(self.service.pid("coalesce"), signal.SIGKILL)
        try:
            for target, fields, body in (
                    ("/api/coalescence/default?member_id=secret", {"Referer": "/?secret"}, None),
                    ("/nope?member_id=secret", {}, b"x" * 1048577)):
                self.service.ask(target, "POST", fields, body)
        finally:
            os.rename(name + ".away", name)
        wait_for(lambda: self.get("/healthz").status == 200, "all is well again")
        for words in (r"connect\(\) to unix:run/coalesce.sock failed \(2: No such file or directory\)"
                      " while connecting to upstream",
                      "client intended to send too large body: 1048577 bytes"):
            wait_for(lambda: [one for one in self.service.events("nginx") if re.search(
                rf"\] \d+#\d+: (\*\d+ )?{words}$", one["detail"])], words)
        self.assertEqual([line for line in self.service.lines if "secret" in line], [])

    def test_health_is_503_while_a_program_is_stopped(self):
        pid = self.service.pid("coalesce")
        os.kill(pid, signal.SIGSTOP)
        try:
            problem = self.assertProblem(self.get("/healthz"), 503, "unavailable")
            self.assertIn({"name": "coalesce", "status": "unavailable"}, problem["programs"])
            self.assertIn({"name": "health", "status": "ok"}, problem["programs"])
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_for(lambda: self.get("/healthz").status == 200, "all is well again")


class Health(Case):
    def test_ping_pongs(self):
        reply = self.get("/ping")
        self.assertEqual((reply.status, reply.body), (200, b'{"message":"pong"}'))
        self.assertEqual(reply.field("Cache-Control"), "no-store")

    def test_health_speaks_for_every_program(self):
        reply = self.get("/healthz")
        self.assertEqual(reply.json, {"status": "ok", "programs": [
            {"name": name, "status": "ok"} for name in harness.PROGRAMS]})
        self.assertEqual(reply.field("Cache-Control"), "no-store")

    def test_each_program_speaks_for_itself(self):
        for name in harness.PROGRAMS:
            reply = self.get(f"/healthz/{name}")
            self.assertEqual((reply.status, reply.json["status"]), (200, "ok"))
            self.assertEqual(reply.field("Cache-Control"), "no-store")
        self.assertProblem(self.get("/healthz/nope"), 404, "not-found")

    def test_coalesce_tells_the_state_of_its_insurers(self):
        self.get("/api/coalescence/default?member_id=1")
        found = self.get("/healthz/coalesce").json["upstreams"]
        self.assertEqual([one["name"] for one in found], ["alpha", "beta", "gamma"])
        for one in found:
            self.assertEqual(one["circuit"], "closed")
            self.assertEqual((one["in_flight"], one["failures"]), (0, 0))
            self.assertGreaterEqual(one["answers"], 1)


class Tracing(Case):
    # Targets answered by a program, and by nginx.
    program, nginx = "/api/coalescence/nope", "/nope"

    def logged(self, trace_id, program=True):
        """That id in the access log, and in the program's line if there is one."""
        wait_for(lambda: [line for line in self.service.access_log
                          if line["trace_id"] == trace_id], "the access log's line")
        if program:
            wait_for(lambda: [line for line in self.service.events("request")
                              if line["trace_id"] == trace_id], "the program's line")

    def test_a_valid_trace_is_taken(self):
        for n, form in enumerate(("00-{}-b7ad6b7169203331-01", "00-{}-b7ad6b7169203331-00",
                                  "00-{}-b7ad6b7169203331-ff", "01-{}-b7ad6b7169203331-00",
                                  "cc-{}-b7ad6b7169203331-00-what-comes-later")):
            for target in (self.program, self.nginx):
                trace_id = f"{n}{'p' == target[1]:d}{len(target):02d}" + TRACE[4:]
                with self.subTest(form=form, target=target):
                    reply = self.get(target, traceparent=form.format(trace_id))
                    self.assertEqual(self.assertProblem(reply, reply.status)["trace_id"], trace_id)
                    self.logged(trace_id, target == self.program)

    def test_an_invalid_one_is_replaced(self):
        seen = set()
        for given in ("", "00", f"00-{32 * '0'}-b7ad6b7169203331-01", f"00-{TRACE}-{16 * '0'}-01",
                      f"00-{TRACE.upper()}-b7ad6b7169203331-01", f"00-{TRACE}-b7ad6b7169203331",
                      f"00-{TRACE}-B7AD6B7169203331-01", f"ff-{TRACE}-b7ad6b7169203331-01",
                      f"00-{TRACE[1:]}-b7ad6b7169203331-01", f"00-{TRACE}a-b7ad6b7169203331-01",
                      f"00-{TRACE}-b7ad6b7169203331-01-x", f"00-{TRACE}-b7ad6b7169203331-0g",
                      f"00-{TRACE}-b7ad6b7169203331-1", f"00_{TRACE}_b7ad6b7169203331_01",
                      f"0-{TRACE}-b7ad6b7169203331-01", f"zz-{TRACE}-b7ad6b7169203331-01",
                      f"01-{TRACE}-b7ad6b7169203331-01x", f"00-{TRACE}-b7ad6b7169203331-01 x",
                      f"00-{TRACE[:-1]}g-b7ad6b7169203331-01", 3000 * "0", "\"}\\n"):
            for target in (self.program, self.nginx):
                with self.subTest(given=given, target=target):
                    reply = self.get(target, traceparent=given)
                    trace_id = self.assertProblem(reply, reply.status)["trace_id"]
                    self.assertNotEqual(trace_id, TRACE)
                    self.assertNotIn(trace_id, seen)
                    seen.add(trace_id)
                    self.logged(trace_id, target == self.program)

    def test_two_traces_are_one_to_nginx_and_program(self):
        others = [f"00-{digit * 32}-b7ad6b7169203331-01" for digit in "ab"]
        data = (f"GET {self.program} HTTP/1.1\r\nHost: localhost\r\ntraceparent: {others[0]}\r\n"
                f"traceparent: {others[1]}\r\nConnection: close\r\n\r\n")
        trace_id = json.loads(self.service.raw(data.encode()).partition(b"\r\n\r\n")[2])["trace_id"]
        self.logged(trace_id)


class Logs(Case):
    def last(self, target, method="GET", fields=()):
        """Both logs' lines of a request with a trace of its own."""
        trace_id = os.urandom(16).hex()
        reply = self.service.ask(target, method, {
            **dict(fields), "traceparent": f"00-{trace_id}-b7ad6b7169203331-01"})
        mine = lambda lines: [line for line in lines if line["trace_id"] == trace_id]
        access = wait_for(lambda: mine(self.service.access_log), "nginx's line")
        own = wait_for(lambda: mine(self.service.events("request")), "the program's line")
        self.assertEqual((len(access), len(own)), (1, 1))
        return reply, access[0], own[0]

    def test_a_request_is_a_line_in_each_log(self):
        reply, access, own = self.last("/api/coalescence/default/?member_id=1&x=y")
        self.assertEqual({name: own[name] for name in ("program", "level", "method", "route",
                                                       "path", "status", "bytes")},
                         {"program": "coalesce", "level": "info", "method": "GET",
                          "route": "/api/coalescence/{method}",
                          "path": "/api/coalescence/default/", "status": 200,
                          "bytes": len(reply.body)})
        self.assertLessEqual(set(REQUEST_MEMBERS), set(own))
        self.assertRegex(own["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual({name: access[name] for name in ("method", "path", "status", "bytes")},
                         {"method": "GET", "path": "/api/coalescence/default/", "status": 200,
                          "bytes": len(reply.body)})

    def test_nginx_logs_what_it_refuses_with_the_method_that_came(self):
        for method, target, status in (("POST", "/ping", 405), ("TRACE", "/nope", 405),
                                       ("DELETE", "/nope", 404), ("HEAD", "/nope", 404)):
            trace_id = os.urandom(16).hex()
            self.service.ask(target, method,
                             {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"})
            line = wait_for(lambda: [line for line in self.service.access_log
                                     if line["trace_id"] == trace_id], "the line")[0]
            self.assertEqual((line["method"], line["path"], line["status"]),
                             (method, target, status))

    def test_no_line_can_be_forged(self):
        forged = '{"event":"forged"}'
        for target in ('/api/coalescence/x%0a{"event":"forged"}', f"/api/coalescence/{forged}",
                       '/api/coalescence/\\","event":"forged","x":"', "/api/coalescence/%22%5c%0d",
                       "/api/coalescence/\x7f\x1b[31m", "/healthz/\N{BLACK HEART SUIT}",
                       "/api/coalescence/\udcff\udcfe"):
            with self.subTest(target):
                self.service.ask(target)
        for fields in ({"traceparent": forged}, {"Accept": forged}, {"User-Agent": forged},
                       {"Host-X": forged}, {"Referer": forged}, {"X-Forwarded-For": forged}):
            self.service.ask("/api/coalescence/nope", fields=fields)
        for data in (f"{forged} / HTTP/1.1\r\n\r\n",
                     f"GET /ping HTTP/1.1\r\nHost: {forged}\r\nConnection: close\r\n\r\n",
                     f"GET /{forged}\r\n\r\n", f"FORGED\n{forged} /ping HTTP/1.1\r\n\r\n",
                     "FORGED /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):
            self.service.raw(data.encode())
        self.last("/api/coalescence/default?member_id=2")
        lines = self.service.log + self.service.access_log
        self.assertEqual([line for line in lines if line.get("event") == "forged"], [])

    def test_a_long_path_is_cut_and_the_line_stays_whole(self):
        _, access, own = self.last("/api/coalescence/" + 490 * "x")
        self.assertEqual(own["path"], "/api/coalescence/" + 183 * "x")
        self.assertEqual(access["status"], 400)

    def test_an_unknown_path_has_an_empty_route(self):
        _, _, own = self.last("/api/coalescence/a/b/c")
        self.assertEqual((own["route"], own["status"]), ("", 404))

    def test_starts_are_logged(self):
        self.assertEqual({line["program"] for line in self.service.events("started")},
                         set(harness.PROGRAMS))


if __name__ == "__main__":
    harness.main()
