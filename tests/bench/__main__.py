"""bin/bench NAME [--json …]: runs one benchmark. Data goes to stdout, talk to stderr."""

from __future__ import annotations

import argparse
import sys

from tests.bench import (
    drain,
    enqueue,
    events,
    handlers,
    latency,
    memory,
    pinned,
    procrastinate,
    profile,
    wal,
)
from tests.bench.report import Benchmark, show

BENCHMARKS: dict[str, Benchmark] = {
    "drain": Benchmark(drain.SUMMARY, drain.options, drain.run),
    "pinned": Benchmark(pinned.SUMMARY, pinned.options, pinned.run),
    "enqueue": Benchmark(enqueue.SUMMARY, enqueue.options, enqueue.run),
    "latency": Benchmark(latency.SUMMARY, latency.options, latency.run),
    "handlers": Benchmark(handlers.SUMMARY, handlers.options, handlers.run),
    "memory": Benchmark(memory.SUMMARY, memory.options, memory.run),
    "wal": Benchmark(wal.SUMMARY, wal.options, wal.run),
    "events": Benchmark(events.SUMMARY, events.options, events.run),
    "procrastinate": Benchmark(procrastinate.SUMMARY, procrastinate.options, procrastinate.run),
    "profile": Benchmark(profile.SUMMARY, profile.options, profile.run),
}


def main(argv: list[str]) -> int:
    """Run what *argv* names; the exit code: 0, or 2 for a name or an option that is not known."""
    name, *rest = argv or ["list"]
    if name == "list":
        for known, benchmark in BENCHMARKS.items():
            print(f"{known:<14} {benchmark.summary}")
        return 0
    if name not in BENCHMARKS:
        print(f"bin/bench: there is no benchmark {name!r}; `bin/bench list` names them.", file=sys.stderr)
        return 2
    benchmark = BENCHMARKS[name]
    parser = argparse.ArgumentParser(prog=f"bin/bench {name}", description=benchmark.summary, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    benchmark.options(parser)
    options = parser.parse_args(rest)
    show(benchmark.run(options), as_json=options.json)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
