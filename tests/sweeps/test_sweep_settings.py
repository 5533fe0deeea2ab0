"""The cells that a sweep file asks for, and what is said about a file that asks for none."""

import dataclasses
from pathlib import Path

import pytest

from flatrank.sweeps._settings import read_sweep, sweep_of

FILE = """
[fixed]
ensemble = "entries"
shape = [8, 6]
seeds = 2

[grid]
rank = [1, 2]
oversampling = [1.5, 2]
depth = [2, 3]
penalty = ["flatness", "nuclear-norm"]
"""
ONE = {"ensemble": "gaussian", "shape": [6, 5], "rank": 1, "count": 20, "depth": 2}
RECOVER = {**ONE, "penalty": "flatness"}
TRAIN = {**ONE, "method": "train", "optimizer": "sam", "radius": 0.1, "steps": 9}
TRAIN["learning_rate"] = 0.1


def read(tmp_path, text):
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    return read_sweep(path)


def test_a_grid_is_every_combination_once(tmp_path):
    sweep = read(tmp_path, FILE)
    # The nuclear norm has no depth: its cells are not computed twice.
    assert len(sweep.cells) == 2 * 2 * 2 * (2 + 1)
    assert len({cell.key for cell in sweep.cells}) == len(sweep.cells)
    assert {cell.depth for cell in sweep.cells if cell.penalty == "nuclear-norm"} == {None}
    assert {cell.count for cell in sweep.cells} == {20, 26, 36, 48}
    assert sweep.text == FILE


def test_several_grids_are_added(tmp_path):
    text = (
        FILE.replace("[grid]", "[[grid]]") + "\n[[grid]]\nrank = [1]\ncount = [40]\ndepth = [4]\n"
    )
    sweep = read(tmp_path, text + 'penalty = ["weight-decay"]\n')
    assert len(sweep.cells) == 24 + 2
    assert [cell.seed for cell in sweep.cells[-2:]] == [0, 1]


def test_a_key_is_the_content_alone(tmp_path):
    (a,) = sweep_of([RECOVER]).cells
    (b,) = sweep_of([dict(reversed(RECOVER.items())) | {"seed": 0, "noise": 0}]).cells
    assert a.key == b.key
    by_count = {name: value for name, value in RECOVER.items() if name != "count"}
    (c,) = sweep_of([{**by_count, "oversampling": 2.02}]).cells
    assert c.key == a.key
    assert (a.oversampling, c.oversampling) == (2.0, 2.02)
    for change in ({"seed": 1}, {"noise": 0.1}, {"depth": 3}, {"width": 2}, {"count": 21}):
        (other,) = sweep_of([{**RECOVER, **change}]).cells
        assert other.key != a.key, change


def test_every_field_is_part_of_the_key_or_follows():
    (cell,) = sweep_of([TRAIN]).cells
    values = {"str": "another", "float": 0.12345, "int": 12345}
    for field in dataclasses.fields(cell):
        other_value = next(value for name, value in values.items() if name in str(field.type))
        other = dataclasses.replace(cell, **{field.name: other_value})
        assert (other.key == cell.key) == (field.name == "oversampling"), field.name


def test_cells_of_one_program_differ_in_numbers_only():
    settings = [{**TRAIN, "seed": s, "learning_rate": r} for s in (0, 1) for r in (0.1, 0.2)]
    assert len({cell.program for cell in sweep_of(settings).cells}) == 1
    assert len({cell.program for cell in sweep_of([TRAIN, {**TRAIN, "count": 21}]).cells}) == 2


