"""Situations that users of other tools reported in public, each with what segjax makes of it.

`S`, `W` and `U` number the failures of the table that the reports were collected in. What needs a trained network is in
tests/cli, what befalls a run in tests/faults.
"""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from tiny_sets import grey_png

from segjax.cli.main import main
from segjax.core.config import Data, from_dict
from segjax.core.errors import ConfigError, DataError
from segjax.core.schema import IGNORE, IMAGE, LABEL
from segjax.data import builders
from segjax.data.check import check
from segjax.data.dataset import open_dataset
from segjax.data.decode import open_image, open_picture
from segjax.data.labels import open_label, read_ids
from segjax.data.palettes import distinct
from segjax.data.tiff import upright
from segjax.inference.label_writer import write_labels
from segjax.inference.written import Written, meaning
from segjax.tasks import make_task

COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
COLOURED = ("bg 0 0 0", "a 255 0 0", "b 0 255 0")
NAMES = ("bg", "a", "b")


def scene(seed):
    """uint8 [48, 64, 3] and its classes [48, 64]: two boxes on a ground."""
    y = np.zeros((48, 64), np.uint8)
    y[5:25, 5:30] = 1
    y[25:45, 30:60] = 2
    x = np.array([[60, 120, 60], [200, 60, 60], [60, 60, 220]])[y]
    return (x + np.random.default_rng(seed).normal(0, 8, (48, 64, 3))).clip(0, 255).astype(np.uint8), y


def png(array, path, index):
    Image.fromarray(array).save(f"{path}.png")


