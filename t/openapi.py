"""Holds requests and their answers against docs/openapi.yaml.

A Document is read once; Document.deviations() tells what of an answer the document does not allow,
and what the server took though the document does not.  Schemas are put in place of their $refs, and
each validator is made once, so that the answer for one resource costs a fifth of a millisecond.
"""
import functools
import gzip
import json
import os
import re
import urllib.parse

import jsonschema
import yaml

SOURCE = os.environ.get("CAREDESK_SOURCE", os.path.join(os.path.dirname(__file__), ".."))
FILE = os.path.join(SOURCE, "docs/openapi.yaml")
METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH")
# What may come on any operation: each has them as its default.  Other statuses must be listed.
ANYWHERE = (400, 403, 408, 411, 412, 413, 414, 429, 431, 500, 501, 502, 504, 505)
# What may stand beside a $ref: words only, so that putting the schema there is all that it means.
WORDS = {"description", "summary", "default"}
PROBLEM = "application/problem+json"
ANY_DEPTH = "x-any-depth"  # of a path: its last segment stands for one or more
# Of a longer body, only so many members of each object and list are looked at, evenly spread.
WHOLE_BYTES, SAMPLE = 16 * 1024, 20


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Of YAML 1.1's types only those of JSON: no dates, no yes and no."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers
            if not tag.endswith((":timestamp", ":bool"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^(true|false)$"), "tf")


def _without_twins(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"a member is there twice: {max(names, key=names.count)}")
    return found


def _no_number(text):
    raise ValueError(f"{text} is no JSON")


def read_json(body):
    """Strictly: UTF-8, no member twice, no NaN."""
    return json.loads(body.decode("utf-8"), object_pairs_hook=_without_twins,
                      parse_constant=_no_number)


def _sample(value):
    if isinstance(value, list):
        return [_sample(one) for one in value[::len(value) // SAMPLE + 1]]
    if isinstance(value, dict):
        names = list(value)
        return {name: _sample(value[name]) for name in names[::len(names) // SAMPLE + 1]}
    return value


def read(kind, body):
    """The body as what is held against its schema."""
    if kind.endswith("json"):
        value = read_json(body)
        return value if len(body) <= WHOLE_BYTES else _sample(value)
    if kind.startswith("image/"):
        return None
    text = body.decode("utf-8")
    return text if len(text) <= WHOLE_BYTES else text[:text.rfind("\n", 0, WHOLE_BYTES) + 1 or WHOLE_BYTES]


def media_type(value):
    return (value or "").partition(";")[0].strip().lower()


def _segments(path):
    """Decoded; a trailing slash and repeated ones make no difference, dots lead where they say, and
    it is the same to nginx how all of them are written."""
    found = []
    for part in filter(None, (urllib.parse.unquote(part).strip("/") for part in path.split("/"))):
        if part == "..":
            del found[-1:]
        elif part != ".":
            found.append(part)
    return tuple(found)


class Schema:
    """A schema without $refs, as a function."""

    def __init__(self, schema):
        self.schema = schema
        jsonschema.Draft202012Validator.check_schema(schema)
        self.validator = jsonschema.Draft202012Validator(schema)

    def fault(self, value):
        """What is wrong with VALUE, or None."""
        error = next(self.validator.iter_errors(value), None)
        if error is None:
            return None
        error = jsonschema.exceptions.best_match(self.validator.iter_errors(value))
        where = "".join(f"/{part}" for part in error.absolute_path)
        return f"{where}: {_short(error.message)}" if where else _short(error.message)

    def text_fault(self, text):
        """The same of a text in a path, a query or a header: it may be read as each type."""
        readings = [text, text.split(",") if text else []]
        if re.fullmatch("-?[0-9]+", text):
            readings.append(int(text))
        if text in ("true", "false"):
            readings.append(text == "true")
        if re.fullmatch("[0-9]+(,[0-9]+)*", text):
            readings.append([int(part) for part in text.split(",")])
        faults = [self.fault(reading) for reading in readings]
        return None if None in faults else faults[0]


def _short(text):
    return text if len(text) <= 300 else text[:200] + " ... " + text[-90:]


class Response:
    def __init__(self, response):
        self.headers = [(name, header.get("required", False), Schema(header["schema"]))
                        for name, header in response.get("headers", {}).items()]
        self.content = {kind: Schema(media["schema"])
                        for kind, media in response.get("content", {}).items()}

    def faults(self, answer, has_body=True):
        for name, required, schema in self.headers:
            value = answer.field(name)
            if value is None:
                if required:
                    yield f"the header {name} is missing"
            elif fault := schema.text_fault(value):
                yield f"the header {name}: {fault}"
        kind = media_type(answer.field("Content-Type"))
        if not self.content:
            if answer.body or kind:
                yield f"a body ({kind}), where there is none in the document"
        elif kind not in self.content:
            yield f"the content type is {kind or 'missing'}, not {' or '.join(self.content)}"
        elif has_body:
            yield from self._body_faults(kind, answer)

    def _body_faults(self, kind, answer):
        try:
            packed = answer.field("Content-Encoding") == "gzip"
            body = read(kind, gzip.decompress(answer.body) if packed else answer.body)
        except ValueError as error:
            yield f"the body cannot be read: {error}"
            return
        if fault := self.content[kind].fault(body):
            yield f"the body: {fault}"
        elif kind == PROBLEM and body["status"] != answer.status:
            yield f"the body: /status is {body['status']}"


class Operation:
    """A path's method.  All is made when it is needed first."""

    def __init__(self, item, method, template):
        self.spec, self.template = item[method.lower()], template
        self.name = f"{method} {template}"
        self.parameters = [*item.get("parameters", ()), *self.spec.get("parameters", ())]

    @functools.cache
    def response(self, status):
        """None if the document has no such status."""
        responses = self.spec["responses"]
        found = responses.get(str(status), responses.get("default") if status in ANYWHERE else None)
        return None if found is None else Response(found)

    @functools.cached_property
    def schemas(self):
        return [(one["in"], one["name"], one.get("required", False), Schema(one["schema"]))
                for one in self.parameters]

    @functools.cached_property
    def bodies(self):
        content = self.spec.get("requestBody", {}).get("content", {})
        return {kind: Schema(media["schema"]) for kind, media in content.items()}

    def request_faults(self, target, fields, body):
        """Of a request that was taken."""
        path, _, query = target.partition("?")
        given = {"path": [], "query": urllib.parse.parse_qsl(query, keep_blank_values=True),
                 "header": [(name.lower(), value.strip()) for name, value in fields.items()]}
        for part, value in zip(_segments(self.template), _segments(path)):
            given["path"].append((part.strip("{}"), value))
        for where, name, required, schema in self.schemas:
            wanted = name.lower() if where == "header" else name
            values = [value for key, value in given[where] if key == wanted]
            if required and not values:
                yield f"taken without {name}"
            for value in values:
                if (value or where != "header") and (fault := schema.text_fault(value)):
                    yield f"taken with {name}: {fault}"
        kind = media_type(dict(given["header"]).get("content-type"))
        if body is not None and kind in self.bodies and kind == "application/json":
            try:
                fault = self.bodies[kind].fault(read(kind, body))
            except ValueError as error:
                fault = str(error)
            if fault:
                yield f"taken with a body that ought not to be: {fault}"


class Document:
    def __init__(self, file=FILE):
        with open(file, encoding="utf-8") as stream:
            self.raw = yaml.load(stream, _Loader)
        json.dumps(self.raw)  # only what JSON has, too
        self.whole = self._resolve(self.raw, ())
        self.operations = {(method, path): Operation(item, method, path)
                           for path, item in self.whole["paths"].items()
                           for method in METHODS if method.lower() in item}
        # Literal segments come before parameters.
        self.templates = sorted(((_segments(path), path) for path in self.whole["paths"]),
                                key=lambda pair: [part[0] == "{" for part in pair[0]])
        self.other = Response(self.whole["components"]["responses"]["Other"])

    def _resolve(self, node, within):
        """NODE with what its $refs name in their places."""
        if isinstance(node, list):
            return [self._resolve(one, within) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" not in node:
            return {name: self._resolve(value, within) for name, value in node.items()}
        ref, words = node["$ref"], {name: node[name] for name in node if name != "$ref"}
        if ref in within or not set(words) <= WORDS:
            raise ValueError(f"{ref} holds itself, or has more than words beside it")
        found = self.raw
        for part in ref.removeprefix("#/").split("/"):
            found = found[part]
        return {**self._resolve(found, (*within, ref)), **words}

    @functools.lru_cache(1000)
    def template(self, path):
        """The document's for this path, or None."""
        given = _segments(path)
        for parts, template in self.templates:
            fits = len(given) == len(parts) or (len(given) > len(parts) and
                                                self.whole["paths"][template].get(ANY_DEPTH))
            if fits and all(part == one or part[0] == "{" for part, one in zip(parts, given)):
                return template
        return None

    def allowed(self, template):
        found = {method for method, path in self.operations if path == template} | {"OPTIONS"}
        return found | {"HEAD"} if "GET" in found else found

    def deviations(self, method, target, answer, fields=(), body=None):
        """What of ANSWER, and of a request that was taken, the document does not allow."""
        template = self.template(target.partition("?")[0])
        operation = self.operations.get(("GET" if method == "HEAD" else method, template))
        faults = list(self._outside(method, template, answer) if operation is None else
                      self._within(operation, method, target, answer, dict(fields), body))
        return [f"{method} {_short(target)}: {answer.status}: {fault}" for fault in faults]

    @staticmethod
    def _within(operation, method, target, answer, fields, body):
        response = operation.response(answer.status)
        if response is None:
            yield f"{operation.name} has no such status in the document"
            return
        yield from response.faults(answer, has_body=method != "HEAD")
        if answer.status < 300:
            yield from operation.request_faults(target, fields, body)

    def _outside(self, method, template, answer):
        """No operation of the document: OPTIONS, or a problem."""
        allow = {one.strip() for one in (answer.field("Allow") or "").split(",")}
        if template is not None and (answer.status == 405 or method == "OPTIONS" and
                                     answer.status < 400) and allow != self.allowed(template):
            yield f"Allow is {sorted(allow)}, not {sorted(self.allowed(template))}"
        if answer.status >= 400:
            yield from self.other.faults(answer, has_body=method != "HEAD")
        elif template is None or method != "OPTIONS":
            yield "the document has no such operation"

    def routes(self):
        """(method, path), with each value of a path's enumeration instead of its name, and with {}
        for other names."""
        for method, path in self.operations:
            names = {one["name"]: one["schema"].get("enum", ["{}"])
                     for one in self.operations[method, path].parameters if one["in"] == "path"}
            paths = [path]
            for name, values in names.items():
                paths = [one.replace("{" + name + "}", value) for one in paths for value in values]
            yield from ((method, one) for one in paths)

    def examples(self):
        """(where, example, Schema) of all that has both."""
        def walk(node, where):
            if isinstance(node, list):
                for i, one in enumerate(node):
                    yield from walk(one, f"{where}/{i}")
            if not isinstance(node, dict):
                return
            if isinstance(node.get("schema"), dict):
                if "example" in node:
                    yield f"{where}/example", node["example"], Schema(node["schema"])
                for name, example in node.get("examples", {}).items():
                    yield f"{where}/examples/{name}", example["value"], Schema(node["schema"])
            elif isinstance(node.get("examples"), list):
                for i, example in enumerate(node["examples"]):
                    yield f"{where}/examples/{i}", example, Schema(node)
            for name, value in node.items():
                if name not in ("example", "examples"):
                    yield from walk(value, f"{where}/{name}")

        yield from walk(self.whole, "#")


@functools.cache
def document():
    return Document()
