"""That docs/openapi.yaml speaks of what there is, and that an answer it does not allow is seen.

Whether the answers fit it, each end-to-end test finds out by itself (harness.hold_to_document)."""
import json
import os
import re

import harness
import openapi  # which harness has put within reach
from harness import Answer, Case, routes

# Answered by nginx alone.
NGINX = {("GET", "/ping"), ("GET", "/problems/{}"), ("GET", "/api/{}"), ("GET", "/docs"),
         ("GET", "/images/{}/{}"),
         *(("GET", f"/docs/{name}") for name in ("openapi.yaml", *harness.DOCS_FILES))}
# What comes in, where unknown members are ignored, and what may have members of its own.
OPEN = {"NewAccount", "NewAudio", "ReplacedAudio", "NewEventType", "ChangedEventType", "NewEvent",
        "ReportFilter", "Problem", "Health"}

EVENT = {"id": 1, "type_id": 1, "caregiver_id": 2**63 - 1, "amount_in_cents": 25000,
         "start_time": "2026-11-20T08:00:00.000000Z", "currency": "SEK", "reimbursed": False,
         "reimbursed_at": None, "created_at": "2026-11-21T04:18:58.123456Z"}
PROBLEM = {"type": "/problems/not-found", "title": "There is nothing here", "status": 404,
           "detail": "there is nothing at this address", "trace_id": 32 * "a"}
FIELDS = {"Content-Type": "application/json", "Cache-Control": "no-cache", "ETag": '"1-0"'}


def programs():
    path = os.path.join(harness.SOURCE, "src/lib/programs.h")
    with open(path, encoding="utf-8") as file:
        return re.findall(r'"([a-z]+)"', re.search("#define PROGRAMS (.*)", file.read())[1])


class Document(Case):
    start = False

    def setUp(self):
        self.document = openapi.document()

    def test_it_has_the_routes_of_the_programs_and_no_other(self):
        found = {(method, re.sub(r"\{[^}]*\}", "{}", path)) for method, path in routes(*programs())}
        listed = set(self.document.routes())
        self.assertEqual(sorted(found - listed), [], "not in the document")
        self.assertEqual(sorted(listed - found - NGINX), [], "not in the programs")
        self.assertLessEqual(NGINX, listed)

    def test_every_example_fits_its_schema(self):
        count = 0
        for where, example, schema in self.document.examples():
            count += 1
            with self.subTest(where):
                self.assertIsNone(schema.fault(example))
        self.assertGreater(count, 50)

    def test_the_lines_of_an_import_are_events(self):
        schema = openapi.Schema(self.document.whole["components"]["schemas"]["NewEvent"])
        post = self.document.whole["paths"]["/events"]["post"]
        for line in post["requestBody"]["content"]["application/x-ndjson"]["example"].splitlines():
            self.assertIsNone(schema.fault(json.loads(line)))

    def test_every_problem_that_it_shows_is_one_of_ours(self):
        known = harness.caredesk("problems").stdout
        for where, example, _ in self.document.examples():
            if isinstance(example, dict) and str(example.get("type")).startswith("/problems/"):
                with self.subTest(where):
                    self.assertIn(f"| {example['status']} | `{example['type']}` | "
                                  f"{example['title']} |", known)

    def test_what_goes_out_is_closed(self):
        for name, schema in self.document.raw["components"]["schemas"].items():
            if schema.get("type") == "object" and name not in OPEN:
                self.assertIs(schema.get("additionalProperties"), False, name)


