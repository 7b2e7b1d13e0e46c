"""Formats generated Python, so that a revision reads like code written by hand."""

import ast
import io
import re
import textwrap
import tokenize
from collections.abc import Sequence

from amphibase.schema.ddl import as_text

_SQL_TEXT = re.compile("'(?:[^']|'')*'")

LINE_LENGTH = 88
"""The default of the formatters that people use."""


def format_code(code: str, indent: int = 4) -> str:
    """Format the statements of a function's body: indented, double quotes, short lines."""
    return _block(ast.parse("if x:\n    " + code).body[0].body, indent)  # type: ignore[attr-defined]


def comment(text: str) -> str:
    """Return text as the lines of a comment in a function's body."""
    lines = textwrap.wrap(text, LINE_LENGTH - 6, break_on_hyphens=False, break_long_words=False)
    return "".join(f"    # {line}\n" for line in lines)


def postgres_only(statements: Sequence[str], otherwise: str = "") -> str:
    """Return the code that runs SQL statements on Postgres alone; empty for no statements.

    Args:
        otherwise: code for SQLite, indented by eight.
    """
    if not statements:
        return ""
    text = '    if op.get_context().dialect.name == "postgresql":\n'
    for statement in statements:
        escaped = as_text(statement).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
        # Lines are indented, but not the lines of a text.
        escaped = _SQL_TEXT.sub(lambda text: text[0].replace("\n", "\\n"), escaped)
        line = f'        op.execute("{escaped}")\n'
        if "\n" in statement or '"' in statement or len(line) > LINE_LENGTH + 1:
            indented = "".join(f"            {each}\n" for each in escaped.splitlines())
            line = f'        op.execute(\n            """\n{indented}            """\n        )\n'
        text += line
    if otherwise:
        text += f"    else:\n{otherwise}"
    return text


def _block(statements: list[ast.stmt], indent: int) -> str:
    text = ""
    for statement in statements:
        if isinstance(statement, ast.With):
            head = _one_line(statement.items[0].context_expr)
            target = _one_line(statement.items[0].optional_vars)
            text += f"{' ' * indent}with {head} as {target}:\n{_block(statement.body, indent + 4)}"
        elif isinstance(statement, ast.Expr):
            text += f"{' ' * indent}{_expression(statement.value, indent, 0)}\n"
        else:
            text += f"{' ' * indent}{_one_line(statement)}\n"
    return text


def _expression(node: ast.expr, indent: int, after: int) -> str:
    """Return the expression, broken at its outermost commas where it does not fit on a line with
    its indent and what comes `after` it."""
    line = _one_line(node)
    if indent + len(line) + after <= LINE_LENGTH:
        return line
    inner = indent + 4
    parts: list[str]
    match node:
        case ast.Call():
            opening, closing = f"{_one_line(node.func)}(", ")"
            parts = [_expression(part, inner, 1) for part in node.args]
            for keyword in node.keywords:
                name = f"{keyword.arg}="
                parts.append(name + _expression(keyword.value, inner, len(name) + 1))
        case ast.List():
            opening, closing = "[", "]"
            parts = [_expression(part, inner, 1) for part in node.elts]
        case _:
            return line
    lines = "".join(f"{' ' * inner}{part},\n" for part in parts)
    return f"{opening}\n{lines}{' ' * indent}{closing}"


def _one_line(node: ast.AST | None) -> str:
    if node is None:
        return "_"
    text = ast.unparse(node)
    pieces = []
    end = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING and token.string[0] == "'" and '"' not in token.string:
            # A single-quoted literal of `unparse` holds no single quote, or none unescaped.
            pieces += [text[end : token.start[1]], f'"{token.string[1:-1]}"']
            end = token.end[1]
    return "".join([*pieces, text[end:]])
