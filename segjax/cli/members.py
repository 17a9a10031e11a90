"""Variants of a sweep that share a program, trained as one: all of the wiring, as in train.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from segjax.cli import assembly, scoring
from segjax.cli.runtime import prepare_jax
from segjax.core.errors import ConfigError
from segjax.data.augment import make_train_transform
from segjax.data.dataset import open_dataset
from segjax.data.pipeline import train_batches
from segjax.models.dropout import WithDropout, dropout_rates
from segjax.parallel.mesh import make_mesh
from segjax.sweep.queue import Queue
from segjax.sweep.variants import Variant, differing
from segjax.tasks.semantic.task import SemanticTask
from segjax.training.loop import steps_of
from segjax.training.members import Member, train_members

DROPOUT = "dropout"
"""Key of the arguments that holds the rates of all dropout layers, {path: rate}."""


def train_together(queue: Queue, variants: Sequence[Variant]) -> str | None:
    """Trains variants of one program and leaves in each one's workdir what `segjax train` does.

    Returns:
      The name of the signal that interrupted them, else None. Members whose loss is not finite are noted as failed.
    """
    prepare_jax()
    config = variants[0].config

    # --- Data: a stream for each seed.
    dataset = open_dataset(config.data)
    info = dataset.info
    source = dataset.split(config.data.train_split)
    splits = [config.eval.split, config.eval.final_split or config.eval.split]
    scored = {name: dataset.split(name) for name in splits}
    for name in splits:
        dataset.require_labels(name)
    seeds = sorted({variant.config.seed for variant in variants})
    streams = {
        seed: train_batches(
            source,
            batch_size=config.train.batch_size,
            crop_size=config.data.crop_size,
            scale=config.augment.scale,
            seed=seed,
            threads=max(1, config.data.threads // len(seeds)),
            workers=config.data.workers,
            prefetch=max(1, config.data.prefetch // len(seeds)),
        )
        for seed in seeds
    }

    # --- Networks and tasks, and the numbers they differ in.
    models = [assembly.make_network(variant.config, info) for variant in variants]
    tasks = [assembly.make_task(variant.config, dataset) for variant in variants]
    arguments, network = arguments_of(variants, models, tasks)

    # --- Train, scoring the validation split on the way.
    members = [
        Member(variant.config, model, task, streams[variant.config.seed], queue.workdir(variant))
        for variant, model, task in zip(variants, models, tasks)
    ]
    scorer = scoring.Scorer(network, tasks[0], info, config, make_mesh(devices=jax.local_devices()[:1]))
    result = train_members(
        members,
        arguments=arguments,
        build=builder(network, tasks[0]),
        transform=make_train_transform(config.augment, info, config.data.crop_size),
        info=info,
        steps=steps_of(config, len(source)),
        evaluate=lambda position, state: scorer.score(scored[splits[0]], state.eval_variables)["metrics"],
    )
    for stream in streams.values():
        stream.close()
    for position, why in result.failed.items():
        queue.fail(variants[position], why)
    if result.interrupted is not None:
        return result.interrupted

    # --- Each best checkpoint, on the final split; each report.
    for position, variant in enumerate(variants):
        if position not in result.failed:
            scorer.of_config(variant.config).finish(scored[splits[1]], splits[1], queue.workdir(variant))
    return None


def builder(network: Any, task: SemanticTask) -> Callable[[Mapping[str, Any]], tuple[Any, SemanticTask]]:
    """What makes a member's network and task of its values, traced ones of `arguments_of`."""

    def build(values: Mapping[str, Any]) -> tuple[Any, SemanticTask]:
        weights = {key.removeprefix("loss."): value for key, value in values.items() if key.startswith("loss.")}
        model = WithDropout(network, values[DROPOUT]) if DROPOUT in values else network
        return model, dataclasses.replace(task, **weights)

    return build


def arguments_of(
    variants: Sequence[Variant], models: Sequence[Any], tasks: Sequence[SemanticTask]
) -> tuple[dict[str, list[Any]], Any]:
    """What the variants differ in, {key: a value for each}, and the network that all of them run.

    Class weights are the tasks' numbers, whatever the config calls them. Dropout is told layer by layer, under one key,
    so that an option may reach its layers scaled or by several ways.

    Raises:
      ConfigError: an option of the network that changes more than rates of dropout, or a rate of 1.
    """
    found = differing(variants)
    options = [key for key in found if key.startswith("model.options.")]
    arguments = {key: values for key, values in found.items() if key not in options}
    if "loss.class_weights" in arguments:
        ones = np.ones(tasks[0].num_classes)
        weights = [ones if task.class_weights is None else task.class_weights for task in tasks]
        arguments["loss.class_weights"] = [np.asarray(one, np.float32) for one in weights]
    if not options:
        return arguments, models[0]
    for key in options:
        for variant, value in zip(variants, found[key]):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ConfigError(
                    f"--vmap: config.{key} is {value!r} in {variant.name!r}: no rate of dropout; leave --vmap out."
                )
    rates = [dropout_rates(model) for model in models]
    paths = dict.fromkeys(path for one in rates for path in one)
    whole = [position for position, one in enumerate(rates) if one.keys() == paths.keys()]
    if not whole or any(rate >= 1 for one in rates for rate in one.values()):
        raise ConfigError(f"--vmap: config.{options[0]}: not one network with rates below 1; leave --vmap out.")
    arguments[DROPOUT] = [{path: one.get(path, 0.0) for path in paths} for one in rates]
    return arguments, models[whole[0]]
