"""The benchmark of a real program: one-true-awk, from Debian's source package, recompiled on each allocator.

Its programs are not like the others: what they print on standard output is the script's, which has to be the same byte
by byte on all allocators, and the figures are on standard error.
"""

import hashlib
import os

from bench_model import Case, Row

PROGRAM = "awk"
ALLOCATORS = ("gcrt", "bdwgc", "malloc")
SCRIPTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bench", "awk")
LINES = 5000
VOCABULARY = 20_000  # bdwgc's heap is 4 MB then, and it collects more than ten thousand times
OVER_BDWGC = 0.3

PANELS = {"awk": "One-true-awk recompiled, wall time, less is better"}


def all_cases(quick):
    vocabulary, lines = (500, 100) if quick else (VOCABULARY, LINES)
    yield Case(f"awk {vocabulary} words", PROGRAM, (lines, vocabulary), "wall_ns", "ms", 1e6, ALLOCATORS)


def is_awk(case):
    return case.program == PROGRAM


def path(build_dir, allocator):
    return os.path.join(build_dir, "bench", "awk", f"awk-{allocator}")


def command(program, case):
    lines, vocabulary = case.args
    return [program, "-v", f"lines={lines}", "-v", f"vocabulary={vocabulary}", "-f", os.path.join(SCRIPTS, "words.awk")]


def checksum(output):
    """Of all bytes of the output."""
    return hashlib.sha256(output.encode()).hexdigest()[:16]


def rows(results):
    for case in filter(is_awk, results.cases):
        for top, bottom, limit in (("gcrt", "bdwgc", OVER_BDWGC), ("gcrt", "malloc", None), ("bdwgc", "malloc", None)):
            yield Row("awk", f"{case.name}: {top} / {bottom}",
                      results.ratio((case.name, top, case.key), (case.name, bottom, case.key)), limit)
