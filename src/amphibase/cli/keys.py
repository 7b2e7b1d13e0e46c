"""`amphibase keys`: the key file that signs tokens."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_file import KEY_FILE, read_key_file, write_key_file
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.cli.console import results
from amphibase.errors import ConfigurationError
from amphibase.settings.application import load_settings

app = typer.Typer(help="The keys that sign tokens.", no_args_is_help=True)


@app.command()
def generate(
    file: Annotated[
        Path | None,
        typer.Argument(help="The key file; JWT_KEY_FILE, else keys.json in DATA_DIR."),
    ] = None,
) -> None:
    """Make a new key. In a file that has keys, it signs from now on and the others still verify.

    Example: amphibase keys generate ./keys.json
    """
    path = file or _default_file()
    older = read_key_file(path) if path.exists() else []
    key = Key.generate()
    write_key_file(path, [key, *older])
    results().print(
        f"Key {key.kid} in {escape(str(path))}: it signs; keys that still verify: {len(older)}"
    )


@app.command()
def show() -> None:
    """Print the public keys as a JSON Web Key Set (nothing of a shared secret).

    Example: amphibase keys show
    """
    typer.echo(json.dumps(load_keys(load_settings()).jwks(), indent=2))


def _default_file() -> Path:
    settings = load_settings(environment="development")
    if settings.secret_key and not settings.jwt_key_file:
        raise ConfigurationError(
            "SECRET_KEY signs the tokens here; name a file, for example "
            "`amphibase keys generate ./keys.json`, and set JWT_KEY_FILE to it"
        )
    return settings.jwt_key_file or settings.data_dir / KEY_FILE
