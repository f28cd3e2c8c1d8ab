"""What we use of optuna-dashboard's insides, checked with 0.21; tests/insight/test_trial_notes.py tries each.

Its public functions take a running ``optuna.Trial``, and Optuna lets nobody write about a trial that has ended. The
dashboard itself keeps notes, and artifacts of former versions, with the study, which can always be written.
"""

import io
import json
import mimetypes
import uuid
from typing import TYPE_CHECKING

import optuna

from ..optuna_private import id_of_study

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore


def note_of_trial(study: optuna.Study, trial_id: int) -> str:
    """Return a trial's note; empty if it has none."""
    from optuna_dashboard._note import get_note_from_system_attrs

    note = get_note_from_system_attrs(study._storage.get_study_system_attrs(id_of_study(study)), trial_id)
    return str(note["body"])


def note_trial(study: optuna.Study, trial_id: int, body: str) -> None:
    """Replace a trial's note, in any state."""
    from optuna_dashboard._note import note_ver_key, save_note_with_version

    storage, study_id = study._storage, id_of_study(study)
    version = storage.get_study_system_attrs(study_id).get(note_ver_key(trial_id), 0) + 1
    save_note_with_version(storage, study_id, trial_id, version, body)


def keep_for_trial(study: optuna.Study, trial_id: int, *, name: str, content: bytes, store: "ArtifactStore") -> None:
    """Keep a file with a trial in any state, in place of one of this name."""
    from optuna_dashboard.artifact._backend import _dashboard_artifact_prefix

    storage, study_id, prefix = study._storage, id_of_study(study), _dashboard_artifact_prefix(trial_id)
    kept = (
        json.loads(value) for key, value in storage.get_study_system_attrs(study_id).items() if key.startswith(prefix)
    )
    known = next((meta["artifact_id"] for meta in kept if meta and meta["filename"] == name), None)
    artifact_id = known or str(uuid.uuid4())
    store.write(artifact_id, io.BytesIO(content))
    if known is None:
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        meta = {"artifact_id": artifact_id, "filename": name, "mimetype": kind, "encoding": None}
        storage.set_study_system_attr(study_id, prefix + artifact_id, json.dumps(meta))
