"""The `amphibase` command, which `python -m amphibase` is too."""

import sys

from amphibase.cli.extras import extra_of, message


def main() -> None:
    """Run the command; where a library of an extra is missing, say how to install it."""
    try:
        from amphibase.cli.app import main as run

        run()
    except ModuleNotFoundError as error:
        extra = extra_of(error.name, command="".join(sys.argv[1:2]))
        if extra is None:
            raise
        sys.exit(message(str(error.name), extra))


if __name__ == "__main__":
    main()
