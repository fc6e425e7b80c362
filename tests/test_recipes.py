"""Recipes run from beginning to end, in small."""

import json
import os
import subprocess
import sys
from pathlib import Path

RECIPES = Path(__file__).parents[1] / "recipes"
SHORT = "--epochs 1 --warmup-epochs 0 --batch-size 12 --knn-every 0 --workers 0 --out-dim 16"


def test_small_images_runs_and_runs_again(image_folder, tmp_path):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    command = [RECIPES / "small_images.sh", image_folder, tmp_path / "run", *SHORT.split()]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "knn" / "results.json").read_text())
    assert {"k10", "k20"} <= set(results["metrics"])
    assert results["details"]["checkpoint"]["arch"] == "vit_micro"
