"""Images of accounts, through nginx: what goes in comes out clean, at a link that ends."""
import contextlib
import glob
import json
import os
import re
import signal
import sqlite3
import struct
import time
import zlib

import harness
from harness import Case, wait_for
from ledger import fresh, send

CORPUS = os.path.join(harness.SOURCE, "t/fuzz/corpus/image")
WHERE = b"N59.3293-E18.0686"  # of the corpus: what no picture may still hold
LINK = r"http://127\.0\.0\.1:\d+(/images/[0-9a-f]{2}/[0-9a-f]{32}\.(?:jpg|png)\?expires=\d+&signature=[\w-]{22})"


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width=3, height=2, more=b"", rows=None, shade=0):
    """A picture of greys, with further chunks."""
    rows = rows or b"".join(b"\0" + bytes((shade + x + 3 * y) % 256 for x in range(width))
                            for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            more + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def jpeg(number=0):
    with open(os.path.join(CORPUS, f"jpeg_{number}"), "rb") as file:
        return file.read()


def exif(orientation):
    """A TIFF that says no more than that."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


def jpeg_with(data, kind=0xe1, number=0):
    """One of the corpus, with a further segment before all others."""
    return jpeg(number)[:2] + struct.pack(">BBH", 0xff, kind, 2 + len(data)) + data + jpeg(number)[2:]


def form(data, *, filename="a.png", kind="image/png", name="image", boundary="b0"):
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
    head += f"Content-Type: {kind}\r\n\r\n"
    return head.encode() + data + f"\r\n--{boundary}--\r\n".encode()


class ImagesCase(Case):
    def account(self):
        made = send(self.service, "POST", "/accounts", {
            "name": "a", "email": f"{fresh('a').replace(' ', '')}@b", "address": "c"})
        self.assertEqual(made.status, 201, made)
        return made.field("Location")

    def post(self, target, body, fields=(), kind="multipart/form-data; boundary=b0", path="upload_image"):
        return self.service.ask(f"{target}/{path}", "POST", [("Content-Type", kind), *fields], body)

    def upload(self, target, data, **how):
        answer = self.post(target, form(data, **how))
        self.assertEqual(answer.status, 200, answer)
        return self.link_of(answer.json)

    def link_of(self, account):
        self.assertRegex(account["image_hosted_url"], f"^{LINK}$")
        return re.fullmatch(LINK, account["image_hosted_url"]).group(1)

    def blobs(self):
        folder = os.path.join(self.service.data, "blobs")
        return {os.path.relpath(os.path.join(where, name), folder)
                for where, _, names in os.walk(folder) for name in names}

    def keys(self):
        file = os.path.join(self.service.data, "db/accounts.db")
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            return {key for key, in connection.execute(
                "SELECT image_key FROM accounts WHERE image_key IS NOT NULL")}


class Uploads(ImagesCase):
    def test_an_image_is_shown_at_the_link_of_its_account(self):
        target = self.account()
        self.assertIsNone(self.get(target).json["image_hosted_url"])
        data = png()
        for path, how in (("upload_image", {}), ("upload-image", {"filename": "x.PNG"}),
                          ("upload_image/", {})):
            before = self.get(target)
            answer = self.post(target, form(data, **how), path=path)
            self.assertEqual(answer.status, 200, answer)
            self.assertCommon(answer)
            self.assertEqual(answer.json, self.get(target).json)
            self.assertEqual(answer.field("ETag"), self.get(target).field("ETag"))
            self.assertNotEqual(answer.field("ETag"), before.field("ETag"))
            shown = self.get(self.link_of(answer.json))
            self.assertEqual((shown.status, shown.body), (200, data))
            self.assertEqual(shown.field("Content-Type"), "image/png")
            self.assertEqual(shown.field("X-Content-Type-Options"), "nosniff")
            self.assertRegex(shown.field("Cache-Control"), r"private, max-age=\d+, immutable")
        self.assertEqual(len(self.blobs() & self.keys()), len(self.keys()))
        self.assertIn(answer.json["image_hosted_url"],
                      [one["image_hosted_url"] for one in self.get("/accounts?limit=1000").json])

    def test_what_is_not_the_picture_is_gone(self):
        text = chunk(b"tEXt", b"Comment\0" + WHERE)
        for data, how in ((png(more=text) + WHERE, {}),
                          *((jpeg(i) + WHERE, {"filename": "a.jpg", "kind": "image/jpeg"})
                            for i in range(13))):
            self.assertIn(WHERE, data)
            shown = self.get(self.upload(self.account(), data, **how))
            self.assertEqual(shown.status, 200)
            self.assertNotIn(WHERE, shown.body)
            self.assertNotIn(b"Exif", shown.body)

    def test_the_old_image_goes_and_so_does_that_of_a_deleted_account(self):
        target = self.account()
        links = [self.upload(target, png(shade=i)) for i in range(3)]
        self.assertEqual([self.get(link).status for link in links], [404, 404, 200])
        keys = self.keys()
        self.assertEqual(self.service.ask(target, "DELETE").status, 204)
        self.assertProblem(self.get(links[-1]), 404, "not-found")
        self.assertEqual(len(keys - self.keys()), 1)
        self.assertEqual(self.blobs(), self.keys())

    def test_put_keeps_the_image_and_takes_none(self):
        target = self.account()
        link = self.upload(target, png())
        one = self.get(target).json
        put = send(self.service, "PUT", target, {**one, "name": "b", "image_hosted_url": None})
        self.assertEqual(put.json["image_hosted_url"], one["image_hosted_url"])
        self.assertEqual(self.get(link).status, 200)

    def test_what_is_no_such_image_is_refused_by_name(self):
        target = self.account()
        jpg = {"filename": "a.jpg", "kind": "image/jpeg"}
        cases = (
            (b"", {}), (b"GIF89a", {}), (png()[:-20], {}), (png(), jpg), (jpeg(), {}),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", {}), (jpeg()[:200], jpg),
            (png(), {"filename": "a.gif"}), (png(), {"filename": "a"}), (png(), {"filename": ".png"}),
            (png(), {"kind": "image/gif"}), (png(), {"kind": "text/plain"}), (png(), {"kind": "image/jpeg"}),
            (png(), {"filename": "a.png.exe"}), (png(), {"filename": "../../a.png/"}),
            (png(), {"name": "picture"}),
            (png(100000, 1, rows=b"\0" * 100001), {}), (png(1, 1, rows=b"\0\0" * 3), {}),
            (png(9000, 9000, rows=b"\0" * 10), {}))
        for data, how in cases:
            problem = self.assertProblem(self.post(target, form(data, **how)), 400, "invalid-input")
            self.assertEqual([one["pointer"] for one in problem["errors"]], ["image"], (data[:20], how))
        self.assertIsNone(self.get(target).json["image_hosted_url"])
        self.assertEqual(self.blobs(), self.keys())

    def test_names_are_never_paths(self):
        for name in ("../../../etc/x.png", "/etc/x.png", "a\\b.png", "x;y.png", "\u00e9\u0301.png",
                     "x'.png", " .png"):
            self.assertEqual(self.get(self.upload(self.account(), png(), filename=name)).status, 200)
        for name in ("%00.png", "a\0.png", "a\nb.png", 'a".png'):
            self.assertIn(self.post(self.account(), form(png(), filename=name)).status, (200, 400))
        self.assertEqual(self.blobs(), self.keys())

    def test_a_body_that_is_no_form_is_refused(self):
        target = self.account()
        for kind, body, status in (
                ("application/json", b"{}", 415), ("image/png", png(), 415),
                ("multipart/form-data", form(png()), 400),
                ("multipart/form-data; boundary=", form(png()), 400),
                ("multipart/form-data; boundary=" + "b" * 71, form(png()), 400),
                ("multipart/form-data; boundary=b0", b"", 400),
                ("multipart/form-data; boundary=b0", form(png())[:-8], 400),
                ("multipart/form-data; boundary=b0", form(png()) + b"x" * (11 * 2**20), 413),
                ("multipart/form-data; boundary=b0", form(png())[:-8] + 2000 * form(png()), 400)):
            answer = self.post(target, body, kind=kind)
            self.assertEqual(answer.status, status, (kind, answer))
        self.assertEqual(self.post(target, form(b"x" * (10 * 2**20 + 1))).status, 413)

    def test_missing_accounts_and_other_versions_are_told_before(self):
        self.assertProblem(self.post("/accounts/999999", form(png())), 404, "not-found")
        self.assertProblem(self.post("/accounts/x", form(png())), 404, "not-found")
        target = self.account()
        etag = self.get(target).field("ETag")
        self.assertEqual(self.post(target, form(png()), [("If-Match", etag)]).status, 200)
        self.assertProblem(self.post(target, form(png()), [("If-Match", etag)]), 412,
                           "precondition-failed")
        self.assertEqual(self.service.ask(f"{target}/upload_image").status, 405)
        self.assertEqual(self.blobs(), self.keys())

    def test_a_retry_does_nothing_twice(self):
        target, key = self.account(), [("Idempotency-Key", fresh("k").replace(" ", ""))]
        first = self.post(target, form(png()), key)
        again = self.post(target, form(png(), boundary="b0"), key)
        self.assertEqual((first.status, first.json), (again.status, again.json))
        self.assertProblem(self.post(target, form(png(shade=9)), key), 422, "idempotency-key-reused")
        self.assertEqual(self.get(self.link_of(first.json)).status, 200)
        self.assertEqual(self.blobs(), self.keys())


    def test_by_either_of_its_names_a_retry_is_one(self):
        target, key = self.account(), [("Idempotency-Key", fresh("k").replace(" ", ""))]
        first = self.post(target, form(png()), key)
        again = self.post(target, form(png()), key, path="upload-image")
        self.assertEqual((first.status, first.json), (again.status, again.json))
        for how in ({"filename": "b.png"}, {"data": png(shade=1)}):
            self.assertProblem(self.post(target, form(**{"data": png(), **how}), key), 422,
                               "idempotency-key-reused")

    def test_a_version_is_the_same_whatever_link_was_shown_with_it(self):
        target = self.account()
        self.upload(target, png())
        etag = self.get(target).field("ETag")
        version = etag.split(".")[0]
        self.assertNotEqual(etag, version + '"')
        for same in (f'{version}"', f'{version}.older-00"'):
            self.assertEqual(self.get(target, if_match=same).status, 200)
            # It is not what is shown, so it is shown again.
            self.assertEqual(self.get(target, if_none_match=same).status, 200)
        self.assertEqual(self.get(target, if_none_match=etag).status, 304)
        put = self.service.ask(target, "PUT", [("If-Match", f'{version}.older-00"'),
                                               ("Content-Type", "application/json")],
                               json.dumps(self.get(target).json).encode())
        self.assertEqual(put.status, 200, put)
        self.assertProblem(self.get(target, if_match=etag), 412, "precondition-failed")

    def test_images_are_logged_and_counted_as_one_path(self):
        link = self.upload(self.account(), png())
        for target in (link, link.split("?")[0], "/images/other"):
            self.get(target)
        self.service.raw(f"GET http://localhost{link} HTTP/1.0\r\n\r\n".encode())

        def paths():
            return [line["path"] for line in self.service.access_log if "/images/" in line["path"]]

        expected = ["/images/", "/images/", "/images/other", "/images/"]
        wait_for(lambda: paths()[-4:] == expected, "the log has them")
        self.assertNotIn(link.split("?")[0][len("/images/"):], str(self.service.access_log))

    def test_a_small_picture_does_not_wait_for_large_ones(self):
        sideways = chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
        large = form(png(5000, 5000, more=sideways, rows=b"\0" * 5001 * 5000))
        small = form(png())
        ended, one = [], self.account()

        def run(i):
            if i > 0:
                time.sleep(0.3)  # the large ones are there first
            answer = self.post(one if i else self.account(), small if i else large)
            ended.append(i)
            return answer

        answers = harness.at_once(2, run) + [self.post(one, small)]
        self.assertEqual([answer.status for answer in answers], [200] * 3)
        self.assertEqual(ended, [1, 0], "the small one first")


class Stopped(ImagesCase):
    def test_pictures_that_wait_are_refused_at_once_and_the_service_stops(self):
        sideways = chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
        large = form(png(5000, 5000, more=sideways, rows=b"\0" * 5001 * 5000))
        targets = [self.account() for _ in range(6)]

        def run(i):
            if i < len(targets):
                return self.post(targets[i], large)
            time.sleep(1)
            os.kill(self.service.pid("accounts"), signal.SIGTERM)
            return None

        answers = harness.at_once(len(targets) + 1, run)[:-1]
        refused = [answer for answer in answers if answer.status == 503]
        self.assertGreaterEqual(len(refused), 3)
        for answer in refused:
            self.assertProblem(answer, 503, "unavailable")
            self.assertIn("about to stop", answer.json["detail"])


class Swept(ImagesCase):
    def restart(self, change):
        self.service.stop()
        change(self.service.data)
        service = harness.Service(data=self.service.data)
        self.addCleanup(service.close)
        return service

    def test_images_of_another_database_are_spared(self):
        links = [self.upload(self.account(), png(shade=i)) for i in range(20)]

        def lose(data):
            for file in glob.glob(f"{data}/db/accounts.db*"):
                os.unlink(file)
            os.chmod(f"{data}/run/links", 0o666)

        service = self.restart(lose)
        wait_for(lambda: "none of 20 images is that of an account" in str(service.log), "it is said")
        self.assertEqual([service.get(link).status for link in links], [200] * 20)
        mode = os.stat(f"{service.data}/run/links").st_mode & 0o777
        self.assertEqual(mode, 0o640 if harness.ROOT else 0o600)


class Links(ImagesCase):
    @classmethod
    def config(cls):
        return {"images": {"link_s": 60}, "public_url": "http://127.0.0.1:1"}

    def test_a_link_that_was_changed_is_none(self):
        link = self.upload(self.account(), png())
        path, expires, signature = re.fullmatch(r"(.*)\?expires=(\d+)&signature=(.*)", link).groups()
        self.assertEqual(self.get(link).status, 200)
        self.assertEqual(self.service.ask(link, "HEAD").status, 200)
        self.assertProblem(self.service.ask(link, "DELETE"), 405)
        other = "B" if signature[0] == "A" else "A"
        for changed in (path, f"{path}?expires={expires}", f"{path}?signature={signature}",
                        f"{path}?expires={int(expires) + 1}&signature={signature}",
                        f"{path}?expires={expires}&signature={other}{signature[1:]}",
                        f"{path}?expires=99999999999&signature={signature}",
                        path.replace("/images/", "/images/../images/x/") + "?" + link.split("?")[1],
                        "/images/", "/images", "/images/../db/accounts.db",
                        "/blobs" + path[len("/images"):], "/images//" + path[len("/images/"):]):
            self.assertEqual(self.get(changed).status, 404, changed)

    def test_a_link_ends(self):
        link = self.upload(self.account(), png())
        left = int(re.search(r"expires=(\d+)", link).group(1)) - time.time()
        self.assertTrue(60 <= left <= 120, left)


if __name__ == "__main__":
    harness.main()
