"""The command line: each verb parses, calls one function of ``commands``, and prints."""

import atexit
import gc
import os

import click

from .. import __version__
from .live import control, panda, replay
from .looking import check, datasets, delete, doctor, report, status, sync, trials
from .own_command_line import hide_secrets
from .running import champion, compare, export, predict, run, worker, zoom
from .serving import serve
from .session import CaviarGroup

_TRAINING = (run, zoom, compare, champion, predict, export, worker, control, panda, replay, serve)
_LOOKING = (status, trials, report, check, datasets, delete, sync, doctor)


@click.group(cls=CaviarGroup, commands=_TRAINING + _LOOKING, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="caviar")
def main() -> None:
    """Find the best Keras network for a classification data set, and never lose a trial.

    \b
    Example:
      caviar run studies/digits.toml
      caviar status digits
    """
    hide_secrets()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's notes to developers are not for the user
    gc.set_threshold(50_000)  # not each 700 objects while modules load, whose objects stay: a tenth of a verb's time
    atexit.register(gc.freeze)  # to look for garbage among all that was imported takes a quarter of a second
