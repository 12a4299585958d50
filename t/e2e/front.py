"""The front door: https, how much one address may ask, pages of other sites, proxies before it."""
import json
import os
import shutil
import signal
import ssl
import subprocess

import auth
import harness
from harness import Case, Connection, caredesk, free_port, wait_for

JSON = {"Content-Type": "application/json"}
TYPE = json.dumps({"name": "a", "amount_in_cents": 1}).encode()
OURS, THEIRS = "https://app.example", "https://evil.example"


class Pair:
    """A certificate for 127.0.0.1 and its key, by openssl."""

    def __init__(self, folder, name):
        self.certificate = os.path.join(folder, f"{name}.pem")
        self.key = os.path.join(folder, f"{name}.key")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                        f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
                        self.key, "-out", self.certificate], check=True, capture_output=True)

    @property
    def settings(self):
        return {"certificate": self.certificate, "key": self.key}


def client(pair, lowest=ssl.TLSVersion.TLSv1_2, highest=ssl.TLSVersion.TLSv1_3, ciphers=None):
    """Verifies; speaks more than any client should."""
    context = ssl.create_default_context(cafile=pair.certificate)
    context.set_ciphers(ciphers or "ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = lowest, highest
    return context


class Secured(Connection):
    """The same over TLS."""

    def __init__(self, port, context):
        super().__init__(port)
        self.file.close()
        self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.file = self.socket.makefile("rb")


class Https(Case):
    @classmethod
    def config(cls):
        cls.folder = harness.folder()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.pair, cls.plain_port = Pair(cls.folder, "one"), free_port()
        return {"tls": {**cls.pair.settings, "redirect_from": f"127.0.0.1:{cls.plain_port}"}}

    def connect(self, **how):
        return Secured(self.service.port, client(self.pair, **how))

    def plain(self, data, port=None):
        with Connection(port or self.plain_port) as connection:
            connection.send(data)
            return connection.rest()

    def test_versions_that_are_sound_are_spoken_and_no_others(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with self.connect(lowest=version, highest=version) as connection:
                self.assertEqual(connection.ask("/ping").status, 200)
                self.assertFalse(connection.socket.session.has_ticket
                                 and version == ssl.TLSVersion.TLSv1_2)
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with self.assertRaises(ssl.SSLError) as raised:
                self.connect(lowest=version, highest=version).close()
            self.assertEqual(raised.exception.reason, "TLSV1_ALERT_PROTOCOL_VERSION")

    def test_ciphers_without_forward_secrecy_are_refused(self):
        for ciphers in ("AES128-GCM-SHA256:@SECLEVEL=0", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"):
            with self.assertRaises(ssl.SSLError) as raised:
                self.connect(highest=ssl.TLSVersion.TLSv1_2, ciphers=ciphers).close()
            self.assertEqual(raised.exception.reason, "SSLV3_ALERT_HANDSHAKE_FAILURE")

    def test_all_is_asked_by_https_from_then_on(self):
        with self.connect() as connection:
            for target, status in (("/ping", 200), ("/events/types", 200), ("/nope", 404)):
                answer = connection.ask(target)
                self.assertEqual(answer.status, status)
                self.assertEqual(answer.field("Strict-Transport-Security"), "max-age=31536000")

    def test_http_2_is_there_for_who_speaks_it(self):
        context = client(self.pair)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with Secured(self.service.port, context) as connection:
            self.assertEqual(connection.socket.selected_alpn_protocol(), "h2")

    def test_plain_http_is_sent_on(self):
        for method in ("GET", "POST", "DELETE"):
            with Connection(self.plain_port) as connection:
                connection.send(f"{method} /events/types?x=1 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                                "Content-Length: 0\r\n\r\n".encode())
                answer = connection.receive()
            self.assertEqual(answer.status, 308)
            self.assertEqual(answer.field("Location"),
                             f"https://127.0.0.1:{self.service.port}/events/types?x=1")
            self.assertIsNone(answer.field("Strict-Transport-Security"))

    def test_plain_http_gets_nothing_else(self):
        for target in ("/healthz", "/metrics", "/api/x", "/.problem/404", "/problems/internal",
                       "http://127.0.0.1/ping"):
            said = self.plain(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n"
                              "Connection: close\r\n\r\n".encode())
            self.assertIn(said.split(b" ")[1], (b"308", b"404"), said)
            self.assertNotIn(b"200 OK", said)
        self.assertIn(b" 400 ", self.plain(b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n").split(b"\r\n")[0])

    def test_plain_http_where_https_is_spoken_is_a_problem(self):
        with Connection(self.service.port) as connection:
            connection.send(b"GET /ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertProblem(connection.receive(), 400, "invalid-input")

    def test_a_foreign_host_gets_no_answer(self):
        request = b"GET /ping HTTP/1.1\r\nHost: evil.example\r\n\r\n"
        with self.connect() as connection:
            connection.send(request)
            self.assertEqual(connection.rest(), b"")
        self.assertEqual(self.plain(request), b"")

    def test_load_comes_by_https_too(self):
        with self.connect() as connection:
            self.assertEqual(connection.ask("/test/200", "POST").status, 200)
            runs = wait_for(lambda: [run for run in connection.ask("/test/runs").json
                                     if run["status"] != "running"], "the run has ended")
        self.assertEqual((runs[0]["succeeded"], runs[0]["failed"]), (200, 0), runs)
        done = caredesk("load", "300", "--data", self.service.data, "--config",
                        self.service.config_file, "--listen", f"127.0.0.1:{self.service.port}")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_another_certificate_is_shown_once_nginx_is_told(self):
        other, before = Pair(self.folder, "two"), set(self.service.workers())
        with self.assertRaises(ssl.SSLCertVerificationError):
            Secured(self.service.port, client(other)).close()
        for new, old in ((other.certificate, self.pair.certificate), (other.key, self.pair.key)):
            os.replace(new, old)
        with open(os.path.join(self.service.data, "run/nginx.pid"), encoding="utf-8") as file:
            os.kill(int(file.read()), signal.SIGHUP)
        wait_for(lambda: self.service.workers() and not before & set(self.service.workers()),
                 "other workers")
        with self.connect() as connection:
            self.assertEqual(connection.ask("/events/types").status, 200)


class Certificates(Case):
    start = False

    def test_what_cannot_be_served_is_told_before(self):
        folder = harness.folder()
        self.addCleanup(shutil.rmtree, folder)
        one, two = Pair(folder, "one"), Pair(folder, "two")
        for certificate, key, words in (
                (one.certificate, two.key, "two.key is not the key of "),
                (one.certificate, "/nonexistent", "/nonexistent: No such file"),
                (one.key, one.key, "one.key: no certificate can be read"),
                (one.certificate, one.certificate, "no key without a pass phrase can be read")):
            file = os.path.join(folder, "caredesk.yaml")
            with open(file, "w", encoding="utf-8") as stream:
                json.dump({"tls": {"certificate": certificate, "key": key}}, stream)
            for command in ("check-config", "run"):
                done = caredesk(command, "--config", file, "--data", os.path.join(folder, "d"))
                self.assertEqual(done.returncode, 1)
                self.assertIn(f"{file}: tls: ", done.stderr)
                self.assertIn(words, done.stderr)


class Limited(Case):
    """Behind a proxy on this machine, which says whom it asks for."""

    MANY = 300

    @classmethod
    def config(cls):
        return {"trusted_proxies": ["127.0.0.1", "10.0.0.0/8"],
                "limits": {"requests_per_s": 1, "burst": 20, "connections": 3}}

    def until_refused(self, address, target="/events/types", method="GET"):
        """How many were answered, and the refusal; None if there was none."""
        fields = {} if address is None else {"X-Forwarded-For": address}
        with self.service.connect() as connection:
            for i in range(self.MANY):
                answer = connection.ask(target, method, fields)
                if answer.status == 429:
                    return i, answer
        return self.MANY, None

    def test_who_asks_too_much_is_refused(self):
        answered, refusal = self.until_refused("203.0.113.7")
        self.assertGreaterEqual(answered, 21)
        self.assertProblem(refusal, 429, "too-many-requests")
        self.assertEqual(refusal.field("Retry-After"), "1")

    def test_nobody_else_is(self):
        self.until_refused("203.0.113.8")
        answered, _ = self.until_refused("203.0.113.9")
        self.assertGreaterEqual(answered, 21)

    def test_this_machine_may_ask_as_much_as_it_likes(self):
        self.assertEqual(self.until_refused(None), (self.MANY, None))

    def test_what_a_client_adds_is_not_believed(self):
        for i, said in enumerate(("127.0.0.1", "127.0.0.1, 10.9.9.9", "::1", "198.51.100.1")):
            _, refusal = self.until_refused(f"{said}, 203.0.113.{20 + i}, 10.1.1.1")
            self.assertIsNotNone(refusal, said)

    def test_one_network_of_ipv6_is_one_client(self):
        """Wherever :: stands: nginx leaves out the longest row of zeros, also one of one group."""
        for one, same, others in (
                ("2001:db8:1:2::1", ["2001:db8:1:2::2", "2001:DB8:1:2:FFFF:ffff:ffff:ffff"],
                 ["2001:db8:1:3::1"]),
                ("2001:db8::1", ["2001:db8:0:0:1::", "2001:db8:0:0:1:2:3:4", "2001:db8::1:0:0:1"],
                 ["2001:db9::1", "2001:db8:0:1::1"]),
                ("2001:db8:5::1", ["2001:db8:5:0:1:2:3:4", "2001:db8:5:0:1::", "2001:db8:5:0:1:0:0:1"],
                 ["2001:db8:6::1", "2001:db8:5:1::1", "2001:db8:5:2:1:2:3:4"]),
                ("2001:db8:0:7::1", ["2001:db8::7:1:2:3:4", "2001:db8:0:7:1::"],
                 ["2001:db8::8:1:2:3:4", "2001:db8:0:9::1"]),
                ("2001:0:0:a::1", ["2001::a:1:2:3:4", "2001:0:0:a:1::"], ["2001::b:1:2:3:4"]),
                ("2001:a0d:a0a::1", ["2001:a0d:a0a::a0a:0d0a"], ["2001:a0d:a0a:a0a::1"]),
                ("64:ff9b::1", ["64:ff9b::203.0.113.99"], ["64:ff9c::1"]),
                ("203.0.113.70", ["::ffff:203.0.113.70", "::ffff:cb00:7146"],
                 ["::ffff:203.0.113.71", "203.0.113.72"]),
                ("::ffff:203.0.113.10", ["203.0.113.10"], ["203.0.113.13"])):
            self.until_refused(one)
            for address in same:
                with self.subTest(one, same=address):
                    self.assertLess(self.until_refused(address)[0], 21)
            for address in others:
                with self.subTest(one, other=address):
                    self.assertGreaterEqual(self.until_refused(address)[0], 21)

    def test_what_costs_much_is_bounded_more(self):
        answered, refusal = self.until_refused("203.0.113.40", "/test/0", "POST")
        self.assertProblem(refusal, 429, "too-many-requests")
        self.assertLess(answered, 21)
        answered, refusal = self.until_refused("203.0.113.41", "/accounts/1/upload_image", "POST")
        self.assertProblem(refusal, 429, "too-many-requests")
        self.assertLess(answered, 21)
        self.assertGreaterEqual(self.until_refused("203.0.113.42", "/test/runs")[0], 21)

    def test_connections_are_bounded(self):
        fields = ("POST /events HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.50\r\n"
                  "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n").encode()
        connections = [self.service.connect() for _ in range(3)]
        for connection in connections:
            self.addCleanup(connection.close)
            connection.send(fields)

        def refused():
            answer = self.service.ask("/events/types", fields={"X-Forwarded-For": "203.0.113.50"})
            return answer if answer.status == 429 else None

        self.assertProblem(wait_for(refused, "a refusal"), 429, "too-many-requests")
        self.assertEqual(self.get("/events/types").status, 200)

    def test_metrics_are_not_shown_to_who_comes_from_elsewhere(self):
        answer = self.service.ask("/metrics", fields={"X-Forwarded-For": "203.0.113.60"})
        self.assertProblem(answer, 403, "forbidden")
        self.assertEqual(self.get("/metrics").status, 200)


class Unproxied(Case):
    @classmethod
    def config(cls):
        return {"limits": {"requests_per_s": 1, "burst": 1, "connections": 1}}

    def test_nobody_is_believed_to_ask_for_another(self):
        with self.service.connect() as connection:
            for _ in range(50):
                answer = connection.ask("/events/types", fields={"X-Forwarded-For": "203.0.113.7"})
                self.assertEqual(answer.status, 200)
        self.assertEqual(self.service.ask("/metrics", fields={"X-Forwarded-For": "203.0.113.7"}).status,
                         200)


class Origins(Case):
    @classmethod
    def config(cls):
        return {"cors": {"origins": [OURS, "http://localhost:3000"]}}

    def preflight(self, origin, target="/events/types", site="cross-site"):
        return self.service.ask(target, "OPTIONS", {
            "Origin": origin, "Sec-Fetch-Site": site, "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type"})

    def cors(self, answer):
        return {name: value for name, value in answer.fields if name.startswith("Access-Control-")}

    def test_a_browser_hears_what_a_page_may_send(self):
        for origin in (OURS, "http://localhost:3000"):
            answer = self.preflight(origin)
            self.assertEqual(answer.status, 204)
            self.assertCommon(answer)
            self.assertEqual(self.cors(answer), {
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
                "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, "
                                                "If-Match, If-None-Match, Prefer",
                "Access-Control-Expose-Headers": "ETag, Location, Link, Retry-After",
                "Access-Control-Max-Age": "600"})
            self.assertEqual(answer.field("Vary"), "Origin")
        self.assertEqual(
            self.cors(self.preflight(OURS, "/events/7"))["Access-Control-Allow-Methods"],
            "GET, HEAD, DELETE, OPTIONS")

    def test_its_page_changes_things(self):
        answer = self.service.ask("/events/types", "POST", {
            **JSON, "Origin": OURS, "Sec-Fetch-Site": "cross-site"}, TYPE)
        self.assertEqual(answer.status, 201, answer)
        self.assertEqual(answer.field("Access-Control-Allow-Origin"), OURS)
        self.assertIn("Location", answer.field("Access-Control-Expose-Headers"))
        self.assertEqual(answer.field("Vary"), "Origin")
        answer = self.get("/events/types/999", Origin=OURS)
        self.assertProblem(answer, 404)
        self.assertEqual(answer.field("Access-Control-Allow-Origin"), OURS)

    def test_a_page_of_nobody_known_is_not_let_in(self):
        for origin in (THEIRS, "null", OURS + ".evil.example", OURS + ":443", "http://app.example"):
            with self.subTest(origin):
                self.assertProblem(self.preflight(origin), 403, "forbidden")
                answer = self.preflight(origin, site="none")
                self.assertEqual((answer.status, self.cors(answer)), (204, {}))
                self.assertEqual(answer.field("Vary"), "Origin")
                answer = self.service.ask("/events/types", "POST", {
                    **JSON, "Origin": origin, "Sec-Fetch-Site": "cross-site"}, TYPE)
                self.assertProblem(answer, 403, "forbidden")
                self.assertEqual(self.cors(self.get("/events/types", Origin=origin)), {})

    def test_an_origin_in_large_letters_is_the_one_in_small_ones(self):
        for origin in (OURS.upper(), OURS.replace("https", "HTTPS"), OURS.replace("app", "App")):
            with self.subTest(origin):
                self.assertNotEqual(origin, OURS)
                answer = self.preflight(origin)
                self.assertEqual(answer.status, 204, answer)
                self.assertEqual(answer.field("Access-Control-Allow-Origin"), OURS)
                self.assertProblem(self.preflight(origin + ".evil.example"), 403, "forbidden")

    def test_what_is_kept_is_told_to_each_by_its_origin(self):
        target = "/api/coalescence/default?member_id=1"
        for origin, told in ((OURS, OURS), (THEIRS, None), ("http://localhost:3000",) * 2):
            answer = self.get(target, Origin=origin)
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.field("Access-Control-Allow-Origin"), told)

    def test_who_is_no_browser_notices_nothing(self):
        answer = self.service.ask("/events/types", "OPTIONS")
        self.assertEqual((answer.status, self.cors(answer)), (204, {}))
        self.assertEqual(answer.field("Allow"), "GET, HEAD, POST, OPTIONS")
        self.assertEqual(self.cors(self.get("/events/types")), {})


class Tokens(Case):
    @classmethod
    def config(cls):
        return {"auth": auth.AUTH, "cors": {"origins": [OURS]}}

    def test_a_page_is_told_that_it_needs_one(self):
        answer = self.service.ask("/accounts/1", "OPTIONS", {
            "Origin": OURS, "Access-Control-Request-Method": "PUT"})
        self.assertEqual(answer.status, 204)
        self.assertEqual(answer.field("Access-Control-Allow-Origin"), OURS)
        answer = self.get("/accounts/1", Origin=OURS)
        self.assertProblem(answer, 401, "unauthorized")
        self.assertEqual(answer.field("Access-Control-Allow-Origin"), OURS)

    def test_load_needs_none(self):
        done = caredesk("load", "100", "--data", self.service.data, "--config",
                        self.service.config_file, "--listen", f"127.0.0.1:{self.service.port}")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("counted 100", done.stdout)


class NoOrigins(Case):
    def test_without_any_no_page_elsewhere_is_told_anything(self):
        for origin in (OURS, THEIRS):
            answer = self.get("/events/types", Origin=origin)
            self.assertEqual([name for name, _ in answer.fields
                              if name.startswith("Access-Control-") or name == "Vary"], [])


if __name__ == "__main__":
    harness.main()
