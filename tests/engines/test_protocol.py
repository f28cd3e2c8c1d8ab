"""What processes of a run tell each other arrives as it was sent, or is lost without harm."""

import multiprocessing

from caviar.engines.protocol import Channel, LoadData, Message, Refusal
from caviar.errors import CaviarError, DataError


class OwnError(DataError):
    """An error of another module, whose class need not be there on the other side."""


def test_a_message_arrives_as_it_was_sent_and_none_after_the_end() -> None:
    ours, its = (Channel(connection) for connection in multiprocessing.Pipe())
    sent: list[Message] = [LoadData(), Refusal(kind=DataError, message="no data")]
    for message in sent:
        its.send(message)
    its.close()
    assert [ours.receive(), ours.receive(), ours.receive()] == [*sent, None]
    ours.send(LoadData())  # nobody hears it
    ours.close()


def test_a_refusal_passes_on_the_message_the_kind_and_so_the_exit_code() -> None:
    error = Refusal.of(OwnError("no data")).error()
    assert (type(error), str(error), error.exit_code) == (DataError, "no data", 2)
    assert type(Refusal.of(CaviarError("else")).error()) is CaviarError
