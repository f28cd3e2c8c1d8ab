"""Makes ``python -m caviar`` the command line."""

import os
import sys

# The present directory, unless caviar itself stands there: a file there must not be taken for a module of Python's.
if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(__file__)):  # noqa: PTH120  (no import)
    del sys.path[0]

from .cli import main

main(prog_name="caviar")
