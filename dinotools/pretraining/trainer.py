"""Pre-training with DINO: self-distillation with no labels.

A student sees two global and several local crops of each image, a teacher the two global ones. The student learns to
predict the teacher's centred and sharpened output for the other crops; the teacher is the moving average of the
student. Paper: section 3, Algorithm 1, appendix C; official file ``main_dino.py``, whose defaults these are.
ImageNet, ViT-S/16, 100 epochs: k-NN 69.3, linear 74.0.

    dinotools pretrain --data /datasets/imagenet/train --out runs/vits16
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Sequence
from shlex import quote

import torch

from dinotools.configs import files
from dinotools.configs.pretraining import PretrainConfig
from dinotools.data.images import BadImages
from dinotools.data.mixture import part_sizes, split_names
from dinotools.data.sources import ImageSource, is_split, open_images, open_labelled_splits
from dinotools.data.transforms import EvalTransform
from dinotools.evaluation.knn import check_neighbours
from dinotools.models.checkpoint_files import BACKBONE_FILE
from dinotools.pretraining import checkpointing, dry_run
from dinotools.pretraining.announcement import announcement, network_name
from dinotools.pretraining.checks import check_config, check_images
from dinotools.pretraining.epoch_log import EpochLog
from dinotools.pretraining.loader import training_loader
from dinotools.pretraining.monitor import knn_of, knn_transform
from dinotools.pretraining.networks import build_state
from dinotools.pretraining.schedules import Schedules, steps_in_epoch
from dinotools.pretraining.step import TrainingState, take_step
from dinotools.pretraining.watch import Watch
from dinotools.runtime import device, distributed, run_directory
from dinotools.runtime.console import say
from dinotools.runtime.device import Runtime
from dinotools.runtime.errors import DinotoolsError, RunFailed
from dinotools.runtime.interruption import Interruption
from dinotools.runtime.progress import Progress, timed
from dinotools.runtime.results import Result
from dinotools.runtime.run_log import LOG, read_log
from dinotools.runtime.trackers import open_trackers


def run(config: PretrainConfig) -> Result:
    """Trains a teacher and leaves checkpoints, logs and options in ``config.out``.

    Raises:
        DinotoolsError: options, data or checkpoint cannot be used.
        RunFailed: the loss is not finite, the teacher collapsed and --on-collapse is stop, or memory ran out.
        Interrupted: a signal asked for it; everything is saved.
    """
    check_config(config)
    runtime = device.prepare(config.device, config.precision, config.workers, config.seed, fast=True)
    images = open_images(config.data, "train", download=config.download, in_chans=config.in_chans)
    check_images(config, part_sizes(images))
    splits = _knn_splits(config)
    with distributed.joined(runtime.device):
        try:
            return dry_run.probe(config, runtime, images) if config.dry_run else _run(config, runtime, images, splits)
        except torch.OutOfMemoryError as error:
            remedy = "Add --accumulate 2 or --checkpoint-activations, or take a smaller --batch-size or more --gpus."
            raise RunFailed("has not enough memory for a step", runtime.device, remedy) from error
        except RuntimeError as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            remedy = "Leave it out; --debug shows what the compiler said."  # often a thousand lines
            raise RunFailed(
                f"torch could not compile the networks ({type(error).__name__})", "--compile", remedy
            ) from error


def _run(config: PretrainConfig, runtime: Runtime, images: ImageSource, splits: Sequence[ImageSource]) -> Result:
    schedules = Schedules.of(config, steps_in_epoch(config, len(images)))
    resuming = config.resume and (config.out / run_directory.OPTIONS).is_file()
    latest = config.out / checkpointing.LATEST
    # or it was killed before its first checkpoint; and nobody clears the directory before all have looked
    restoring = checkpointing.found_by_all(latest) and resuming
    # a checkpoint has all weights: the file that the run was initialised from may be gone
    state = build_state(dataclasses.replace(config, init_from=None) if restoring else config, runtime)
    if not resuming and distributed.is_main():
        claim_out(config)
    distributed.barrier()  # or others would read the logs of a run that is being replaced
    if restoring:
        checkpointing.restore(latest, state, config, len(images))
        if config.override and distributed.is_main():
            run_directory.write_options(config.out, files.dump(config))
    if distributed.is_main():
        if restoring:
            say(f"going on from {latest}, step {state.step:,}")
        say(announcement(config, schedules, len(images), runtime))
    try:
        bad = train(config, runtime, images, splits, state, schedules)
    except DinotoolsError as error:
        nothing_saved = not resuming and not any(config.out.glob("checkpoint*.pth"))
        if nothing_saved and error.exit_code == DinotoolsError.exit_code and distributed.is_main():
            shutil.rmtree(config.out)  # bad images stopped a new run before there was anything to keep
        raise
    return result_of(config, runtime, len(images), bad, state.seconds)


def _knn_splits(config: PretrainConfig) -> Sequence[ImageSource]:
    """Labelled training and test images of the k-NN; none if it is not asked for."""
    if not config.knn_every:
        return ()
    data = config.knn_data or config.data
    splits = open_labelled_splits(data, download=config.download, in_chans=config.in_chans)
    check_neighbours((config.knn_k,), len(splits[0]), len(splits[0].classes), option="--knn-k")
    return splits


def claim_out(config: PretrainConfig) -> None:
    """Takes the run directory for a new run.

    Raises:
        DinotoolsError: it holds something that may not be replaced.
    """
    ways = "" if config.resume else ", add --resume to go on with the run in it, or --overwrite to replace it"
    run_directory.claim(
        config.out,
        files.dump(config),
        overwrite=config.overwrite,
        inputs=(*split_names(config.data), config.knn_data, config.init_from),
        remedy=f"Choose another --out{ways}.",
    )


def train(
    config: PretrainConfig,
    runtime: Runtime,
    images: ImageSource,
    splits: Sequence[ImageSource],
    state: TrainingState,
    schedules: Schedules,
) -> BadImages:
    """Takes the steps that are left; at the end of every epoch measures, logs and saves.

    Returns:
        The images that could not be read.

    Raises:
        Interrupted: a signal came; the state is saved.
    """
    per_epoch = schedules.steps_per_epoch
    saver = checkpointing.Saver(config, len(images))
    bad = BadImages(config.max_bad, len(images))
    trackers = open_trackers(config.track, config.out, files.as_document(config), state.step)
    log = EpochLog(config.out, state, schedules, trackers)
    watch = Watch(config, runtime.precision, state, images, trackers)
    shown = Progress(schedules.steps, state.step, config.batch_size, per_epoch, remedy=None)
    try:
        if splits and state.step == 0 and not log.begun:
            log.before_first_step(knn_of(state, config, splits, runtime))
        with Interruption() as interruption, shown as progress:
            clock = time.monotonic()
            for batch, waited in timed(training_loader(config, runtime, images, start=state.step)):
                for unreadable in batch.bad:
                    bad.add(unreadable)
                with distributed.meeting():
                    outcome = take_step(config, runtime, state, schedules, batch)
                epoch, ended = (state.step - 1) // per_epoch + 1, state.step % per_epoch == 0
                watch.after_step(outcome, batch.indices, epoch, end_of_epoch=ended)
                progress.advance(outcome["loss"], schedules.lr[state.step - 1], waited)
                if ended:
                    due = splits and (epoch % config.knn_every == 0 or epoch == config.epochs)
                    # before the checkpoint: a kill in between repeats the epoch, and its line
                    log.end_of_epoch(epoch, knn_of(state, config, splits, runtime) if due else {})
                state.seconds, clock = state.seconds + time.monotonic() - clock, time.monotonic()
                saver.after_step(state)
                if interruption.requested():
                    saver.save(state)
                    raise interruption.stopped(state.step)
    finally:
        log.close()
        watch.close()
    return bad


def result_of(config: PretrainConfig, runtime: Runtime, n_images: int, bad: BadImages, seconds: float) -> Result:
    """The last line of the log, the k-NN curve where there is one, and the time of all parts of the run."""
    records = read_log(config.out / LOG)
    curve = {name: [(r["epoch"], r[name]) for r in records if name in r] for name in ("knn_teacher", "knn_student")}
    # a run that was finished before may have lost its log, and machines without a common disk have none
    last = (
        records[-1] if records else {"epoch": config.epochs, "step": config.epochs * steps_in_epoch(config, n_images)}
    )
    shown = {"epochs": last["epoch"], "steps": last["step"], "loss": last.get("train_loss")}
    shown |= {f"k-NN {name[4:]} %": points[-1][1] for name, points in curve.items() if points}
    return Result(
        title=f"pretrain · {network_name(config)} · {config.data}",
        rows=[shown],
        metrics={**last, "seconds": seconds, "curves": {name: points for name, points in curve.items() if points}},
        details={"data": {"images": n_images, "skipped": bad.names}, **runtime.describe()},
        notes=(
            f"Teacher: {config.out / BACKBONE_FILE}",
            f"Measure it: {knn_command(config)}",
            f"Look at the run: dinotools report {quote(str(config.out))}",
        ),
    )


def knn_command(config: PretrainConfig) -> str:
    """The command that measures the run's teacher at the size it was trained for."""
    used = knn_transform(config)
    flags = "" if used == EvalTransform() else f" --resize-size {used.resize_size} --crop-size {used.crop_size}"
    data = config.knn_data or config.data
    where = f"--data {quote(data)}" if is_split(data) else "--train DIR --val DIR"
    return f"dinotools knn --ckpt {quote(str(config.out))} {where}{flags}"
