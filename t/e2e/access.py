"""Who may do what with whose: one table of every operation, role and relation to the object."""
import json
import re
import time

import harness
import images
from auth import AUTH, JSON, Secret, bearer, guarded_routes
from harness import Case

OWNER, OTHER, THIRD = 17, 18, 19  # caregivers; the objects of the table are OWNER's
WINDOW_HOURS = 24

# Whose token it is: roles, the caregiver, those of the manager; None for no token at all.
ACTORS = {
    "nobody": None,
    "no role": ([], None, None),
    "own": (["caregiver"], OWNER, None),
    "foreign": (["caregiver"], OTHER, None),
    "no caregiver": (["caregiver"], None, None),
    "theirs": (["manager"], None, [1, OWNER]),
    "not theirs": (["manager"], None, [1, OTHER]),
    "accountant": (["accountant"], None, None),
    "admin": (["admin"], None, None),
    "own, accountant": (["caregiver", "accountant"], OWNER, None),
    "foreign, accountant": (["caregiver", "accountant"], OTHER, None),
    "foreign, theirs": (["caregiver", "manager"], OTHER, [OWNER]),
    "own, not theirs": (["caregiver", "manager"], OWNER, [OTHER]),
    "claims without roles": (["accountant"], OWNER, [OWNER]),
    "all": (["caregiver", "manager", "accountant", "admin"], OTHER, []),
}

# The answers in the order of ACTORS, where the object is there.
EVERY_ROLE = "401 403 200 200 200 200 200 200 200 200 200 200 200 200 200"
EVENTS = {
    ("GET", "/events"): EVERY_ROLE,
    ("POST", "/events"):
        "401 403 201 403 403 201 403 403 201 201 403 201 201 403 201",
    ("GET", "/events/{id}"):
        "401 403 200 404 404 200 404 200 200 200 200 200 200 200 200",
    ("DELETE", "/events/{id}"):
        "401 403 204 404 404 403 403 403 204 204 403 403 204 403 204",
    ("POST", "/events/{id}/reimburse"):
        "401 403 403 403 403 403 403 200 403 200 200 403 403 200 200",
    ("GET", "/events/report"): EVERY_ROLE,
    ("POST", "/events/report"): EVERY_ROLE,
}
READ = "401 403 200 200 200 200 200 403 200 200 200 200 200 403 200"
WRITE = "401 403 403 403 403 {0} {0} 403 {0} 403 403 {0} {0} 403 {0}"
ADMIN = "401 403 403 403 403 403 403 403 {0} 403 403 403 403 403 {0}"
TABLE = {
    **EVENTS,
    ("GET", "/events/types"): EVERY_ROLE,
    ("GET", "/events/types/{id}"): EVERY_ROLE,
    ("GET", "/events/types/{id}/prices"): EVERY_ROLE,
    ("POST", "/events/types"): ADMIN.format(201),
    ("PUT", "/events/types/{id}"): ADMIN.format(200),
    ("DELETE", "/events/types/{id}"): ADMIN.format(204),
    ("GET", "/accounts"): READ,
    ("GET", "/accounts/{id}"):
        "401 403 200 404 404 200 200 403 200 200 404 200 200 403 200",
    ("POST", "/accounts"): WRITE.format(201),
    ("PUT", "/accounts/{id}"): WRITE.format(200),
    ("DELETE", "/accounts/{id}"): WRITE.format(204),
    ("POST", "/accounts/{id}/upload_image"): WRITE.format(200),
    ("POST", "/accounts/{id}/upload-image"): WRITE.format(200),
    ("GET", "/audios"): WRITE.format(200),
    ("POST", "/audios"): WRITE.format(201),
    ("GET", "/audios/{session_id}"): WRITE.format(200),
    ("PUT", "/audios/{session_id}"): WRITE.format(200),
    ("DELETE", "/audios/{session_id}"): WRITE.format(204),
    ("GET", "/api/coalescence/{method}"): EVERY_ROLE,
    ("GET", "/stats"): ADMIN.format(200),
    ("GET", "/stats/hourly"): ADMIN.format(200),
    ("POST", "/test/{requests}"): ADMIN.format(200),
    ("GET", "/test/runs"): ADMIN.format(200),
    ("GET", "/test/runs/{id}"): ADMIN.format(200),
    ("DELETE", "/test/runs/{id}"): ADMIN.format(204),
    ("GET", "/metrics"): ADMIN.format(200),
    **{("GET", f"/metrics/{name}"): ADMIN.format(200) for name in harness.PROGRAMS},
}
TARGETS = {"/api/coalescence/{method}": "/api/coalescence/max?member_id=2",
           "/stats/hourly": "/stats/hourly?prefix=/", "/test/{requests}": "/test/0"}
