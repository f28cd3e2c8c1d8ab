"""Classification data sets as arrays: TFDS', prepared ones, and the user's own functions, tables, arrays and images.

What brings TFDS, pandas or PyArrow is imported where it is needed, so that a command without data need not wait.
"""
