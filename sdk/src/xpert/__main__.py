"""`python -m xpert`: the command line."""

from xpert.cli.app import main

main()
