"""Makes ``python -m caviar`` the command line."""

import os
import sys

if sys.path[0] == os.getcwd():  # noqa: PTH109  (as `-m` put it there: a file beside it must not pass for a library)
    del sys.path[0]

from .cli import main

main(prog_name="caviar")
