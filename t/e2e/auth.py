"""Who may do what: bearer tokens, of the local secret and of an identity provider's keys."""
import base64
import hashlib
import hmac
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import harness
import images
from harness import Case, Service, caredesk, program, wait_for

ROLES = ("caregiver", "manager", "accountant", "admin")
AUTH = {"mode": "required", "issuer": "https://issuer.example/", "audience": "caredesk"}
MARKER = "MARKERmarkerMARKER"
PUBLIC = ("/ping", "/healthz", "/healthz/events", "/problems/unauthorized", "/docs/openapi.yaml",
          "/api/some/thing")
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson", "Transfer-Encoding": "chunked"}
SECRET = "run/secret/token"
SLOW = 90  # seconds, for what happens every 30


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**more):
    now = int(time.time())
    found = {"iss": AUTH["issuer"], "aud": AUTH["audience"], "sub": "anna", "iat": now,
             "exp": now + 600, **more}
    return {name: value for name, value in found.items() if value is not None}


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


class Secret:
    """HS256, by the secret that the service has made."""

    def __init__(self, data):
        with open(os.path.join(data, SECRET), encoding="utf-8") as file:
            self.key = bytes.fromhex(file.read())

    def sign(self, header=None, **more):
        head = json.dumps({"alg": "HS256", **(header or {})}).encode()
        text = f"{base64url(head)}.{base64url(json.dumps(claims(**more)).encode())}"
        return f"{text}.{base64url(hmac.digest(self.key, text.encode(), hashlib.sha256))}"


class Key:
    """ES256, by openssl."""

    def __init__(self, folder, name):
        self.name, self.file = name, os.path.join(folder, f"{name}.pem")
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out",
                        self.file], check=True, capture_output=True)
        public = subprocess.run(["openssl", "ec", "-in", self.file, "-pubout", "-outform", "DER"],
                                check=True, capture_output=True).stdout
        self.jwk = {"kty": "EC", "crv": "P-256", "kid": name, "use": "sig", "alg": "ES256",
                    "x": base64url(public[-64:-32]), "y": base64url(public[-32:])}

    @staticmethod
    def _number(der):
        """The first integer of DER as 32 bytes, and what is behind it."""
        end = 2 + der[1]
        return der[2:end].lstrip(b"\0").rjust(32, b"\0"), der[end:]

    def sign(self, **more):
        head = json.dumps({"alg": "ES256", "kid": self.name}).encode()
        text = f"{base64url(head)}.{base64url(json.dumps(claims(**more)).encode())}"
        der = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.file], check=True,
                             input=text.encode(), capture_output=True).stdout
        r, rest = self._number(der[2:])
        return f"{text}.{base64url(r + self._number(rest)[0])}"


def key_set(*keys):
    return json.dumps({"keys": [key.jwk for key in keys]}).encode()


class Provider:
    """An identity provider's set of keys, on the loopback."""

    def __init__(self, *keys):
        self.body, self.asked, self.status = key_set(*keys), 0, 200
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def guarded_routes():
    """(method, path, roles) of every program, but for those that are for anyone."""
    lines = [line.split() for name in harness.PROGRAMS for line in
             subprocess.run([program(name), "--routes"], capture_output=True, text=True,
                            check=True).stdout.splitlines()]
    return [(method, path, set(roles.split(","))) for method, path, roles in lines
            if "anyone" not in roles]


def target_of(path):
    named = {"{method}": "max?member_id=1", "{requests}": "0"}
    return re.sub(r"\{[^}]*\}", lambda found: named.get(found[0], "1"), path)


