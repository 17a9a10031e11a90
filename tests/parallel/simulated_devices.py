"""Run in a process of its own with eight simulated devices; prints one JSON record (see test_eight_devices.py)."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp

jax.config.update("jax_num_cpu_devices", 8)
sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

import numpy as np  # noqa: E402
import optax  # noqa: E402
from toy_run import INFO, ToyNet, ToyTask, bitwise_equal, config, make_batch, transform  # noqa: E402

from segjax.core.config import to_dict  # noqa: E402
from segjax.core.errors import ConfigError  # noqa: E402
from segjax.core.registry import create_model  # noqa: E402
from segjax.inference.predictor import Predictor  # noqa: E402
from segjax.parallel import sharding  # noqa: E402
from segjax.parallel.mesh import make_mesh  # noqa: E402
from segjax.parallel.replicated import AXIS, over_batch, pmapped, to_replicas  # noqa: E402
from segjax.parallel.transfer import check_batch_size, numeric, to_global  # noqa: E402
from segjax.training.checkpoint import Checkpointer  # noqa: E402
from segjax.training.state import abstract_state, init_state, init_variables  # noqa: E402
from segjax.training.step import make_train_step  # noqa: E402

sharding.SMALLEST_SPLIT = 16  # the toy's parameters are small
# Not Adam: it would turn the rounding noise of gradients that are zero (a bias before a normalisation) into steps.
NET, TX = ToyNet(features=8), optax.sgd(0.1, momentum=0.9)
VARIABLES = init_variables(NET, 0, (8, 8, 3))
BATCH = make_batch(0, batch_size=8)
STEP = make_train_step(NET, ToyTask(), TX, transform, schedule=lambda step: 0.01, ema_decay=0.9)
SPLIT_STEP = make_train_step(NET, ToyTask(), TX, transform, schedule=lambda step: 0.01, ema_decay=0.9, accumulate=2)


def run(mesh, step=STEP):
    state = init_state(VARIABLES, TX, mesh, ema=True)
    shardings = sharding.state_sharding(mesh, state)
    compiled = jax.jit(step, donate_argnums=0, out_shardings=(shardings, sharding.replicated(mesh)))
    with jax.set_mesh(mesh):
        for _ in range(2):
            state, metrics = compiled(state, to_global(BATCH, mesh))
    return state, metrics


def difference(a, b) -> float:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b))
    return max(float(np.max(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)))) for x, y in pairs)


def message(call) -> str:
    try:
        call()
    except ConfigError as error:
        return str(error)
    return ""


one, one_metrics = run(make_mesh(devices=jax.devices()[:1]))
one_split, _ = run(make_mesh(devices=jax.devices()[:1]), SPLIT_STEP)
record: dict = {"devices": len(jax.devices()), "difference": {}}
states = {}
for name, axes in {
    "data 8": {},
    "data 2 x spatial 4": {"spatial": 4},
    "data 2 x fsdp 4": {"fsdp": 4},
    "data 2 x fsdp 2 x spatial 2": {"fsdp": 2, "spatial": 2},
}.items():
    states[name], metrics = run(make_mesh(**axes))
    record["difference"][name] = max(difference(one, states[name]), difference(one_metrics, metrics))
mesh = make_mesh()
mapped = make_train_step(NET, ToyTask(), TX, None, schedule=lambda step: 0.01, ema_decay=0.9, axis=AXIS)
plain = make_train_step(NET, ToyTask(), TX, None, schedule=lambda step: 0.01, ema_decay=0.9)
undrawn = numeric(
    {**BATCH, "image": np.asarray(BATCH["image"], np.float32) / 255}
)  # devices would draw their own augmentation
reference = jax.jit(plain)(init_state(VARIABLES, TX, make_mesh(devices=jax.devices()[:1]), ema=True), undrawn)
for name, step, batch in (
    ("pmap 8", pmapped(mapped, mesh), to_replicas(undrawn, mesh)),
    ("data 8, sums written out", jax.jit(over_batch(mapped, mesh, "float32")), to_global(undrawn, mesh)),
):
    record["difference"][name] = difference(reference, step(init_state(VARIABLES, TX, mesh, ema=True), batch))

rounded = make_train_step(
    NET, ToyTask(), TX, None, schedule=lambda step: 0.01, ema_decay=0.9, axis=AXIS, reduce_dtype=jnp.bfloat16
)
batch = to_global(undrawn, mesh)
state = jax.jit(over_batch(rounded, mesh, "bfloat16"))(init_state(VARIABLES, TX, mesh, ema=True), batch)
record["bfloat16 sums"] = difference(reference[0].params, state[0].params)
state = jax.jit(over_batch(mapped, make_mesh(spatial=4), "float32"))(
    init_state(VARIABLES, TX, make_mesh(spatial=4), ema=True), to_global(undrawn, make_mesh(spatial=4))
)
record["difference"]["data 2 x spatial 4, sums written out"] = difference(reference, state)

split, _ = run(make_mesh(data=4, devices=jax.devices()[:4]), SPLIT_STEP)
record["difference"]["data 4, two micro-batches"] = difference(one_split, split)

fsdp = states["data 2 x fsdp 4"]
kernel = fsdp.params["stem"]["kernel"]
moment = fsdp.opt_state[0].trace["stem"]["kernel"]
record["fsdp"] = [list(kernel.shape), list(kernel.addressable_shards[0].data.shape), kernel.sharding == moment.sharding]

rules = {r"trace/stem/kernel": None, r"stem/kernel": 3, r"head/kernel": -2}
ruled = init_state(VARIABLES, TX, make_mesh(fsdp=4), ema=True, rules=rules)
record["rules"] = [
    list(leaf.addressable_shards[0].data.shape)
    for leaf in (
        ruled.params["stem"]["kernel"],
        ruled.opt_state[0].trace["stem"]["kernel"],
        ruled.ema["head"]["kernel"],
    )
]

mesh = make_mesh(spatial=4)
batch = to_global(BATCH, mesh)
record["shards"] = {key: list(value.addressable_shards[0].data.shape) for key, value in batch.items()}
record["values"] = all(np.array_equal(batch[key], BATCH[key]) for key in batch)
odd = to_global({"image": np.zeros((8, 6, 8, 3), np.uint8)}, mesh)["image"]
record["odd height"] = list(odd.addressable_shards[0].data.shape)

with tempfile.TemporaryDirectory() as workdir:
    checkpointer = Checkpointer(workdir, config=to_dict(config()), info=INFO, best="miou", resume=False)
    checkpointer.save(2, fsdp, iterator=None)
    checkpointer.close()
    elsewhere = abstract_state(VARIABLES, TX, make_mesh(data=1, spatial=2, devices=jax.devices()[:2]), ema=True)
    restored = checkpointer.restore("last", elsewhere).state
    record["moved"] = bitwise_equal(fsdp, restored)
    record["moved to"] = len(restored.params["stem"]["kernel"].sharding.device_set)

network = create_model("unet/test", INFO.num_classes)
weights = init_variables(network, 0, (32, 32, 3))
large = np.random.default_rng(0).integers(0, 256, (96, 64, 3), dtype=np.uint8)
whole, split = (
    Predictor(network, weights, INFO, mesh=m)(large, probabilities=True) for m in (None, make_mesh(spatial=8))
)
record["one image over eight devices"] = difference(whole.probabilities, split.probabilities)

record["errors"] = [
    message(lambda: make_mesh(spatial=3)),
    message(lambda: make_mesh(data=2, spatial=2)),
    message(lambda: pmapped(mapped, make_mesh(spatial=2))),
    message(lambda: over_batch(mapped, make_mesh(fsdp=2), "float32")),
    message(lambda: over_batch(mapped, make_mesh(spatial=2), "bfloat16")),
    message(lambda: sharding.state_sharding(make_mesh(fsdp=4), ruled.params, {"stem/kernel": 2})),
    message(lambda: sharding.state_sharding(make_mesh(fsdp=4), ruled.params, {"stem/(": 2})),
    message(lambda: sharding.check_rules({"stem/kernel": 2, "stam": 0}, ruled)),
    message(lambda: check_batch_size(12, make_mesh(), accumulate=2)),
]
print(json.dumps(record))
