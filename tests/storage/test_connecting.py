import pytest
import sqlalchemy

from caviar.storage.connecting import OPTIONS, connection_options


@pytest.mark.parametrize(
    ("address", "given"),
    [
        ("postgresql+psycopg://ann@db/x", dict(OPTIONS)),
        ("postgresql+psycopg://ann@db/x?connect_timeout=3", {**OPTIONS, "connect_timeout": None}),
        ("sqlite:///x.db", {}),
    ],
)
def test_a_server_that_is_gone_is_noticed_as_soon_as_its_address_says(address: str, given: dict[str, int]) -> None:
    expected = {name: value for name, value in given.items() if value is not None}
    assert connection_options(sqlalchemy.make_url(address)) == expected
