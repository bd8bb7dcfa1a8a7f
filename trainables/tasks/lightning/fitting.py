"""Epochs of a `LightningModule`: each is one `fit` of a new `Trainer`, from the state of the one before.

A trial that was interrupted and one that was not hence do the same in every epoch. Data is prepared and split once, by
random streams of the trial's start, so that every epoch of both has the same splits.

The only module that runs Lightning. It writes no file: states stay in memory, and go into Ravel's own checkpoints.
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any, NoReturn

import torch

from trainables.engine.padding_guard import guarding
from trainables.engine.placement import resolve_precision
from trainables.errors import FunctionFailed
from trainables.tasks.function.context import TrialContext
from trainables.tasks.lightning.config import LightningConfig
from trainables.tasks.lightning.user_classes import built_data, built_module, library_of, overrides

__all__ = ["epochs_of"]

ARGUMENTS = (
    "hparams_name",
    "hyper_parameters",
    "hparams_type",
    "datamodule_hparams_name",
    "datamodule_hyper_parameters",
)
"""Parts of Lightning's state that repeat the arguments of the classes, which a trial's configuration has."""
_STATE = "ravel"


def epochs_of(config: LightningConfig, context: TrialContext) -> Iterator[Mapping[str, float]]:
    """Build the classes, prepare the data, and return an iterator that trains an epoch for each item.

    An item has the metrics that the module logged for its epoch.

    Raises:
        FunctionFailed: it logs nothing for an epoch, or stops by itself.
    """
    module, data = built_module(config), built_data(config)
    library = library_of(module)
    owners = [owner for owner in (data, module) if owner is not None]
    with _quiet():
        trainer, _ = _trainer(library, config, context, [])
        for owner in owners:
            owner.trainer = trainer
        prepare(owners)
    return _epochs(library, config, context, owners)


def _epochs(
    library: Any, config: LightningConfig, context: TrialContext, owners: list[Any]
) -> Iterator[Mapping[str, float]]:
    *data, module = owners
    states = [] if context.restored is None else [context.restored]
    context.save_with(lambda: states[-1])
    teardowns, guard = [owner.teardown for owner in owners], _padding_guard(library)
    for owner in owners:
        _replace(owner, "teardown", None)
    try:
        for epoch in range(context.epoch + 1, config.epochs + 1):
            with _quiet():
                trainer, logged = _trainer(library, config, context, states)
                if trainer.precision == "bf16-mixed" and context.device == "cpu":
                    trainer.callbacks.append(guard)
                fit, trainer.fit = trainer.fit, _refuse_fit
                fit(
                    module,
                    datamodule=data[0] if data else None,
                    ckpt_path=_STATE if states else None,
                    weights_only=True,
                )
                trainer.save_checkpoint(_STATE, weights_only=False)
            del states[:-1]
            if not logged:
                raise FunctionFailed(config.task, _nothing_logged(epoch, has_validation=bool(trainer.num_val_batches)))
            yield logged
    finally:
        for teardown in teardowns:
            teardown("fit")


def prepare(owners: list[Any]) -> None:
    """Call the hooks that prepare data, of the data module first, and have their later calls return the same."""
    for hook in ("prepare_data", "setup"):
        for owner in owners:
            _replace(owner, hook, getattr(owner, hook)(*(("fit",) if hook == "setup" else ())))
    for hook in ("train_dataloader", "val_dataloader"):
        for owner in [owner for owner in owners if overrides(type(owner), hook)][:1]:
            _replace(owner, hook, getattr(owner, hook)())


def _replace(owner: Any, hook: str, result: Any) -> None:
    setattr(owner, hook, lambda *_, **__: result)


def _nothing_logged(epoch: int, *, has_validation: bool) -> str:
    missing = "" if has_validation else ", and it has no validation (validation_step and val_dataloader)"
    return f"must log a metric in each epoch, got none in epoch {epoch}{missing}; use self.log(..., on_epoch=True)"


def _trainer(
    library: Any, config: LightningConfig, context: TrialContext, states: list[Any]
) -> tuple[Any, dict[str, float]]:
    """Return a trainer of one epoch, which adds its state to `states`, and the metrics that it will have logged."""
    device, logged = torch.device(context.device), dict[str, float]()
    environments = import_module(f"{library.__name__}.plugins.environments")
    in_bfloat16 = resolve_precision(config.precision, device) == torch.bfloat16
    trainer = library.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=[device.index or 0] if device.type == "cuda" else 1,
        precision="bf16-mixed" if in_bfloat16 else "32-true",
        max_epochs=config.epochs,
        callbacks=[_one_epoch(library, config.task)],
        plugins=[_memory(library, states), environments.LightningEnvironment()],
        logger=_recorder(library, logged),
        log_every_n_steps=0,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tempfile.gettempdir(),
        accumulate_grad_batches=config.trainer.accumulate_grad_batches,
        gradient_clip_val=config.trainer.gradient_clip_val,
        gradient_clip_algorithm=config.trainer.gradient_clip_algorithm,
    )
    return trainer, logged


def _one_epoch(library: Any, task: str) -> Any:
    """Return the callback that ends a fit after an epoch; Lightning calls it after all others, as a checkpoint's."""

    class OneEpoch(library.callbacks.Checkpoint):  # type: ignore[misc]
        def on_train_epoch_end(self, trainer: Any, _: Any) -> None:
            if trainer.should_stop:
                reason = f"stops by itself in epoch {trainer.current_epoch + 1}"
                raise FunctionFailed(task, f"{reason}; leave EarlyStopping out, the sweep's scheduler stops trials")
            trainer.should_stop = True

    return OneEpoch()


def _padding_guard(library: Any) -> Any:
    """Return the callback that guards the module's convolutions from its first backward pass on."""

    class PaddingGuard(library.callbacks.Callback):  # type: ignore[misc]
        first_pass, guards = ExitStack(), True

        def on_train_start(self, _: Any, module: Any) -> None:
            if self.guards:
                self.first_pass.enter_context(guarding(module))

        def on_before_backward(self, *_: Any) -> None:
            self.guards = False
            self.first_pass.close()

    return PaddingGuard()


def _memory(library: Any, states: list[Any]) -> Any:
    """Return the plugin that keeps Lightning's state in memory; a user's own checkpoint callback writes nothing."""

    class Memory(library.plugins.CheckpointIO):  # type: ignore[misc]
        def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ARG002
            if path == _STATE:
                states.append({name: part for name, part in checkpoint.items() if name not in ARGUMENTS})

        def load_checkpoint(self, *_: Any, **__: Any) -> Any:
            return states[-1]

        def remove_checkpoint(self, path: Any) -> None:
            """Do nothing: no file was written."""

    return Memory()


def _recorder(library: Any, logged: dict[str, float]) -> Any:
    """Return the logger that keeps the metrics of an epoch; those of single steps never reach it."""

    class Recorder(import_module(f"{library.__name__}.loggers.logger").DummyLogger):  # type: ignore[misc]
        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:  # noqa: ARG002
            logged.update({name: value for name, value in metrics.items() if name != "epoch"})

    return Recorder()


def _refuse_fit(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("self.trainer.fit must not be called within an epoch: Ravel calls it; remove it from the module")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's notes on hardware and on what could be faster to itself; they come with each `fit`."""
    notes = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch")]
    levels = [note.level for note in notes]
    try:
        for note in notes:
            note.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=Warning, module=r"(pytorch_lightning|lightning)\..*")
            yield
    finally:
        for note, level in zip(notes, levels, strict=True):
            note.setLevel(level)
