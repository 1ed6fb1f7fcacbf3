"""The latency benchmark's part of the report: its cases, its targets, its table and its plot.

Targets of time are in milliseconds, all others ratios. Each figure is the median of the runs, the longest request and
the longest stop too.
"""

import bench_curves
import bench_plot
from bench_model import ONE_STOP, Case, Row

ALLOCATORS = ("gcrt", "bdwgc", "bdwgc-inc", "malloc", "go")
ROOT_ALLOCATORS = ("gcrt", "bdwgc", "bdwgc-inc")  # those to which a static variable is another thing than an object
THREADS = (1, 2, 4)
ONE_STOP_ALSO = ((256, 1), (256, 2), (8, 1))  # MiB and threads, where all collections are one stop for comparison
# Requests of one run by MiB of live heap, all threads together: a collector that lets the heap double makes 50, 13, 5
# and 2 collections meanwhile.
REQUESTS = {64: 500_000, 256: 500_000, 1024: 800_000, 4096: 1_500_000}
HUGE_MIB = 4096
HUGE_NEEDS = 12 << 30  # bytes of memory: twice the live heap, and what the collectors know of it
STATIC_MIB = 256
QUICK = {8: 20_000}

STOP_LIMITS_MS = {64: (0.5, 1), 256: (0.5, 1), 1024: (1, 2), 4096: (2, 3)}  # of p99 and of the longest
LONGEST_REQUEST_MS = 3
P9999_OVER_MALLOC = 2
REQUESTS_OVER_BDWGC = 1.3

PANELS = {
    "stops": "Stops of gcrt, ms, less is better",
    "longest": "Longest request of gcrt, ms, less is better",
    "p99.99": "p99.99 of a request, gcrt / malloc with explicit frees, less is better",
    "requests": "Requests per second, gcrt / bdwgc, more is better",
}

CURVE = [("p50", "request_p50_ns"), ("p90", "request_p90_ns"), ("p99", "request_p99_ns"),
         ("p99.9", "request_p999_ns"), ("p99.99", "request_p9999_ns"), ("max", "request_max_ns")]

# Heading, key, divisor, digits.
COLUMNS = [
    ("requests/s", "requests_per_second", 1, 0),
    ("p50, µs", "request_p50_ns", 1e3, 1),
    ("p99, µs", "request_p99_ns", 1e3, 1),
    ("p99.9, µs", "request_p999_ns", 1e3, 1),
    ("p99.99, µs", "request_p9999_ns", 1e3, 1),
    ("max, ms", "request_max_ns", 1e6, 2),
    ("stops", "stops", 1, 0),
    ("stop p50, ms", "stop_p50_ns", 1e6, 3),
    ("stop p99, ms", "stop_p99_ns", 1e6, 3),
    ("stop max, ms", "stop_max_ns", 1e6, 3),
    ("max RSS, MiB", "max_rss_bytes", 2**20, 0),
]


def all_cases(quick, huge):
    requests = QUICK if quick else {mib: n for mib, n in REQUESTS.items() if huge or mib < HUGE_MIB}
    figure = ("request_p9999_ns", "µs", 1e3)
    for mib, count in requests.items():
        for threads in THREADS:
            peers = (*ALLOCATORS, ONE_STOP) if (mib, threads) in ONE_STOP_ALSO else ALLOCATORS
            yield Case(f"latency {mib} MiB, {threads} thr", "latency", (mib, threads, count), *figure, peers)
    mib = STATIC_MIB if STATIC_MIB in requests else next(iter(requests))
    yield Case(f"latency static {mib} MiB, 1 thr", "latency_static", (mib, 1, requests[mib]), *figure, ROOT_ALLOCATORS)


def is_latency(case):
    return case.program in ("latency", "latency_static")


def compared(results):
    """The cases that targets are about."""
    return [case for case in results.cases if case.program == "latency"]


def milliseconds(results, case, allocator, key):
    nanoseconds = results.median(case.name, allocator, key)
    return None if nanoseconds is None else nanoseconds / 1e6


def stop_row(results, case, label, key, limit):
    row = Row("stops", f"{case.name}: {label}", milliseconds(results, case, "gcrt", key), limit)
    if results.median(case.name, "gcrt", "stops") == 0:
        row.skipped = "no collection"
    return row


def longest_row(results, case):
    """Where malloc's longest request is longer than the target, it is the system that makes it long: more threads than
    processors, above all."""
    row = Row("longest", case.name, milliseconds(results, case, "gcrt", "request_max_ns"), LONGEST_REQUEST_MS)
    of_malloc = milliseconds(results, case, "malloc", "request_max_ns")
    if of_malloc is not None and of_malloc > LONGEST_REQUEST_MS:
        row.skipped = f"malloc's is {of_malloc:.1f} ms"
    return row


def rows(results):
    for case in compared(results):
        p99, longest = STOP_LIMITS_MS.get(case.args[0], (None, None))
        yield stop_row(results, case, "p99", "stop_p99_ns", p99)
        yield stop_row(results, case, "max", "stop_max_ns", longest)
        yield longest_row(results, case)
        yield Row("p99.99", case.name, results.ratio((case.name, "gcrt", "request_p9999_ns"),
                                                     (case.name, "malloc", "request_p9999_ns")), P9999_OVER_MALLOC)
        yield Row("requests", case.name, results.ratio((case.name, "gcrt", "requests_per_second"),
                                                       (case.name, "bdwgc", "requests_per_second")),
                  REQUESTS_OVER_BDWGC, at_least=True)


def cell(results, case, allocator, key, divisor, digits):
    median = results.median(case.name, allocator, key)
    without_stops = key.startswith("stop_") and results.median(case.name, allocator, "stops") == 0
    return "–" if median is None or without_stops else f"{median / divisor:.{digits}f}"


def table(results):
    """Lines of markdown: a row for each case and allocator."""
    out = ["## Requests over a live heap", "", "![Latency](latency.svg)", "",
           "| case | allocator | " + " | ".join(heading for heading, *_ in COLUMNS) + " |",
           "|---|---|" + "---:|" * len(COLUMNS)]
    for case in filter(is_latency, results.cases):
        for allocator in case.allocators:
            cells = [cell(results, case, allocator, *column) for _, *column in COLUMNS]
            out.append(f"| {case.name} | {allocator} | " + " | ".join(cells) + " |")
    return out + [""]


def plot(results, machine, judged):
    """The SVG text: the curves of request times above, the targets below."""
    charts = [(case.name, {allocator: [results.median(case.name, allocator, key) for _, key in CURVE]
                           for allocator in case.allocators}) for case in filter(is_latency, results.cases)]
    panels = [(title, [row for row in judged if row.panel == panel]) for panel, title in PANELS.items()]

    def curves(top):
        return bench_curves.draw("Time of a request by percentile, medians of the runs", charts,
                                 [label for label, _ in CURVE], top)

    return bench_plot.plot("Requests over a live heap", machine, panels, curves)