def make(root, classes=NAMES, image=png, label=png, n=2, splits=("train", "val")):
    """A `folder` data set whose files `image` and `label` write."""
    for split in splits:
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        for index in range(n):
            x, y = scene(index)
            image(x, f"{root}/{split}/images/{index}", index)
            label(y, f"{root}/{split}/labels/{index}", index)
    (root / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    return root


def kinds(root, **options):
    return {problem.kind for problem in check("folder", root, options).problems}


def shares(root, **options):
    report = check("folder", root, options)
    assert not report.problems, report.problems
    return {split: counts.pixels.tolist() for split, counts in report.counts.items()}


def prepared(root, cache, **options):
    return open_dataset(Data(name="folder", root=str(root), cache=str(cache), options=options))


def refused(root, cache, **options):
    """The one line with which preparing the set is refused."""
    with pytest.raises((DataError, ConfigError)) as caught:
        prepared(root, cache, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def truth(root):
    return shares(make(root))


def palette_file(order, colours=COLOURS):
    def save(y, path, index):
        picture = Image.fromarray(np.array(order(index), np.uint8)[y])
        table = np.full((256, 3), 77, np.uint8)
        for ident, place in enumerate(order(index)):
            table[place] = colours[ident]
        picture.putpalette(table.ravel().tolist())
        picture.save(f"{path}.png")

    return save


def reordered(index):
    return (0, 1, 2) if index % 2 else (2, 0, 1)


class TestPalettes:  # S1
    def test_read_by_colour_where_the_class_list_has_colours(self, tmp_path):
        expected = shares(make(tmp_path / "rgb", COLOURED, label=lambda y, p, i: png(COLOURS[y], p, i)))
        assert (
            shares(make(tmp_path / "p", COLOURED, label=palette_file(reordered))) == expected == truth(tmp_path / "t")
        )
        sample = prepared(tmp_path / "p", tmp_path / "cache").split("train")[0]
        np.testing.assert_array_equal(sample[LABEL], scene(0)[1])

    def test_an_index_that_shows_another_classs_colour_is_refused(self, tmp_path):
        odd = np.array([[0, 255, 0], [9, 9, 9], [255, 0, 0]], np.uint8)
        root = make(tmp_path / "p", COLOURED, label=palette_file(lambda i: (0, 1, 2), odd))
        assert kinds(root) == {"unreadable label"}
        message = refused(root, tmp_path / "cache")
        assert "palette index 0 shows (0, 255, 0), the colour of class 'b'" in message
        assert 'data.options.palettes="indices"' in message
        assert shares(root, palettes="indices") == truth(tmp_path / "t")

    def test_colours_that_are_nobodys_do_not_count(self, tmp_path):
        odd = np.array([[1, 2, 3], [9, 9, 9], [7, 7, 7]], np.uint8)
        root = make(tmp_path / "p", COLOURED, label=palette_file(lambda i: (0, 1, 2), odd))
        assert shares(root) == truth(tmp_path / "t")
        assert kinds(root, palettes="colours") == {"unreadable label"}

    def test_one_colour_under_two_indices_without_a_list_of_colours(self, tmp_path):
        root = make(tmp_path / "p", label=palette_file(reordered))
        assert kinds(root) == {"palettes differ"}
        assert "is index" in refused(root, tmp_path / "cache")
        assert not kinds(root, palettes="indices")

    def test_255_is_void_by_any_colour(self, tmp_path):
        def label(y, path, index):
            y = y.copy()
            y[0] = IGNORE
            picture = Image.fromarray(y)
            picture.putpalette(np.vstack([COLOURS, np.full((253, 3), 200, np.uint8)]).ravel().tolist())
            picture.save(f"{path}.png")

        report = check("folder", make(tmp_path / "p", COLOURED, label=label))
        assert not report.problems
        assert report.counts["train"].void == 2 * 64

    @pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
    def test_one_bit_shows_black_and_white(self, tmp_path, suffix):
        def label(y, path, index):
            Image.fromarray(y > 0).save(f"{path}.{suffix}")

        expected = [(scene(0)[1] > 0).sum() * 2, (scene(0)[1] == 0).sum() * 2]
        found = shares(make(tmp_path / "a", ("fg 255 255 255", "bg 0 0 0"), label=label))
        assert found["train"] == expected
        found = shares(make(tmp_path / "b", ("bg 0 0 0", "fg 255 0 0"), label=label))
        assert found["train"] == expected[::-1]
        assert kinds(make(tmp_path / "c", ("fg 255 0 0", "bg 0 0 0"), label=label)) == {"unreadable label"}

    def test_tiff(self, tmp_path):
        tifffile = pytest.importorskip("tifffile")

        def label(y, path, index):
            order = np.array(reordered(index), np.uint8)
            table = np.zeros((3, 256), np.uint16)
            for ident, place in enumerate(order):
                table[:, place] = COLOURS[ident].astype(np.uint16) * 257
            tifffile.imwrite(f"{path}.tif", order[y], photometric="palette", colormap=table)

        assert shares(make(tmp_path / "p", COLOURED, label=label)) == truth(tmp_path / "t")


class TestNothingToLearn:  # S2, S7
    def test_one_class(self, tmp_path):
        root = make(tmp_path / "one", ("building",), label=lambda y, p, i: png((y > 0).astype(np.uint8) * 255, p, i))
        with pytest.raises(DataError, match=r"one class, 'building'.*background.*values=\{255: 1\}"):
            check("folder", root)
        assert "one class" in refused(root, tmp_path / "cache")
        assert "one class" in refused(make(tmp_path / "two"), tmp_path / "cache", classes=("building",))

    def test_one_class_that_occurs(self, tmp_path):
        root = make(tmp_path / "only", label=lambda y, p, i: png(y * 0 + 1, p, i))
        (problem,) = check("folder", root).problems
        assert problem.kind == "one class"
        assert "'a' is the only one of 3 classes that occurs" in problem.text
        dataset = prepared(root, tmp_path / "cache")  # to be scored on, perhaps
        dataset.require_labels("val")
        with pytest.raises(DataError, match="split 'train' of 'folder': only class 'a' occurs"):
            make_task(from_dict({"data": {"name": "folder"}}), dataset.info, dataset)

    def test_nothing_but_void(self, tmp_path, capsys):
        root = make(tmp_path / "void", label=lambda y, p, i: png(y * 0 + 255, p, i))
        assert kinds(root) == {"only void"}
        assert "every label pixel is void" in refused(root, tmp_path / "cache")
        assert main(["data", "check", "folder", "--root", str(root)]) == 1

    def test_a_training_split_of_one_class_is_refused_when_training(self, tmp_path):
        root = make(tmp_path / "set")
        for path in (root / "train/labels").iterdir():
            Image.fromarray(np.zeros((48, 64), np.uint8)).save(path)
        dataset = prepared(root, tmp_path / "cache")
        with pytest.raises(DataError, match="split 'train' of 'folder': only class 'bg' occurs"):
            dataset.require_classes("train")
        dataset.require_classes("val")
        dataset.require_classes("train+val")

    def test_a_void_split_is_not_scored(self, tmp_path):
        root = make(tmp_path / "set")
        for path in (root / "val/labels").iterdir():
            Image.fromarray(np.full((48, 64), 255, np.uint8)).save(path)
        dataset = prepared(root, tmp_path / "cache")
        for split in ("val", "val[:50%]"):
            with pytest.raises(DataError, match=rf"split '{re.escape(split)}' of 'folder': every label pixel is void"):
                dataset.require_labels(split)
        with pytest.raises(DataError, match="every label pixel is void, so there is nothing to learn"):
            dataset.require_classes("val[50%:]")
        dataset.require_classes("train[:50%]+val[:50%]")
        (problem,) = check("folder", root).problems
        assert problem.kind == "void split"
        assert "every label pixel of split 'val' is void" in problem.text


class TestVoid:  # S8
    def test_masks_of_two_conventions(self, tmp_path):
        def label(y, path, index):
            png((y > 0).astype(np.uint8) * (255 if index % 2 else 1), path, index)

        root = make(tmp_path / "both", ("bg", "fg"), label=label)
        (problem,) = check("folder", root).problems
        assert problem.kind == "mixed masks"
        assert "2 labels hold 255 and no 1 (1.png, 1.png), 2 hold 1 and no 255 (0.png, 0.png)" in problem.text
        assert "values={255: 1}" in refused(root, tmp_path / "cache")
        foreground = int((scene(0)[1] > 0).sum())
        assert shares(root, values={255: 1})["train"][1] == 2 * foreground
        assert shares(root, ignore=255)["train"][1] == foreground

    def test_void_in_some_of_the_masks_is_no_convention(self, tmp_path):
        def label(y, path, index):
            y = (y > 0).astype(np.uint8)
            y[0] = 255
            png(y, path, index)

        assert not kinds(make(tmp_path / "v", ("bg", "fg"), label=label))

    def test_masks_of_two_conventions_of_three_classes(self, tmp_path):
        def label(y, path, index):
            png(np.where(y == 2, 255 if index % 2 else 2, y).astype(np.uint8), path, index)

        root = make(tmp_path / "both", label=label, n=4)
        assert kinds(root) == {"mixed masks"}
        assert "if both mean 'b', set data.options.values={255: 2}" in refused(root, tmp_path / "cache")
        assert shares(root, values={255: 2}) == shares(make(tmp_path / "truth", n=4))
        assert not kinds(root, ignore=255)

    def test_black_has_to_be_listed_or_named(self, tmp_path):
        root = make(tmp_path / "k", ("a 255 0 0", "b 0 255 0"), label=lambda y, p, i: png(COLOURS[y], p, i))
        assert kinds(root) == {"unreadable label"}
        assert "label colour (0, 0, 0)" in refused(root, tmp_path / "cache")
        report = check("folder", root, {"ignore": ((0, 0, 0),)})
        assert not report.problems
        assert report.counts["train"].void == 2 * int((scene(0)[1] == 0).sum())

    def test_a_colour_and_three_values_are_told_apart(self, tmp_path):
        root = make(tmp_path / "k", COLOURED, label=lambda y, p, i: png(COLOURS[y], p, i))
        assert "ignore=((0, 0, 0),)" in refused(root, tmp_path / "cache", ignore=(0, 0, 0))

    @pytest.mark.parametrize("value", [-1, -100, 70000])
    def test_any_whole_number_can_be_void(self, tmp_path, value):  # U6
        def label(y, path, index):
            np.save(f"{path}.npy", np.where(y == 2, value, y.astype(np.int64)))

        root = make(tmp_path / "neg", label=label)
        assert kinds(root) == {"unknown label value"}
        report = check("folder", root, {"ignore": value})
        assert not report.problems
        assert report.counts["train"].void == 2 * int((scene(0)[1] == 2).sum())
        assert shares(root, values={value: 2}) == truth(tmp_path / "t")


@pytest.mark.parametrize("depth", [2, 4])
def test_label_files_have_one_reader(tmp_path, depth):  # S3
    ids = scene(0)[1]
    (tmp_path / "a.png").write_bytes(grey_png(ids.astype(np.int64), depth))
    assert np.asarray(Image.open(tmp_path / "a.png")).max() > 2  # the trap

    def read(name, count):
        return read_ids(tmp_path / name, meaning(tmp_path, [f"k{i}" for i in range(count)], None, None)).ids

    np.testing.assert_array_equal(read("a.png", 180), ids)
    np.testing.assert_array_equal(read("a.png", 300), ids)
    Image.fromarray(ids > 0).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read("b.png", 2), ids > 0)
    np.save(tmp_path / "c.npy", ids.astype(np.int64))
    np.testing.assert_array_equal(read("c.npy", 3), ids)
    with pytest.raises(DataError, match=r"label 2 on \d+ pixels"):
        read("c.npy", 2)


def scored(root, folder, classes=NAMES, colours=None, **options):
    """The share of right pixels of the label files in `folder` as predictions for the split val of `root`."""
    layout = builders.layout("folder", root, options)
    written = Written(meaning(folder, classes, colours, layout), options.get("label_suffix", ""))
    truth = [open_label(sample.label, layout).ids for sample in layout.splits["val"]]
    names, sizes = [sample.name for sample in layout.splits["val"]], np.array([ids.shape for ids in truth])
    found = written({}, {"label": np.stack(truth), "name": names, "size": sizes})
    written.check()
    return (found["label"] == np.stack(truth)).mean()


class TestPredictionsMeanWhatLabelsMean:  # S1, S3, S4, S8: a set's own labels, scored as predictions, are right
    @pytest.mark.parametrize(
        "label",
        [palette_file(reordered), lambda y, p, i: png(COLOURS[y], p, i), lambda y, p, i: png(y, p, i)],
        ids=["palette", "colours", "ids"],
    )
    def test_colours(self, tmp_path, label):
        root = make(tmp_path / "set", COLOURED, label=label)
        assert scored(root, root / "val/labels") == 1
        plain = make(tmp_path / "plain")
        palette = tuple(map(tuple, COLOURS.tolist()))
        assert scored(plain, root / "val/labels", colours=palette) == 1

    def test_palettes_in_two_orders(self, tmp_path):
        root = make(tmp_path / "set")
        make(tmp_path / "palette", label=palette_file(reordered))
        with pytest.raises(DataError, match=r"colour \(0, 0, 0\) is index"):
            scored(root, tmp_path / "palette/val/labels")

    def test_masks_of_0_and_255(self, tmp_path):
        names = ("bg", "fg")
        root = make(tmp_path / "set", names, label=lambda y, p, i: png((y > 0).astype(np.uint8) * 255, p, i))
        assert scored(root, root / "val/labels", names, values={255: 1}) == 1
        plain = make(tmp_path / "plain", names, label=lambda y, p, i: png((y > 0).astype(np.uint8), p, i))
        with pytest.raises(DataError, match=r"class 'fg' never occurs, void does.*values=\{255: 1\}"):
            scored(plain, root / "val/labels", names)

    def test_void_of_a_prediction_in_colour_stays_void(self, tmp_path):
        names = ("bg", "fg")
        root = make(tmp_path / "set", names, label=lambda y, p, i: png((y > 0).astype(np.uint8) * 255, p, i))
        (tmp_path / "out").mkdir()
        for index in range(2):
            write_labels(tmp_path / f"out/{index}.png", [np.full((48, 64), 255)], (48, 64), distinct(2))
        assert scored(root, tmp_path / "out", names, distinct(2), values={0: 0, 255: 1}) == 0

    def test_options_of_the_set(self, tmp_path):
        root = make(tmp_path / "set", label=lambda y, p, i: np.save(f"{p}_mask.npy", y - 3 * (y == 2).astype(int)))
        assert scored(root, root / "val/labels", ignore=-1, label_suffix="_mask") == 1
        assert scored(root, root / "val/labels", values={-1: 2}, label_suffix="_mask") == 1
        # Ids are the classes' own, whatever numbers the set's labels have for them.
        shifted = make(tmp_path / "shifted", label=lambda y, p, i: png(y + 1, p, i))
        ids = make(tmp_path / "ids")
        assert scored(shifted, ids / "val/labels", values={1: 0, 2: 1, 3: 2}) == 1

    def test_nodata_of_floats(self, tmp_path):
        tifffile = pytest.importorskip("tifffile")
        root = make(tmp_path / "set")
        (tmp_path / "out").mkdir()
        for index in range(2):
            ids = np.where(scene(index)[1] == 2, np.float32(-9999), scene(index)[1]).astype(np.float32)
            tag = [(42113, 2, 0, "-9999", True)]
            tifffile.imwrite(tmp_path / f"out/{index}.tif", ids, extratags=tag)
        assert scored(root, tmp_path / "out") == (scene(0)[1] != 2).mean()


class TestTiff:  # S4, S5
    tifffile = pytest.importorskip("tifffile")

    def test_orientation_and_photometric(self, tmp_path):
        x, _ = scene(0)
        lies = x[::-1, ::-1]
        self.tifffile.imwrite(tmp_path / "down.tif", lies, photometric="rgb", extratags=[(274, "H", 1, 3, True)])
        shown = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "down.tif")))
        np.testing.assert_array_equal(shown, x)
        np.testing.assert_array_equal(open_image(tmp_path / "down.tif"), x)
        self.tifffile.imwrite(tmp_path / "white.tif", 255 - x[..., 0], photometric="miniswhite")
        np.testing.assert_array_equal(open_image(tmp_path / "white.tif")[..., 0], x[..., 0])

    @staticmethod
    def band(nodata, hole=slice(0, 4)):
        def save(x, path, index):
            values = (x[..., 0] / 255).astype(np.float32)
            values[hole, :4] = nodata
            tags = [(42113, "s", 0, str(nodata), True)]
            TestTiff.tifffile.imwrite(f"{path}.tif", values, extratags=tags)

        return save

    @pytest.mark.parametrize("nodata", [-9999, "nan", -3.4028234663852886e38])
    def test_nodata_is_void_and_the_mean(self, tmp_path, nodata):
        root = make(tmp_path / "set", image=self.band(float(nodata)))
        report = check("folder", root)
        assert not report.problems
        counts = report.counts["train"]
        known = np.ones((48, 64), bool)
        known[:4, :4] = False
        values = np.concatenate([(scene(i)[0][..., 0] / 255).astype(np.float32)[known] for i in range(2)])
        np.testing.assert_allclose(counts.mean(), values.mean(dtype=np.float64), rtol=1e-7)
        np.testing.assert_allclose(counts.std(), values.std(dtype=np.float64), rtol=1e-6)
        assert (counts.missing, counts.void) == (32, 32)
        assert "nodata in images 32 pixels" in "\n".join(report.lines())
        dataset = prepared(root, tmp_path / "cache")
        sample = dataset.split("train")[1]
        assert (sample[LABEL][:4, :4] == IGNORE).all()
        assert (sample[LABEL] == IGNORE).sum() == 16
        np.testing.assert_allclose(dataset.info.mean, counts.mean())
        np.testing.assert_allclose(sample[IMAGE][:4, :4, 0], np.float32(counts.mean()[0]), rtol=1e-6)

    def test_nodata_that_is_data(self, tmp_path):
        root = make(tmp_path / "set", image=self.band(0.0))
        picture = open_picture(root / "train/images/0.tif", nodata="none")
        assert picture.missing is None
        assert picture.pixels[0, 0, 0] == 0

    def test_nodata_of_whole_numbers(self, tmp_path):
        x, _ = scene(0)
        dark = x.copy()
        dark[:2] = 0
        dark[5, 5, 0] = 0  # one channel alone may be dark
        self.tifffile.imwrite(tmp_path / "a.tif", dark, photometric="rgb", extratags=[(42113, "s", 0, "0", True)])
        picture = open_picture(tmp_path / "a.tif")
        assert picture.void.sum() == 2 * 64
        filled = picture.filled((100.4, 50.6, 7))
        np.testing.assert_array_equal(filled[:2], np.broadcast_to(np.uint8([100, 51, 7]), (2, 64, 3)))
        np.testing.assert_array_equal(filled[2:], dark[2:])

    def test_nan_needs_to_be_named(self, tmp_path):
        def save(x, path, index):
            values = x[..., 0].astype(np.float64)
            values[3, 3] = np.nan
            np.save(f"{path}.npy", values)

        root = make(tmp_path / "set", image=save)
        assert kinds(root) == {"unreadable or unfit image"}
        assert "data.options.nodata='nan'" in refused(root, tmp_path / "cache")
        report = check("folder", root, {"nodata": "nan"})
        assert not report.problems
        assert report.counts["train"].void == 2

    def test_nodata_of_a_label(self, tmp_path):
        def label(value):
            def save(y, path, index):
                y = np.where(y == 2, value, y.astype(np.int16))
                self.tifffile.imwrite(f"{path}.tif", y, extratags=[(42113, "s", 0, str(value), True)])

            return save

        report = check("folder", make(tmp_path / "a", label=label(-9999)))
        assert not report.problems
        assert report.counts["train"].void == report.counts["train"].nodata == 2 * int((scene(0)[1] == 2).sum())
        root = make(tmp_path / "b", label=label(0))
        assert kinds(root) == {"unreadable label"}
        assert "declares 0 to be nodata, and 0 is class 'bg'" in refused(root, tmp_path / "cache")
        assert not kinds(root, values={0: 0})
        assert check("folder", root, {"ignore": 0}).counts["train"].pixels[0] == 0


