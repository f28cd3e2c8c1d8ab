"""The live view of one trial in a terminal, with a key for each control. It fits 80 by 24 characters."""

from typing import TYPE_CHECKING, ClassVar, Final

from textual import work
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widgets import Footer, Input, Sparkline, Static

from ..commands.control import control_trial, parse_request, result_line
from ..commands.panda import TrialView, view_trial
from ..errors import CaviarError
from ..interventions import Request
from ..storage.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_S: Final = 1.0
_WAIT_S: Final = 10.0
_N_CHANGES: Final = 4

#: Key → what to ask for, and how the answer becomes options of ``caviar control``.
_PROMPTS: Final = {
    "set": ("set NAME=VALUE, such as learning_rate=0.01", lambda text: {"values": text.split()}),
    "epochs": ("epochs in all", lambda text: {"epochs": int(text)}),
    "back": ("back to the checkpoint after epoch", lambda text: {"back": int(text)}),
    "fork": ("fork with NAME=VALUE (or nothing)", lambda text: {"action": "fork", "values": text.split()}),
}


class PandaApp(App[None]):
    """Shows a trial's curves as they grow, and asks its worker for changes.

    Args:
        home: Where the study lives.
        study: The study's name.
        number: The trial's number.
        poll_s: Seconds between looks at the storage.
        wait_s: Seconds to wait for a worker's answer.
    """

    CSS = """
    Sparkline { height: 4; margin: 0 1; }
    .label, #head, #live, #changes, #said { padding: 0 1; height: auto; }
    #head { text-style: bold; }
    #said { color: $warning; }
    Input { display: none; height: 3; }
    Input.asked { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("s", "ask('set')", "Set"),
        ("down", "scale(0.5)", "Rate ÷2"),
        ("up", "scale(2)", "Rate ×2"),
        ("p", "pause", "Pause/go on"),
        ("e", "ask('epochs')", "Epochs"),
        ("b", "ask('back')", "Back"),
        ("f", "ask('fork')", "Fork"),
        ("x", "tell('stop')", "Stop"),
        ("q", "quit", "Quit"),
    ]
    AUTO_FOCUS = ""  # the keys are controls until a line is asked for
    ENABLE_COMMAND_PALETTE = False

    def __init__(
        self, home: Home, study: str, number: int, *, poll_s: float = _POLL_S, wait_s: float = _WAIT_S
    ) -> None:
        super().__init__()
        self._home = home
        self._study = study
        self._number = number
        self._poll_s = poll_s
        self._wait_s = wait_s
        self._asked: str | None = None
        self.shown: TrialView | None = None

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        with Vertical():
            yield Static(f"{self._study}, trial {self._number}", id="head", markup=False)
            for name in ("metric", "loss"):
                yield Static("", id=f"{name}-label", classes="label", markup=False)
                yield Sparkline([], id=name, summary_function=lambda values: values[-1])
            yield Static("", id="live", markup=False)
            yield Static("", id="changes", markup=False)
            yield Static("", id="said", markup=False)
            yield Input()
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin to look at the storage."""
        self.set_interval(self._poll_s, self._look)
        self._look()

    @work(thread=True, exclusive=True, group="look")
    def _look(self) -> None:
        try:
            view = view_trial(self._home, self._study, self._number)
        except CaviarError as error:
            self.call_from_thread(self._say, str(error))
        else:
            self.call_from_thread(self._show, view)

    def _show(self, view: TrialView) -> None:
        if not self.is_running:  # the view is ending, and the screen is gone
            return
        self.shown = view
        best = "" if view.best is None else f" · best {view.best[0]:.4f} at epoch {view.best[1]}"
        where = "" if view.worker is None else f" · {view.worker}"
        self._write(
            "head",
            f"{view.study}, trial {view.number} · {view.state} · epoch {view.epochs} of {view.max_epochs}{best}{where}",
        )
        losses = [name for name in ("val_loss", "loss") if name in view.curves and name != view.metric]
        for place, name in (("metric", view.metric), ("loss", losses[0] if losses else None)):
            curve = [] if name is None else list(view.curves[name])
            span = f"{name}: {curve[-1]:.4f} ({min(curve):.4f} to {max(curve):.4f})" if curve else ""
            self._write(f"{place}-label", span)
            self.query_one(f"#{place}", Sparkline).data = curve
        self._write("live", "  ".join(f"{name} {value:.4g}" for name, value in view.live.items()))
        self._write("changes", "\n".join(view.interventions[-_N_CHANGES:]))

    def action_ask(self, what: str) -> None:
        """Open the line in which the values of a control are typed."""
        self._asked = what
        line = self.query_one(Input)
        line.placeholder, line.value = _PROMPTS[what][0], ""
        line.add_class("asked")
        line.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Ask for what was typed."""
        line, asked = self.query_one(Input), self._asked
        line.remove_class("asked")
        self.set_focus(None)
        if asked is None:
            return
        read: Callable[[str], dict[str, object]] = _PROMPTS[asked][1]
        try:
            request = parse_request(**read(event.value))  # type: ignore[arg-type]  # each prompt's own options
        except ValueError:
            self._say(f"{event.value!r} is no whole number.")
        except CaviarError as error:
            self._say(str(error))
        else:
            self._control(request)

    def key_escape(self) -> None:
        """Close the line without asking for anything."""
        self.query_one(Input).remove_class("asked")
        self.set_focus(None)

    def action_scale(self, factor: float) -> None:
        """Multiply the learning rate."""
        if self.shown is not None:
            self._control(Request(action="set", values={"learning_rate": self.shown.live["learning_rate"] * factor}))

    def action_pause(self) -> None:
        """Pause the trial, or go on with it."""
        paused = self.shown is not None and self.shown.state == "PAUSED"
        self._control(Request(action="resume" if paused else "pause"))

    def action_tell(self, what: str) -> None:
        """Ask for something that takes no value."""
        self._control(parse_request(action=what))

    @work(thread=True, group="control")
    def _control(self, request: Request) -> None:
        self.call_from_thread(self._say, f"{request.action} …")
        try:
            result = control_trial(self._home, self._study, self._number, request, wait_s=self._wait_s)
        except CaviarError as error:
            self.call_from_thread(self._say, str(error))
        else:
            self.call_from_thread(self._say, result_line(self._study, request, result))
            self.call_from_thread(self._look)

    def _say(self, text: str) -> None:
        if self.is_running:
            self._write("said", text)

    def _write(self, place: str, text: str) -> None:
        self.query_one(f"#{place}", Static).update(text)
