"""Run in a process of its own with four simulated devices; prints one JSON record (see test_members.py)."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import jax

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_enable_x64", True)
sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

import numpy as np  # noqa: E402
from toy_run import INFO, Stream, ToyNet, ToyTask, config, transform  # noqa: E402

from segjax.parallel.members import members_mesh, rows_of  # noqa: E402
from segjax.training.loop import train  # noqa: E402
from segjax.training.members import Member, train_members  # noqa: E402
from segjax.training.state import init_variables  # noqa: E402

NET, STEPS = ToyNet(dropout=0.3), 3
RATES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
VARIABLES = jax.tree.map(lambda x: np.asarray(x, np.float64), init_variables(NET, 0, (8, 8, 3)))
SETTINGS = [
    config(optim={"name": "sgd", "learning_rate": rate}, train={"steps": STEPS, "eval_every": STEPS}) for rate in RATES
]

record = {"devices": len(jax.devices()), "rows": rows_of(6, members_mesh(6)), "two": members_mesh(2).size}
with tempfile.TemporaryDirectory() as root:
    shared = Stream()
    for name, streams in (("shared", [shared] * 6), ("own", [Stream() for _ in RATES])):
        members = [
            Member(settings, NET, ToyTask(), stream, Path(root) / name / str(rate), VARIABLES)
            for settings, stream, rate in zip(SETTINGS, streams, RATES)
        ]
        together = train_members(
            members,
            arguments={"optim.learning_rate": RATES},
            build=lambda values: (NET, ToyTask()),
            transform=transform,
            info=INFO,
            steps=STEPS,
        ).states
        alone = train(
            SETTINGS[4],
            model=NET,
            task=ToyTask(),
            transform=transform,
            batches=Stream(),
            info=INFO,
            steps=STEPS,
            workdir=Path(root) / f"{name}-alone",
            variables=VARIABLES,
        ).state
        pairs = list(zip(jax.tree.leaves(together[4]), jax.tree.leaves(alone), strict=True))
        record[name] = max(float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max()) for a, b in pairs)
        record[f"{name} devices"] = len(together[4].params["head"]["kernel"].sharding.device_set)
print(json.dumps(record))
