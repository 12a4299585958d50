"""What the programs may while they run: of the kernel's own account, and by what they would do."""
import os
import signal
import unittest

import harness
import images
from harness import Case, PROGRAMS, ROOT, wait_for


def state(pid):
    """/proc/PID/status, by its names."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


NEEDS = {
    "accounts": "lists ., writes db, writes blobs, reads run/links; seccomp; new sockets: none",
    "audios": "writes db; seccomp; new sockets: none",
    "coalesce": "reads /etc, reads /run/systemd/resolve; seccomp; new sockets: all",
    "events": "writes db; seccomp; new sockets: none",
    "health": "reads /etc, reads /run/systemd/resolve; seccomp; new sockets: of this machine",
    "report": "writes db; seccomp; new sockets: none",
    "stats": "writes db, reads log, reads /etc; seccomp; new sockets: all",
}


class Confined(Case):
    """The programs of a running service."""

    def said(self):
        """The line of each program."""
        return {line["program"]: line["detail"] for line in self.service.events("confined")}

    def test_no_program_gains_privileges_or_makes_any_system_call(self):
        said = self.said()
        for name in PROGRAMS:
            with self.subTest(name):
                now = state(self.service.pid(name))
                self.assertEqual(now["NoNewPrivs"], "1")
                self.assertEqual(now["Seccomp"], "0" if "no seccomp under a sanitizer" in said[name]
                                 else "2")
                self.assertEqual(now["CapEff"].strip("0"), "")

    @unittest.skipUnless(ROOT, "the user's own programs are its own")
    def test_no_memory_is_anybodys_but_roots(self):
        for name in PROGRAMS:
            with self.subTest(name):
                pid = self.service.pid(name)
                self.assertNotEqual(state(pid)["Uid"].split()[0], "0")
                self.assertEqual(os.stat(f"/proc/{pid}/environ").st_uid, 0, "it is dumpable")

    def test_the_log_says_what_is_in_force(self):
        lines = self.service.events("confined")
        self.assertEqual(sorted(line["program"] for line in lines), sorted(PROGRAMS))
        for line in lines:
            with self.subTest(line["program"]):
                self.assertIn("no new privileges; not dumpable", line["detail"])
                self.assertIn("Landlock", line["detail"])
                if line["level"] == "info" and "no seccomp under" not in line["detail"]:
                    self.assertEqual(line["detail"].partition(": ")[2], NEEDS[line["program"]])
                self.assertEqual(line["level"] == "info", "not in force" not in line["detail"])


class Decoders(images.ImagesCase):
    """The processes of accounts that read pictures."""

    def test_what_reads_pictures_has_a_socket_to_its_program_and_nothing_else(self):
        pids = wait_for(lambda: self.service.pids("decoder"), "decoders")
        self.assertEqual(len(pids), 2)
        said = self.service.events("keeper_confined")
        self.assertEqual([line["program"] for line in said], ["accounts"] * 2)
        for pid, line in zip(pids, said):
            now = state(pid)
            self.assertEqual(now["NoNewPrivs"], "1")
            if "no seccomp under a sanitizer" in line["detail"]:
                continue
            self.assertEqual(now["Seccomp"], "2")
            if ROOT:
                files = {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}")
                         for fd in os.listdir(f"/proc/{pid}/fd")}
                self.assertRegex(files.pop(3), "^socket:")
                self.assertEqual(files, {fd: "/dev/null" for fd in range(3)})

    def test_one_that_is_killed_comes_again_with_its_program(self):
        account, before = self.account(), self.service.pid("accounts")
        for pid in self.service.pids("decoder"):
            os.kill(pid, signal.SIGKILL)
        answer = self.post(account, images.form(images.png()))
        self.assertProblem(answer, 503, "unavailable")
        wait_for(lambda: self.service.pids("accounts") not in ([], [before]), "another process")
        wait_for(lambda: self.get("/healthz/accounts").status == 200, "it answers")
        self.upload(account, images.png())


if __name__ == "__main__":
    harness.main()
