"""What the parts of the benchmark's report share: the cases, what their programs printed, and the rows of verdicts."""

import statistics
from dataclasses import dataclass, field
from typing import Optional

ALLOCATORS = ["gcrt", "bdwgc", "malloc", "mimalloc"]
COLLECTORS = ["gcrt", "bdwgc"]
# The library's own program once more, with variables of its environment: an allocator of its own in cases that name it.
ONE_STOP = "gcrt-none"
VARIANTS = {ONE_STOP: ("gcrt", {"GCRT_TRACKER": "none"})}


@dataclass(frozen=True)
class Case:
    """One program with one set of arguments; `key` is the figure that its targets are about."""

    name: str
    program: str
    args: tuple
    key: str
    unit: str
    per_unit: float  # the figure divided by this is in `unit`
    allocators: tuple = tuple(ALLOCATORS)
    environment: tuple = ()  # pairs of name and value, for gcrt and its variants


def binary_of(allocator):
    """The allocator that its program is compiled for."""
    return VARIANTS[allocator][0] if allocator in VARIANTS else allocator


def environment_of(case, allocator):
    """What is added to the environment of its program."""
    if binary_of(allocator) != "gcrt":
        return {}
    return dict(case.environment) | (VARIANTS[allocator][1] if allocator in VARIANTS else {})


@dataclass
class Row:
    """A ratio or a time, and the target that it has if it has one."""

    panel: str
    label: str
    value: Optional[float]  # None: not measured
    limit: Optional[float] = None
    at_least: bool = False  # the target is a floor; else it is a ceiling
    skipped: str = ""

    def verdict(self):
        """met, missed, skipped, not measured, or nothing for a row without a target."""
        if self.limit is None:
            return ""
        if self.skipped:
            return "skipped"
        if self.value is None:
            return "not measured"
        met = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "met" if met else "missed"

    def describe_verdict(self):
        verdict = self.verdict()
        if verdict == "skipped":
            return f"skipped: {self.skipped}"
        if verdict == "missed":
            distance = abs(self.value / self.limit - 1) * 100
            return f"**missed** by {distance:.0f} %" if distance >= 1 else "**missed** by less than 1 %"
        return verdict

    def target(self):
        return "" if self.limit is None else ("≥ " if self.at_least else "≤ ") + f"{self.limit:g}"


@dataclass
class Results:
    """What the programs printed: runs[case name][allocator] is a list of {key: text}."""

    cases: list
    runs: dict = field(default_factory=dict)
    failures: list = field(default_factory=list)

    def values(self, case, allocator, key):
        return [float(run[key]) for run in self.runs.get(case, {}).get(allocator, []) if key in run]

    def median(self, case, allocator, key):
        values = self.values(case, allocator, key)
        return statistics.median(values) if values else None

    def ratio(self, top, bottom):
        """Both are (case, allocator, key)."""
        a, b = self.median(*top), self.median(*bottom)
        return a / b if a is not None and b else None

    def versions(self):
        found = {}
        for by_allocator in self.runs.values():
            for allocator, runs in by_allocator.items():
                for run in runs:
                    found[binary_of(allocator)] = run["version"]
        return found
