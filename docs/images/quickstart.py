"""Write quickstart.png: held-out scenes, their truth, and what the quickstart's network says of them.

segjax train --config=configs/quickstart.py && python docs/images/quickstart.py runs/quickstart
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np
from PIL import Image

from segjax import Predictor, load_config
from segjax.data.scenes import SceneSource
from segjax.inference.draw import colour_labels

CONFIG = pathlib.Path(__file__).parents[2] / "configs/quickstart.py"
SHOWN = (20, 7, 30, 1, 44, 18)


def main() -> None:
    predictor = Predictor.from_checkpoint(sys.argv[1])
    options = {k: v for k, v in load_config(str(CONFIG)).data.options.items() if k != "count"}
    scenes, palette = SceneSource("test", **options), predictor.info.palette
    columns = []
    for index in SHOWN:
        scene = scenes[index]
        prediction = predictor(scene["image"]).labels
        rows = [scene["image"], colour_labels(scene["label"], palette), colour_labels(prediction, palette)]
        columns.append(np.concatenate(rows))
    Image.fromarray(np.concatenate(columns, axis=1)).save(pathlib.Path(__file__).with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
