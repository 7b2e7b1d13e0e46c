"""The part of Go's templates that email templates use."""

import html

import pytest

from amphibase.gateway.auth.go_expression import TemplateError
from amphibase.gateway.auth.go_template import GoTemplate

VALUES = {
    "Token": "123456",
    "SiteURL": "https://example.com",
    "Data": {
        "name": "<Ann>",
        "team": {"size": 5, "boss": None},
        "is_new": True,
        "locale": "fr",
        "age": 30,
        "views": 1234567,
        "list": [1, "x", None],
        "first name": "Ann B",
    },
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("code {{ .Token }}, {{.Token}}", "code 123456, 123456"),
        ("{{ .Data.name }} of {{ .Data.team.size }}", "&lt;Ann&gt; of 5"),
        ("{{ .Data.is_new }}{{ .Data.nothing }}{{ .Data.nothing.first }}", "true"),
        (
            "{{ .Data.team }} {{ .Data.list }}",
            "map[boss:&lt;nil&gt; size:5] [1 x &lt;nil&gt;]",
        ),
        ("{{ .Data.age }} {{ .Data.views }}", "30 1.234567e+06"),
        ("{{ if .Data.name }}Hello{{ else }}Hi{{ end }}!", "Hello!"),
        ("{{ if .Data.nothing }}Hello{{ else }}{{ end }}!", "!"),
        ("{{ if .Token }}a{{ if .Data.x }}b{{ else }}c{{ end }}d{{ end }}e", "acde"),
        ("{{ if .Data.x }}a{{ if .Token }}b{{ end }}c{{ else }}d{{ end }}", "d"),
        ("a {{- .Token -}} b", "a123456b"),
        ("a{{/* not\nsent */}}b", "ab"),
        ('{{ if eq .Data.locale "de" }}a{{ else if eq .Data.locale "en" "fr" }}b{{ end }}', "b"),
        ('{{ if .Data.no }}a{{ else if eq .Data.locale "it" }}b{{ else }}c{{ end }}d', "cd"),
        ('{{ if and .Data.is_new (ne .Data.locale "fr") }}a{{ else }}b{{ end }}', "b"),
        ('{{ or .Data.no "friend" }} {{ and .Data.age .Data.no }}', "friend "),
        ('{{ index .Data "first name" }} {{ index .Data "team" "size" }}', "Ann B 5"),
        ("{{ index .Data.list 1 }} {{ not .Data.no }} {{ `a` }} {{ -5 }}", "x true a -5"),
        (
            "{{ eq .Data.age 30.0 }} {{ eq .Data.no 30 }} {{ ne .Data.no .Data.x }}",
            "true false false",
        ),
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
        ("{{ if (eq .Token .Email }}{{ end }}", r"\(eq \.Token \.Email }} is not supported"),
        ("{{ eq .Token }}", r"eq \.Token }} is not supported"),
        ("{{ .Token.Email | }}", "is not supported"),
        ("{{ not .Token .Email }}", "is not supported"),
        ("{{ else if .Token }}{{ end }}", "is not supported"),
        ('{{ "a"b }}', "is not supported"),
        ("{{ end }}", "end }} is not supported"),
        ("{{ .Token }} {{ .Email", "an action without its }}"),
        ("{{" + " " * 3000, "an action without its }}"),
        ("{{ if" * 100_000, "an action without its }}"),
        (f"{{{{ index .Data {'9' * 5000} }}}}", "is not supported"),
        ("{{ if .Token }}{{ else }}{{ else }}{{ end }}", "else }} is not supported"),
    ],
)
def test_anything_else_is_rejected_by_name(template: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        GoTemplate(template)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{ if eq .Data.age 30 }}{{ end }}",
            r"number and an integer cannot be compared; .* 30\.0",
        ),
        ('{{ if eq .Data.age "30" }}{{ end }}', "a number and text cannot be compared"),
        ("{{ eq .Data.team .Data.team }}", "object and object"),
        ("{{ .Data.name.first }}", "first is not an object"),
        ("{{ index .Data.list 7 }}", "nothing at 7"),
        ('{{ index .Data.no "a" }}', "nothing at 'a'"),
    ],
)
def test_what_go_does_not_write_is_an_error_here(template: str, message: str) -> None:
    parsed = GoTemplate(template)
    with pytest.raises(TemplateError, match=message):
        parsed.render(VALUES)
