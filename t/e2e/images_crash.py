"""What accounts says of images outlives it: kill -9 of accounts, and of everything, under clients
that upload, replace and delete, and that try again what was not answered.

    CAREDESK_IMAGES_ROUNDS  how often something is killed
    CAREDESK_IMAGES_SEED    repeats the choices of a run
"""
import collections
import contextlib
import faulthandler
import itertools
import os
import random
import signal
import threading
import time

import harness
from crash import UNKNOWN
from harness import Broken, at_once, note, wait_for
from images import FORM, ImagesCase, form, png
from ledger import Client, LedgerCase, everything, send

ROUNDS = int(os.environ.get("CAREDESK_IMAGES_ROUNDS", 25))
SEED = int(os.environ.get("CAREDESK_IMAGES_SEED", random.randrange(10**9)))
CLIENTS = 4
OWN = 3  # accounts that a client has, more or less
PATIENCE = 3 * harness.LONG  # everything may be starting anew

# A picture of an account: when it was first sent, and answered.
Upload = collections.namedtuple("Upload", "sent answered number")


def picture(number):
    """Each number has its own pixels; some are of a size that takes a while."""
    height = 1 if number % 8 else 4000
    return png(8, height, rows=height * (b"\0" + number.to_bytes(8, "big")))


def latest(uploads):
    """Those that may be the last: another one was not begun after they were answered."""
    last_sent = max((one.sent for one in uploads), default=0)
    return [one for one in uploads if one.answered >= last_sent]


class Uploader:
    """A client with accounts of its own.  One more is everybody's."""

    numbers = itertools.count(1)  # of pictures

    def __init__(self, case, number, shared):
        self.case, self.number, self.shared = case, number, shared
        self.choose, self.count = random.Random(f"{SEED} {number}"), 0
        self.client = Client(case.service)
        self.own = {}  # target: its Uploads
        self.under_way = None  # (target, number) of a picture
        self.waits, self.told = False, collections.Counter()

    def run(self, stop):
        while not stop.is_set():
            kind = self.choose.random()
            if len(self.own) < OWN or kind < 0.1:
                self.create()
            elif kind < 0.25:
                self.delete()
            elif kind < 0.45:
                self.upload(self.shared, self.case.uploads)
            else:
                self.upload(*self.choose.choice(list(self.own.items())))

    def ask(self, method, target, *expected, **what):
        """Until it is known what was done; the key sees to it that it is done once."""
        self.count += 1
        key, until = f"{SEED}-{self.number}-{self.count}", time.monotonic() + PATIENCE
        while (answer := self.attempt(method, target, Idempotency_Key=key, **what)) is None:
            self.told["tries in vain"] += 1
            self.waits = True
            self.case.go_on.wait(PATIENCE)
            self.waits = False
            if method == "DELETE":
                expected = (204, 404)  # it has no key: what was done before is told by 404
            if time.monotonic() > until:
                self.case.problems.append(f"{method} {target}: is not answered")
                raise AssertionError(self.case.problems[-1])
            time.sleep(0.01)
        if answer.status not in expected:
            self.case.problems.append(f"{method} {target}: {answer}")
        self.told[method] += 1
        return answer

    def attempt(self, *args, **more):
        """None if it is not known whether it was done."""
        with contextlib.suppress(Broken, OSError):
            answer = send(self.client, *args, **more)
            if answer.status not in UNKNOWN:
                return answer
        return None

    def create(self):
        made = self.ask("POST", "/accounts", 201, value={
            "name": "a", "email": f"{self.number}-{self.count}@b", "address": "c"})
        self.own[made.field("Location")] = []

    def delete(self):
        target = self.choose.choice(list(self.own))
        del self.own[target]
        self.ask("DELETE", target, 204)

    def upload(self, target, uploads):
        number = next(self.numbers)
        self.under_way, sent = (target, number), time.monotonic()
        answer = self.ask("POST", f"{target}/upload_image", 200, body=form(picture(number)),
                          kind=f"{FORM}=b0")
        self.under_way, upload = None, Upload(sent, time.monotonic(), number)
        if target == self.shared:
            uploads.append(upload)
        else:
            uploads[:] = [upload]
            self.look(answer, number)

    def look(self, answer, number):
        """Nobody else replaces it: it is there at once, whatever is swept meanwhile."""
        with contextlib.suppress(Broken, OSError):
            shown = self.client.ask(self.case.link_of(answer.json))
            if (shown.status, shown.body) != (200, picture(number)):
                self.case.problems.append(f"picture {number} at once: {shown}")


