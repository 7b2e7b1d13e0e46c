"""What a move did and what its proof saw: as JSON for programs and as a page for people."""

from collections import Counter
from datetime import UTC, datetime
from enum import StrEnum
from html import escape
from pathlib import Path
from string import Template

from pydantic import BaseModel, Field

from amphibase.move.plan import NotMoved
from amphibase.move.stage import Kept, SideDifference, Verification

MAX_LISTED = 200
"""Of the differences on the page; the JSON has all that were read."""


class RunOutcome(StrEnum):
    """How a run or a verification ended."""

    VERIFIED = "verified"
    FAILED = "failed"
    UNVERIFIED = "unverified"

    @property
    def exit_code(self) -> int:
        return {"verified": 0, "failed": 1, "unverified": 3}[self.value]


class ReportedComparison(BaseModel):
    """A table, the accounts or a bucket on both sides.

    Args:
        source, target: how many rows, accounts or files there are.
        checksums: of the source and of the target, in hex; None where rows were compared instead.
        differences: how many of them differ.
        is_partial: whether either side may hold more, as something was there before or rejected.
    """

    subject: str
    source: int
    target: int
    checksums: tuple[str, str] | None = None
    differences: int = 0
    is_partial: bool = False

    @property
    def is_equal(self) -> bool:
        """Return whether all that moved is the same on both sides."""
        return self.differences == 0


class RunReport(BaseModel):
    """All that is reported of a run or a verification.

    Args:
        hashes: kind of password hash → accounts.
        quarantined: rows that the target rejected.
        seconds: of each stage's steps, such as `tables: run`.
        pause_seconds: how long the source rejected writes; None without a freeze.
        unguarded: tables that could be written to in the pause.
        remaining: what of the freeze is still on the source, although it takes writes again.
    """

    plan: str
    source: str
    target: str
    started_at: datetime
    finished_at: datetime
    comparisons: list[ReportedComparison] = Field(default_factory=list)
    differences: list[SideDifference] = Field(default_factory=list)
    unverified: list[SideDifference] = Field(default_factory=list)
    hashes: dict[str, int] = Field(default_factory=dict)
    not_moved: list[NotMoved] = Field(default_factory=list)
    kept: list[Kept] = Field(default_factory=list)
    quarantined: int = 0
    quarantine_allowed: bool = False
    seconds: dict[str, float] = Field(default_factory=dict)
    pause_seconds: float | None = None
    unguarded: list[str] = Field(default_factory=list)
    remaining: str | None = None

    @property
    def outcome(self) -> RunOutcome:
        if self.differences or (self.quarantined and not self.quarantine_allowed):
            return RunOutcome.FAILED
        return RunOutcome.UNVERIFIED if self.unverified else RunOutcome.VERIFIED

    def add(self, verified: Verification) -> None:
        """Take over what the verification of a stage saw.

        Counts that are not equal are a difference by themselves, where nothing else says why.
        """
        by_subject = Counter(difference.subject for difference in verified.differences)
        for subject, (source, target) in verified.counts.items():
            if source != target and not by_subject[subject] and subject not in verified.partial:
                message = f"the source has {source:,}, and the target {target:,}"
                self.differences.append(SideDifference(subject, None, message))
                by_subject[subject] = abs(source - target)
        for subject in sorted(verified.counts.keys() | by_subject.keys()):
            source, target = verified.counts.get(subject, (0, 0))
            self.comparisons.append(
                ReportedComparison(
                    subject=subject,
                    source=source,
                    target=target,
                    checksums=verified.checksums.get(subject),
                    differences=by_subject[subject],
                    is_partial=subject in verified.partial,
                )
            )
        self.differences += verified.differences
        self.unverified += verified.unverified
        self.hashes |= verified.hashes
        self.not_moved += verified.not_moved

    def write(self, plan: Path) -> Path:
        """Write `NAME.report.json` and `NAME.report.html` beside the plan; return the latter."""
        text = self.model_dump_json(indent=2, exclude_none=True)
        plan.with_suffix(".report.json").write_text(text + "\n", "utf-8")
        page = plan.with_suffix(".report.html")
        page.write_text(format_page(self), "utf-8")
        return page


TITLES = {
    RunOutcome.VERIFIED: "Verified",
    RunOutcome.FAILED: "Failed",
    RunOutcome.UNVERIFIED: "Not all of it could be verified",
}

TIME = "%Y-%m-%d %H:%M:%S"

