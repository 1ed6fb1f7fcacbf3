"""The pools' part of the benchmark's report: its cases and its rows."""

from bench_model import ALLOCATORS, Case, Row

PANELS = {"pool": "Pools: nanoseconds of a get and a put, and ratios of them"}
THREADS = (1, 2)


def is_pool(case):
    return case.program == "pool"


def all_cases(quick):
    shrink = 100 if quick else 1
    for threads in THREADS:
        yield Case(f"pool, {threads} thr", "pool", ("pool", threads, 20_000_000 // shrink), "ns_per_pair", "ns", 1,
                   (*ALLOCATORS, "go"))
    yield Case("pool, allocation instead", "pool", ("allocate", 1, 4_000_000 // shrink), "ns_per_pair", "ns", 1,
               (*ALLOCATORS, "go"))


def rows(results):
    if not any(map(is_pool, results.cases)):
        return
    one, two = (f"pool, {threads} thr" for threads in THREADS)
    key = "ns_per_pair"
    yield Row("pool", "get and put, 1 thread, ns", results.median(one, "gcrt", key), 5.0)
    # A thread's time: no slower per operation. The figures of two runs differ by a few percent.
    yield Row("pool", "2 threads / 1 thread", results.ratio((two, "gcrt", key), (one, "gcrt", key)), 1.05)
    yield Row("pool", "allocation of 1 KiB / get and put",
              results.ratio(("pool, allocation instead", "gcrt", key), (one, "gcrt", key)), 3.0, True)
    for case in (one, two):
        for peer in ("go", "malloc"):
            what = "sync.Pool of Go" if peer == "go" else "a list behind a mutex"
            yield Row("pool", f"{case}: gcrt / {what}", results.ratio((case, "gcrt", key), (case, peer, key)))
