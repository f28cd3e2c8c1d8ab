"""The token and what a service is told: checked before anything listens."""

from pathlib import Path

import pytest

from caviar.errors import SpecError, StorageError
from caviar.service.limits import Buckets
from caviar.service.settings import TOKEN_FILE, ServiceSettings, service_token
from caviar.storage.home import locate_home


def test_the_token_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    token, is_new = service_token(tmp_path / "runs")
    assert is_new
    assert len(token) >= 40
    assert (tmp_path / "runs" / TOKEN_FILE).stat().st_mode & 0o777 == 0o600
    assert service_token(tmp_path / "runs") == (token, False)


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    service_token(tmp_path)
    (tmp_path / TOKEN_FILE).chmod(0o640)
    with pytest.raises(StorageError, match="chmod 600"):
        service_token(tmp_path)


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff\xfe"])
def test_a_token_that_is_cut_off_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / TOKEN_FILE).write_bytes(content)
    (tmp_path / TOKEN_FILE).chmod(0o600)
    with pytest.raises(StorageError, match="Remove"):
        service_token(tmp_path)


def test_a_token_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("x" * 40)
    (tmp_path / "other").chmod(0o600)
    (tmp_path / TOKEN_FILE).symlink_to("other")
    with pytest.raises(StorageError, match="cannot be used"):
        service_token(tmp_path)


def test_a_service_with_a_name_needs_a_token(tmp_path: Path) -> None:
    home = locate_home(tmp_path)
    with pytest.raises(SpecError, match=r"panda\.example.*needs a token"):
        ServiceSettings(home=home, hosts=("panda.example",))
    with pytest.raises(SpecError, match="at least 16"):
        ServiceSettings(home=home, hosts=("panda.example",), token="short")


def test_the_token_is_in_no_representation(tmp_path: Path) -> None:
    assert "x" * 20 not in repr(ServiceSettings(home=locate_home(tmp_path), token="x" * 20))


def test_an_address_gains_what_it_may_send_as_time_goes_by() -> None:
    now = 0.0
    buckets = Buckets(per_s=2, burst=3, clock=lambda: now)
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]
    assert buckets.take("b")
    now = 1.0
    assert [buckets.take("a") for _ in range(3)] == [True, True, False]
    now = 1000.0
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]
