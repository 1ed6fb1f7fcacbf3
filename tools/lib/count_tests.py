"""Counts the cases of one `meson test` run and shows those that failed.

usage: count_tests.py BUILD_DIRECTORY SETUP COUNTS_FILE

A program built with Check says how many cases it had; one that says nothing of the kind, or fails without saying which
case did, counts as one. Appends "passed failed" to the counts file, one line for each program.
"""

import glob
import json
import os
import re
import shlex
import sys

SUMMARY = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", re.M)
GOOD = {"OK", "EXPECTEDFAIL"}
# Variables that meson sets for its own purposes.
IGNORED = re.compile(r"MESON_.*|MALLOC_PERTURB_|_|PATH|LD_LIBRARY_PATH")


def count(test, output):
    """(passed, failed) of one program."""
    rows = [tuple(map(int, row)) for row in SUMMARY.findall(output)]
    failed = sum(failures + errors for _, failures, errors in rows)
    passed = sum(row[0] for row in rows) - failed
    if test["result"] not in GOOD and failed == 0:
        failed = 1
    elif not rows:
        passed = 1
    return passed, failed


def repeat(test):
    """A command line for a shell at the top of the repository."""
    variables = [
        f"{name}={shlex.quote(value)}"
        for name, value in sorted(test.get("env", {}).items())
        if os.environ.get(name) != value and not IGNORED.fullmatch(name)
    ]
    command = [os.path.relpath(part) if part.startswith(os.getcwd() + "/") else part for part in test["command"]]
    return " ".join(variables + [shlex.quote(part) for part in command])


def main():
    directory, setup, counts = sys.argv[1:]
    logs = glob.glob(os.path.join(directory, "meson-logs", f"testlog*{setup}.json")) or glob.glob(
        os.path.join(directory, "meson-logs", "testlog*.json"))
    tests = []
    for path in logs:
        with open(path, encoding="utf-8", errors="replace") as lines:
            tests += [json.loads(line) for line in lines if line.strip()]
    with open(counts, "a", encoding="utf-8") as out:
        if not tests:
            print(f"FAILED  {directory}: no test ran")
            out.write("0 1\n")
        for test in tests:
            output = test.get("stdout", "") + test.get("stderr", "")
            if test["result"] == "SKIP":
                print(f"skipped {test['name']}: {output.strip()[-200:]}")
                continue
            passed, failed = count(test, output)
            out.write(f"{passed} {failed}\n")
            if failed:
                print(f"FAILED  {test['name']} ({directory}): {test['result']}, exit status {test.get('returncode')}")
                print("\n".join("    " + line for line in output.splitlines()[-80:]))
                print(f"    repeat it: {repeat(test)}")
            else:
                for line in output.splitlines():
                    if line.startswith("skipped"):
                        print(f"{test['name']}: {line}")


main()
