"""Data sets that a function of the user's returns as arrays."""

from typing import Any

import numpy as np

from ..errors import DataError, SpecError
from ..imports import import_callable, users_code
from .names import FunctionName


class FunctionSource:
    """The arrays that ``package.module:function`` returns. The function is called once, when this is made.

    Args:
        name: The function. It is called without arguments, and must return the same arrays every time.

    Raises:
        DataError: If the module cannot be imported, it has no such function, the function raises, or what it returns
            is neither ``((x_train, y_train), (x_test, y_test))`` nor ``(x, y)``.
    """

    class_names: None = None  # the labels that occur name the classes

    def __init__(self, name: FunctionName) -> None:
        self._where = f"Data set '{name.module}:{name.function}'"
        result = self._call(name)
        if not (isinstance(result, (tuple, list)) and len(result) == 2):
            kind = f"{type(result).__name__} of {len(result)}" if hasattr(result, "__len__") else type(result).__name__
            raise DataError(
                f"{self._where}: the function must return ((x_train, y_train), (x_test, y_test)) or (x, y), but it"
                f" returned {kind}."
            )
        # Tuples only: [[1, 2], [3, 4]] may be two examples.
        if all(isinstance(part, tuple) and len(part) == 2 for part in result):
            self._train, self._test = result[0], result[1]
            train_shape, test_shape = (np.shape(part[0])[1:] for part in (self._train, self._test))
            if train_shape != test_shape:
                raise DataError(
                    f"{self._where}: examples of train and test must have one shape, but have {train_shape} and"
                    f" {test_shape}."
                )
        else:
            self._train, self._test = (result[0], result[1]), None

    @property
    def has_test(self) -> bool:
        """Whether the function returned a test split."""
        return self._test is not None

    def read_train(self) -> tuple[Any, Any]:
        """Return features and labels to train on."""
        return self._train[0], self._train[1]

    def read_train_labels(self) -> Any:
        """Return the labels to train on."""
        return self._train[1]

    def read_test(self) -> tuple[Any, Any]:
        """Return features and labels to test on."""
        assert self._test is not None, "look at has_test first"
        return self._test[0], self._test[1]

    def _call(self, name: FunctionName) -> Any:
        try:
            function = import_callable(f"{name.module}:{name.function}", what="Data set", takes=())
            with users_code(f"{self._where}: the function"):
                return function()
        except SpecError as error:
            raise DataError(str(error)) from error
