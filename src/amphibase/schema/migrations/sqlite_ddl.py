"""Parses CREATE TABLE and CREATE INDEX statements, the only place where SQLite keeps some parts of
a table: checks, collations, formulas and options."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

# Whole lexical units, so that they mean the same when they are joined by spaces (SQLite docs, "SQL
# Language Expressions").
_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|/\*.*?\*/)
    |[xX]?'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]
    |0[xX][0-9a-fA-F_]+|(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?
    |[^\W\d][\w$]*|->>|->|\|\||==|!=|<>|<=|>=|<<|>>|.
    """,
    re.VERBOSE | re.DOTALL,
)
_PLAIN_NAME = re.compile(r"[^\W\d][\w$]*")
_QUOTES = {'"': '"', "`": "`", "[": "]"}
_OPERATORS = {"AND", "BETWEEN", "CASE", "ELSE", "IN", "IS", "LIKE", "NOT", "OR", "THEN", "WHEN"}
_TABLE_CONSTRAINTS = {"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"}


@dataclass(frozen=True, slots=True)
class Check:
    """A CHECK constraint.

    Args:
        name: None where it has no name.
        expression: its text, without the parentheses around it.
    """

    name: str | None
    expression: str


@dataclass(frozen=True, slots=True)
class Formula:
    """The formula of a generated column."""

    expression: str
    stored: bool


@dataclass(slots=True)
class ParsedTable:
    """The parts of a CREATE TABLE statement that SQLite keeps nowhere else.

    Args:
        collations: by column, in upper case, where they are not BINARY.
        formulas: by generated column.
        unsupported: clauses that a copy of the table would lose.
    """

    checks: list[Check] = field(default_factory=list)
    collations: dict[str, str] = field(default_factory=dict)
    formulas: dict[str, Formula] = field(default_factory=dict)
    autoincrement: bool = False
    strict: bool = False
    without_rowid: bool = False
    unsupported: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ParsedIndex:
    """A CREATE INDEX statement, in a form that does not depend on its spelling.

    Args:
        columns: names of columns or expressions, with their collation and direction.
        condition: that of a partial index, empty for others.
    """

    unique: bool
    columns: tuple[str, ...]
    condition: str = ""

    def __str__(self) -> str:
        unique = "UNIQUE " if self.unique else ""
        condition = f" WHERE {self.condition}" if self.condition else ""
        return f"{unique}({', '.join(self.columns)}){condition}"


def parse_table(sql: str) -> ParsedTable:
    """Parse a CREATE TABLE statement as `sqlite_master` keeps it."""
    tokens = _tokens(sql)
    parsed = ParsedTable()
    if tokens[1].upper() == "VIRTUAL":
        parsed.unsupported.append("a virtual table")
        return parsed
    start = tokens.index("(")
    end = _closing(tokens, start)
    for definition in _split(tokens[start + 1 : end]):
        if definition[0].upper() in _TABLE_CONSTRAINTS:
            _parse_constraint(parsed, definition)
        else:
            _parse_column(parsed, definition)
    options = [token.upper() for token in tokens[end + 1 :]]
    parsed.strict = "STRICT" in options
    parsed.without_rowid = "ROWID" in options
    return parsed


def parse_index(sql: str) -> ParsedIndex:
    """Parse a CREATE INDEX statement as `sqlite_master` keeps it."""
    tokens = _tokens(sql)
    start = tokens.index("(")
    end = _closing(tokens, start)
    return ParsedIndex(
        unique=tokens[1].upper() == "UNIQUE",
        columns=tuple(normalized(" ".join(column)) for column in _split(tokens[start + 1 : end])),
        condition=normalized(" ".join(tokens[end + 2 :])),
    )


def normalized(sql: str) -> str:
    """Return SQL in a form that does not depend on spaces, letter case and needless quotes."""
    return _joined(list(_normalized_tokens(_tokens(sql))))


def _normalized_tokens(tokens: Sequence[str]) -> Iterator[str]:
    for token in tokens:
        if token[0] == "'" or token[-1] == "'":
            yield token
        elif token[0] in _QUOTES:
            name = _unquoted(token)
            yield name.lower() if _PLAIN_NAME.fullmatch(name) else token
        else:
            yield token.lower()


