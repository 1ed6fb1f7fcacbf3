"""Pacing, the memory limit and time to stop: the benchmarks of the library alone, and of bdwgc where it has the figure.

pacing and limit are run for each setting of the environment; what a collection of pacing took of the processors comes
from the library's own trace, on standard error.
"""

import os
import re
import statistics

from bench_model import Case, Row

PERCENTS = (50, 100, 200, 400)
THREADS = (1, 2)
LIVE_MIB = 32
SETTLING = 5  # collections of the trace that are not looked at: cons/mark is the greatest of five
CYCLES = 14  # as many as the goal allows; each begins before its goal, so there are more
STEADY_WORK = 2000  # steps for each object of 544 bytes: about 120 MiB/s for one thread
LIMIT_MIB = 256
LIMIT_WORK = 4000  # about 65 MiB/s for one thread: at 80 percent the collector has half of the processors for it

OVER_GOAL = 1.05
SHARE = (20, 30)  # percent of all processors
OVER_LIMIT_MIB = 16
LIMITED_SHARE = 0.5
REACH_MS = 2
BUSY_THREADS = 64
BUSY = {"alone": (0, 0), "and 8 in fsync": (1, 8), "and 8 reading the disk": (2, 8), "and 4 in posix_spawn": (3, 4),
        "and 64 asleep": (4, 64)}

# Of several units, so not in the plot of the ratios.
PANELS = {
    "busy": f"Time until {BUSY_THREADS} runnable threads have stopped, ms, less is better",
    "pacing": "Pacing of a heap in a steady state",
    "limit": f"A memory limit of {LIMIT_MIB} MiB",
}

USED = re.compile(r"^pacer: gc \d+ (\d+)% CPU ", re.MULTILINE)
ENDED = re.compile(r"^pacer: gc \d+ .* -> (\d+) B \(∆goal ([+-]\d+),", re.MULTILINE)


def pacing_case(percent, threads, work, live, label):
    """As many rounds as make the collections; a program that outruns the collector makes more between two."""
    rounds = CYCLES * percent // 100 * (1 if work else 3)
    return Case(f"pacing GOGC={percent}, {threads} thr{label}", "pacing", (live, threads, work, rounds),
                "peak_max_permille", "‰ of the goal", 1, ("gcrt",),
                (("GCRT_GOGC", percent), ("GCRT_DEBUG", "gcpacertrace=1")))


def all_cases(quick):
    steps = 20 if quick else 4000
    for label, (mode, others) in BUSY.items():
        yield Case(f"stop {BUSY_THREADS} thr {label}", "busy_stops", (mode, BUSY_THREADS, others, steps),
                   "reach_max_ns", "ms", 1e6, ("gcrt", "bdwgc"))
    live = 8 if quick else LIVE_MIB
    for percent in PERCENTS[1:2] if quick else PERCENTS:
        for threads in THREADS:
            yield pacing_case(percent, threads, STEADY_WORK, live, "")
    yield pacing_case(100, 2, 0, live, ", flat out")
    limit, seconds = (32, 1) if quick else (LIMIT_MIB, 6)
    yield Case(f"limit {limit} MiB, 2 thr", "limit", (limit, 2, LIMIT_WORK, seconds), "mapped_bytes", "MiB", 2**20, ("gcrt",),
               (("GCRT_MEMLIMIT", f"{limit}MiB"),))


def add_traced(case, figures, trace):
    """From the trace's lines about the steady state: the share of the processors, and the heap when marking ended."""
    if case.program != "pacing":
        return
    steady = trace.partition("pacing: steady\n")[2]
    used = [int(found) for found in USED.findall(steady)][SETTLING:]
    ended = [int(end) * 1000 / (int(end) - int(over)) for end, over in ENDED.findall(steady)][SETTLING:]
    if used:
        figures["marking_percent"] = str(statistics.median(used))
    if ended:
        figures["marked_p50_permille"] = f"{statistics.median(ended):.0f}"
        figures["marked_max_permille"] = f"{max(ended):.0f}"


def busy_rows(results, case):
    for allocator, limit in (("gcrt", REACH_MS), ("bdwgc", None)):
        for label in ("p50", "max"):
            value = results.median(case.name, allocator, f"reach_{label}_ns")
            yield Row("busy", f"{case.name}: {allocator}, {label}", None if value is None else value / 1e6,
                      limit if label == "max" else None)


def pacing_rows(results, case):
    """Where processors are idle the collector takes one, which nobody misses; where the program does all it can to
    outrun the collector, assists are a part of the share."""
    threads, work = case.args[1], case.args[2]
    peak, share = (results.median(case.name, "gcrt", key) for key in ("peak_max_permille", "marking_percent"))
    yield Row("pacing", f"{case.name}: largest heap / goal", None if peak is None else peak / 1000, OVER_GOAL)
    for name, key in (("median", "marked_p50_permille"), ("largest", "marked_max_permille")):
        marked = results.median(case.name, "gcrt", key)
        yield Row("pacing", f"{case.name}: {name} heap when marking ended / goal",
                  None if marked is None else marked / 1000)
    label = f"{case.name}: processors while marking, percent"
    if work == 0 or threads < len(os.sched_getaffinity(0)):
        yield Row("pacing", label, share)
        return
    least, most = SHARE
    yield Row("pacing", label, share, most)
    yield Row("pacing", label, share, least, True)


def limit_rows(results, case):
    for label, key in (("mapped and not released", "mapped_bytes"), ("RSS", "rss_bytes")):
        value = results.median(case.name, "gcrt", key)
        yield Row("limit", f"live up to 80 %: {label} over the limit, MiB",
                  None if value is None else value / 2**20 - case.args[0], OVER_LIMIT_MIB)
    limited = results.median(case.name, "gcrt", "limited_80_ns")
    yield Row("limit", "live at 80 %: collector held back, s", None if limited is None else limited / 1e9)
    share = results.median(case.name, "gcrt", "gc_100_permille")
    yield Row("limit", "live at 100 %: share of the processors", None if share is None else share / 1000, LIMITED_SHARE)


def rows(results):
    of_program = {"busy_stops": busy_rows, "pacing": pacing_rows, "limit": limit_rows}
    for case in results.cases:
        if case.program in of_program:
            yield from of_program[case.program](results, case)
