"""Other tuners on a fixed list of configurations: each module is a program, ``python -m peers.NAME JOB.json``."""
