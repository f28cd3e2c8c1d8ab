"""The versions that a result was made with."""

import functools
import importlib.metadata
import platform

_DISTRIBUTIONS = ("tensorflow", "keras", "numpy", "optuna", "mlflow", "optuna-caviar")


def environment_versions() -> dict[str, str]:
    """Return the versions that decide how a trial comes out, without importing any of the packages.

    Returns:
        ``python``, ``platform``, and each of tensorflow, keras, numpy, optuna, mlflow and optuna-caviar that is
        installed, in this order.
    """
    return dict(_read_versions())


@functools.cache  # reading the metadata takes some 10 ms, and a process' packages do not change
def _read_versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # run from a source tree, or tensorflow under another name (tensorflow-cpu)
    return versions