class TestClassLists:  # W3
    def write(self, tmp_path, text, encoding="utf-8"):
        root = make(tmp_path / "set", n=1)
        (root / "classes.txt").write_bytes(text.encode(encoding))
        return root

    @pytest.mark.parametrize(
        "text", ["\ufeffroad\r\nsky\r\ncar\r\n", "road\rsky\rcar", "# classes\nroad\n\n sky \ncar", "road\tsky\ncar\nx"]
    )
    def test_files_of_editors(self, tmp_path, text):
        classes = builders.layout("folder", self.write(tmp_path, text)).classes
        assert classes == (("road sky", "car", "x") if "\t" in text else ("road", "sky", "car"))

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("road\nsky\nroad\n", "class 'road' is listed twice"),
            ("1 2 3 road\n4 5 6 sky\n", "has the colour first"),
            ("road,1,2,3\nsky,4,5,6\n", "has commas"),
            ("0 road\n1 sky\n2 car\n", "the lines are numbered"),
            ("0: road\n1: sky\n2: car\n", "the lines are numbered"),
            ("id,name\n0,road\n1,sky\n", "the lines are numbered"),
            ("1 road\n0 sky\n", "the lines are numbered"),  # by which line 1 is class 1
            ("7. road\n9. sky\n", "the lines are numbered"),
            ("sky 1\nroad 0\n", "the lines are numbered"),
            ("road=0\nsky=1\n", "the lines are numbered"),
            ("0 road 9 9 9\n1 sky 8 8 8\n", "the lines are numbered"),
            ('["road", "sky"]', "one class a line"),
            ('[\n  "road",\n  "sky"\n]\n', "one class a line"),
            ('"road"\n"sky"\n', "without quotes"),
            ("names:\n- road\n- sky\n", "one class a line"),
            ("road,\nsky,\n", "commas"),
            ("road:9,9,9::\nsky:8,8,8::\n", "a colour of another form"),
            ("road (9, 9, 9)\nsky (8, 8, 8)\n", "a colour of another form"),
            ("road #090909\nsky #080808\n", "a colour of another form"),
            ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
            ("road\0\nsky\n", "is not text"),
        ],
    )
    def test_other_forms_are_refused(self, tmp_path, text, says):
        with pytest.raises(DataError, match=says):
            builders.layout("folder", self.write(tmp_path, text))

    @pytest.mark.parametrize(
        "names",
        [
            ("class 0", "class 1"),
            ("Landsat 8", "Sentinel 2"),
            ("2 wheels", "4 wheels"),
            ("car (parked)", "road, sidewalk"),
            ("k0", "k1"),
            ("3d-object", "2d-object", "sky"),
            ("lane 1", "lane 2", "road 3"),
            ("traffic light (red)", "driver's cab"),
        ],
    )
    def test_names_with_numbers_and_marks(self, tmp_path, names):
        assert builders.layout("folder", self.write(tmp_path, "\n".join(names))).classes == names
        lines = [f"{name} {k} {k} {k}" for k, name in enumerate(names)]
        assert builders.layout("folder", self.write(tmp_path, "\n".join(lines))).classes == names

    def test_files_put_together(self, tmp_path):
        text = "\ufeffroad\n\ufeffsky\n\u200bcar\n"
        assert builders.layout("folder", self.write(tmp_path, text)).classes == ("road", "sky", "car")

    def test_utf_16(self, tmp_path):
        with pytest.raises(DataError, match="save it as UTF-8"):
            builders.layout("folder", self.write(tmp_path, "road\nsky\n", "utf-16"))


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


