"""Classification data sets as arrays: TFDS', prepared ones, and the user's own functions, tables, arrays and images.

Modules that import TFDS or PyArrow are themselves imported late, so that commands without data start quickly.
"""
