"""That the page at /docs works in a browser: Debian's Chromium, driven by t/e2e/browser.mjs."""
import json
import os
import shutil
import subprocess
import unittest

import harness
import images
import openapi
from harness import Case, LONG

MODULES = os.environ.get("CAREDESK_NODE_MODULES",
                         os.path.join(harness.SOURCE, "t/node_modules"))
CHROMIUM = shutil.which("chromium")
SCRIPT = os.path.join(harness.SOURCE, "t/e2e/browser.mjs")


def missing():
    """What is not here; under ./check, which installs it all, that is no excuse."""
    if "CAREDESK_NODE_MODULES" in os.environ:
        return None
    for what, there in (("Chromium", CHROMIUM), ("node", shutil.which("node")),
                        ("playwright-core", os.path.exists(f"{MODULES}/playwright-core")),
                        ("Swagger UI", harness.has_docs())):
        if not there:
            return f"{what} is not there"
    return None


@unittest.skipIf(missing(), missing())
class Browser(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.browser = subprocess.Popen(
            ["node", SCRIPT, f"http://127.0.0.1:{cls.service.port}", CHROMIUM or "chromium", MODULES],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @classmethod
    def tearDownClass(cls):
        cls.browser.communicate(timeout=LONG)
        super().tearDownClass()

    def visit(self, name, *more):
        """What browser.mjs found on its visit NAME, with a device, and perhaps a file."""
        self.browser.stdin.write(" ".join((name, *(more or ("desk",)))) + "\n")
        self.browser.stdin.flush()
        line = self.browser.stdout.readline()
        self.assertTrue(line, "the browser has ended")
        found = json.loads(line)
        self.assertNotIn("failed", found)
        return found

    def assertQuiet(self, found):
        for what in ("foreign", "errors", "breaches"):
            self.assertEqual(found[what], [], what)

    def test_an_operation_can_be_tried(self):
        found = self.visit("ping")
        self.assertQuiet(found)
        self.assertEqual(found["operations"], len(openapi.document().operations))
        self.assertEqual((found["status"], json.loads(found["body"])), ("200", {"message": "pong"}))

    def test_parameters_and_bodies_reach_the_server(self):
        found = self.visit("forms")
        self.assertQuiet(found)
        for name, status, member, value in (("coalesce", "200", "oop_max", 20000),
                                            ("type", "201", "name", "From a browser")):
            self.assertEqual(found[name]["status"], status, found)
            self.assertEqual(json.loads(found[name]["body"])[member], value)

    def test_an_image_is_uploaded_and_its_link_shows_it_upright(self):
        # The greys 0 1 2 over 3 4 5, on their side, as a phone that is held upright stores them.
        sideways = images.exif(6)
        for name, data, size, reds in (
                ("a.png", images.png(more=images.chunk(b"eXIf", sideways)), (2, 3),
                 [3, 0, 4, 1, 5, 2]),
                ("a.jpg", images.jpeg_with(b"Exif\0\0" + sideways, number=3), (21, 16), None)):
            file = os.path.join(self.service.folder, name)
            with open(file, "wb") as out:
                out.write(data)
            found = self.visit("upload", "desk", file)
            # Chromium styles the page that it makes for a picture; the policy forbids even that,
            # and the console says so.  The page at /docs would have it among its breaches.
            found["errors"] = [error for error in found["errors"] if "inline style" not in error]
            self.assertQuiet(found)
            self.assertEqual([found[name]["status"] for name in ("made", "uploaded")],
                             ["201", "200"])
            shown = found["shown"]
            self.assertEqual(shown["status"], 200)
            self.assertLessEqual(set(shown["breaches"]),
                                 {"style-src-attr inline", "style-src-elem inline"})
            self.assertEqual((shown["width"], shown["height"]), size)
            if reds is not None:
                self.assertEqual(shown["reds"], reds)

    def test_it_works_on_a_small_phone_in_another_language(self):
        found = self.visit("ping", "phone")
        self.assertQuiet(found)
        self.assertEqual(found["status"], "200")

    def test_an_operation_of_each_tag_can_be_opened(self):
        found = self.visit("tags")
        self.assertQuiet(found)
        self.assertEqual(found["tags"], len(openapi.document().whole["tags"]))

    def test_what_the_policy_forbids_does_not_happen_and_is_seen(self):
        found = self.visit("breach")
        self.assertFalse(found["ran"] or found["asked"], found)
        kinds = {breach.split()[0] for breach in found["breaches"]}
        self.assertEqual(kinds, {"script-src-elem", "connect-src"})
        self.assertTrue(found["errors"])


if __name__ == "__main__":
    harness.main()