class TestOrientation:  # W2
    @pytest.mark.parametrize("orientation", range(0, 10))
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
    @pytest.mark.parametrize("mode", ["L", "RGB"])
    def test_every_picture_is_upright_and_keeps_its_channels(self, tmp_path, orientation, suffix, mode):
        picture = Image.fromarray(scene(0)[0]).convert(mode)
        path = tmp_path / f"a.{suffix}"
        picture.save(path, exif=turned(orientation), **({"lossless": True} if suffix == "webp" else {}))
        with Image.open(path) as stored:
            expected = np.asarray(ImageOps.exif_transpose(stored))
        found = open_image(path)
        assert found.shape[-1] == (3 if suffix == "webp" else {"L": 1, "RGB": 3}[mode])  # WebP knows no grey
        tolerance = 2 if suffix == "jpg" else 0  # two decoders
        np.testing.assert_allclose(found.astype(int), expected.reshape(found.shape).astype(int), atol=tolerance)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_labels_too(self, tmp_path, orientation):
        y = scene(0)[1]
        stored = upright(y, {6: 8, 8: 6}.get(orientation, orientation))  # the others undo themselves
        picture = Image.fromarray(stored)
        picture.save(tmp_path / "grey.png", exif=turned(orientation))
        Image.fromarray(COLOURS[stored]).save(tmp_path / "rgb.png", exif=turned(orientation))
        picture.putpalette(COLOURS.ravel().tolist())
        picture.save(tmp_path / "palette.png", exif=turned(orientation))
        layout = meaning(tmp_path, NAMES, tuple(map(tuple, COLOURS.tolist())), None)
        for name in ("grey", "rgb", "palette"):
            np.testing.assert_array_equal(open_label(tmp_path / f"{name}.png", layout).ids, y)

    def test_a_grey_set(self, tmp_path):
        root = make(tmp_path / "grey", image=lambda x, p, i: Image.fromarray(x[..., 0]).save(f"{p}.jpg"))
        x, y = scene(9)
        lies = Image.fromarray(np.rot90(x[..., 0]).copy())
        for name, picture, orientation in (("8", Image.fromarray(x[..., 0]), 0), ("9", lies, 6)):
            picture.save(root / f"train/images/{name}.jpg", exif=turned(orientation))
            Image.fromarray(y).save(root / f"train/labels/{name}.png")
        assert not kinds(root)
        np.testing.assert_array_equal(open_image(root / "train/images/9.jpg").shape, (48, 64, 1))


