"""The data set of a study as MLflow knows it: an input of every run, told from others by its fingerprint."""

import dataclasses
import json
from typing import TYPE_CHECKING, Final

from ..storage.addresses import masked

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

#: MLflow's word for where a data set came from: code, which loads it by the name in the tags.
SOURCE_TYPE: Final = "code"
#: How a run uses it, as an input's tag.
CONTEXT_TAG: Final = ("mlflow.data.context", "training")
_DIGEST_LENGTH: Final = 36  # characters; MLflow's limit


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyData:
    """What a study searches on.

    Attributes:
        name: The name that the study file gives.
        fingerprint: The SHA-256 of its contents, in hexadecimal.
        summary: One line for people, such as how many examples there are; empty if that is not known.
    """

    name: str
    fingerprint: str
    summary: str = ""

    @property
    def shown_name(self) -> str:
        """The name as it is shown, without a password that its address may hold."""
        return masked(self.name)

    @property
    def digest(self) -> str:
        """The first characters of the fingerprint, as many as MLflow takes."""
        return self.fingerprint[:_DIGEST_LENGTH]

    @property
    def source(self) -> str:
        """Where it came from, as MLflow's JSON."""
        return json.dumps({"tags": {"dataset": self.shown_name, "fingerprint": self.fingerprint}})

    @property
    def profile(self) -> str | None:
        """What is known about its contents, as MLflow's JSON."""
        return json.dumps({"summary": self.summary}) if self.summary else None

    def as_input(self) -> "DatasetInput":
        """Return it as MLflow's client takes it."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        shown = Dataset(self.shown_name, self.digest, SOURCE_TYPE, self.source, profile=self.profile)
        return DatasetInput(shown, [InputTag(*CONTEXT_TAG)])