def _parse_column(parsed: ParsedTable, tokens: Sequence[str]) -> None:
    column = _unquoted(tokens[0])
    words = list(_top_level(tokens[1:]))
    for position, (index, word) in enumerate(words):
        following = tokens[index + 2 :]
        match word:
            case "COLLATE":
                collation = _unquoted(following[0]).upper()
                if collation != "BINARY":
                    parsed.collations[column] = collation
            case "AS":
                inner, rest = _parenthesized(following)
                stored = bool(rest) and rest[0].upper() == "STORED"
                parsed.formulas[column] = Formula(inner, stored)
            case "CHECK":
                parsed.checks.append(Check(_name_before(tokens[: index + 1]), _inner(following)))
            case "AUTOINCREMENT":
                parsed.autoincrement = True
            case "CONFLICT":
                parsed.unsupported.append(f"ON CONFLICT of {column}")
            case "DEFERRABLE":
                parsed.unsupported.append(f"DEFERRABLE beside the column {column}")
            case "DESC" if words[position - 1][1] == "KEY":
                parsed.unsupported.append(f"PRIMARY KEY DESC of {column}")


def _parse_constraint(parsed: ParsedTable, tokens: Sequence[str]) -> None:
    words = [word for _, word in _top_level(tokens)]
    if "CONFLICT" in words:
        parsed.unsupported.append("ON CONFLICT of a constraint")
    for index, word in _top_level(tokens):
        following = tokens[index + 1 :]
        if word == "CHECK":
            parsed.checks.append(Check(_name_before(tokens[:index]), _inner(following)))
            return
        if word in ("UNIQUE", "PRIMARY"):
            inside = {token.upper() for token in tokens[tokens.index("(") :]}
            for keyword in sorted(inside & {"COLLATE", "DESC"}):
                parsed.unsupported.append(f"{keyword} in a {word} constraint")
            return


def _tokens(sql: str) -> list[str]:
    return [match[0] for match in _TOKEN.finditer(sql) if match.lastgroup != "space"]


def _joined(tokens: Sequence[str]) -> str:
    """Join tokens as people write them: `lower(title) IN ('a', 'b')`."""
    sql = ""
    previous = "("
    for token in tokens:
        call = token == "(" and _PLAIN_NAME.match(previous) and previous.upper() not in _OPERATORS
        if not (previous in ("(", ".") or token in (")", ",", ".") or call):
            sql += " "
        sql += token
        previous = token
    return sql


def _split(tokens: Sequence[str]) -> Iterator[Sequence[str]]:
    start = depth = 0
    for index, token in enumerate(tokens):
        depth += (token == "(") - (token == ")")
        if token == "," and depth == 0:
            yield tokens[start:index]
            start = index + 1
    yield tokens[start:]


def _top_level(tokens: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the words outside of parentheses with their positions, in upper case."""
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token == "(") - (token == ")")
        if depth == 0 and token[0] not in "'\"`[)":
            yield index, token.upper()


def _closing(tokens: Sequence[str], start: int) -> int:
    depth = 0
    for index in range(start, len(tokens)):
        depth += (tokens[index] == "(") - (tokens[index] == ")")
        if depth == 0:
            return index
    raise ValueError("The parentheses of a statement are not balanced")


def _parenthesized(tokens: Sequence[str]) -> tuple[str, Sequence[str]]:
    end = _closing(tokens, 0)
    return _joined(tokens[1:end]), tokens[end + 1 :]


def _inner(tokens: Sequence[str]) -> str:
    return _parenthesized(tokens)[0]


def _name_before(tokens: Sequence[str]) -> str | None:
    if len(tokens) >= 2 and tokens[-2].upper() == "CONSTRAINT":
        return _unquoted(tokens[-1])
    return None


def _unquoted(token: str) -> str:
    closing = _QUOTES.get(token[0])
    return token[1:-1].replace(closing * 2, closing) if closing else token
