"""Find the best Keras network for a classification data set with Optuna, and never lose a trial."""

__version__ = "0.1.0"
