import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinotools.runtime.schedule import cosine_schedule
from tests.golden import official

COSINES = {
    "lr_default_100x20_w10": (0.000125, 1e-06, 100, 20, 10, 0),
    "wd_default_100x20": (0.04, 0.4, 100, 20, 0, 0),
    "momentum_default_100x20": (0.996, 1, 100, 20, 0, 0),
    "lr_warmup0": (0.0005, 1e-06, 7, 13, 0, 0),
    "lr_all_warmup": (0.0005, 1e-06, 4, 5, 4, 0),
    "one_iter_warmup": (0.001, 0.0, 3, 1, 1, 0),
    "start_warmup_nonzero": (0.01, 0.001, 6, 4, 2, 0.003),
    "lr_batch1024": (0.002, 1e-06, 30, 11, 10, 0),
}


@pytest.mark.parametrize("name", COSINES)
def test_cosine_schedules_are_official(name):
    schedule = cosine_schedule(*COSINES[name])
    assert schedule.dtype == np.float64
    np.testing.assert_allclose(schedule, official.arrays("schedules")[name], rtol=1e-12)


def test_every_recorded_schedule_is_tested():
    assert set(COSINES) == set(official.arrays("schedules"))


@given(st.data())
def test_a_schedule_has_one_value_per_step_and_stays_between_its_ends(data):
    epochs, steps = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 7))
    warmup = data.draw(st.integers(0, epochs))
    schedule = cosine_schedule(2.0, 0.5, epochs, steps, warmup, start=0.0)
    n_warmup = warmup * steps
    assert schedule.shape == (epochs * steps,)
    assert (np.diff(schedule[:n_warmup]) > 0).all()
    assert (np.diff(schedule[n_warmup:]) < 0).all()
    if warmup:
        assert schedule[0] == 0.0
    if n_warmup > 1:
        assert schedule[n_warmup - 1] == 2.0
    if warmup < epochs:
        assert schedule[n_warmup] == 2.0
        assert schedule[-1] > 0.5


def test_a_warmup_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="warm-up of 3 epochs does not fit into 2"):
        cosine_schedule(1.0, 0.0, epochs=2, steps_per_epoch=5, warmup_epochs=3)