PAGE = Template("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Move of $plan: $outcome</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 2rem 0 .25rem }
.outcome { padding: .5rem 1rem; border-left: .4rem solid; font-size: 1.1rem }
.verified { color: #116329; background: #eaf7ee } .failed { color: #b3261e; background: #fdeeed }
.unverified { color: #8a5a00; background: #fdf5e3 }
table { border-collapse: collapse; width: 100% } caption { text-align: left; color: #555 }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #ddd;
         vertical-align: top }
.number { text-align: right; font-variant-numeric: tabular-nums }
.list td:first-child { width: 35% } .list td { overflow-wrap: anywhere }
td.bar { width: 35% } svg { display: block; width: 100%; height: 1rem; margin-top: .25rem }
td.sums { white-space: nowrap } small { color: #555; white-space: nowrap }
code { overflow-wrap: anywhere }
</style>
<h1>Move of $plan</h1>
<p class="outcome $outcome"><strong>$title.</strong> $summary</p>
<p><code>$source</code> → <code>$target</code><br>$started_at to $finished_at (UTC)$pause</p>
$sections
</html>
""")


def format_page(report: RunReport) -> str:
    """Return the report as a page that needs nothing but itself."""
    sections = [_chart(report.comparisons)]
    remaining = [] if report.remaining is None else [report.remaining]
    sections += [
        _list("Differences", _rows_of(report.differences)),
        _list("Could not be verified", _rows_of(report.unverified)),
        _numbers("Password hashes", [(kind, f"{n:,}") for kind, n in report.hashes.items()]),
        _list("Not moved", [(each.what, each.reason) for each in report.not_moved]),
        _list("Kept", [(f"{each.subject} {each.key}", each.reason) for each in report.kept]),
        _list(
            "Could be written to in the pause",
            [(name, "the role that connects may not guard it") for name in report.unguarded],
        ),
        _list("Still on the source", [("the freeze", text) for text in remaining]),
        _numbers("Durations", [(step, f"{n:,.1f} s") for step, n in report.seconds.items()]),
    ]
    pause = report.pause_seconds
    return PAGE.substitute(
        plan=escape(report.plan),
        outcome=report.outcome,
        title=TITLES[report.outcome],
        summary=_summary(report),
        source=escape(report.source),
        target=escape(report.target),
        started_at=f"{report.started_at.astimezone(UTC):{TIME}}",
        finished_at=f"{report.finished_at.astimezone(UTC):{TIME}}",
        pause="" if pause is None else f"; the source rejected writes for {pause:.1f} s",
        sections="\n".join(section for section in sections if section),
    )


def _summary(report: RunReport) -> str:
    """Return in a sentence what people look for first."""
    parts = [
        f"{number:,} {noun}{'' if number == 1 else 's'}"
        for number, noun in (
            (len(report.differences), "difference"),
            (report.quarantined, "rejected row"),
            (len(report.unverified), "unverified part"),
        )
        if number
    ]
    if not parts:
        return f"What moved is the same on both sides in all {len(report.comparisons)} comparisons."
    where = ""
    if report.quarantined:
        allowed = "allowed" if report.quarantine_allowed else "not allowed"
        where = (
            f" What was rejected ({allowed}) is in the quarantine file beside the plan, with the "
            "reasons."
        )
    return f"{', '.join(parts)}.{where}"


def _chart(comparisons: list[ReportedComparison]) -> str:
    """Return a row with a bar for each subject: green as far as both sides hold the same."""
    if not comparisons:
        return "<p>Nothing was compared.</p>"
    rows = "\n".join(
        f"<tr><td>{escape(each.subject)}</td><td class=bar>{_bar(each)}</td>"
        f"<td class=number>{each.source:,}</td><td class=number>{each.target:,}{_note(each)}</td>"
        f"<td class=number>{each.differences:,}</td><td class=sums>{_sums(each)}</td></tr>"
        for each in sorted(comparisons, key=lambda each: each.is_equal)
    )
    equal = sum(each.is_equal for each in comparisons)
    return (
        f"<table><caption>{equal} of {len(comparisons)} are equal on both sides. Green: the same;"
        " red: missing, added or different.</caption>\n"
        "<tr><th>what<th>equal<th class=number>source<th class=number>target"
        f"<th class=number>different<th>checksums</tr>\n{rows}\n</table>"
    )


def _bar(each: ReportedComparison) -> str:
    whole = max(each.source, each.target, each.differences, 1)
    missing = 0 if each.is_partial else abs(each.source - each.target)
    wrong = max(each.differences, missing)
    # A single row of a million is to be seen too.
    red = 0.0 if wrong == 0 else max(2.0, 100 * wrong / whole)
    label = "all equal" if wrong == 0 else f"{wrong:,} of {whole:,} differ"
    return (
        f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<rect width="{100 - red:.2f}" height="10" fill="#2da44e"/>'
        f'<rect x="{100 - red:.2f}" width="{red:.2f}" height="10" fill="#cf222e"/></svg>'
    )


def _note(each: ReportedComparison) -> str:
    """Say why counts may differ, where they do."""
    is_noted = each.is_partial and each.source != each.target
    return "<br><small>merged or rejected</small>" if is_noted else ""


def _sums(each: ReportedComparison) -> str:
    if each.checksums is None:
        return ""
    source, target = (f"<code>{escape(checksum[:12])}</code>" for checksum in each.checksums)
    return source if source == target else f"{source}<br>≠ {target}"


def _rows_of(differences: list[SideDifference]) -> list[tuple[str, str]]:
    return [(each.label, each.message) for each in differences]


def _list(title: str, rows: list[tuple[str, str]]) -> str:
    """Return a table of names with what is said of each."""
    if not rows:
        return ""
    shown = "\n".join(
        f"<tr><td>{escape(left)}</td><td>{escape(right)}</td></tr>"
        for left, right in rows[:MAX_LISTED]
    )
    more = f"<p>and {len(rows) - MAX_LISTED:,} more</p>" if len(rows) > MAX_LISTED else ""
    return f"<h2>{title}</h2>\n<table class=list>\n{shown}\n</table>{more}"


def _numbers(title: str, rows: list[tuple[str, str]]) -> str:
    """Return a narrow table of names with a number of each."""
    if not rows:
        return ""
    shown = "\n".join(
        f"<tr><td>{escape(name)}</td><td class=number>{number}</td></tr>" for name, number in rows
    )
    return f'<h2>{title}</h2>\n<table style="width: auto">\n{shown}\n</table>'
