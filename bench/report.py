"""From the rounds' figures to medians, ratios and bars: the table on screen and the JSON file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table

from bench.load import Result
from bench.machine import ROOT, commit

RESULTS = ROOT / "bench" / "results"
SATURATED = 0.9


@dataclass(frozen=True, slots=True)
class Bar:
    """What our figure, compared with the peer's, has to be; "within" is so far from 1 at most."""

    peer: str
    kind: Literal["at least", "at most", "within"]
    value: float

    def met(self, compared: float) -> bool:
        """Whether this ratio, or difference, passes."""
        if self.kind == "within":
            return abs(compared - 1) <= self.value
        return compared >= self.value if self.kind == "at least" else compared <= self.value

    def __str__(self) -> str:
        sign = {"at least": "≥", "at most": "≤", "within": "1 ±"}[self.kind]
        return f"{sign} {number(self.value)}"


@dataclass(slots=True)
class Measurement:
    """One figure that is taken of several sides, once a round, ours being the first of them.

    What stands in the table and under the bars is our figure divided by the other side's, or with
    `difference` our figure less theirs.
    """

    title: str
    unit: str
    bars: tuple[Bar, ...]
    difference: bool = False
    figures: dict[str, list[float]] = field(default_factory=dict)
    runs: dict[str, list[Result]] = field(default_factory=dict)

    def add(self, server: str, figure: float, run: Result | None = None) -> None:
        """Keep one round's figure and, of a server, the run that it comes from."""
        self.figures.setdefault(server, []).append(figure)
        if run is not None:
            self.runs.setdefault(server, []).append(run)

    def compared(self, server: str) -> list[float]:
        """Ours with this side's, round by round: the two runs of a round are neighbours in time."""
        ours = next(iter(self.figures.values()))
        pairs = zip(ours, self.figures[server], strict=True)
        if self.difference:
            return [mine - theirs for mine, theirs in pairs]
        return [mine / theirs for mine, theirs in pairs]

    def passes(self, bar: Bar) -> bool:
        """Whether the median of the rounds passes this bar."""
        return bar.met(median(self.compared(bar.peer)))

    @property
    def met(self) -> bool:
        """Whether every bar is passed."""
        return all(self.passes(bar) for bar in self.bars)

    def busy(self, server: str) -> float | None:
        """How much of its core the server used, at the median."""
        runs = self.runs.get(server, [])
        shares = [run.server_busy for run in runs if run.server_busy is not None]
        return median(shares) if shares else None

    def summary(self) -> dict[str, Any]:
        """What the JSON file says of it."""
        ours = next(iter(self.figures))
        word = "difference" if self.difference else "ratio"
        servers = {
            name: {
                "median": median(figures),
                "rounds": figures,
                "server_busy": self.busy(name),
                **({} if name == ours else {word: spread(self.compared(name))}),
            }
            for name, figures in self.figures.items()
        }
        return {
            "title": self.title,
            "unit": self.unit,
            "servers": servers,
            "bars": [asdict(bar) | {"met": self.passes(bar)} for bar in self.bars],
        }


def spread(values: list[float]) -> dict[str, float]:
    """The median with the lowest and the highest."""
    return {"median": median(values), "lowest": min(values), "highest": max(values)}


def table(measurement: Measurement) -> Table:
    """One measurement, a row for each side."""
    title = f"{measurement.title}, {measurement.unit}"
    shown = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        # Narrow enough for a terminal of 80 columns.
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
    )
    core = ["Core"] if measurement.runs else []
    compared = "Difference" if measurement.difference else "Ratio"
    shown.add_column("", no_wrap=True)
    for name in ("Median", "Range", *core, compared, "Range", "Bar"):
        shown.add_column(name, justify="right", no_wrap=True)
    ours = next(iter(measurement.figures))
    for name, figures in measurement.figures.items():
        cells = [name, number(median(figures)), span(figures)]
        if core:
            busy = measurement.busy(name)
            cells.append("" if busy is None else f"{busy:.0%}")
        if name != ours:
            values = measurement.compared(name)
            cells += [f"[bold]{number(median(values))}[/bold]", span(values)]
        cells += [verdict(measurement, bar) for bar in measurement.bars if bar.peer == name]
        shown.add_row(*cells)
    return shown


def span(values: list[float]) -> str:
    """The lowest and the highest."""
    return f"{number(min(values))}-{number(max(values))}"


def verdict(measurement: Measurement, bar: Bar) -> str:
    """The bar, and whether it is met."""
    word = "[green]met[/green]" if measurement.passes(bar) else "[red]missed[/red]"
    return f"{bar} {word}"


def number(value: float) -> str:
    """Three digits that say something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def warn(console: Console, measurements: list[Measurement]) -> None:
    """Say so when the load generator, not a server, may have set a figure."""
    for measurement in measurements:
        for name, runs in measurement.runs.items():
            busiest = max(run.load_busy for run in runs)
            if busiest > SATURATED:
                message = f"the load generator used {busiest:.0%} of its core on {name}"
                console.print(f"[yellow]{measurement.title}: {message}[/yellow]")


def _ceiling(ceiling: Result | None) -> dict[str, float]:
    if ceiling is None:
        return {}
    (most,) = ceiling.streams.values()
    return {"ceiling": most.rate, "busy": ceiling.load_busy}


def finish(
    benchmark: str,
    measurements: list[Measurement],
    ceiling: Result | None,
    console: Console,
    *,
    also: bool = True,
    **facts: Any,
) -> bool:
    """Write the JSON file, show the tables; whether every bar is met.

    Args:
        ceiling: one stream against a response that costs next to nothing; None where no requests
            a second were counted.
        also: whether what the benchmark holds to a bar by itself meets it.
        facts: what else the file says: the machine, the versions, the settings.
    """
    met = also and all(measurement.met for measurement in measurements)
    path = write(
        benchmark,
        met=met,
        **facts,
        load_generator=_ceiling(ceiling),
        measurements=[measurement.summary() for measurement in measurements],
        runs=[
            {"measurement": each.title, "server": name, "round": number, **asdict(result)}
            for each in measurements
            for name, results in each.runs.items()
            for number, result in enumerate(results, 1)
        ],
    )
    for measurement in measurements:
        console.print(table(measurement))
        console.print()
    warn(console, measurements)
    if ceiling is not None:
        console.print(
            f"Load generator: {_ceiling(ceiling)['ceiling']:,.0f} requests/s against a fixed "
            f"response, with {ceiling.load_busy:.0%} of its core."
        )
    console.print(f"Every round: {path}")
    return met


def write(benchmark: str, *, met: bool, **facts: Any) -> Path:
    """Write the JSON file of a benchmark; return its path from the repository's root.

    Args:
        met: whether every bar is met.
        facts: what else the file says.
    """
    document = {
        "benchmark": benchmark,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "met": met,
        **facts,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{benchmark}.json"
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return path.relative_to(ROOT)
