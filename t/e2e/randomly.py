"""Random requests made from docs/openapi.yaml: as it says, or a little wrong.  None is answered with a
5xx but where the document has it, every answer fits the document (harness.hold_to_document), nothing
dies, and all of it is counted.

    CAREDESK_RANDOM=100000 CAREDESK_RANDOM_SEED=7 python3 t/e2e/randomly.py
"""
import collections
import faulthandler
import functools
import json
import os
import random
import urllib.parse

import harness
import openapi
from harness import Case

REQUESTS = int(os.environ.get("CAREDESK_RANDOM", 1500))
SEED = int(os.environ.get("CAREDESK_RANDOM_SEED", random.randrange(10**9)))
KNOWN_MAX = 50

# Narrower than the document has it: a run of many requests would be all that is measured.
NARROWED = {"requests": {"type": "integer", "minimum": 0, "maximum": 9}}
WORDS = ["1", "a", "default", "home visit", "b21c7616", "Größe", "2026-11-20T09:00:00Z",
         "2017-01-02t03:04:05.678+01:00", "1970-01-01T00:00:00", "9999-12-31T23:59:59Z",
         "2026-11-20T09:30:00Z", "/api/", "x@y.example"]
HOSTILE = ["", " ", "0", "-1", "+1", "01", "1.0", "1e3", "0x1", "9223372036854775807",
           "9223372036854775808", "18446744073709551616", 300 * "9", "null", "true", "\0", "\x01",
           "\x7f", "\r\n", "a\0b", "\N{PILE OF POO}", "\u202e", "\ufeff1", "..", ".", "../..", "//",
           "%", "%00", "%2e%2e", "*", "' OR 1=1 --", '"', "\\", "<script>", "${x}", "{}", "[]", ",",
           ",,", "1,2", "a=b&c=d", 255 * "a", 256 * "é", 513 * "a", 5000 * "x",
           "2026-02-30T00:00:00Z", "2026-11-20", "2026-11-20T24:00:00Z", "2026-11-20T09:00:00+99:99",
           "0000-01-01T00:00:00Z", "99999-01-01T00:00:00Z"]
VALUES = [None, True, False, -1, 0, 1.5, 5.0, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 1e300, -0.0,
          [], {}, [[]], {"": None}, "1"]


@functools.cache
def fitting_words(text):
    """Those that the schema allows which TEXT is as JSON, or else all."""
    schema = json.loads(text)
    checked = openapi.Schema(schema)
    return [word for word in [*WORDS, *schema.get("examples", [])]
            if checked.fault(word) is None] or WORDS


