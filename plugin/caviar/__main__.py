"""Makes ``python -m caviar`` the command line."""

from .cli import main

main(prog_name="caviar")
