"""Images of accounts, through nginx: what goes in comes out clean, at a link that ends."""
import contextlib
import functools
import glob
import json
import os
import re
import signal
import sqlite3
import struct
import threading
import time
import zlib

import harness
from harness import Case, wait_for
from ledger import fresh, send

CORPUS = os.path.join(harness.SOURCE, "t/fuzz/corpus/image")
WHERE = b"N59.3293-E18.0686"  # of the corpus: what no picture may still hold
DEGREES = struct.pack(">IIIIII", 59, 1, 19, 1, 4567, 100)
# What the pixels need; JFIF's and Adobe's segments tell how they are coloured.
JPEG_PARTS = {0xe0, 0xee, 0xdb, 0xc0, 0xc2, 0xc4, 0xdd, 0xda}
PNG_PARTS = {b"IHDR", b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"IDAT", b"IEND"}
FORM = "multipart/form-data; boundary"
JPG = {"filename": "a.jpg", "kind": "image/jpeg"}
LINK = r"http://127\.0\.0\.1:\d+(/images/[0-9a-f]{2}/[0-9a-f]{32}\.(?:jpg|png)\?expires=\d+&signature=[\w-]{22})"


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width=3, height=2, more=b"", rows=None, shade=0, depth=8):
    """A picture of greys, with further chunks."""
    rows = rows or b"".join(b"\0" + bytes((shade + x + 3 * y) % 256 for x in range(width))
                            for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@functools.cache
def black(width, height):
    """Little for what it inflates to."""
    return png(width, height, rows=height * (b"\0" * (1 + (width + 7) // 8)), depth=1)


def corpus(name):
    with open(os.path.join(CORPUS, name), "rb") as file:
        return file.read()


def jpeg(number=0):
    return corpus(f"jpeg_{number}")


def exif(orientation):
    """A TIFF that says no more than that."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


def gps():
    """A TIFF that says where: 59 degrees, 19 minutes, 45.67 seconds north."""
    return (b"MM\0*" + struct.pack(">IHHHIII", 8, 1, 0x8825, 4, 1, 26, 0) +
            struct.pack(">HHHI4sHHIII", 2, 1, 2, 2, b"N\0\0\0", 2, 5, 3, 56, 0) + DEGREES)


def jpeg_with(data, kind=0xe1, number=0):
    """One of the corpus, with a further segment before all others."""
    begin, rest = jpeg(number)[:2], jpeg(number)[2:]
    return begin + struct.pack(">BBH", 0xff, kind, 2 + len(data)) + data + rest


def jpeg_parts(data):
    """The markers up to the first scan's."""
    at, found = 2, []
    while not found or found[-1] != 0xda:
        begin, marker, n = struct.unpack(">BBH", data[at:at + 4])
        assert begin == 0xff, (at, data)
        found.append(marker)
        at += 2 + n
    return found


def png_parts(data):
    """The names of the chunks, to the last byte of the file."""
    at, found = 8, []
    while at < len(data):
        n, name = struct.unpack(">I4s", data[at:at + 8])
        found.append(name)
        at += 12 + n
    assert at == len(data), (at, data)
    return found


def part(data=b"", name='; name="image"', filename='; filename="a.png"', kind="image/png", more=""):
    """One of a form; NAME and FILENAME are parameters as they are sent, MORE is of its header."""
    head = (f"Content-Disposition: form-data{name}{filename}\r\n"
            f"Content-Type: {kind}\r\n{more}\r\n")
    return head.encode("utf-8", "surrogateescape") + data + b"\r\n"


def parted(*parts, boundary="b0"):
    line = f"--{boundary}".encode()
    return b"".join(line + b"\r\n" + one for one in parts) + line + b"--\r\n"


def form(data, *, filename="a.png", kind="image/png", name="image", boundary="b0"):
    return parted(part(data, f'; name="{name}"', f'; filename="{filename}"', kind),
                  boundary=boundary)


def large():
    """A form with what is read by the thread of large ones, since it is turned, and takes a while."""
    sideways = chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    return form(png(5000, 5000, more=sideways, rows=b"\0" * 5001 * 5000))


class ImagesCase(Case):
    def account(self):
        made = send(self.service, "POST", "/accounts", {
            "name": "a", "email": f"{fresh('a').replace(' ', '')}@b", "address": "c"})
        self.assertEqual(made.status, 201, made)
        return made.field("Location")

    def post(self, target, body, fields=(), kind=f"{FORM}=b0", path="upload_image"):
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
                for where, _, names in os.walk(folder) for name in names} - {".owner"}

    def stop_reading(self):
        """Stops the process that reads the next picture, in the midst of it: for how long it reads is not the
        machine's affair then.  The function that lets it go on."""
        keepers = self.service.pids("decoder")

        def reader():
            for keeper in keepers:
                with open(f"/proc/{keeper}/task/{keeper}/children", encoding="ascii") as file:
                    for pid in file.read().split():
                        return int(pid)
            return None

        def let_go():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

        pid = wait_for(reader, "a process that reads a picture", pause=0.001)
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(let_go)
        return let_go

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

    def assertOnlyPicture(self, data, how, words):
        """What is shown of DATA has no more than the pixels need, and none of WORDS."""
        with self.subTest(data=data[:80], how=how):
            shown = self.get(self.upload(self.account(), data, **how))
            self.assertEqual(shown.status, 200)
            parts, known = (jpeg_parts, JPEG_PARTS) if how else (png_parts, PNG_PARTS)
            self.assertLessEqual(set(parts(shown.body)), known)
            if how:
                self.assertTrue(shown.body.endswith(b"\xff\xd9"))
            for word in (b"Exif", WHERE, *words):
                self.assertNotIn(word, shown.body)
            return shown.body

    def test_a_picture_of_any_kind_is_shown_without_what_is_not_the_picture(self):
        # Progressive, CMYK, with palettes, of 16 bits, grey with alpha, interlaced.
        for number in range(13):
            self.assertOnlyPicture(jpeg(number) + WHERE, JPG, ())
        for number in range(23):
            self.assertOnlyPicture(corpus(f"png_{number}") + WHERE, {}, ())

    def test_where_a_picture_was_taken_goes_in_and_does_not_come_out(self):
        xmp = b"<x:xmpmeta>" + WHERE
        for kind, data in ((0xe1, b"Exif\0\0" + gps()),
                           (0xe1, b"http://ns.adobe.com/xap/1.0/\0" + xmp),
                           (0xe2, b"ICC_PROFILE\0\1\1" + WHERE), (0xe2, b"MPF\0" + gps()),
                           (0xed, b"Photoshop 3.0\08BIM" + WHERE), (0xfe, WHERE),
                           (0xe0, b"JFXX\0\x10" + WHERE), (0xef, WHERE)):
            self.assertIn(data, jpeg_with(data, kind))
            self.assertOnlyPicture(jpeg_with(data, kind), JPG, (data[:4], DEGREES))
        packed = b"a\0\0" + zlib.compress(WHERE)
        for name, data in ((b"eXIf", gps()), (b"tEXt", b"Comment\0" + WHERE), (b"zTXt", packed),
                           (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), (b"iCCP", packed),
                           (b"tIME", b"\7\xea" + b"\1" * 5), (b"prIV", WHERE)):
            shown = self.assertOnlyPicture(png(more=chunk(name, data)), {}, (name, DEGREES))
            self.assertEqual(shown, png())

    def test_what_moves_or_is_something_else_too_is_the_picture_alone(self):
        archive = b"PK\3\4" + b"\0" * 26 + b"PK\5\6" + b"\0" * 18
        page = b"<html><script>alert(1)</script>"
        control = struct.pack(">IIIIIHHBB", 0, 3, 2, 0, 0, 1, 1, 0, 0)
        moving = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", control)
        second = chunk(b"fdAT", b"\0\0\0\1" + zlib.compress(b"\0" * 8))
        for data in (png() + archive, png() + page, png(more=chunk(b"tEXt", b"a\0" + page)),
                     png(more=moving), png()[:-12] + second + chunk(b"IEND", b"")):
            self.assertEqual(self.assertOnlyPicture(data, {}, (b"PK", b"script")), png())
        plain = self.assertOnlyPicture(jpeg(), JPG, ())
        for data in (jpeg() + archive, jpeg() + page, jpeg_with(page, 0xfe), jpeg() + jpeg(5)):
            self.assertEqual(self.assertOnlyPicture(data, JPG, (b"PK", b"script")), plain)

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

    def assertUnchanged(self, target, link, before):
        self.assertEqual(self.get(target).json, before)
        self.assertEqual(self.get(link).body, png())
        self.assertEqual(self.blobs(), self.keys())

    def assertAllRefused(self, cases, post):
        """Each POST(target, ...) of CASES, and nothing is changed by them."""
        target = self.account()
        link = self.upload(target, png())
        before = self.get(target).json
        for case in cases:
            with self.subTest(case=[repr(word)[:200] for word in case]):
                problem = self.assertProblem(post(target, *case), 400, "invalid-input")
                pointers = [one["pointer"] for one in problem.get("errors", [])]
                self.assertIn(pointers, ([], ["image"]))
        self.assertUnchanged(target, link, before)

    def test_what_is_no_such_image_is_refused_by_name(self):
        def post(target, data, how):
            answer = self.post(target, form(data, **how))
            self.assertEqual([one["pointer"] for one in answer.json["errors"]], ["image"])
            return answer

        page, svg = b"<html><body>", b"<svg xmlns='http://www.w3.org/2000/svg'/>"
        self.assertAllRefused((
            (b"", {}), (b"", JPG), (png(), JPG), (jpeg(), {}), (page, {}), (svg, {}), (svg, JPG),
            (b"<?xml version='1.0'?>" + svg, {}), (b"GIF89a", {}), (b"GIF89a" + page, {}),
            (b"BM" + b"\0" * 60, {}), (b"RIFF\x24\0\0\0WEBPVP8 ", {}), (b"PK\3\4" + png(), {}),
            (page + png(), {}), (b"\xef\xbb\xbf" + png(), {}), (b"\0" + jpeg(), JPG),
            (b"\x89PNG\n\x1a\n" + png()[8:], {}), (png()[:8] + page, {}), (jpeg()[:4] + page, JPG),
            (jpeg(99), JPG),  # arithmetic coding, which browsers do not read
            *((png(), {"filename": name}) for name in (
                "a.gif", "a", ".png", "a.png.exe", "../../a.png/")),
            *((png(), {"kind": kind}) for kind in (
                "image/gif", "text/plain", "image/jpeg", "image/svg+xml")),
            (svg, {"filename": "a.svg", "kind": "image/svg+xml"}), (png(), {"name": "picture"})),
            post)

    def test_a_file_that_was_cut_is_refused(self):
        pictures = ((png(64, 64), {}), (corpus("png_19"), {}), (jpeg(), JPG), (jpeg(3), JPG))
        self.assertAllRefused([(data[:len(data) * tenth // 10], how) for data, how in pictures
                               for tenth in range(10)],
                              lambda target, data, how: self.post(target, form(data, **how)))

    def test_what_inflates_to_much_is_refused_and_what_may_be_large_is_taken(self):
        self.assertAllRefused(
            [(data,) for data in (
                black(30000, 30000), black(100000, 1), black(1, 100000), black(7072, 7072),
                png(1, 1, rows=b"\0" * 10**8), png(1, 1, rows=b"\0\0" * 3),
                png(9000, 9000, rows=b"\0" * 10), png(2**31 - 1, 2**31 - 1, rows=b"\0"),
                png(0, 1), png(1, 0))],
            lambda target, data: self.post(target, form(data)))
        large = black(7071, 7071)
        self.assertEqual(self.get(self.upload(self.account(), large)).body, large)

    def test_names_are_never_paths(self):
        named = [f'="{name}"' for name in (
            "../../../etc/x.png", "/etc/x.png", "a\\b.png", "..\\\\..\\\\x.png", "C:\\x.png",
            "x;y.png", "\u00e9\u0301.png", "x'.png", " .png", "a b.png", "\u202egnp.png", "\U0001f600.png",
            "\udce9.png", "%2e%2e%2fx.png", 'a\\"b.png', "a" * 500 + ".png")]
        for parameter in named + [
                "=x.png", "*=utf-8''%e2%82%ac%20x.png", "*=UTF-8'de'..%2F..%2Fx.png",
                "*=iso-8859-1''%e4.png", '="x.exe"; filename*=utf-8\'\'x.png',
                '*0="x."; filename*1="png"']:
            with self.subTest(parameter=parameter):
                body = parted(part(png(), filename=f"; filename{parameter}"))
                answer = self.post(self.account(), body)
                self.assertEqual(answer.status, 200, answer)
                self.assertEqual(self.get(self.link_of(answer.json)).body, png())
        self.assertEqual(self.blobs(), self.keys())

    def test_names_of_nothing_that_may_be_shown_are_refused(self):
        named = [f'; filename="{name}"' for name in (
            "", "/", "..", "a.png.", "a.png ", "a.png/", "%00.png", "a.png%00.exe", "a\0.png",
            "a\nb.png", "a.png\r", 'a".png')]
        self.assertAllRefused(
            [(text,) for text in named + [
                "", "; filename=", "; filename*=utf-8''a.png%00.exe",
                '; filename="x.png"; filename*=utf-8\'\'x.exe',
                '; filename="a.png"; filename="b.png"']],
            lambda target, text: self.post(target, parted(part(png(), filename=text))))

    def test_a_form_may_be_odd(self):
        whole, other = form(png()), part(b"x", '; name="x"', "", "text/plain")
        bodies = [("b0", body) for body in (
            b"a preamble\r\n" + whole, whole + b"an epilogue\r\n--b0\r\n", whole[:-2],
            whole.replace(b"--b0\r\n", b"--b0 \t\r\n"),
            parted(*3 * [other], part(png()), *4 * [other]),
            parted(part(png(), more=f"X-Other: {'x' * 700}\r\n")),
            parted(part(png(), more="Content-Transfer-Encoding: binary\r\n")),
            parted(part(png(), kind="IMAGE/PNG; a=b", filename="; filename=a.PNG")))]
        bodies += [(written, form(png(), boundary=boundary)) for written, boundary in (
            ("b" * 70, "b" * 70), (f'"{"b" * 70}"', "b" * 70), ('"b 0"', "b 0"), ('"b\\0"', "b0"),
            ("b0;", "b0"), ('"b:0?=/"; charset=utf-8', "b:0?=/"), ("--", "--"))]
        for boundary, body in bodies:
            with self.subTest(boundary=boundary, body=body[:200]):
                answer = self.post(self.account(), body, kind=f"{FORM}={boundary}")
                self.assertEqual(answer.status, 200, answer)
                self.assertEqual(self.get(self.link_of(answer.json)).body, png())

    def test_a_form_that_is_none_is_refused(self):
        whole, one, other = form(png()), part(png()), part(b"", '; name="x"', "")
        bodies = [
            b"", whole[:-8], whole[:-4], b"--b0--\r\n", b"\0" * 1000, png(), b"--b0\r\n" * 5000,
            whole.replace(b"\r\n", b"\n"), whole[:-8] + 2000 * whole, parted(one, one),
            parted(*9 * [other]), parted(*5000 * [one]), parted(png()), parted(b"\r\n" + png()),
            parted(one.replace(b"form-data", b"attachment")), parted(part()),
            parted(part(whole, kind="multipart/mixed; boundary=b0")),
            parted(part(png(), kind="message/rfc822"))]
        bodies += [parted(part(png(), name)) for name in (
            "", '; name=""', '; name="IMAGE"', '; name="image"; name="image"')]
        bodies += [parted(part(png(), more=more)) for more in (
            f"X: {'x' * 1024}\r\n", f"X: {'x' * 2**20}\r\n", "X: 1\r\n" * 5000, "X: \0\r\n",
            "no colon\r\n", "Content-Type: image/png\r\n", "Content-Transfer-Encoding: base64\r\n")]
        boundaries = ("", '""', "b" * 71, "b1", "B0", '"b0', "b 0", '"b0 "', "b0; boundary=b0",
                      "b\u00e4", "b@0", "b0 b1", ";")
        self.assertAllRefused(
            [("b0", body) for body in bodies] + [(boundary, whole) for boundary in boundaries],
            lambda target, boundary, body: self.post(target, body, kind=f"{FORM}={boundary}"))

    def test_a_body_that_is_no_form_is_refused(self):
        target = self.account()
        for kind, body, status in (
                ("application/json", b"{}", 415), ("image/png", png(), 415),
                ("multipart/mixed; boundary=b0", form(png()), 415),
                ("multipart/form-data", form(png()), 400),
                (f"{FORM}=b0", form(png()) + b"x" * (11 * 2**20), 413)):
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
        link, trace = self.upload(self.account(), png()), os.urandom(16).hex()
        parent = f"00-{trace}-b7ad6b7169203331-01"
        for target in (link, link.split("?")[0], "/images/other"):
            self.get(target, traceparent=parent)
        self.service.raw(f"GET http://localhost{link} HTTP/1.0\r\n"
                         f"traceparent: {parent}\r\n\r\n".encode())

        def paths():  # in any order: each worker of nginx writes its own lines
            return sorted(line["path"] for line in self.service.access_log
                          if line["trace_id"] == trace)

        expected = ["/images/", "/images/", "/images/", "/images/other"]
        wait_for(lambda: paths() == expected, "the log has them")
        self.assertNotIn(link.split("?")[0][len("/images/"):], str(self.service.access_log))

    def test_a_small_picture_does_not_wait_for_large_ones(self):
        small = form(png())
        one, other, picture, ended = self.account(), self.account(), large(), []
        slow = threading.Thread(target=lambda: ended.append(self.post(other, picture).status))
        slow.start()
        let_go = self.stop_reading()
        self.assertEqual([self.post(one, small).status for _ in range(3)], [200] * 3)
        self.assertEqual(ended, [])
        let_go()
        slow.join()
        self.assertEqual(ended, [200])


class Stopped(ImagesCase):
    def test_pictures_that_wait_are_refused_at_once_and_the_service_stops(self):
        targets, picture = [self.account() for _ in range(6)], large()

        def run(i):
            if i < len(targets):
                return self.post(targets[i], picture)
            let_go = self.stop_reading()
            time.sleep(1)  # the others are there
            os.kill(self.service.pid("accounts"), signal.SIGTERM)
            let_go()
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
        links = [self.upload(self.account(), png(shade=i)) for i in range(3)]

        def lose(data):
            for file in glob.glob(f"{data}/db/accounts.db*"):
                os.unlink(file)
            os.chmod(f"{data}/run/links", 0o666)

        service = self.restart(lose)
        wait_for(lambda: "they are those of another db/accounts.db" in str(service.log), "it is said")
        self.assertEqual([service.get(link).status for link in links], [200] * 3)
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
