"""`python -m bench NAME …`: run benchmarks, one after the other, from the repository's root.

It ends with 0 when every bar is met, 1 when one is missed, 2 when a server could not start or
sent a wrong response.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from bench import (
    changes,
    files,
    gateway,
    gateway_costs,
    realtime,
    records,
    regression,
    soak,
    start,
    supabase,
    users,
)
from bench.environment import ServerError

BENCHMARKS: dict[str, Callable[[int, float, Console], bool]] = {
    "changes": changes.run,
    "users": users.run,
    "realtime": realtime.run,
    "records": records.run,
    "files": files.run,
    "gateway": gateway.run,
    "gateway-costs": gateway_costs.run,
    "regression": regression.run,
    "soak": soak.run,
    "start": start.run,
    "supabase": supabase.run,
}


def main() -> int:
    """Read the command line and run the benchmarks it names."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("benchmarks", nargs="+", choices=sorted(BENCHMARKS), help="what to measure")
    parser.add_argument(
        "--rounds", type=int, default=5, help="how often each server has its turn (default 5)"
    )
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="how long each turn is measured (default 4)"
    )
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds and --seconds have to be positive")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    try:
        met = [
            BENCHMARKS[name](options.rounds, options.seconds, console)
            for name in options.benchmarks
        ]
    except ServerError as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        if error.log:
            console.print(escape(error.log))
        return 2
    except KeyboardInterrupt:
        console.print("interrupted; every server is stopped")
        return 130
    return 0 if all(met) else 1


if __name__ == "__main__":
    raise SystemExit(main())