class TestWhatIsNotRead:  # S9, U1, U2
    @pytest.mark.parametrize("suffix", ["bmp", "webp"])
    def test_more_formats(self, tmp_path, suffix):
        options = {"lossless": True} if suffix == "webp" else {}
        root = make(tmp_path / suffix, image=lambda x, p, i: Image.fromarray(x).save(f"{p}.{suffix}", **options))
        assert not kinds(root)
        sample = prepared(root, tmp_path / "cache").split("val")[1]
        np.testing.assert_array_equal(sample[IMAGE], scene(1)[0])

    def test_a_label_as_bmp(self, tmp_path):
        assert shares(make(tmp_path / "b", label=lambda y, p, i: Image.fromarray(y).save(f"{p}.bmp"))) == truth(
            tmp_path / "t"
        )

    def test_a_picture_of_another_format_is_named(self, tmp_path, capsys):
        root = make(tmp_path / "set")
        Image.fromarray(scene(0)[0]).save(root / "train/images/7.gif")
        Image.fromarray(scene(0)[1]).save(root / "train/labels/7.png")
        assert kinds(root) == {"not read", "label without an image"}
        prepared(root, tmp_path / "cache")
        told = capsys.readouterr().err
        assert "not read: " in told
        assert "7.gif" in told
        assert "no image of that name: " in told
        prepared(root, tmp_path / "cache")  # from the copy that stands
        assert "7.gif" in capsys.readouterr().err

    def test_jpeg_masks(self, tmp_path):
        root = make(tmp_path / "jl", label=lambda y, p, i: Image.fromarray(y * 100).save(f"{p}.jpg"))
        report = check("folder", root)
        assert {problem.kind for problem in report.problems} == {"image without a label", "not read"}
        assert any("0.jpg: JPG changes label values; save it as PNG" in problem.text for problem in report.problems)
        assert "labels holds 2 .jpg" in refused(root, tmp_path / "cache")

    def test_a_layout_that_is_nearly_right(self, tmp_path):
        root = make(tmp_path / "gif", image=lambda x, p, i: Image.fromarray(x).save(f"{p}.gif"))
        assert "train/images holds 2 .gif" in refused(root, tmp_path / "cache")
        root = make(tmp_path / "masks")
        for split in ("train", "val"):
            (root / split / "labels").rename(root / split / "masks")
        assert "labels is not there; beside it lie masks" in refused(root, tmp_path / "cache")
        root = make(tmp_path / "city")
        (root / "train/images").rename(root / "aachen")
        (root / "train/images").mkdir()
        (root / "aachen").rename(root / "train/images/aachen")
        assert any("a folder; move its files up" in problem.text for problem in self.problems_of(root))
        root = make(tmp_path / "flat", splits=("train",))
        (root / "train/images").rename(root / "images")
        assert "it holds 1 .txt, 2 folders (images, train)" in refused(root, tmp_path / "cache")
        root = make(tmp_path / "suffix")
        for path in root.glob("*/labels/*"):
            path.rename(path.with_name(f"{path.stem}_mask.png"))
        assert "label_suffix='_mask'" in refused(root, tmp_path / "cache")

    @staticmethod
    def problems_of(root):
        return check("folder", root).problems


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("values", {255: 1.5}, "not a dict of whole numbers"),
        ("values", {0.5: 1}, "not a dict of whole numbers"),
        ("values", {255: float("inf")}, "not a dict of whole numbers"),
        ("values", {255: 7}, "outside classes 0..2"),
        ("ignore", "-1", "'-1' is neither a label value nor a colour"),
        ("ignore", -1.0, "-1.0 is neither a label value nor a colour"),
        ("channels", True, "True is not a number of channels"),
        ("label_suffix", 5, "5 is no text"),
        ("label_suffix", None, "None is no text"),
    ],
)
def test_options_of_a_wrong_kind(tmp_path, option, value, says):  # U6
    with pytest.raises(ConfigError, match=re.escape(says)):
        builders.layout("folder", make(tmp_path / "set", n=1), {option: value})


