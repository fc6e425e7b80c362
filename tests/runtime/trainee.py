"""A training in miniature, for the tests of what starts and stops ranks."""

import os
import signal
import sys
import time
from pathlib import Path

import torch

from dinotools.options import run_app
from dinotools.runtime import distributed
from dinotools.runtime.interruption import Interruption


def train(out: Path, steps: int, ask_at: int = 0, saving_seconds: float = 0.0) -> None:
    """Counts from the step that was saved to the last one. Rank 1, and no other, is asked to stop after step ask_at."""
    rank = distributed.rank()
    saved = out / "saved"
    with distributed.joined(), Interruption() as interruption:
        start = int(saved.read_text()) if saved.is_file() else 0
        distributed.barrier()  # all have read it
        (out / f"started{rank}").write_text(f"{os.getpid()} {start}")
        for step in range(start + 1, steps + 1):
            assert distributed.sum_over_ranks(torch.ones(2)).tolist() == [distributed.world_size()] * 2
            time.sleep(0.01)
            if step == ask_at and rank == 1:
                signal.raise_signal(signal.SIGUSR1)
            if interruption.requested():
                (out / f"stopped{rank}").write_text(str(step))
                if rank == 0:
                    time.sleep(saving_seconds)
                    saved.write_text(str(step))
                raise interruption.stopped(step)
    if rank == 0:
        (out / "done").write_text(f"{start} {steps}")


if __name__ == "__main__":
    folder, asked, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    sys.exit(run_app(lambda: train(folder, 3000, asked, seconds), debug=False))
