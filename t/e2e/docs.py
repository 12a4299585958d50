"""The page at /docs and its files, as nginx serves them; t/e2e/browser.py opens it."""
import base64
import contextlib
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
import unittest

import harness
from harness import Case, Service

KINDS = {"js": "text/javascript", "png": "image/png", "css": "text/css", "yaml": "application/yaml"}
NO_DOCS = None if harness.has_docs() else "Swagger UI is not there"


def source(name):
    with open(os.path.join(harness.SOURCE, name), "rb") as file:
        return file.read()


def targets():
    """What the server has of its own, and with it what Swagger UI has."""
    own = ["/docs/openapi.yaml", "/docs/docs.js"]
    return own if NO_DOCS else ["/docs", *own, *(f"/docs/{name}" for name in harness.DOCS_FILES
                                                 if name != "docs.js")]


class Docs(Case):
    def test_each_file_has_its_type_and_its_caching(self):
        for target in targets():
            with self.subTest(target):
                reply = self.get(target)
                self.assertEqual(reply.status, 200, reply)
                kind = KINDS.get(target.rpartition(".")[2], "text/html")
                self.assertEqual(reply.field("Content-Type"), kind)
                theirs = "swagger-ui" in target or "favicon" in target
                self.assertEqual(reply.field("Cache-Control"),
                                 "max-age=86400" if theirs else "no-cache")

    def test_the_document_is_the_one_of_the_source(self):
        self.assertEqual(self.get("/docs/openapi.yaml").body, source("docs/openapi.yaml"))

    def test_who_has_it_gets_304(self):
        for target in targets():
            for coding in ("identity", "gzip"):
                with self.subTest(target, coding=coding):
                    tag = self.get(target, Accept_Encoding=coding).field("ETag")
                    reply = self.get(target, Accept_Encoding=coding, If_None_Match=tag)
                    self.assertEqual((reply.status, reply.body), (304, b""), reply)
                    reply = self.get(target, If_None_Match='"1-0"')
                    self.assertEqual(reply.status, 200)

    @unittest.skipIf(NO_DOCS, NO_DOCS)
    def test_what_is_large_is_compressed_for_those_who_can_read_that(self):
        with self.service.connect() as connection:
            connection.send(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n"
                            b"Accept-Encoding: gzip\r\n\r\n")
            reply = connection.receive()
        self.assertEqual(reply.field("Content-Encoding"), "gzip")
        self.assertEqual(reply.field("Vary"), "Accept-Encoding")
        self.assertLess(len(reply.body), 700000)

    @unittest.skipIf(NO_DOCS, NO_DOCS)
    def test_the_page_names_only_what_is_served_here_and_the_version_that_is_pinned(self):
        page = self.get("/docs").body.decode()
        pinned = json.loads(source("web/package.json"))["dependencies"]["swagger-ui-dist"]
        found = re.findall(r'(?:href|src)="([^"]*)"', page)
        self.assertEqual({link.partition("?")[0] for link in found},
                         {"/docs/openapi.yaml", *(f"/docs/{name}" for name in harness.DOCS_FILES)})
        self.assertEqual({link.partition("?")[2] for link in found}, {"", pinned})

    def test_no_other_file_is_served(self):
        for target in ("/docs/../nginx.conf", "/docs/%2e%2e/nginx.conf", "/docs/..%2fnginx.conf",
                       "/docs/index.html", "/docs/openapi.yaml/x", "/docs/openapi.yaml%00",
                       "/docs/openapi_yaml", "/docs/swagger-ui-bundle.js.map", "/docs/docs.jsx",
                       "/docs/part", "/docs/LICENSE", "/html/docs/docs.js", "/docsx"):
            with self.subTest(target):
                reply = self.get(target)
                self.assertProblem(reply, reply.status)
                self.assertIn(reply.status, (400, 404))


class Starts(Case):
    """What `caredesk run` does with the files."""

    start = False

    def setUp(self):
        self.data = os.path.join(harness.folder(), "data")
        self.addCleanup(shutil.rmtree, os.path.dirname(self.data))

    def run_once(self, function):
        service = Service(data=self.data)
        try:
            result = function(service)
            service.stop()
        finally:
            service.close()
        return result

    def tags(self):
        return self.run_once(lambda service: {target: service.get(target).field("ETag")
                                              for target in targets()})

    def test_what_is_right_stays_and_what_is_not_is_made_anew(self):
        path = os.path.join(self.data, "html/docs/openapi.yaml")
        self.tags()
        os.utime(path, (1, 1))  # its ETag counts seconds, and all this may take less than one
        first = self.tags()
        self.assertEqual(self.tags(), first)
        with open(path, "ab") as file:
            file.write(b"# changed\n")
        os.utime(path, (1, 1))
        again = self.tags()
        self.assertEqual([target for target in first if first[target] != again[target]],
                         ["/docs/openapi.yaml"])
        self.assertEqual(os.stat(path).st_size, len(source("docs/openapi.yaml")))

    def test_without_swagger_ui_there_is_the_document_and_no_page(self):
        """Of programs that lie elsewhere, as from a set-up without network; with old files, too."""
        self.tags()
        elsewhere = harness.folder()
        self.addCleanup(shutil.rmtree, elsewhere)
        for name in (*harness.PROGRAMS, "caredesk"):
            shutil.copy(harness.program(name), elsewhere)
        build, harness.BUILD = harness.BUILD, elsewhere
        self.addCleanup(setattr, harness, "BUILD", build)

        def look(service):
            self.assertProblem(service.get("/docs"), 404, "not-found")
            self.assertEqual(service.get("/docs/openapi.yaml").status, 200)
            self.assertEqual(len(service.events("docs_missing")), 1)

        self.run_once(look)