class TestLimits:  # U5
    def test_a_limit_is_told_as_a_limit(self, tmp_path, monkeypatch):
        Image.new("L", (300, 200)).save(tmp_path / "big.png")
        monkeypatch.setenv("SEGJAX_MAX_PIXELS", "50000")
        with pytest.raises(DataError, match=r"200x300 is 60,000 pixels, the limit is 50,000; raise it with SEGJAX_MAX"):
            open_image(tmp_path / "big.png")
        monkeypatch.setenv("SEGJAX_MAX_PIXELS", "60000")
        assert open_image(tmp_path / "big.png").shape == (200, 300, 1)
        for text in ("many", "0", "-5", "inf", "nan"):
            monkeypatch.setenv("SEGJAX_MAX_PIXELS", text)
            with pytest.raises(ConfigError, match=f"SEGJAX_MAX_PIXELS='{text}'"):
                open_image(tmp_path / "big.png")

    def test_pillows_limit_is_not_ours(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SEGJAX_MAX_PIXELS", "2e8")
        Image.new("1", (14000, 14000)).save(tmp_path / "big.png")
        assert open_image(tmp_path / "big.png").shape == (14000, 14000, 1)

    def test_sizes_that_the_bytes_cannot_hold(self, tmp_path):
        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = struct.pack(">IIBBBBB", 13000, 13000, 16, 6, 0, 0, 0)
        body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        with pytest.raises(DataError, match="damaged or truncated"):
            open_image(tmp_path / "a.png")

    def test_bigtiff(self, tmp_path):
        x, _ = scene(0)
        Image.fromarray(x).save(tmp_path / "b.tif", big_tiff=True)
        np.testing.assert_array_equal(open_image(tmp_path / "b.tif"), x)

    @pytest.mark.parametrize(
        ("start", "what"),
        [(b"GIF89a", "GIF"), (b"version https://git-lfs.github.com/spec/v1", "Git LFS"), (b"%PDF", "PDF")],
    )
    def test_other_files_are_named(self, tmp_path, start, what):
        (tmp_path / "a.png").write_bytes(start + b" " * 200)
        with pytest.raises(DataError, match=what):
            open_image(tmp_path / "a.png")
