"""`python -m amphibase` is the `amphibase` command."""

from amphibase.cli.app import main

main()
