"""Seeds: every random choice of a study derives from its seed and a trial's number."""

import numpy as np


def trial_seed(seed: int, number: int, purpose: str) -> int:
    """Return the seed of one trial's sampling or training, the same on every worker and after every restart.

    It is from 0 to 2³¹ − 1, which every library here takes. ``seed`` is the study's, and ``number`` the trial's, or
    that of the first trial that it retries. Two uses in one trial differ in their ``purpose``, and so in their numbers.
    """
    entropy = [seed, number, *purpose.encode()]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0]) >> 1