class Killed(ImagesCase, LedgerCase):
    """Rounds of: clients, kill -9, all that was not answered, and a look at everything.  In half of
    them there is a look before anything is tried again, too, since that would hide what broke."""

    @classmethod
    def setUpClass(cls):
        faulthandler.cancel_dump_traceback_later()  # the long run takes as long as it takes
        super().setUpClass()
        cls.problems, cls.choose, cls.go_on = [], random.Random(SEED), threading.Event()

    def kill_accounts(self):
        for pid in self.service.pids("accounts"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_again(self):
        """While the next one starts, or sweeps, or has just taken up what is tried again."""
        self.kill_accounts()
        time.sleep(self.choose.uniform(0, 0.1))
        self.kill_accounts()

    def kill_all(self):
        self.service.kill()
        self.begin()

    KILLS = {kill_accounts: 15, kill_again: 7, kill_all: 3}

    def answers(self):
        with contextlib.suppress(Broken, OSError):
            return self.get("/healthz/accounts").status == 200
        return False

    def round(self, clients):
        """What was killed."""
        stop, looks = threading.Event(), self.choose.random() < 0.5
        (self.go_on.clear if looks else self.go_on.set)()
        threads = [threading.Thread(target=client.run, args=(stop,), daemon=True)
                   for client in clients]
        for thread in threads:
            thread.start()
        time.sleep(self.choose.uniform(0.05, 0.25))
        kill, = self.choose.choices(list(self.KILLS), self.KILLS.values())
        kill(self)
        wait_for(self.answers, "accounts answers again")
        time.sleep(0.02)
        stop.set()
        if looks:
            wait_for(lambda: all(client.waits or not thread.is_alive()
                                 for client, thread in zip(clients, threads)), "all wait")
            self.assertWhole(clients)
            self.go_on.set()
        for thread in threads:
            thread.join(2 * PATIENCE)
        self.assertFalse([thread for thread in threads if thread.is_alive()])
        return kill.__name__

    def assertShown(self, target, numbers, or_none):
        """One of these pictures, whole; or none."""
        url = self.get(target).json["image_hosted_url"]
        if url is None:
            self.assertTrue(or_none, f"{target} has lost its image")
            return
        shown = self.get(self.link_of({"image_hosted_url": url}))
        self.assertEqual(shown.status, 200, f"the link of {target} dangles")
        self.assertIn(shown.body, map(picture, numbers), f"{target}: not one of {numbers}")

    def assertAllShown(self, uploads, under_way=()):
        """What the last answered upload says, or one that is UNDER_WAY: (target, number)."""
        def look(target):
            told = [one.number for one in latest(uploads[target])]
            more = [number for other, number in under_way if other == target]
            self.assertShown(target, told + more, not told)

        at_once(CLIENTS, lambda i: [look(target) for target in sorted(uploads)[i::CLIENTS]])

    def uploads_of(self, clients):
        uploads = {clients[0].shared: self.uploads}
        for client in clients:
            uploads.update(client.own)
        return uploads

    def targets(self):
        return {f"/accounts/{one['id']}" for one in
                everything(self.service, "/accounts?limit=1000")}

    def assertWhole(self, clients):
        """After a kill, while what it has interrupted is not tried again yet."""
        uploads = self.uploads_of(clients)
        self.assertLessEqual(set(uploads), self.targets())
        self.assertAllShown(uploads, [client.under_way for client in clients
                                      if client.under_way is not None])
        self.assertEqual(self.keys() - self.blobs(), set(), "rows without their image")

    def assertKept(self, clients, others):
        self.assertEqual(self.problems, [])
        uploads = self.uploads_of(clients)
        self.assertEqual(self.targets(), set(uploads))
        self.assertAllShown(uploads)
        self.uploads[:] = latest(self.uploads)
        wait_for(lambda: self.blobs() == self.keys(), "the sweep has taken what was left")
        self.assertEqual(self.others(), others)

    def others(self):
        """What is in the database's folder: no form that was under way either."""
        return sorted(os.listdir(os.path.join(self.data, "db")))

    def test_no_image_is_lost_and_none_is_left(self):
        note(f"seed {SEED}")
        shared, others, killed = self.account(), self.others(), collections.Counter()
        self.uploads = []
        clients = [Uploader(self, i, shared) for i in range(CLIENTS)]
        try:
            for _ in range(ROUNDS):
                killed[self.round(clients)] += 1
                self.assertKept(clients, others)
        finally:
            told = sum((client.told for client in clients), collections.Counter())
            note(f"{killed.total()} rounds of {ROUNDS}, {dict(killed)}; answered: {dict(told)}")


if __name__ == "__main__":
    harness.main()