class Maker:
    """Requests, by one source of chance; it remembers what the server has told of."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.document = openapi.document()
        # What has a body can be wrong in more ways.
        self.operations = [one for one in self.document.operations.values()
                           for _ in range(4 if "requestBody" in one.spec else 1)]
        self.known = collections.defaultdict(list)  # paths, by template
        self.links, self.tags = [], ['"1-0"']

    def often(self, share):
        return self.random.random() < share

    def choice(self, values):
        return self.random.choice(values)

    # Values.

    def value(self, schema):
        """One that SCHEMA allows, as far as the words above go."""
        if "const" in schema or "enum" in schema:
            return self.choice(schema.get("enum", [schema.get("const")]))
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return self.value(self.choice(schema[several]))
        kind = schema.get("type", "string")
        if isinstance(kind, list):
            kind = self.choice(kind)
        return getattr(self, f"value_{kind}")(schema)

    def value_integer(self, schema):
        least, most = schema.get("minimum", 0), schema.get("maximum", 2**63 - 1)
        near = self.random.randint(least, min(most, least + 4))
        return near if self.often(0.8) else self.choice([least, most])

    def value_number(self, schema):
        return self.random.uniform(schema.get("minimum", -1e6), schema.get("maximum", 1e6))

    def value_boolean(self, _):
        return self.often(0.5)

    def value_null(self, _):
        return None

    def value_string(self, schema):
        if "contentMediaType" in schema or schema.get("format") == "binary":
            return self.random.randbytes(self.random.randrange(300)).decode("latin-1")
        return self.choice(fitting_words(json.dumps(schema)))

    def value_array(self, schema):
        most = min(schema.get("maxItems", 3), max(3, schema.get("minItems", 0)))
        count = self.random.randint(schema.get("minItems", 0), most)
        return [self.value(schema.get("items", {})) for _ in range(count)]

    def value_object(self, schema):
        required = schema.get("required", ())
        found = {name: self.value(part) for name, part in schema.get("properties", {}).items()
                 if name in required or self.often(0.5)}
        if self.often(0.1):
            found["unknown"] = self.choice(VALUES)
        return found

    def wrong(self, value):
        """VALUE with one thing in it that may be wrong."""
        if isinstance(value, dict) and value and self.often(0.9):
            name = self.choice(list(value))
            rest = {key: value[key] for key in value if key != name}
            return rest if self.often(0.3) else {**rest, name: self.wrong(value[name])}
        if isinstance(value, list) and value and self.often(0.9):
            return [*value[1:], self.wrong(value[0])]
        return self.choice(VALUES) if self.often(0.5) else self.choice(HOSTILE)

    # Parts of a request.

    def text(self, schema, example=None):
        """Of a parameter."""
        if self.often(0.15):
            return self.choice(HOSTILE)
        value = example if example is not None and self.often(0.5) else self.value(schema)
        if isinstance(value, list):
            return ",".join(map(str, value))
        return json.dumps(value) if isinstance(value, (bool, int, float)) else str(value)

    def path(self, operation):
        path = operation.template
        if self.known[path] and self.often(0.6):
            return self.choice(self.known[path])
        for one in operation.parameters:
            if one["in"] == "path":
                schema = NARROWED.get(one["name"], one["schema"])
                given = None if one["name"] in NARROWED else one.get("example")
                text = urllib.parse.quote(self.text(schema, given), safe="")
                path = path.replace("{" + one["name"] + "}", text)
        return path + self.choice(["", "", "", "/"])

    def query(self, operation):
        pairs = []
        for one in operation.parameters:
            if one["in"] == "query" and self.often(0.95 if one.get("required") else 0.35):
                pairs += [(one["name"], self.text(one["schema"], one.get("example")))] * (
                    2 if self.often(0.03) else 1)
        if self.often(0.05):
            pairs.append((self.choice(HOSTILE), self.choice(HOSTILE)))
        return "?" + urllib.parse.urlencode(pairs) if pairs else ""

    def fields(self, operation):
        found = {}
        for one in operation.parameters:
            if one["in"] == "header" and self.often(0.3):
                text = self.text(one["schema"], one.get("example"))
                if one["name"].startswith("If-") and self.often(0.7):
                    text = self.choice([*self.tags, "*"])
                found[one["name"]] = text
        if self.often(0.1):
            found["Accept"] = self.choice(["*/*", "application/json", "text/csv", "text/html",
                                           "application/problem+json", "*/*;q=0", *HOSTILE])
        # A line of a header ends where it ends; nginx itself refuses a NUL, which others test.
        return {name: "".join(c for c in text if c.isprintable()) for name, text in found.items()}

    def body(self, operation):
        """(its type, its bytes)"""
        content = operation.spec.get("requestBody", {}).get("content", {})
        if not content:
            return (None, None) if self.often(0.9) else ("text/plain", b"nobody reads this")
        kind = self.choice(list(content))
        maker = {"application/x-ndjson": self.lines, "multipart/form-data": self.form}
        found = maker.get(kind, self.json)(content[kind])
        kind, body = found if isinstance(found, tuple) else (kind, found)
        if self.often(0.05):
            kind = self.choice([None, "text/plain", "application/json; charset=latin-1", *HOSTILE])
            kind = kind and "".join(c for c in kind if c.isprintable())
        return kind, None if self.often(0.02) else self.damaged(body)

    def json(self, media):
        value = self.value(media["schema"])
        if self.often(0.2):
            value = self.wrong(value)
        return json.dumps(value, ensure_ascii=self.often(0.5)).encode("utf-8", "replace")

    def lines(self, media):
        lines = [json.loads(line) for line in media["example"].splitlines()]
        lines = [self.wrong(line) if self.often(0.1) else line for line in lines]
        return "".join(json.dumps(line) + "\n" for line in lines).encode()

    def form(self, media):
        mark, parts = f"mark{self.random.randrange(10**6)}", b""
        for name, value in self.value(media["schema"]).items():
            text = value if isinstance(value, str) else json.dumps(value)
            file = f'; filename="{self.choice(["a.png", "a.jpg", "a.json", "..", ""])}"'
            kind = self.choice(["", "Content-Type: image/png\r\n", "Content-Type: text/plain\r\n"])
            parts += (f'--{mark}\r\nContent-Disposition: form-data; name="{name}"'
                      f'{file if self.often(0.7) else ""}\r\n{kind}\r\n{text}\r\n').encode()
        return f"multipart/form-data; boundary={mark}", parts + f"--{mark}--\r\n".encode()

    def damaged(self, body):
        if self.often(0.9):
            return body
        at = self.random.randrange(len(body) + 1)
        return self.choice([body[:at], body[:at] + b"\0" + body[at:], body[:at] + b"\xff" + body[at:],
                            body + body, b"\xef\xbb\xbf" + body, b"[" * 40, b"", b"NaN", b'{"a":1e999}',
                            body.replace(b"{", b'{"name":1,"name":1,', 1)])

    def request(self):
        """(target, method, fields, body)"""
        if self.links and self.often(0.05):
            return self.choice(self.links), "GET", {}, None
        operation = self.choice(self.operations)
        method = operation.name.partition(" ")[0]
        if self.often(0.04):
            method = self.choice(["HEAD", "OPTIONS", "PATCH", "PUT", "POST", "DELETE", "GETS"])
        kind, body = self.body(operation)
        fields = self.fields(operation)
        if kind is not None:
            fields["Content-Type"] = kind
        return self.path(operation) + self.query(operation), method, fields, body

    def learn(self, answer):
        """Where there is something now, and what its version is."""
        location, link, tag = map(answer.field, ("Location", "Link", "ETag"))
        own = location and self.document.template(location)
        for template in self.document.whole["paths"]:
            if own and template.startswith(own):
                path = location + template[len(own):]
                self.known[template] = [*self.known[template], path][-KNOWN_MAX:]
        if link:
            self.links = [*self.links, link[1:link.index(">")]][-KNOWN_MAX:]
        if tag:
            self.tags = [*self.tags, tag][-KNOWN_MAX:]


class Randomly(Case):
    @classmethod
    def config(cls):
        return {"test_runs": {"max_requests": 20}}

    def allowed(self, method, target, status):
        """Whether the document says of this operation that it may be answered so."""
        document = openapi.document()
        template = document.template(target.partition("?")[0])
        operation = document.operations.get(("GET" if method == "HEAD" else method, template))
        return (status in (502, 503, 504) and operation is not None and
                str(status) in operation.spec["responses"])

    def test_requests_are_answered_as_the_document_says(self):
        if "CAREDESK_RANDOM" in os.environ:
            faulthandler.cancel_dump_traceback_later()
        harness.note(f"seed {SEED}")
        before = {name: self.service.pids(name) for name in harness.PROGRAMS}
        maker, statuses, bad = Maker(SEED), collections.Counter(), []
        for _ in range(REQUESTS):
            target, method, fields, body = maker.request()
            try:
                answer = self.service.ask(target, method, fields, body)
            except (harness.Broken, OSError) as error:
                bad.append((error, method, target, fields, body))
                continue
            statuses[answer.status] += 1
            if answer.status >= 500 and not self.allowed(method, target, answer.status):
                bad.append((answer, method, target, fields, body))
            maker.learn(answer)
        harness.note(" ".join(f"{status}: {count}" for status, count in sorted(statuses.items())))
        self.assertEqual(bad, [])
        self.assertEqual({name: self.service.pids(name) for name in before}, before)
        # The mill is worth something only if much of what it makes is good, and much is not.
        for low in (200, 400):
            self.assertGreater(sum(count for status, count in statuses.items()
                                   if low <= status < low + 100), REQUESTS / 5)

    def test_all_is_counted_and_adds_up(self):
        rows = self.get("/stats/").json
        self.assertEqual(self.get("/healthz").status, 200)
        self.assertGreaterEqual(sum(row["count"] for row in rows), REQUESTS)
        for what in ((), ("stats",)):
            done = harness.caredesk("recount", *what, "--data", self.service.data)
            self.assertEqual(done.returncode, 0, done)


if __name__ == "__main__":
    harness.main()