class SetUp(Case):
    """build-aux/setup.sh, from a registry of our own and with an npm that reaches none."""
    start = False
    FILES = ("LICENSE", "NOTICE", "favicon-16x16.png", "favicon-32x32.png", "swagger-ui-bundle.js",
             "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css")

    def archive(self, names):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name in names:
                entry = tarfile.TarInfo(f"package/{name}")
                entry.size = len(name)
                archive.addfile(entry, io.BytesIO(name.encode()))
        return packed.getvalue()

    @contextlib.contextmanager
    def registry(self, data):
        """Its address, and what it was asked for; DATA is all it has."""
        asked = []

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        with http.server.HTTPServer(("127.0.0.1", harness.free_port()), Answer) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/npm", asked
            server.shutdown()

    def tree(self, data):
        """A folder that pins DATA, and where npm and node always fail."""
        top = harness.folder()
        self.addCleanup(shutil.rmtree, top)
        os.mkdir(f"{top}/web")
        digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
        with open(f"{top}/web/package-lock.json", "w", encoding="utf-8") as file:
            json.dump({"packages": {
                "node_modules/other": {"version": "1", "integrity": "sha512-AA=="},
                "node_modules/swagger-ui-dist": {"version": "1.2.3",
                                                 "integrity": f"sha512-{digest}"}}},
                      file, indent="\t")
        for name in ("npm", "node"):
            with open(f"{top}/{name}", "w", encoding="utf-8") as file:
                file.write("#!/bin/sh\necho npm was asked >&2\nexit 1\n")
            os.chmod(f"{top}/{name}", 0o755)
        return top

    def install(self, top, **environment):
        """What it said."""
        kept = {name: text for name, text in os.environ.items()
                if name.lower() != "npm_config_registry"}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c",
             f". '{os.path.abspath(harness.SOURCE)}/build-aux/setup.sh'; install_swagger_ui"],
            cwd=top, capture_output=True, text=True, timeout=harness.LONG, check=True,
            env={**kept, "PATH": f"{top}:{os.environ['PATH']}", "HOME": top, **environment})
        return done.stderr

    def installed(self, top):
        folder = f"{top}/web/node_modules/swagger-ui-dist"
        return sorted(os.listdir(folder)) if os.path.exists(folder) else None

    def test_swagger_ui_comes_without_npm_from_the_registry_that_is_configured(self):
        data = self.archive([*self.FILES, "index.html", "swagger-ui-bundle.js.map"])
        for place in ("npm_config_registry", "NPM_CONFIG_REGISTRY", ".npmrc"):
            top, environment = self.tree(data), {}
            with self.subTest(place), self.registry(data) as (address, asked):
                if place == ".npmrc":
                    with open(f"{top}/.npmrc", "w", encoding="utf-8") as file:
                        file.write(f"fund=false\nregistry = {address}/\n")
                else:
                    environment = {place: address}
                self.assertEqual(self.install(top, **environment), "fetching swagger-ui-dist\n")
                self.assertEqual(asked, ["/npm/swagger-ui-dist/-/swagger-ui-dist-1.2.3.tgz"])
                self.assertEqual(self.installed(top), sorted(self.FILES))
                self.assertEqual(self.install(top, **environment), "", "once is enough")

    def test_nothing_is_unpacked_of_what_is_not_pinned(self):
        data = self.archive(self.FILES)
        for other in (data[:-1], data + b"x", b"", self.archive(self.FILES[:3])):
            top = self.tree(data)
            with self.subTest(length=len(other)), self.registry(other) as (address, _):
                said = self.install(top, npm_config_registry=address)
                self.assertIn("npm was asked", said)
                self.assertIn("Swagger UI is not here", said)
                self.assertIsNone(self.installed(top))
                self.assertFalse(os.path.exists(f"{top}/web/node_modules"))

    def test_npm_is_asked_where_no_registry_is_configured(self):
        top = self.tree(b"")
        said = self.install(top)
        self.assertNotIn("fetching", said)
        self.assertIn("npm was asked", said)


if __name__ == "__main__":
    harness.main()
