"""Splits a script of SQL into its statements, as psql does."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<space> \s+ | --[^\n]* )
    | (?P<comment> /\* )
    | (?P<quoted>
          [eE]' [^'\\]* (?: (?: '' | \\. ) [^'\\]* )* (?: ' | \Z )
        | ' [^']* (?: '' [^']* )* (?: ' | \Z )
        | " [^"]* (?: "" [^"]* )* (?: " | \Z )
      )
    | \$(?P<tag> (?:[A-Za-z_\x80-\uffff][\w]*)? )\$
    | (?P<word> [^\W\d][\w$]* )
    | (?P<number> \d[\w.]* )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_ROUTINE = re.compile(r"create (or replace )?(function|procedure)\b")


@dataclass(frozen=True, slots=True)
class ScriptStatement:
    """One statement, without the semicolon, and the line of the script that it begins on."""

    text: str
    line: int


def split(script: str) -> Iterator[ScriptStatement]:
    """Yield the statements of a script, in order; comments between them belong to none.

    A semicolon ends a statement unless it stands in a string, a name, a comment, in parentheses or
    in the body of a function that is written as `BEGIN ATOMIC … END`.
    """
    start: int | None = None
    line, counted = 1, 0
    words: list[str] = []
    parentheses = blocks = 0
    position = 0
    while position < len(script):
        found = _TOKEN.match(script, position)
        assert found is not None  # the last alternative takes anything
        kind, text = found.lastgroup, found.group()
        if kind == "comment":
            position = _end_of_comment(script, position)
            continue
        if kind == "space":
            position = found.end()
            continue
        if text == ";" and not parentheses and not blocks:
            if start is not None:
                yield ScriptStatement(script[start:position].rstrip(), line)
            start, words = None, []
            position = found.end()
            continue
        if start is None:
            start = position
            line += script.count("\n", counted, start)
            counted = start
        position = found.end()
        if kind == "tag":
            closing = script.find(text, position)
            position = len(script) if closing < 0 else closing + len(text)
        elif kind == "word":
            word = text.lower()
            if len(words) < 4:
                words.append(word)
            blocks = _blocks(word, words, blocks)
        elif text == "(":
            parentheses += 1
        elif text == ")" and parentheses:
            parentheses -= 1
    if start is not None:
        yield ScriptStatement(script[start:].rstrip(), line)


def _blocks(word: str, words: list[str], blocks: int) -> int:
    """How deep in `BEGIN … END` of a function's body the script is after the word."""
    if not _ROUTINE.match(" ".join(words)):
        return 0
    if word == "begin" or (word == "case" and blocks):
        return blocks + 1
    if word == "end" and blocks:
        return blocks - 1
    return blocks


def _end_of_comment(script: str, position: int) -> int:
    depth = 0
    for mark in _COMMENT.finditer(script, position):
        depth += 1 if mark.group() == "/*" else -1
        if not depth:
            return mark.end()
    return len(script)
