"""What is kept on a new study about its data and itself."""

import json
import uuid
from typing import Any

from ..attributes import DATA, ENVIRONMENT, FINGERPRINT, GUESS, STUDY_UID
from ..data.dataset import DatasetFacts
from ..record.environment import environment_versions


def new_study_attributes(facts: DatasetFacts) -> dict[str, Any]:
    """Return what is kept on a new study about its data and itself."""
    return {
        FINGERPRINT: facts.fingerprint,
        DATA: f"{facts.name}: {facts.n_train} train, {facts.n_validation} validation, "
        f"{facts.n_classes} classes, features {facts.feature_shape}",
        GUESS: {"n_examples": facts.n_validation, "accuracy": facts.majority, "loss": facts.entropy},
        STUDY_UID: uuid.uuid4().hex,
        ENVIRONMENT: json.dumps(environment_versions()),
    }
