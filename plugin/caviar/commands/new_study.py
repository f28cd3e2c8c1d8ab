"""What is kept on a new study about its data and itself."""

import json
import uuid

from ..attributes import DATA, ENVIRONMENT, FINGERPRINT, STUDY_UID
from ..data.dataset import DatasetFacts
from ..record.environment import environment_versions


def new_study_attributes(facts: DatasetFacts) -> dict[str, str]:
    """Return what is kept on a new study about its data and itself."""
    return {
        FINGERPRINT: facts.fingerprint,
        DATA: f"{facts.name}: {facts.n_train} train, {facts.n_validation} validation, "
        f"{facts.n_classes} classes, features {facts.feature_shape}",
        STUDY_UID: uuid.uuid4().hex,
        ENVIRONMENT: json.dumps(environment_versions()),
    }
