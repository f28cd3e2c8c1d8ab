"""Seeds: every random choice of a study derives from its seed and a trial's number."""

import numpy as np


def trial_seed(seed: int, number: int, purpose: str) -> int:
    """Return the seed of one trial's sampling or training, the same on every worker and after every restart.

    Args:
        seed: The study's seed, 0 to 2³² − 1.
        number: The trial's number, or that of the first trial that it retries.
        purpose: What it is for, so that two uses in one trial do not share their numbers.

    Returns:
        A number from 0 to 2³¹ − 1, which every library here takes.
    """
    entropy = [seed, number, *purpose.encode()]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0]) >> 1
