"""The report says at a glance whether both sides hold the same."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from amphibase.move.report import RunOutcome, RunReport, format_page
from amphibase.move.stage import SideDifference, Verification

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def report_of(verified: Verification, **options: object) -> RunReport:
    values = {"plan": "plan", "source": "sql:a", "target": "sql:<b>", **options}
    report = RunReport.model_validate({**values, "started_at": NOW, "finished_at": NOW})
    report.add(verified)
    return report


def widths_of(page: str) -> list[float]:
    """Return how wide the green and the red parts of the bars are, in percent."""
    return [float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', page)]


EQUAL = Verification(counts={"notes": (5, 5)}, checksums={"notes": ("ab", "ab")})
DIFFERENT = Verification(
    counts={"notes": (1_000_000, 999_999)},
    differences=[SideDifference("notes", "7", "is missing on the target")],
)
UNEVEN = Verification(counts={"notes": (5, 4)})
MERGED = Verification(counts={"notes": (5, 8)}, partial={"notes"})
UNSEEN = Verification(
    counts={"notes": (5, 5)}, unverified=[SideDifference("accounts", None, "no hashes")]
)


@pytest.mark.parametrize(
    ("verified", "options", "outcome", "code"),
    [
        (EQUAL, {}, RunOutcome.VERIFIED, 0),
        (DIFFERENT, {}, RunOutcome.FAILED, 1),
        (UNEVEN, {}, RunOutcome.FAILED, 1),
        (MERGED, {}, RunOutcome.VERIFIED, 0),
        (UNSEEN, {}, RunOutcome.UNVERIFIED, 3),
        (EQUAL, {"quarantined": 1}, RunOutcome.FAILED, 1),
        (EQUAL, {"quarantined": 1, "quarantine_allowed": True}, RunOutcome.VERIFIED, 0),
    ],
)
def test_the_outcome_tells_a_difference_from_what_could_not_be_seen(
    verified: Verification, options: dict[str, object], outcome: RunOutcome, code: int
) -> None:
    report = report_of(verified, **options)
    assert (report.outcome, report.outcome.exit_code) == (outcome, code)


def test_one_row_of_a_million_is_a_red_part_of_the_bar() -> None:
    page = format_page(report_of(DIFFERENT))
    assert widths_of(page) == [98.0, 2.0]
    assert "0 of 1 are equal on both sides" in page
    assert "is missing on the target" in page


def test_counts_that_nothing_explains_are_a_difference_and_those_of_a_merge_are_none() -> None:
    (difference,) = report_of(UNEVEN).differences
    assert difference.message == "the source has 5, and the target 4"
    assert widths_of(format_page(report_of(MERGED))) == [100.0, 0.0]


def test_values_of_the_databases_are_text_in_the_page() -> None:
    verified = Verification(differences=[SideDifference("<script>", "<b>", "&")])
    page = format_page(report_of(verified))
    assert "<script>" not in page
    assert "&lt;script&gt; &lt;b&gt;" in page


def test_the_report_is_written_beside_the_plan(tmp_path: Path) -> None:
    page = report_of(EQUAL).write(tmp_path / "plan.toml")
    assert page == tmp_path / "plan.report.html"
    written = json.loads((tmp_path / "plan.report.json").read_text())
    (comparison,) = written["comparisons"]
    assert (comparison["subject"], comparison["source"], comparison["target"]) == ("notes", 5, 5)
