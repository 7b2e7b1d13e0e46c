"""The `amphibase` command, which `python -m amphibase` is too."""

import sys

EXTRAS = {
    "cli": ("httptools", "rich", "typer", "uvloop", "websockets"),
    "gateway": ("google_crc32c", "pyotp", "rapidfuzz", "segno"),
    "move": ("supabase", "tomlkit"),
}
"""Libraries of the command by the extra that brings them."""


def main() -> None:
    """Run the command; where a library of an extra is missing, say how to install it."""
    try:
        from amphibase.cli.app import main as run

        run()
    except ModuleNotFoundError as error:
        for extra, modules in EXTRAS.items():
            if error.name in modules:
                sys.exit(f"This needs {error.name}: pip install 'amphibase[{extra}]'")
        raise


if __name__ == "__main__":
    main()
