import numpy as np
import pytest

from dinotools.pretraining.schedules import teacher_temp_schedule
from tests.golden import official

TEACHER_TEMPS = {
    "teacher_temp_schedule": (0.04, 0.07, 3, 6),
    "teacher_temp_schedule_defaults_5_epochs": (0.04, 0.04, 0, 5),
    "teacher_temp_schedule_004_007_30_100": (0.04, 0.07, 30, 100),
}


def test_every_recorded_schedule_is_tested():
    assert set(TEACHER_TEMPS) == {key for key in official.arrays("loss") if key.startswith("teacher_temp")}


@pytest.mark.parametrize("name", TEACHER_TEMPS)
def test_teacher_temperatures_are_official(name):
    np.testing.assert_allclose(teacher_temp_schedule(*TEACHER_TEMPS[name]), official.arrays("loss")[name], rtol=1e-12)


def test_a_warmup_longer_than_the_run_is_refused():
    with pytest.raises(ValueError, match="warm-up of 30 epochs does not fit into 10"):
        teacher_temp_schedule(0.04, 0.07, warmup_epochs=30, epochs=10)
