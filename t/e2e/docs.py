"""The page at /docs and its files, as nginx serves them; t/e2e/browser.py opens it."""
import json
import os
import re
import shutil
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
        first = self.tags()
        self.assertEqual(self.tags(), first)
        path = os.path.join(self.data, "html/docs/openapi.yaml")
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


if __name__ == "__main__":
    harness.main()
