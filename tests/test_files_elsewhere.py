"""A trial handed on by way of an object store, between machines that share nothing else but the database."""

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from caviar.cli import main

from .processes import Watch, running, wait_until, write_study


def put_epochs(log: str) -> list[int]:
    """Return after which epochs checkpoints were written, in their order, by the log of an S3 server."""
    return [int(epochs) for epochs in re.findall(r"PUT /\S+/0/(\d{8})\.ckpt HTTP\S* 200", log.replace('"', ""))]


@pytest.mark.slow
def test_a_trial_whose_machine_dies_goes_on_elsewhere_from_its_checkpoint_in_s3(
    tmp_path: Path, prepared_home: Path, tracking_template: Path, s3_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="werkzeug")
    watch, files = Watch(prepared_home), f"{s3_url}/{tmp_path.name}"
    study = write_study(tmp_path, trials=1, epochs=20, lease_s=1, checkpoint_s=0, trainer="solo")
    with running("run", study, "--home", prepared_home, "--files", files, warm=True) as process:
        wait_until(lambda: process.ended() or watch.reported() >= 5)
        process.kill_all()
    done = put_epochs(caplog.text)
    assert done, process
    assert len(done) < 20
    caplog.clear()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(tracking_template, elsewhere)
    where = ("--home", elsewhere, "--storage", watch.url, "--files", files)
    with running("worker", "toy", *where, warm=True) as process:
        ended = process.finish()
    assert ended.exit_code == 0, ended.stderr
    assert re.search(rf"GET /\S+/0/{max(done):08d}\.ckpt", caplog.text), "the newest checkpoint was not read"
    assert min(put_epochs(caplog.text)) > max(done), "the trial began again"
    (trial,) = watch.trials()
    assert list(trial.intermediate_values) == list(range(20))
    assert f"network {files}/networks/toy/0.keras" in ended.stdout
    assert not [path for home in (prepared_home, elsewhere) for path in home.rglob("*.ckpt")]
    assert not [path for home in (prepared_home, elsewhere) for path in home.rglob("*.keras")]

    import fsspec

    left = fsspec.filesystem("s3").find(files)
    assert [path.rpartition("/")[2] for path in left if "/artifacts/" not in path] == ["0.keras"]
    options = [str(option) for option in where]
    deleted = CliRunner().invoke(main, ["delete", "toy", "--yes", *options])
    assert deleted.exit_code == 0, deleted.output
    assert [path for path in fsspec.filesystem("s3").find(files) if "/artifacts/" not in path] == []
