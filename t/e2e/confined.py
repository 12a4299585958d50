"""What the programs may while they run: of the kernel's own account, and by what they would do."""
import os
import unittest

import harness
from harness import Case, PROGRAMS, ROOT


def state(pid):
    """/proc/PID/status, by its names."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}


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
                self.assertEqual(line["level"] == "info", "not in force" not in line["detail"])


if __name__ == "__main__":
    harness.main()
