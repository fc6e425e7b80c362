"""A request to stop, in one process; among ranks it is tested with what starts them."""

import os
import signal

import pytest

from dinotools.runtime import interruption
from dinotools.runtime.errors import Interrupted
from dinotools.runtime.interruption import SIGNALS, Interruption, ignore_in_reader


@pytest.fixture(autouse=True)
def handlers():
    """A test that fails leaves no handler behind."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2", "SIGINT"])
def test_a_signal_is_a_request(name, handlers):
    with pytest.raises(Interrupted) as stop, Interruption() as interruption:
        assert not interruption.requested()
        signal.raise_signal(getattr(signal, name))
        assert interruption.requested() and interruption.requested()
        raise interruption.stopped(7)
    assert (stop.value.exit_code, stop.value.signal_name, stop.value.step) == (75, name, 7)
    assert f"stopped by {name} after step 7" in str(stop.value) and "--resume" in str(stop.value)
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers


def test_further_signals_do_not_disturb_a_save():
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGUSR1)
        assert interruption.requested()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)  # a wrapper's second delivery
        assert interruption.stopped(1).signal_name == "SIGUSR1"


def test_a_second_ctrl_c_is_meant(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(interruption.time, "monotonic", lambda: now[0])
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGINT)
        now[0] += 0.1
        signal.raise_signal(signal.SIGINT)
        now[0] += 1.5
        signal.raise_signal(signal.SIGINT)


def test_handlers_of_others_come_back_after_an_error(handlers):
    heard = []
    signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    with pytest.raises(ZeroDivisionError), Interruption():
        signal.raise_signal(signal.SIGUSR2)
        raise ZeroDivisionError
    assert heard == []
    signal.raise_signal(signal.SIGUSR2)
    assert heard == [signal.SIGUSR2]


def test_readers_outlive_signals_to_the_process_group():
    reader = os.fork()
    if reader == 0:
        try:
            ignore_in_reader(0)
            for number in SIGNALS:
                os.kill(os.getpid(), number)
            os._exit(5)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]) == 5
