#!/usr/bin/env python3
"""Runs the benchmark programs, judges their medians against the targets and writes a table, raw figures and a plot.

tools/bench builds the programs and calls this. The allocators take turns within each case (gcrt, bdwgc, malloc,
mimalloc, then all again), so that a machine that slows down for a while slows all of them.
"""

import argparse
import csv
import os
import platform
import re
import statistics
import subprocess
import sys
import time

import bench_awk
import bench_latency
import bench_pacing
import bench_plot
import bench_pool
from bench_model import ALLOCATORS, COLLECTORS, ONE_STOP, Case, Results, Row, binary_of, environment_of

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TIMEOUT_SECONDS = 600
RUNS_FOR_A_VERDICT = 5
FIGURE = re.compile(r"\w+=")
IDLE_LOAD = 1.0  # of the last minute; our own build leaves about half of it

# Allocations of one garbage run, all threads together: about half a second to a second each on bdwgc.
GARBAGE_COUNTS = {16: 16_000_000, 32: 16_000_000, 64: 16_000_000, 256: 8_000_000, 1024: 2_000_000, 4096: 500_000}
SMALL_GARBAGE = (16, 32, 64, 256)
THREADS = (1, 2, 4)
SHAPES = ("list", "tree", "graph")


def all_cases(quick, huge):
    """The suite; `quick` shrinks every size so far that only the checksums mean something, `huge` adds the largest."""
    ms = ("ms", 1e6)
    shrink = 100 if quick else 1
    depths = {"binary_trees": [12 if quick else 18], "gcbench": [10, 12] if quick else [16, 18]}
    for program, program_depths in depths.items():
        for depth in program_depths:
            one_stop = [ONE_STOP] if program == "gcbench" or depth == program_depths[-1] else []
            yield Case(f"{program} {depth}", program, (depth,), "wall_ns", *ms, (*ALLOCATORS, *one_stop))
    # About the memory that bdwgc takes: what the same memory buys.
    for program, program_depths in depths.items():
        depth = program_depths[-1]
        yield Case(f"{program} {depth}, GCRT_GOGC=200", program, (depth,), "wall_ns", *ms, tuple(COLLECTORS),
                   (("GCRT_GOGC", 200),))
    for size, count in GARBAGE_COUNTS.items():
        for threads in THREADS:
            args = (size, threads, count // shrink)
            yield Case(f"garbage {size} B, {threads} thr", "garbage", args, "ns_per_allocation", "ns", 1)
    for threads in THREADS:
        yield Case(f"throughput, {threads} thr", "throughput", (threads, 24_000_000 // shrink), "mops", "Mops/s", 1)
    mib = 16 if quick else 1024
    for shape in SHAPES:
        yield Case(f"live {shape}, {mib} MiB", "live_heap", (shape, mib), "collect_ns", *ms, tuple(COLLECTORS))
    yield from bench_awk.all_cases(quick)
    yield from bench_pacing.all_cases(quick)
    full, left = (64, 8) if quick else (1024, 50)
    yield Case(f"release {full} to {left} MiB", "release", (full, left), "rss_bytes", "MiB", 2**20)
    yield from bench_pool.all_cases(quick)
    yield from bench_latency.all_cases(quick, huge)


def clean_environment(bdwgc_markers):
    """The caller's environment without the variables that tune an allocator: the figures are of default settings."""
    tuned = ("GCRT_", "GC_", "MIMALLOC_", "MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "GOGC", "GOMEMLIMIT",
             "GOMAXPROCS", "GODEBUG")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(tuned)}
    if bdwgc_markers:
        environment["GC_MARKERS"] = str(bdwgc_markers)
    return environment


def program_path(build_dir, case, allocator):
    if bench_awk.is_awk(case):
        return bench_awk.path(build_dir, allocator)
    return os.path.join(build_dir, "bench", f"{case.program}-{binary_of(allocator)}")


def run_program(path, case, allocator, environment):
    """The program's figures. Raises RuntimeError with what went wrong."""
    of_awk = bench_awk.is_awk(case)
    command = bench_awk.command(path, case) if of_awk else [path] + [str(arg) for arg in case.args]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS,
                              check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no end after {TIMEOUT_SECONDS} s") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip() and not (of_awk and FIGURE.match(line))]
        last = said[-1:] or ["nothing on standard error"]
        raise RuntimeError(f"exit status {done.returncode}: {last[0]}")
    printed = done.stderr if of_awk else done.stdout
    figures = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    bench_pacing.add_traced(case, figures, done.stderr)
    if of_awk:
        figures["checksum"] = bench_awk.checksum(done.stdout)
    if figures.get("allocator") != binary_of(allocator) or not {case.key, "checksum", "wall_ns"} <= figures.keys():
        raise RuntimeError("its output lacks figures")
    return figures


def run_case(case, paths, runs, environment, results):
    by_allocator = {allocator: [] for allocator in case.allocators if allocator in paths}
    results.runs[case.name] = by_allocator
    broken = set()
    for _ in range(runs):
        for allocator, done in by_allocator.items():
            if allocator in broken:
                continue
            try:
                own = environment | {name: str(value) for name, value in environment_of(case, allocator).items()}
                done.append(run_program(paths[allocator], case, allocator, own))
            except RuntimeError as error:
                broken.add(allocator)
                results.failures.append(f"{case.name}, {allocator}: {error}")
    for allocator in broken:
        by_allocator[allocator].clear()  # the median of what is left would flatter it
    sums = {allocator: {run["checksum"] for run in done} for allocator, done in by_allocator.items() if done}
    if len(set().union(*sums.values())) > 1:
        listed = "; ".join(f"{allocator} {' '.join(sorted(found))}" for allocator, found in sums.items())
        results.failures.append(f"{case.name}: the checksums differ: {listed}")


def run_suite(options, cases):
    results = Results(cases)
    environment = clean_environment(options.bdwgc_markers)
    began = time.monotonic()
    for number, case in enumerate(cases, 1):
        found = {allocator: program_path(options.build_dir, case, allocator) for allocator in case.allocators}
        paths = {allocator: path for allocator, path in found.items() if os.path.exists(path)}
        run_case(case, paths, options.runs, environment, results)
        medians = [f"{a} {results.median(case.name, a, case.key) / case.per_unit:.4g}" for a in paths
                   if results.median(case.name, a, case.key) is not None]
        print(f"[{number}/{len(cases)}, {time.monotonic() - began:.0f} s] {case.name}: "
              f"{', '.join(medians) or 'no figure'} {case.unit}", file=sys.stderr)
    return results


def bdwgc_rows(results):
    limits = {"list": 0.7, "tree": 0.5, "graph": 0.25}
    for case in results.cases:
        ours, peer = (case.name, "gcrt"), (case.name, "bdwgc")
        if case.program in ("binary_trees", "gcbench"):
            time_limit, memory_limit = (None, None) if case.environment else (0.5, 1.0)
            yield Row("bdwgc", f"{case.name}: wall time", results.ratio((*ours, "wall_ns"), (*peer, "wall_ns")),
                      time_limit)
            yield Row("bdwgc", f"{case.name}: max RSS",
                      results.ratio((*ours, "max_rss_bytes"), (*peer, "max_rss_bytes")), memory_limit)
        elif case.program == "garbage":
            limit = 0.3 if case.args[0] in SMALL_GARBAGE else None
            yield Row("bdwgc", case.name, results.ratio((*ours, case.key), (*peer, case.key)), limit)
        elif case.program == "live_heap":
            yield Row("bdwgc", f"{case.name}: collection", results.ratio((*ours, case.key), (*peer, case.key)),
                      limits[case.args[0]])
        elif case.program == "throughput":
            yield Row("bdwgc", f"{case.name}: wall time", results.ratio((*ours, "wall_ns"), (*peer, "wall_ns")))


def mimalloc_rows(results):
    for case in results.cases:
        key = "wall_ns" if case.program != "garbage" else case.key
        ratio = results.ratio((case.name, "gcrt", key), (case.name, "mimalloc", key))
        if "mimalloc" not in case.allocators or case.program in ("release", "pool"):
            continue
        if case.program == "binary_trees" or (case.program == "garbage" and case.args[0] in SMALL_GARBAGE):
            yield Row("mimalloc", case.name, ratio, 1.2)
        else:
            yield Row("mimalloc", case.name, ratio)


def scaling_rows(results, processors):
    two = next((case.name for case in results.cases if case.program == "throughput" and case.args[0] == 2), None)
    one = next((case.name for case in results.cases if case.program == "throughput" and case.args[0] == 1), None)
    if one is None or two is None:
        return
    for allocator in ALLOCATORS:
        row = Row("scaling", allocator, results.ratio((two, allocator, "mops"), (one, allocator, "mops")))
        if allocator == "gcrt":
            row.limit, row.at_least = 1.8, True
            row.skipped = "" if processors >= 2 else "one processor"
        yield row


def tracker_rows(results):
    """Speed with collections beside the program, over that with the program stopped for each."""
    for case in results.cases:
        if ONE_STOP not in case.allocators:
            continue
        ours, stopped = (case.name, "gcrt"), (case.name, ONE_STOP)
        if bench_latency.is_latency(case):
            key = "requests_per_second"
            yield Row("tracker", f"{case.name}: requests", results.ratio((*ours, key), (*stopped, key)), 1.0, True)
        else:
            yield Row("tracker", case.name, results.ratio((*stopped, "wall_ns"), (*ours, "wall_ns")), 0.9, True)


def release_rows(results):
    """Five seconds after the drop: what is resident next to what the library means to keep, and the time it took."""
    for case in results.cases:
        if case.program != "release":
            continue
        ours = (case.name, "gcrt")
        yield Row("release", f"{case.name}: RSS after 5 s / retain goal",
                  results.ratio((*ours, "rss_bytes"), (*ours, "goal_bytes")), 1.2)
        cpu = results.median(*ours, "release_cpu_ns")
        yield Row("release", f"{case.name}: share of a core in 5 s, percent",
                  None if cpu is None else cpu / 5e9 * 100, 2.0)
        for allocator in ("bdwgc", "malloc", "mimalloc"):
            yield Row("release", f"{case.name}: RSS after 5 s, gcrt / {allocator}",
                      results.ratio((*ours, "rss_bytes"), (case.name, allocator, "rss_bytes")))


PANELS = {
    "bdwgc": "gcrt / bdwgc, less is better",
    "mimalloc": "gcrt / mimalloc with explicit frees, less is better",
    "scaling": "Throughput of two threads / one thread, more is better",
    "tracker": "Speed beside the program / in one stop (GCRT_TRACKER=none), more is better",
    **bench_awk.PANELS,
}
# Of other units, so not in the plot.
RELEASE = {"release": "Memory that goes back, less is better"}


def first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    except OSError:
        return ""
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else ""


def compiler_of(build_dir):
    """The compiler that the build chose, which need not be today's $CC."""
    try:
        with open(os.path.join(build_dir, "meson-logs", "meson-log.txt"), encoding="utf-8", errors="replace") as log:
            found = re.search(r'^C compiler for the host machine: \S+ \((.*?) "', log.read(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else first_line([os.environ.get("CC", "cc"), "--version"])


def processor_model():
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        found = re.search(r"^model name\s*: (.*)$", cpuinfo.read(), re.MULTILINE)
    return found.group(1) if found else platform.machine()


def available_memory():
    """Bytes that programs can have without swapping."""
    with open("/proc/meminfo", encoding="utf-8") as meminfo:
        return int(re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read(), re.MULTILINE).group(1)) * 1024


def describe_machine(options, results):
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    found = results.versions()
    versions = ", ".join(f"{name} {version}" for name, version in found.items())
    wanted = {binary_of(allocator) for case in results.cases for allocator in case.allocators}
    missing = sorted(wanted - found.keys())
    commit = first_line(["git", "describe", "--always", "--dirty"])
    return [
        f"Processor: {processor_model()}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB of memory",
        f"Kernel: Linux {platform.release()} {platform.machine()}",
        f"Compiler: {compiler_of(options.build_dir)}, release build",
        f"Allocators: {versions}" + (f"; gcrt's source {commit}" if commit else "")
        + (f"; no figures of {', '.join(missing)}" if missing else ""),
        f"bdwgc's marker threads: {options.bdwgc_markers or 'one a processor'}",
        f"Date: {time.strftime('%Y-%m-%d', time.gmtime())}; figures are medians, runs of each: {options.runs}",
        f"Load of the machine before the first run: {options.load:.2f}"
        + (", not idle: distrust the times" if options.load > IDLE_LOAD else ""),
    ]


def figure_text(results, case, allocator):
    values = [value / case.per_unit for value in results.values(case.name, allocator, case.key)]
    if not values:
        return "–"
    return f"{statistics.median(values):.4g} ({min(values):.3g}–{max(values):.3g})"


def median_text(results, case, allocator, key, divisor, digits):
    median = results.median(case.name, allocator, key)
    return "–" if median is None else f"{median / divisor:.{digits}f}"


def medians_table(results, cases):
    shown = ALLOCATORS + [ONE_STOP] * any(ONE_STOP in case.allocators for case in cases)
    out = ["## Medians, least and most", "", "| case | unit | " + " | ".join(shown) + " |",
           "|---|---|" + "---:|" * len(shown)]
    for case in cases:
        cells = " | ".join(figure_text(results, case, allocator) for allocator in shown)
        out.append(f"| {case.name} | {case.unit} | {cells} |")
    return out + [""]


def memory_table(results, cases):
    out = ["## Memory and collections", "",
           "| case | " + " | ".join(f"max RSS {a}, MiB" for a in ALLOCATORS)
           + " | " + " | ".join(f"collections {a}" for a in COLLECTORS) + " |",
           "|---|" + "---:|" * (len(ALLOCATORS) + len(COLLECTORS))]
    for case in cases:
        cells = [median_text(results, case, a, "max_rss_bytes", 2**20, 1) for a in ALLOCATORS]
        cells += [median_text(results, case, a, "collections", 1, 0) for a in COLLECTORS]
        out.append(f"| {case.name} | " + " | ".join(cells) + " |")
    return out


def markdown(options, results, rows, machine, judged):
    """The report's text. An unjudged one shows ratios, but neither targets nor verdicts."""
    out = ["# Benchmark results", ""]
    out += [f"- {line}" for line in machine] + [""]
    if not judged:
        out += ["Targets are not judged: that takes the full sizes, and medians of at least "
                f"{RUNS_FOR_A_VERDICT} runs.", ""]
    elif options.only:
        out += [f"Only the cases that match `{options.only}`.", ""]
    elif options.without:
        out += [f"Without the cases that match `{options.without}`.", ""]
    if results.failures:
        out += ["**Failures**", ""] + [f"- {failure}" for failure in results.failures] + [""]
    if any(row.panel in PANELS for row in rows):
        out += ["![Ratios](results.svg)", ""]
    for panel, title in {**PANELS, **RELEASE, **bench_pacing.PANELS, **bench_pool.PANELS, **bench_latency.PANELS}.items():
        listed = [row for row in rows if row.panel == panel]
        if not listed:
            continue
        out += [f"## {title}", "", "| case | value | target | verdict |", "|---|---:|---:|---|"]
        for row in listed:
            value = "–" if row.value is None else f"{row.value:.3g}"
            out.append(f"| {row.label} | {value} | {row.target()} | {row.describe_verdict()} |")
        out.append("")
    if any(map(bench_latency.is_latency, results.cases)):
        out += bench_latency.table(results)
    plain = [case for case in results.cases if not bench_latency.is_latency(case)]
    if plain:
        out += medians_table(results, plain) + memory_table(results, plain)
    return "\n".join(out) + "\n"


def write_csv(path, results):
    keys = []
    for by_allocator in results.runs.values():
        for runs in by_allocator.values():
            for run in runs:
                keys += [key for key in run if key not in keys]
    keys.remove("allocator")
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["case", "program", "arguments", "allocator", "run"] + keys)
        for case in results.cases:
            for allocator, runs in results.runs[case.name].items():
                for number, run in enumerate(runs, 1):
                    known = [case.name, case.program, " ".join(map(str, case.args)), allocator, number]
                    writer.writerow(known + [run.get(key, "") for key in keys])


def write_results(options, results):
    judged = not options.quick and options.runs >= RUNS_FOR_A_VERDICT
    rows = [*bdwgc_rows(results), *mimalloc_rows(results), *scaling_rows(results, len(os.sched_getaffinity(0))),
            *tracker_rows(results), *bench_awk.rows(results), *release_rows(results), *bench_pacing.rows(results), *bench_pool.rows(results), *bench_latency.rows(results)]
    if not judged:
        for row in rows:
            row.limit = None
    machine = describe_machine(options, results)
    os.makedirs(options.output, exist_ok=True)
    with open(os.path.join(options.output, "results.md"), "w", encoding="utf-8") as file:
        file.write(markdown(options, results, rows, machine, judged))
    write_csv(os.path.join(options.output, "results.csv"), results)
    panels = [(title, [row for row in rows if row.panel == panel]) for panel, title in PANELS.items()]
    if any(listed for _, listed in panels):
        with open(os.path.join(options.output, "results.svg"), "w", encoding="utf-8") as file:
            file.write(bench_plot.plot("libgcrt next to its peers", machine, panels))
    if any(map(bench_latency.is_latency, results.cases)):
        with open(os.path.join(options.output, "latency.svg"), "w", encoding="utf-8") as file:
            file.write(bench_latency.plot(results, machine, rows))
    return rows


def parse_options():
    parser = argparse.ArgumentParser(prog="tools/bench",
                                     description="Benchmarks libgcrt next to bdwgc, malloc, mimalloc and Go.")
    parser.add_argument("--runs", type=int, default=None, metavar="N",
                        help="runs of each program; the figures are medians (default 5, quick 1)")
    parser.add_argument("--only", metavar="NAME",
                        help="only cases whose name contains NAME, as `garbage 32`, `awk` or `latency`")
    parser.add_argument("--without", metavar="NAME", help="leaves out the cases whose name contains NAME")
    parser.add_argument("--quick", action="store_true",
                        help="tiny sizes, for the checksums: the times mean nothing and are not judged")
    parser.add_argument("--huge", action="store_true",
                        help=f"adds the latency over {bench_latency.HUGE_MIB >> 10} GiB of live heap: half an hour, "
                        f"{bench_latency.HUGE_NEEDS >> 30} GiB of memory")
    parser.add_argument("--output", metavar="DIR",
                        help="where results go (default bench/results; build directory for --only and --quick)")
    parser.add_argument("--bdwgc-markers", type=int, metavar="N",
                        help="marker threads of bdwgc (default: its own choice)")
    parser.add_argument("--build-dir", default=os.path.join(ROOT, "build", "bench"), metavar="DIR",
                        help="where the programs are built (default build/bench)")
    # For tools/bench: names the programs that are needed, and runs nothing.
    parser.add_argument("--check-options", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.runs is None:
        options.runs = 1 if options.quick else RUNS_FOR_A_VERDICT
    if options.runs < 1:
        parser.error("--runs: expected 1 or more")
    if options.bdwgc_markers is not None and options.bdwgc_markers < 1:
        parser.error("--bdwgc-markers: expected 1 or more")
    if options.huge and available_memory() < bench_latency.HUGE_NEEDS:
        parser.error(f"--huge: it needs {bench_latency.HUGE_NEEDS >> 30} GiB of available memory, there are "
                     f"{available_memory() / 2**30:.1f}")
    suite = list(all_cases(options.quick, options.huge))
    cases = [case for case in suite if not options.only or options.only in case.name]
    cases = [case for case in cases if not options.without or options.without not in case.name]
    if not cases:
        names = "\n  ".join(case.name for case in suite)
        parser.error(f"--only: no case's name contains {options.only!r}; there are:\n  {names}")
    if options.output is None:
        # A partial or tiny run must not replace the published figures.
        partial = options.only or options.quick
        options.output = os.path.join(options.build_dir if partial else os.path.join(ROOT, "bench"), "results")
    return options, cases


def main():
    options, cases = parse_options()
    if options.check_options:
        print("\n".join(sorted({case.program for case in cases})))
        return 0
    options.load = os.getloadavg()[0]
    if options.load > IDLE_LOAD:
        print(f"the machine is not idle, its load is {options.load:.2f}: times will be off", file=sys.stderr)
    results = run_suite(options, cases)
    if not any(runs for by_allocator in results.runs.values() for runs in by_allocator.values()):
        print(f"no program in {options.build_dir}/bench gave a figure", file=sys.stderr)
        return 1
    rows = write_results(options, results)
    for failure in results.failures:
        print(f"FAILED  {failure}", file=sys.stderr)
    verdicts = [row.verdict() for row in rows]
    print(f"{verdicts.count('met')} targets met, {verdicts.count('missed')} missed, "
          f"{verdicts.count('not measured')} not measured; {len(results.failures)} failures; see {options.output}")
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