CONDITIONS = ({}, {"If-Match": "*"}, {"If-Match": '"no"'}, {"If-None-Match": "*"},
              {"If-Match": "ETAG"}, {"If-None-Match": "ETAG"})


def encoded(value):
    return json.dumps(value).encode()


def hours_ago(hours):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - hours * 3600))


def without_trace(reply):
    """All that came, but for what is another each time."""
    body = re.sub(rb'"trace_id":"[0-9a-f]{32}"', b"", reply.body)
    return reply.status, body, [field for field in reply.fields
                                if field[0] not in ("Date", "traceparent")]


class Access(Case):
    @classmethod
    def config(cls):
        return {"auth": AUTH, "events": {"entry_window_hours": WINDOW_HOURS}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.secret, cls.tokens, cls.number = Secret(cls.service.data), {}, 0
        cls.type_id = cls.made("/events/types", {"name": "visit", "amount_in_cents": 100})["id"]

    @classmethod
    def ask_as(cls, actor, target, method="GET", fields=(), body=None, sub="x"):
        if ACTORS[actor] is None:
            return cls.service.ask(target, method, fields, body)
        if (actor, sub) not in cls.tokens:
            roles, caregiver_id, caregivers = ACTORS[actor]
            cls.tokens[actor, sub] = cls.secret.sign(
                sub=sub, roles=roles, caregiver_id=caregiver_id, caregivers=caregivers)
        return cls.service.ask(target, method, {**dict(fields), **bearer(cls.tokens[actor, sub])},
                               body)

    @classmethod
    def made(cls, target, value):
        reply = cls.ask_as("admin", target, "POST", JSON, encoded(value))
        if reply.status != 201:
            raise AssertionError(reply)
        return reply.json

    @classmethod
    def next(cls):
        cls.number += 1
        return cls.number

    @classmethod
    def event(cls, caregiver_id=OWNER, hours=1):
        return {"type_id": cls.type_id, "caregiver_id": caregiver_id, "start_time": hours_ago(hours)}

    @classmethod
    def account(cls):
        """Its mail address, as its owner's token has it, is another in each."""
        return {"name": "a", "email": f"anna{cls.next()}@Care.EXAMPLE", "address": "x"}

    @classmethod
    def audio(cls):
        return {"session_id": cls.next(), "ticks": [-50] * 15, "selected_tick": 1, "step_count": 1}

    @classmethod
    def fresh(cls, path):
        """An object of its own for a row: its address, and the name in its owner's token."""
        if path.startswith("/events/types/{"):
            kind = {"name": f"type {cls.next()}", "amount_in_cents": 1}
            return f"/events/types/{cls.made('/events/types', kind)['id']}", "x"
        if path.startswith("/events/{"):
            return f"/events/{cls.made('/events', cls.event())['id']}", "x"
        if path.startswith("/accounts/{"):
            account = cls.account()
            return f"/accounts/{cls.made('/accounts', account)['id']}", account["email"]
        if path.startswith("/audios/{"):
            return f"/audios/{cls.made('/audios', cls.audio())['session_id']}", "x"
        if path.startswith("/test/runs/{"):
            return f"/test/runs/{cls.ask_as('admin', '/test/0', 'POST').json['id']}", "x"
        return TARGETS.get(path, path), "x"

    @classmethod
    def body(cls, method, path, target):
        """The fields and the body of a request that is as it ought to be."""
        if "/upload" in path:
            return {"Content-Type": "multipart/form-data; boundary=b0"}, images.form(images.png())
        if method not in ("POST", "PUT") or path.startswith("/test/"):
            return {}, None
        if path.startswith("/events/types"):
            return JSON, encoded({"name": f"type {cls.next()}", "amount_in_cents": 2})
        if path.startswith("/accounts"):
            return JSON, encoded(cls.account())
        if path.startswith("/audios"):
            audio = cls.audio()
            if method == "PUT":
                audio["session_id"] = int(target.rpartition("/")[2])
            return JSON, encoded(audio)
        return (JSON, encoded(cls.event())) if path == "/events" else (
            (JSON, b"{}") if path == "/events/report" else ({}, None))

    def row(self, method, path, actor, target, sub):
        target += path.rpartition("}")[2] if "{id}" in path else ""
        fields, body = self.body(method, path, target)
        return self.ask_as(actor, target, method, fields, body,
                           sub if actor.startswith("own") else "x")

    def test_every_route_has_a_row_and_every_row_a_route(self):
        routes = {(method, path) for method, path, _ in guarded_routes()}
        self.assertEqual(routes - set(TABLE), set(), "routes without a row")
        self.assertEqual(set(TABLE) - routes, set(), "rows without a route")
        for row in TABLE.values():
            self.assertEqual(len(row.split()), len(ACTORS))

    def test_every_cell_of_the_table(self):
        for (method, path), row in TABLE.items():
            for actor, status in zip(ACTORS, map(int, row.split())):
                with self.subTest(f"{method} {path}", actor=actor):
                    target, sub = self.fresh(path)
                    self.assertEqual(self.row(method, path, actor, target, sub).status, status)

    def test_what_is_missing_is_404_to_whoever_may_ask(self):
        for (method, path), row in TABLE.items():
            if "id}" not in path or path.startswith("/test/"):
                continue
            target, sub = self.fresh(path)
            self.assertEqual(self.ask_as("admin", target, "DELETE").status, 204)
            for actor, status in zip(ACTORS, map(int, row.split())):
                roles = ACTORS[actor] and ACTORS[actor][0]
                if (method, path) == ("DELETE", "/events/{id}") and roles and "caregiver" in roles:
                    status = 404  # of some that they see, they may delete some
                with self.subTest(f"{method} {path}", actor=actor):
                    reply = self.row(method, path, actor, target, sub)
                    self.assertEqual(reply.status, status if status in (401, 403) else 404)

    def alike(self, actor, path, method, *, etag):
        """The same request while the object is there, and when it is gone."""
        target, _ = self.fresh(path)
        shown = self.ask_as("admin", target)
        for condition in CONDITIONS:
            fields = {name: value.replace("ETAG", etag(shown)) for name, value in condition.items()}
            with self.subTest(f"{method} {path}", actor=actor, fields=fields):
                there = self.ask_as(actor, target, method, fields)
                self.assertEqual(there.status, 404)
                yield target, method, fields, there
        self.assertEqual(self.ask_as("admin", target, "DELETE").status, 204)

    def test_foreign_and_missing_are_alike_byte_for_byte(self):
        count = 0
        for method, path, actors in (
                ("GET", "/events/{id}", ("foreign", "no caregiver", "not theirs")),
                ("HEAD", "/events/{id}", ("foreign", "not theirs")),
                ("DELETE", "/events/{id}", ("foreign", "no caregiver")),
                ("GET", "/accounts/{id}", ("foreign", "foreign, accountant")),
                ("HEAD", "/accounts/{id}", ("foreign",))):
            for actor in actors:
                before = list(self.alike(actor, path, method,
                                         etag=lambda shown: shown.field("ETag")))
                for target, _, fields, there in before:
                    gone = self.ask_as(actor, target, method, fields)
                    self.assertEqual(without_trace(there), without_trace(gone))
                    count += 1
        self.assertEqual(count, len(CONDITIONS) * 10)

    def test_many_at_once_are_as_one(self):
        kind = {"Content-Type": "application/x-ndjson"}
        for actor, status in zip(ACTORS, map(int, TABLE["POST", "/events"].split())):
            with self.subTest(actor):
                body = encoded(self.event()) + b"\n"
                reply = self.ask_as(actor, "/events", "POST", kind, body)
                self.assertEqual(reply.status, status)
        # All or none: one line that is not theirs is enough, wherever it stands.
        known = len(self.ids("admin", "?limit=1000"))
        for owners in ((OTHER, OWNER), (OWNER, OTHER), (OWNER, OWNER, OTHER)):
            for end in (b"\n", b""):
                body = b"\n".join(encoded(self.event(one)) for one in owners) + end
                reply = self.ask_as("own", "/events", "POST", kind, body)
                problem = self.assertProblem(reply, 403, "forbidden")
                self.assertIn(f"line {owners.index(OTHER) + 1}: ", problem["detail"])
        self.assertEqual(len(self.ids("admin", "?limit=1000")), known)

    def ids(self, actor, query=""):
        reply = self.ask_as(actor, f"/events{query}")
        self.assertEqual(reply.status, 200)
        return [one["id"] for one in reply.json]

    def walk(self, actor, query):
        """All pages of one event each, by the links that come with them."""
        target, found = f"/events?limit=1{query}", []
        while target:
            reply = self.ask_as(actor, target)
            found += [one["id"] for one in reply.json]
            link = re.fullmatch(r'<(.*)>; rel="next"', reply.field("Link") or "")
            target = link and link[1]
        return found

    def test_lists_have_what_may_be_seen_whatever_the_filter(self):
        kind = self.made("/events/types", {"name": "listed", "amount_in_cents": 5})["id"]
        made = []
        for i in range(12):
            event = {**self.event((OWNER, OTHER, THIRD)[i % 3]), "type_id": kind}
            made.append(self.made("/events", event))
        paid = {one["id"] for one in made[::4]}
        for one in paid:
            self.assertEqual(self.ask_as("accountant", f"/events/{one}/reimburse", "POST").status, 200)
        seen = {"own": {OWNER}, "foreign": {OTHER}, "no caregiver": set(), "theirs": {1, OWNER},
                "not theirs": {1, OTHER}, "accountant": None, "admin": None,
                "foreign, accountant": None, "foreign, theirs": {OWNER, OTHER}, "all": None}
        begin = made[0]["start_time"].replace(made[0]["start_time"][:10], "2000-01-01")
        for actor, ids in seen.items():
            mine = [one for one in made if ids is None or one["caregiver_id"] in ids]
            for query, fits in (
                    ("", lambda one: True),
                    (f"&caregiver_id={OWNER}", lambda one: one["caregiver_id"] == OWNER),
                    (f"&caregiver_id={OTHER}", lambda one: one["caregiver_id"] == OTHER),
                    ("&caregiver_id=999", lambda one: False),
                    ("&reimbursed=true", lambda one: one["id"] in paid),
                    ("&reimbursed=false", lambda one: one["id"] not in paid),
                    (f"&min_time={begin}", lambda one: True)):
                with self.subTest(actor, query=query):
                    wanted = [one["id"] for one in mine if fits(one)]
                    query = f"&type_id={kind}{query}"
                    self.assertEqual(self.ids(actor, f"?limit=1000{query}"), wanted)
                    self.assertEqual(self.walk(actor, query), wanted)

    def test_the_cursor_of_another_gives_nothing_of_theirs(self):
        for _ in range(3):
            self.made("/events", self.event(OTHER))
        link = self.ask_as("foreign", "/events?limit=1").field("Link")
        target = re.match(r"<(.*)>", link)[1]
        for one in self.ask_as("own", target).json:
            self.assertEqual(one["caregiver_id"], OWNER)
        self.assertEqual(self.ask_as("no caregiver", target).json, [])

    REPORTS = ("/events/report?format=json", "/events/report?format=rows",
               "/events/report?format=csv", "/events/report?format=rows&min_time=2026-01-01T00:00:01Z",
               f"/events/report?format=rows&caregiver_ids={OWNER},{OTHER},{THIRD}")

    def rows(self, actor, query="", method="GET", body=None):
        reply = self.ask_as(actor, f"/events/report?format=rows{query}", method,
                            JSON if body else {}, body)
        self.assertEqual(reply.status, 200)
        return reply.json

    def test_reports_have_what_may_be_seen_in_each_format(self):
        for one in (OWNER, OTHER, THIRD):
            self.made("/events", self.event(one))
        everything = self.rows("admin")
        begin = hours_ago(WINDOW_HOURS * 3)
        for actor, ids in (("own", {OWNER}), ("foreign", {OTHER}), ("no caregiver", set()),
                           ("theirs", {OWNER}), ("not theirs", {OTHER}),
                           ("accountant", {OWNER, OTHER, THIRD}),
                           ("foreign, theirs", {OWNER, OTHER}), ("all", {OWNER, OTHER, THIRD})):
            with self.subTest(actor):
                wanted = [row for row in everything if row["caregiver_id"] in ids]
                self.assertEqual(self.rows(actor), wanted)
                self.assertEqual(self.rows(actor, f"&min_time={begin}"), wanted)
                body = encoded({"caregiver_ids": [OTHER, THIRD, 999]})
                self.assertEqual(self.rows(actor, "", "POST", body),
                                 [row for row in wanted if row["caregiver_id"] != OWNER])
                self.assertEqual(self.rows(actor, "", "POST", b"{}"), wanted)
                self.assertEqual(self.rows(actor, "&caregiver_ids=999"), [])
                text = self.ask_as(actor, "/events/report?format=csv").body.decode()
                self.assertEqual([int(line.split(",")[2]) for line in text.splitlines()[1:]],
                                 [row["caregiver_id"] for row in wanted])
                tree = self.ask_as(actor, "/events/report").json["report"]
                self.assertEqual({int(one) for year in tree.values() for month in year.values()
                                  for one in month}, {row["caregiver_id"] for row in wanted})

    def test_no_etag_tells_of_what_others_do(self):
        self.made("/events", self.event(OWNER))
        targets = ("/events", "/events?limit=1", f"/events?caregiver_id={OTHER}", *self.REPORTS)

        def tags(actor):
            return [self.ask_as(actor, target).field("ETag") for target in targets]

        before = {actor: tags(actor) for actor in ("own", "theirs", "no caregiver", "admin")}
        made = self.made("/events", self.event(OTHER))
        self.ask_as("accountant", f"/events/{made['id']}/reimburse", "POST")
        for actor in ("own", "theirs", "no caregiver"):
            self.assertEqual(tags(actor), before[actor], actor)
            for target, tag in zip(targets, before[actor]):
                reply = self.ask_as(actor, target, fields={"If-None-Match": tag})
                self.assertEqual(reply.status, 304)
        for old, new in zip(before["admin"], tags("admin")):
            self.assertNotEqual(old, new)
        # Their own changes do change them.
        self.made("/events", self.event(OWNER))
        after = tags("own")
        for at in (0, 3, 4, 5, 6, 7):
            self.assertNotEqual(after[at], before["own"][at], targets[at])

    def test_the_window_holds_for_all_but_an_admin(self):
        for actor, status in (("own", 400), ("theirs", 400), ("admin", 201), ("all", 201),
                              ("foreign", 403)):
            body = encoded(self.event(hours=WINDOW_HOURS + 1))
            reply = self.ask_as(actor, "/events", "POST", JSON, body)
            self.assertEqual(reply.status, status, actor)
        for actor, status in (("own", 403), ("own, not theirs", 403), ("foreign", 404),
                              ("foreign, theirs", 403), ("admin", 204)):
            old = self.made("/events", self.event(hours=WINDOW_HOURS + 1))
            reply = self.ask_as(actor, f"/events/{old['id']}", "DELETE")
            self.assertEqual(reply.status, status, actor)
            self.assertEqual(self.ask_as("admin", f"/events/{old['id']}").status,
                             404 if status == 204 else 200)

    def test_what_is_paid_is_deleted_by_nobody(self):
        for actor, status in (("own", 409), ("foreign", 404), ("foreign, theirs", 403),
                              ("theirs", 403), ("admin", 409), ("all", 409)):
            made = self.made("/events", self.event())
            target = f"/events/{made['id']}"
            self.assertEqual(self.ask_as("accountant", f"{target}/reimburse", "POST").status, 200)
            self.assertEqual(self.ask_as(actor, target, "DELETE").status, status, actor)
            self.assertEqual(self.ask_as("own", target).status, 200)

    def test_one_finds_the_own_account_and_no_other(self):
        mine, other = self.account(), self.account()
        mine_id, other_id = (self.made("/accounts", one)["id"] for one in (mine, other))
        self.assertNotEqual(mine_id, other_id)
        local, _, domain = mine["email"].partition("@")
        folded = f"{local}@{domain.lower()}"
        for sub, found in ((mine["email"], [mine_id]), (folded, [mine_id]),
                           (mine["email"].upper(), []), ("anna", []), ("@", [])):
            def ids(query, as_=sub):
                return [one["id"] for one in
                        self.ask_as("own", f"/accounts{query}", sub=as_).json]
            with self.subTest(sub):
                for query in ("", "?limit=1", "?name=a", "?address=x", f"?email={folded}",
                              f"?name=a&email={folded}&address=x"):
                    self.assertEqual(ids(query), found, query)
                for query in (f"?email={other['email']}", "?name=b", "?cursor=azk5OTk5OQ",
                              f"?name=a&email={other['email']}"):
                    self.assertEqual(ids(query), [], query)
                reply = self.ask_as("own", f"/accounts/{mine_id}", sub=sub)
                self.assertEqual(reply.status, 200 if found else 404)
        tag = self.ask_as("own", "/accounts", sub=mine["email"]).field("ETag")
        self.made("/accounts", self.account())
        self.assertEqual(self.ask_as("own", "/accounts", sub=mine["email"]).field("ETag"), tag)
        self.assertIn(other_id, [one["id"] for one in
                                 self.ask_as("theirs", "/accounts?limit=1000").json])

    def test_the_answer_to_a_retry_is_for_who_may_ask_only(self):
        fields, body = {**JSON, "Idempotency-Key": "one"}, encoded(self.event())
        first = self.ask_as("own", "/events", "POST", fields, body)
        self.assertEqual(first.status, 201)
        self.assertEqual(self.ask_as("own", "/events", "POST", fields, body).body, first.body)
        for actor in ("foreign", "not theirs", "accountant"):
            self.assertProblem(self.ask_as(actor, "/events", "POST", fields, body), 403)

    def test_nobody_is_told_the_answer_to_anothers_request_with_the_same_key(self):
        fields, body = {**JSON, "Idempotency-Key": "shared"}, encoded(self.event())
        ask = lambda sub, bytes=body: self.ask_as("theirs", "/events", "POST", fields, bytes, sub=sub)
        first, second = ask("anna@care"), ask("bert@care")
        self.assertEqual((first.status, second.status), (201, 201))
        self.assertNotEqual(first.json["id"], second.json["id"])
        self.assertEqual(ask("anna@care").body, first.body)
        self.assertEqual(ask("bert@care").body, second.body)
        self.assertProblem(ask("anna@care", body + b" "), 422, "idempotency-key-reused")
        self.assertEqual(ask("carl@care", body + b" ").status, 201)


class Open(Case):
    def test_without_tokens_everybody_is_admin_and_accountant(self):
        kind = self.service.ask("/events/types", "POST", JSON,
                                encoded({"name": "a", "amount_in_cents": 1})).json["id"]
        for one in (OWNER, OTHER):
            event = {"type_id": kind, "caregiver_id": one, "start_time": "2020-01-01T00:00:00Z"}
            target = self.service.ask("/events", "POST", JSON, encoded(event)).field("Location")
            self.assertEqual(self.get(target).status, 200)
            self.assertEqual(self.service.ask(f"{target}/reimburse", "POST").status, 200)
            self.assertProblem(self.service.ask(target, "DELETE"), 409)
        self.assertEqual(len(self.get("/events").json), 2)
        self.assertEqual(len(self.get("/events/report?format=rows").json), 2)


if __name__ == "__main__":
    harness.main()