class Deviations(Case):
    """The tests' test: what is wrong with an answer is found."""

    start = False

    def found(self, method, target, status, fields, said=None, /, **request):
        data = b"" if said is None else json.dumps(said).encode()
        answer = Answer(status, list(fields.items()), data)
        return openapi.document().deviations(method, target, answer, **request)

    def test_a_right_answer_has_none(self):
        for method, target, status, fields, said in (
                ("GET", "/events/1", 200, FIELDS, EVENT),
                ("GET", "//events/1/", 200, FIELDS, EVENT),
                ("GET", "/events/%31?x=y", 200, FIELDS, EVENT),
                ("HEAD", "/events/1", 200, FIELDS, None),
                ("GET", "/events/1", 304, {"ETag": '"1-0"', "Cache-Control": "no-cache"}, None),
                ("DELETE", "/events/1", 204, {"Cache-Control": "no-store"}, None),
                ("OPTIONS", "/events", 204, {"Allow": "GET, HEAD, POST, OPTIONS"}, None),
                ("PUT", "/events/1", 405, {"Content-Type": openapi.PROBLEM,
                                           "Cache-Control": "no-store",
                                           "Allow": "GET, HEAD, DELETE, OPTIONS"},
                 {**PROBLEM, "status": 405}),
                ("GET", "/nope", 404, {"Content-Type": openapi.PROBLEM,
                                       "Cache-Control": "no-store"}, PROBLEM)):
            with self.subTest(method=method, target=target, status=status):
                self.assertEqual(self.found(method, target, status, fields, said), [])

    def test_a_wrong_answer_is_told(self):
        problem = {"Content-Type": openapi.PROBLEM, "Cache-Control": "no-store"}
        without = lambda name: {key: value for key, value in FIELDS.items() if key != name}
        for words, status, fields, said in (
                ("no such status", 202, FIELDS, EVENT),
                ("no such status", 409, problem, {**PROBLEM, "status": 409}),
                ("ETag is missing", 200, without("ETag"), EVENT),
                ("ETag: 'x'", 200, {**FIELDS, "ETag": "x"}, EVENT),
                ("content type is missing", 200, without("Content-Type"), EVENT),
                ("content type is text/html", 200, {**FIELDS, "Content-Type": "text/html"}, EVENT),
                ("cannot be read", 200, FIELDS, float("nan")),
                ("Additional properties", 200, FIELDS, {**EVENT, "secret": 1}),
                ("'id' is a required", 200, FIELDS, {k: EVENT[k] for k in EVENT if k != "id"}),
                ("/id: 0 is less", 200, FIELDS, {**EVENT, "id": 0}),
                ("/id: '1' is not", 200, FIELDS, {**EVENT, "id": "1"}),
                ("/id: True is not", 200, FIELDS, {**EVENT, "id": True}),
                ("/caregiver_id: ", 200, FIELDS, {**EVENT, "caregiver_id": 2**63}),
                ("/start_time: ", 200, FIELDS, {**EVENT, "start_time": "2026-11-20T08:00:00Z"}),
                ("/reimbursed_at: ", 200, FIELDS, {**EVENT, "reimbursed_at": 0}),
                ("/status is 404", 406, problem, PROBLEM),
                ("where there is none", 304, FIELDS, EVENT)):
            with self.subTest(words):
                found = self.found("GET", "/events/1", status, fields, said)
                self.assertIn(words, "\n".join(found))

    def test_a_member_twice_is_told(self):
        answer = Answer(200, [("Content-Type", "application/json"), ("Cache-Control", "no-store")],
                        b'{"message":"pong","message":"pong"}')
        self.assertIn("twice", openapi.document().deviations("GET", "/ping", answer)[0])

    def test_what_is_outside_of_the_document_is_told(self):
        for words, method, target, status, fields in (
                ("no such operation", "GET", "/nope", 200, FIELDS),
                ("no such operation", "PATCH", "/events/1", 200, FIELDS),
                ("content type", "GET", "/nope", 404, {"Cache-Control": "no-store"}),
                ("Allow is", "OPTIONS", "/events", 204, {"Allow": "GET, HEAD, OPTIONS"}),
                ("Allow is", "PUT", "/events", 405, {"Content-Type": openapi.PROBLEM,
                                                     "Cache-Control": "no-store"})):
            with self.subTest(words, method=method):
                found = self.found(method, target, status, fields, {**PROBLEM, "status": status})
                self.assertIn(words, "\n".join(found))

    def test_a_request_that_ought_not_to_be_taken_is_told(self):
        fields = {**FIELDS, "Cache-Control": "no-cache"}
        for target in ("/events?limit=1001", "/events?limit=x", "/events?reimbursed=yes",
                       "/events?min_time=yesterday", "/events?caregiver_id=0"):
            self.assertIn("taken with", "\n".join(self.found("GET", target, 200, fields, [])))
        for target in ("/events?limit=1000&x=y", "/events?reimbursed=true&caregiver_id=1"):
            self.assertEqual(self.found("GET", target, 200, fields, []), [])
        created = {**FIELDS, "Cache-Control": "no-store", "Location": "/events/1"}
        event = {"type_id": 1, "caregiver_id": 1, "start_time": "2026-11-20T08:00:00"}
        json_type = {"content-type": "application/json"}
        for body, key, words in ((event, "a", ""), ({**event, "x": 1}, "a", ""),
                                 ({**event, "type_id": "1"}, "a", "taken with a body"),
                                 ({**event, "start_time": "now"}, "a", "taken with a body"),
                                 (event, "a b", "taken with Idempotency-Key"),
                                 (event, 129 * "a", "taken with Idempotency-Key")):
            found = self.found("POST", "/events", 201, created, EVENT,
                               body=json.dumps(body).encode(),
                               fields={**json_type, "Idempotency-Key": key})
            self.assertEqual(bool(found), bool(words), found)
            self.assertIn(words, "\n".join(found))


if __name__ == "__main__":
    harness.main()
