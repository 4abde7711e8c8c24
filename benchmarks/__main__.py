"""Run the benchmarks, or one of them with its own arguments.

python -m benchmarks                     each with its defaults, in turn
python -m benchmarks paging --rows 500000
"""

from __future__ import annotations

import importlib.util
import pkgutil
import runpy
import sys
from pathlib import Path


def suites() -> list[str]:
    """The benchmarks there are: modules and packages of this folder that can be run."""
    found = pkgutil.iter_modules([str(Path(__file__).parent)])
    return sorted(
        m.name
        for m in found
        if m.name != "__main__"
        and (not m.ispkg or importlib.util.find_spec(f"benchmarks.{m.name}.__main__"))
    )


def main() -> None:
    """Run what the command line asks for."""
    chosen, *arguments = sys.argv[1:] or [""]
    known = suites()
    if chosen and chosen not in known:
        sys.exit(f"no benchmark {chosen!r}; there are {', '.join(known)}")
    for name in [chosen] if chosen else known:
        print(f"== {name}", flush=True)
        sys.argv = [f"benchmarks.{name}", *arguments]
        runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
