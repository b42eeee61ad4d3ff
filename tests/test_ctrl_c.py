"""Ctrl-C stays Ctrl-C, whatever a library makes of it."""

import contextlib
import signal
import threading
from collections.abc import Iterator

import pytest

from hfgen.cli.command import exit_code
from hfgen.ctrl_c import ctrl_c
from hfgen.errors import UserError


@pytest.fixture(autouse=True)
def _python_hears_ctrl_c() -> Iterator[None]:
    """A process that was begun in the background is born deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_that_a_library_takes_for_a_fault_is_ctrl_c(capsys: pytest.CaptureFixture[str]):
    """As safetensors, diffusers and then a loader do."""

    def load() -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise UserError("the checkpoint can't be loaded; get it again") from None
        return 0

    def go_on_without() -> int:
        with contextlib.suppress(UserError), ctrl_c():
            load()
        return 0

    for run in (load, go_on_without):
        assert exit_code(run, "hfgen") == 130
        assert "stopped by Ctrl-C" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_elsewhere_nothing_changes():
    """In another thread, with a handler that notes Ctrl-C for later, and where it is ignored."""
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        with pytest.raises(UserError), ctrl_c():
            signal.raise_signal(signal.SIGINT)
            raise UserError("its own")
        assert noted == [signal.SIGINT]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with ctrl_c():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    with_handler: list[object] = []

    def work() -> None:
        with ctrl_c():
            with_handler.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert with_handler == [before]
