"""The part of Go's templates that email templates use."""

import html

import pytest

from amphibase.gateway.auth.go_template import GoTemplate

VALUES = {
    "Token": "123456",
    "SiteURL": "https://example.com",
    "Data": {"name": "<Ann>", "team": {"size": 5}, "is_new": True},
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("code {{ .Token }}, {{.Token}}", "code 123456, 123456"),
        ("{{ .Data.name }} of {{ .Data.team.size }}", "&lt;Ann&gt; of 5"),
        ("{{ .Data.is_new }}{{ .Data.nothing }}{{ .Data.name.first }}", "true"),
        ("{{ if .Data.name }}Hello{{ else }}Hi{{ end }}!", "Hello!"),
        ("{{ if .Data.nothing }}Hello{{ else }}{{ end }}!", "!"),
        ("{{ if .Token }}a{{ if .Data.x }}b{{ else }}c{{ end }}d{{ end }}e", "acde"),
        ("{{ if .Data.x }}a{{ if .Token }}b{{ end }}c{{ else }}d{{ end }}", "d"),
        ("a {{- .Token -}} b", "a123456b"),
        ("a{{/* not\nsent */}}b", "ab"),
        ("{ no action } }}", "{ no action } }}"),
    ],
)
def test_values_and_conditions_are_written_as_by_go(template: str, expected: str) -> None:
    assert GoTemplate(template).render(VALUES, html.escape) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ .Tokn }}", r"\.Tokn }} is not one of ConfirmationURL"),
        ("{{ range .Data }}{{ end }}", r"\{\{ range \.Data }} is not supported"),
        ("{{ .Token | printf }}", "is not supported"),
        ("{{ if .Token }}", "without its"),
        ("{{ end }}", "end }} is not supported"),
        ("{{ .Token }} {{ .Email", "an action without its }}"),
        ("{{ if .Token }}{{ else }}{{ else }}{{ end }}", "else }} is not supported"),
    ],
)
def test_anything_else_is_rejected_by_name(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GoTemplate(template)
