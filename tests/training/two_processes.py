"""One of two processes of a run that loses its data at step 6 and is resumed (see test_two_processes.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import jax

index, port, workdir = int(sys.argv[1]), sys.argv[2], sys.argv[3]
jax.config.update("jax_num_cpu_devices", 1)
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=index)
sys.path.insert(0, str(Path(__file__).parent))

from toy_run import INFO, Stream, ToyNet, ToyTask, config, transform  # noqa: E402

from segjax.training.loop import train  # noqa: E402


class Share(Stream):
    """This process's half of each batch; its state is its own."""

    def __init__(self, last: int):
        super().__init__()
        self.last = last

    def __next__(self):
        if self.position == self.last:
            raise RuntimeError("the data is gone")
        batch = super().__next__()
        half = self.batch_size // 2
        return {key: value[index * half : (index + 1) * half] for key, value in batch.items()}

    def get_state(self):
        return {"position": self.position, "process": index}

    def set_state(self, state):
        assert state["process"] == index
        super().set_state(state)


for resume, last in ((False, 6), (True, 8)):
    try:
        train(
            config(optim={"name": "sgd", "learning_rate": 0.1}),
            model=ToyNet(),
            task=ToyTask(),
            transform=transform,
            batches=Share(last),
            info=INFO,
            steps=8,
            workdir=workdir,
            evaluate=lambda state: {"miou": 0.5},
            resume=resume,
        )
    except RuntimeError:
        if resume:
            raise
