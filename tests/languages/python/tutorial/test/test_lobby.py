"""Runs against the node of `jackfield dev`, which must be running."""

import re
import subprocess
import unittest


def connect(query: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["jackfield", "connect", query], input="", capture_output=True, text=True)


class LobbyTest(unittest.TestCase):
    def visit(self) -> int:
        greeting = re.search(r"^welcome, test: visit (\d+)$", connect("?name=test").stdout, re.MULTILINE)
        assert greeting
        return int(greeting[1])

    def test_whoever_comes_is_greeted_and_counted(self) -> None:
        self.assertEqual(self.visit() + 1, self.visit())

    def test_nobody_comes_in_without_a_name(self) -> None:
        self.assertIn("say ?name=", connect("").stderr)