def test_what_no_cell_uses_is_said_and_what_some_use_is_left_out():
    both = [{**TRAIN, "optimizer": name} for name in ("sam", "gradient-descent")]
    assert [cell.radius for cell in sweep_of(both).cells] == [0.1, None]
    with pytest.raises(
        ValueError, match="`radius` is used by no cell: it belongs to optimizer 'sam'"
    ):
        sweep_of(both[1:])
    with pytest.raises(
        ValueError, match="`steps` is used by no cell: it belongs to method 'train'"
    ):
        sweep_of([{**RECOVER, "steps": 3}])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("rank =", "rnak ="), r"\[grid\] has 'rnak'; did you mean 'rank'"),
        (("shape =", "colour ="), r"\[fixed\] has 'colour'; known are method, ensemble"),
        (("[grid]", "[gird]"), "'gird' stands outside .* did you mean 'grid'"),
        (("[1, 2]", "[]"), r"\[grid\] `rank` is an empty list: name at least one"),
        (("[1, 2]", "2"), r"\[grid\] `rank` is 2, no list: write \[2\]"),
        (("[1, 2]", "[1, 'two']"), "`rank` must be a whole number of at least 1, found 'two'"),
        (("[1, 2]", "[true]"), "`rank` must be a whole number of at least 1, found True"),
        (("[1, 2]", "[7]"), "`rank` is 7 and `shape` is 8 x 6: it is 6 at most"),
        (("[2, 3]", "[1]"), "`depth` must be a whole number of at least 2, found 1"),
        (("[1.5, 2]", "[1.5, 9]"), "117 entries .* are more than the 48 of a 8 x 6 matrix"),
        (("[1.5, 2]", "[-1]"), "`oversampling` must be a positive number, found -1"),
        (("[1.5, 2]", "[1.5]\ncount = [5]"), "`count` and `oversampling` are both given"),
        (("oversampling = [1.5, 2]", ""), "neither `oversampling` nor `count` is given"),
        (("penalty = ", "#"), "`penalty` is missing: give it, one of flatness"),
        (('"flatness"', '"flatnes"'), "`penalty` is 'flatnes'; did you mean 'flatness'"),
        (('"entries"', '"poisson"'), "`ensemble` is 'poisson'; known are gaussian, entries"),
        (('"entries"', '["entries"]'), r"\[fixed\] `ensemble` is a list, .* belong in \[grid\]"),
        (('"entries"', "3"), "`ensemble` is 3; known are"),
        (("[8, 6]", "[8, 0]"), r"`shape` must be two whole numbers of at least 1, found \[8, 0\]"),
        (("[8, 6]", "8"), "`shape` must be two whole numbers"),
        (("seeds = 2", "seeds = 0"), r"\[fixed\] `seeds` must be how many"),
        (("seeds = 2", "seeds = 2\nseed = 1"), r"\[fixed\] has `seed` and `seeds`"),
        (("seeds = 2", "rank = 1"), r"`rank` is in \[fixed\] and in \[grid\]"),
        (("seeds = 2", "noise = 1.5"), "`noise` must be from 0 to below 1, found 1.5"),
        (("seeds = 2", "noise = nan"), "`noise` must be from 0 to below 1, found nan"),
        (("seeds = 2", "steps = 5"), "`steps` is used by no cell"),
        (("shape = [8, 6]", ""), "`shape` is missing"),
        (("rank = [1, 2]", "shape = [8, 6]\nrank = [1, 2]"), "`shape` is in"),
        (("[fixed]", "[fixed"), "is not a TOML file"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, change, sentence):
    assert change[0] in FILE
    with pytest.raises(ValueError, match=sentence) as error:
        read(tmp_path, FILE.replace(*change, 1))
    assert "sweep.toml" in str(error.value)
    assert "\n" not in str(error.value).split("(")[0]


def test_more_mistakes_that_need_other_files(tmp_path):
    shapes = FILE.replace("shape = [8, 6]\n", "").replace("[grid]\n", "[grid]\nshape = [8, 6]\n")
    with pytest.raises(ValueError, match=r"`shape` is .*: write a list of pairs"):
        read(tmp_path, shapes)
    with pytest.raises(ValueError, match="there is no cell"):
        sweep_of([])
    with pytest.raises(ValueError, match="must be a table"):
        read(tmp_path, "fixed = 3\n")
    with pytest.raises(ValueError, match="`steps` is missing"):
        sweep_of([{name: value for name, value in TRAIN.items() if name != "steps"}])
    with pytest.raises(ValueError, match="`batch_size` is 21 and there are 20 measurements"):
        sweep_of([{**TRAIN, "batch_size": 21}])
    with pytest.raises(FileNotFoundError, match="is not a file: check the name"):
        read_sweep(Path("nowhere.toml"))