class Routes(Case):
    @classmethod
    def config(cls):
        return {"auth": AUTH}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.secret = Secret(cls.service.data)
        cls.open = Service()
        cls.addClassCleanup(cls.open.close)

    def ask_as(self, roles, target, method="GET", fields=(), body=None, **more):
        token = self.secret.sign(roles=roles, **more)
        return self.service.ask(target, method, {**dict(fields), **bearer(token)}, body)

    @staticmethod
    def request(method):
        return (JSON, b"{}") if method in ("POST", "PUT") else ({}, None)

    def test_without_a_good_token_nothing_is_answered(self):
        routes = guarded_routes()
        self.assertGreater(len(routes), 30)
        for method, path, _ in routes:
            fields, body = self.request(method)
            for sent in ({}, bearer("a.b.c"), {"Authorization": "Basic YTpi"},
                         bearer(self.secret.sign(exp=int(time.time()) - 61))):
                with self.subTest(f"{method} {path}", sent=sent):
                    reply = self.service.ask(target_of(path), method, {**fields, **sent}, body)
                    self.assertProblem(reply, 401, "unauthorized")
                    self.assertEqual(reply.field("WWW-Authenticate"), 'Bearer realm="caredesk"' +
                                     ', error="invalid_token"' * bool(sent))

    def test_each_role_has_what_its_row_says_and_is_answered_as_without_tokens(self):
        """Both services get the same requests in the same order, so they are in the same state."""
        for method, path, roles in guarded_routes():
            fields, body = self.request(method)
            target = target_of(path)
            for role in ROLES:
                with self.subTest(f"{method} {path}", role=role):
                    reply = self.ask_as([role], target, method, fields, body)
                    if role not in roles:
                        self.assertProblem(reply, 403, "forbidden")
                        self.assertIsNone(reply.field("WWW-Authenticate"))
                        continue
                    other = self.open.ask(target, method, fields, body)
                    self.assertEqual((reply.status, reply.field("Content-Type")),
                                     (other.status, other.field("Content-Type")))
                    self.assertNotIn(reply.status, (401, 403))
            with self.subTest(f"{method} {path}", role=None):
                self.assertProblem(self.ask_as([], target, method, fields, body), 403)
                self.assertProblem(self.ask_as(["gardener"], target, method, fields, body), 403)

    def test_what_is_for_anyone_needs_no_token(self):
        for target in PUBLIC:
            for fields in ({}, bearer("a.b.c")):
                with self.subTest(target, fields=fields):
                    self.assertEqual(self.service.ask(target, fields=fields).status, 200)
        self.assertProblem(self.get("/nothing"), 404)
        reply = self.service.ask("/events/types", "PATCH")
        self.assertProblem(reply, 405)

    def test_a_link_to_an_image_needs_none_and_an_upload_does(self):
        made = self.ask_as(["manager"], "/accounts", "POST", JSON,
                           json.dumps({"name": "a", "email": "a@image", "address": ""}).encode())
        target = made.field("Location") + "/upload_image"
        kind = {"Content-Type": "multipart/form-data; boundary=b0"}
        body = images.form(images.png())
        self.assertProblem(self.service.ask(target, "POST", kind, body), 401)
        self.assertProblem(self.ask_as(["accountant"], target, "POST", kind, body), 403)
        link = self.ask_as(["manager"], target, "POST", kind, body).json["image_hosted_url"]
        path = link.partition(f":{self.service.port}")[2]
        reply = self.get(path)
        self.assertEqual((reply.status, reply.field("Content-Type")), (200, "image/png"))
        self.assertProblem(self.get(path.partition("?")[0]), 404)

    def begin_import(self, fields):
        """What is answered to an import of which only the beginning is there yet, or nothing."""
        with self.service.connect(3) as connection:
            text = "".join(f"{name}: {value}\r\n" for name, value in {**NDJSON, **fields}.items())
            connection.send(f"POST /events HTTP/1.1\r\nHost: localhost\r\n{text}\r\n".encode() +
                            b"10000\r\n" + b"\n" * 65536 + b"\r\n")
            try:
                return connection.receive("POST")
            except TimeoutError:
                return None

    def test_an_import_is_taken_in_only_from_who_may_send_it(self):
        self.assertIsNone(self.begin_import(bearer(self.secret.sign(roles=["admin"]))))
        for sent in ({}, bearer("a.b.c"), bearer(self.secret.sign(exp=int(time.time()) - 61))):
            with self.subTest(sent=sent):
                reply = self.begin_import(sent)
                self.assertProblem(reply, 401, "unauthorized")
                self.assertEqual(reply.field("WWW-Authenticate"), 'Bearer realm="caredesk"' +
                                 ', error="invalid_token"' * bool(sent))
        reply = self.begin_import(bearer(self.secret.sign(roles=["accountant"])))
        self.assertIn("none of your roles", self.assertProblem(reply, 403, "forbidden")["detail"])
        self.assertProblem(self.ask_as(["admin"], "/.asked/events"), 404)
        kind = {"Content-Type": NDJSON["Content-Type"]}
        for target, method, status in (("/events?limit=%", "POST", 400), ("/events", "PUT", 405),
                                       ("/events", "POST", 201)):
            with self.subTest(target, method=method):
                reply = self.ask_as(["admin"], target, method, kind, b"\n")
                self.assertEqual(reply.status, status, reply)

    def bad_tokens(self):
        now, good = int(time.time()), self.secret.sign()
        head, body, signature = good.split(".")
        none = base64url(b'{"alg":"none"}')
        return {
            "no parts": "abc", "empty": "..", "four parts": f"{good}.x", "padded": good + "=",
            "cut": good[:-1], "none": f"{none}.{body}.", "none, signed": f"{none}.{body}.{signature}",
            "other claims": f"{head}.{base64url(json.dumps(claims(sub='eve')).encode())}.{signature}",
            "other algorithm": self.secret.sign({"alg": "HS512"}),
            "of a key set": self.secret.sign({"alg": "ES256", "kid": "one"}),
            "crit": self.secret.sign({"crit": ["exp"]}), "jku": self.secret.sign({"jku": "http://x"}),
            "embedded": self.secret.sign({"jwk": {"kty": "oct", "k": "AA"}}),
            "kid": self.secret.sign({"kid": "../../../dev/null"}),
            "expired": self.secret.sign(exp=now - 61), "endless": self.secret.sign(exp=now + 86400),
            "no end": self.secret.sign(exp=None), "text": self.secret.sign(exp=str(now + 60)),
            "not yet": self.secret.sign(nbf=now + 120), "issuer": self.secret.sign(iss="https://x/"),
            "audience": self.secret.sign(aud=["other"]), "nobody": self.secret.sign(sub=None),
            "long": self.secret.sign(more="x" * 4000),
        }

    def test_every_cause_has_the_same_words(self):
        said = set()
        for name, token in self.bad_tokens().items():
            with self.subTest(name):
                reply = self.service.ask("/events/types", fields=bearer(token))
                problem = self.assertProblem(reply, 401)
                del problem["trace_id"]
                said.add((json.dumps(problem), reply.field("WWW-Authenticate"),
                          tuple(name for name, _ in reply.fields)))
        self.assertEqual(len(said), 1, said)

    def test_no_byte_of_a_token_is_written_down(self):
        for token in (MARKER, f"{MARKER}.{MARKER}.{MARKER}", self.secret.sign({"kid": MARKER}),
                      self.secret.sign({"typ": MARKER}), self.secret.sign(sub=MARKER, iss=MARKER),
                      self.secret.sign(**{MARKER: 1, "exp": MARKER}),
                      self.secret.sign(sub=MARKER, roles=["admin"])):
            for target in ("/events/types", "/api/coalescence/max?member_id=1"):
                self.service.ask(target, fields=bearer(token))
                time.sleep(0.15)  # most of them are to have a line of the log
        self.service.raw(b"GET /events HTTP/1.1\r\nAuthorization: Bearer " + MARKER.encode() +
                         b"\x01\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        coded = [base64url(b"_" * i + MARKER.encode())[4:20] for i in range(3)]
        for name in ("run", "log", "cache", "db", "tmp"):
            for where, _, files in os.walk(os.path.join(self.service.data, name)):
                for file in filter(os.path.isfile, (os.path.join(where, one) for one in files)):
                    with open(file, "rb") as stream:
                        text = stream.read().decode("latin-1")
                    for secret in (MARKER, *coded):
                        self.assertNotIn(secret, text, file)
        text = "\n".join(self.service.lines)
        self.assertTrue(self.service.events("token"))
        for secret in (MARKER, *coded, "eyJ"):
            self.assertNotIn(secret, text)

    def test_nobody_is_the_operator_but_by_the_private_socket(self):
        for fields in ({"CAREDESK-OPERATOR": "1"}, {"CAREDESK_OPERATOR": "1"},
                       {"Operator": "1"}, {"CAREDESK-CACHED-AT": "/ping"}):
            with self.subTest(fields):
                self.assertProblem(self.service.ask("/events/types", fields=fields), 401)
        for target in ("/.cached/coalesce", "/.cached/coalesce?member_id=1", "/.change/events"):
            self.assertProblem(self.get(target), 404)
        with socket.socket(socket.AF_UNIX) as private:
            private.connect(os.path.join(self.service.data, "run/http.sock"))
            private.sendall(b"GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n")
            self.assertIn(b" 200 ", private.recv(100))

    def test_an_import_while_it_runs_needs_no_token(self):
        made = self.ask_as(["admin"], "/events/types", "POST", JSON,
                           b'{"name": "imported", "amount_in_cents": 1}').json
        file = os.path.join(self.service.folder, "events.ndjson")
        with open(file, "w", encoding="utf-8") as stream:
            json.dump({"type_id": made["id"], "caregiver_id": 4711,
                       "start_time": "2020-01-01T00:00:00Z"}, stream)
        done = caredesk("import", file, "--data", self.service.data, "--config",
                        self.service.config_file)
        self.assertEqual((done.returncode, done.stdout), (0, "imported 1 events\n"), done)
        found = self.ask_as(["admin"], "/events?caregiver_id=4711").json
        self.assertEqual(len(found), 1)

    def test_an_answer_that_is_kept_is_kept_from_those_without_a_token(self):
        target = "/api/coalescence/max?member_id=2"
        wait_for(lambda: self.ask_as(["manager"], target).field("Cache-Status") ==
                 "caredesk; hit", "an answer that is kept")
        again = self.ask_as(["caregiver"], target, sub="bo")
        self.assertEqual(again.field("Cache-Status"), "caredesk; hit")
        for fields in ({}, bearer("a.b.c"), bearer(self.secret.sign(exp=1))):
            self.assertProblem(self.service.ask(target, fields=fields), 401)
        self.assertProblem(self.ask_as([], target), 403)
        head = self.ask_as(["admin"], target, "HEAD")
        self.assertEqual((head.status, head.body), (200, b""))
        for name in ("Cache-Control", "Content-Type", "Date"):
            self.assertIsNotNone(head.field(name))  # and none twice

    def test_a_token_may_be_used_by_many_at_once(self):
        token = self.secret.sign(roles=["admin"])
        replies = harness.at_once(16, lambda _: [
            self.service.ask("/events/types", fields=bearer(token)).status for _ in range(20)])
        self.assertEqual({status for one in replies for status in one}, {200})


class Command(Case):
    @classmethod
    def config(cls):
        return {"auth": {**AUTH, "roles_claim": "realm_access.roles"}}

    def token(self, *arguments, text=None):
        return subprocess.run([program("caredesk"), "token", "--data", self.service.data, "--config",
                               self.service.config_file, *arguments], input=text or "",
                              capture_output=True, text=True, timeout=harness.LONG, check=False)

    def test_what_it_makes_is_let_in(self):
        made = self.token("--sub", "åsa", "--role", "admin", "--role", "manager", "--caregiver", "7",
                          "--caregivers", "1,9223372036854775807", "--ttl", "60")
        self.assertEqual((made.returncode, made.stderr), (0, ""))
        reply = self.service.ask("/stats", fields=bearer(made.stdout.strip()))
        self.assertEqual(reply.status, 200)
        for text in (made.stdout, made.stdout.strip()):
            said = self.token("--check", text=text)
            self.assertEqual(said.returncode, 0, said)
            self.assertEqual(said.stdout.splitlines()[:4], [
                "sub åsa", "roles manager admin", "caregiver_id 7",
                "caregivers 1 9223372036854775807"])
            self.assertRegex(said.stdout.splitlines()[4], r"^is let in until 20\d\d-")

    def write_over(self, service):
        with open(os.path.join(service.data, SECRET), "w", encoding="utf-8") as file:
            file.write(os.urandom(64).hex() + "\n")

    def rename_over(self, service):
        path = os.path.join(service.data, SECRET)
        shutil.copy(path, path + ".other")  # with its rights
        shutil.chown(path + ".other", group=os.stat(path).st_gid)
        with open(path + ".other", "w", encoding="utf-8") as file:
            file.write(os.urandom(64).hex())
        os.rename(path + ".other", path)

    def remove_and_make(self, service):
        os.remove(os.path.join(service.data, SECRET))
        made = caredesk("token", "--sub", "a", "--role", "admin", "--data", service.data, "--config",
                        service.config_file)
        self.assertEqual((made.returncode, made.stderr), (0, ""))
        wait_for(lambda: service.ask("/events", fields=bearer(made.stdout.strip())).status == 200,
                 "the new token is let in")

    def test_another_secret_ends_all_tokens_without_a_restart(self):
        service = Service({"auth": AUTH})
        self.addCleanup(service.close)
        ask = lambda key: service.ask("/events", fields=bearer(key.sign(roles=["admin"]))).status
        for put in (self.write_over, self.rename_over, self.remove_and_make):
            with self.subTest(put.__name__):
                before = Secret(service.data)
                self.assertEqual(ask(before), 200)
                put(service)
                wait_for(lambda: ask(before) == 401, "the old token is refused")
                self.assertEqual(ask(Secret(service.data)), 200)

    def test_a_secret_of_before_it_had_a_folder_goes_there_and_its_tokens_stay_good(self):
        service = Service({"auth": AUTH})
        self.addCleanup(service.close)
        service.stop()
        old, new = (os.path.join(service.data, name) for name in ("run/token-secret", SECRET))
        for by in ("the start", "the command"):
            with self.subTest(by):
                key = Secret(service.data)
                tokens = [key.sign(roles=["admin"])]
                os.rename(new, old)
                if by == "the start":
                    os.rmdir(os.path.dirname(new))
                else:  # the version of before has run since, and made its own
                    with open(new, "w", encoding="utf-8") as file:
                        file.write("00" * 64)
                    tokens.append(caredesk("token", "--sub", "a", "--role", "admin", "--data",
                                           service.data, "--config", service.config_file)
                                  .stdout.strip())
                again = Service({"auth": AUTH}, data=service.data)
                self.addCleanup(again.close)
                for token in tokens:
                    self.assertEqual(again.ask("/events", fields=bearer(token)).status, 200)
                again.stop()
                self.assertEqual(Secret(service.data).key, key.key)
                self.assertFalse(os.path.exists(old))
                self.assertEqual(os.stat(os.path.dirname(new)).st_mode & 0o777,
                                 0o750 if harness.ROOT else 0o700)

    def test_a_role_that_gives_nothing_without_ids_is_hinted_at(self):
        hints = {"caregiver": "hint: without --caregiver ID the role caregiver gives no events\n",
                 "manager": "hint: without --caregivers ID,ID the role manager gives no events\n"}
        for roles, ids, hinted in (
                (["caregiver"], [], ["caregiver"]), (["caregiver"], ["--caregiver", "7"], []),
                (["caregiver"], ["--caregivers", "7"], ["caregiver"]),
                (["manager"], [], ["manager"]), (["manager"], ["--caregivers", "7"], []),
                (["manager"], ["--caregiver", "7"], ["manager"]),
                (["manager", "caregiver"], [], ["caregiver", "manager"]),
                (["caregiver", "accountant"], [], ["caregiver"]),
                (["accountant"], [], []), (["caregiver", "manager", "admin"], [], []), ([], [], [])):
            with self.subTest(roles, ids=ids):
                named = [word for role in roles for word in ("--role", role)]
                made = self.token("--sub", "a", *named, *ids)
                self.assertEqual((made.returncode, made.stderr),
                                 (0, "".join(hints[role] for role in hinted)))
                self.assertEqual(self.token("--check", text=made.stdout).returncode, 0)

    def test_it_says_why_a_token_is_refused(self):
        made = self.token("--sub", "a", "--role", "admin").stdout.strip()
        for text, why in (("", "it has no three parts"), (made[:-3], "its signature has not"),
                          (made + " x", "its parts are not base64url"), ("x" * 9000, "too long")):
            said = self.token("--check", text=text)
            self.assertEqual((said.returncode, said.stdout), (1, ""))
            self.assertIn("the token is refused: ", said.stderr)
            self.assertIn(why, said.stderr)

    def test_what_would_be_refused_is_not_made(self):
        for arguments in ([], ["--sub", ""], ["--sub", "x" * 256], ["--sub", "a\nb"],
                          ["--sub", "a", "--role", "root"], ["--sub", "a", "--ttl", "3601"],
                          ["--sub", "a", "--ttl", "0"], ["--sub", "a", "--caregiver", "0"],
                          ["--sub", "a", "--caregivers", "1,,2"], ["--sub", "a", "--caregivers", ""],
                          ["--sub", "a", "--caregivers", ",".join(["9223372036854775807"] * 300)]):
            with self.subTest(arguments):
                made = self.token(*arguments)
                self.assertEqual((made.returncode, made.stdout), (1, ""))

    def test_the_secret_is_for_the_programs_and_nobody_else(self):
        state = os.stat(os.path.join(self.service.data, SECRET))
        self.assertEqual(state.st_mode & 0o777, 0o640 if harness.ROOT else 0o600)
        self.assertEqual(state.st_size, 128)

    def test_it_has_words_where_there_is_nothing_to_make(self):
        for config, words in (({}, "auth.mode is off"),
                              ({"auth": {**AUTH, "jwks": "https://i.example/k"}},
                               "takes no tokens of ours")):
            file = os.path.join(self.service.folder, "other.yaml")
            with open(file, "w", encoding="utf-8") as stream:
                json.dump(config, stream)
            made = caredesk("token", "--sub", "a", "--data", self.service.data, "--config", file)
            self.assertEqual(made.returncode, 1)
            self.assertIn(words, made.stderr)


class Keys(Case):
    start = False

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        os.chmod(self.folder, 0o755)
        self.addCleanup(shutil.rmtree, self.folder)
        self.one, self.two = Key(self.folder, "one"), Key(self.folder, "two")

    def serve(self, jwks, **more):
        service = Service({"auth": {**AUTH, "jwks": jwks}}, **more)
        self.addCleanup(service.close)
        return service

    @staticmethod
    def asker(service, key):
        """Made once: openssl takes longer than a request."""
        token = key.sign(roles=["admin"])
        return lambda: service.ask("/events/types", fields=bearer(token)).status

    def status(self, service, key):
        return self.asker(service, key)()

    def await_status(self, service, key, status, pause=0.01):
        ask = self.asker(service, key)
        wait_for(lambda: ask() == status, f"{key.name}: {status}", SLOW, pause)

    def put(self, name, body):
        path = os.path.join(self.folder, name)
        with open(path + ".new", "wb") as file:
            file.write(body)
        os.rename(path + ".new", path)
        return path

    def test_a_file_of_keys_is_looked_at_again(self):
        service = self.serve(self.put("keys.json", key_set(self.one)))
        self.assertEqual((self.status(service, self.one), self.status(service, self.two)), (200, 401))
        self.put("keys.json", key_set(self.two))
        self.await_status(service, self.two, 200)
        self.await_status(service, self.one, 401)
        self.put("keys.json", b"{broken")
        wait_for(lambda: self.status(service, self.two) and [
            line for line in service.events("keys") if "the keys before stay" in line["detail"]],
                 "the broken file is told")
        self.assertEqual(self.status(service, self.two), 200)
        self.put("keys.json", key_set(self.one))
        self.await_status(service, self.one, 200)
        path = os.path.join(self.folder, "keys.json")
        for change, level, words in (
                (lambda: os.rename(path, path + ".away"), "warning",
                 f"{path}: No such file or directory; the keys before stay"),
                (lambda: os.rename(path + ".away", path), "info", f"{path}: is there again")):
            change()
            told = lambda: [line["level"] for line in service.events("keys")
                            if line["program"] == "events" and line["detail"] == words]
            wait_for(lambda: self.status(service, self.one) == 200 and told(), words)
            self.assertEqual(told(), [level])
        self.assertEqual(self.status(service, self.one), 200)
        service.stop()

    def test_keys_at_a_url_are_rotated_and_outlive_the_provider(self):
        provider = Provider(self.one)
        service = self.serve(provider.url)
        self.await_status(service, self.one, 200)
        self.assertEqual(provider.asked, 1)  # by one program for all
        provider.body = key_set(self.one, self.two)
        began = time.monotonic()
        self.assertEqual(self.status(service, self.two), 401)
        self.await_status(service, self.two, 200, pause=0.2)
        self.assertLess(provider.asked, 3 + (time.monotonic() - began) / 30)
        provider.close()
        self.assertEqual(self.status(service, self.one), 200)
        service.stop()
        # A start while it is away.
        again = self.serve(provider.url, data=service.data)
        self.await_status(again, self.one, 200)
        self.await_status(again, self.two, 200)
        again.stop()
        # A day later the copy is nothing any more.
        copy = os.path.join(service.data, "run/keys/set.json")
        old = time.time() - 24 * 3600 - 60
        os.utime(copy, (old, old))
        last = self.serve(provider.url, data=service.data)
        self.assertProblem(last.ask("/events/types", fields=bearer(self.one.sign())), 503)
        self.assertProblem(last.ask("/events/types"), 401)
        last.stop()

    def test_keys_of_another_url_are_nothing(self):
        provider = Provider(self.one)
        service = self.serve(provider.url)
        self.await_status(service, self.one, 200)
        service.stop()
        provider.close()
        # The same again, and then another one, which does not answer yet.
        again = self.serve(provider.url, data=service.data)
        self.await_status(again, self.one, 200)
        again.stop()
        other = self.serve(provider.url + "/of/another", data=service.data)
        self.assertEqual(self.status(other, self.one), 503)
        other.stop()

    def test_only_the_program_that_fetches_speaks_to_the_network(self):
        provider = Provider(self.one)
        self.addCleanup(provider.close)
        service = self.serve(provider.url)
        self.await_status(service, self.one, 200)
        for name in ("accounts", "events", "report", "audios"):
            with open(f"/proc/{service.pid(name)}/maps", encoding="utf-8") as file:
                self.assertNotIn("libcurl", file.read(), name)
        service.stop()

    def test_a_set_that_cannot_be_used_stops_the_start_with_the_reason(self):
        for body, words in ((b"{}", "it has no list"), (b'{"keys":[]}', "none of its 0 keys"),
                            (None, "No such file")):
            path = os.path.join(self.folder, "bad.json")
            if body is not None:
                self.put("bad.json", body)
            else:
                os.remove(path)
            file = os.path.join(self.folder, "c.yaml")
            with open(file, "w", encoding="utf-8") as stream:
                json.dump({"auth": {**AUTH, "jwks": path}}, stream)
            for command in ("check-config", "run"):
                done = caredesk(command, "--config", file, "--data", os.path.join(self.folder, "d"))
                self.assertEqual(done.returncode, 1)
                self.assertIn("auth.jwks", done.stderr)
                self.assertIn(words, done.stderr)


class Listening(Case):
    start = False

    def test_everybody_is_let_in_only_on_the_loopback(self):
        for command in ("check-config", "run"):
            done = caredesk(command, "--listen", "0.0.0.0:22499", cwd="/")
            self.assertEqual(done.returncode, 1)
            self.assertIn("is not a loopback address, where anybody could do anything", done.stderr)
            self.assertIn("set auth.mode to required", done.stderr)

    def test_with_tokens_it_answers_to_its_own_names_and_no_other(self):
        service = Service({"auth": AUTH, "public_url": "https://Care.example:8443"})
        self.addCleanup(service.close)
        for host, answered in (("care.example", True), ("care.example:8443", True),
                               ("127.0.0.1", True), ("evil.example", False),
                               ("care.example.evil", False)):
            said = service.raw(f"GET /ping HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                               .encode())
            self.assertEqual(b"pong" in said, answered, host)
        service.stop()


if __name__ == "__main__":
    harness.main()
