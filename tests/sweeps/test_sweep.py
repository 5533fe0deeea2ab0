"""A sweep's cells and its folder: batches against single runs, nothing repeated, nothing doubled."""

from pathlib import Path

import cvxpy
import jax
import numpy as np
import pytest

import flatrank as fr
from compiled_order import independent_factorisations
from flatrank.problems import draw_covering_entries, draw_truth
from flatrank.sweeps import _cells as sweep_cells
from flatrank.sweeps import _run as sweep
from flatrank.sweeps._cells import COLUMNS, batches, run_batch
from flatrank.sweeps._run import read_results, read_texts, run_sweep
from flatrank.sweeps._settings import Sweep, read_sweep, sweep_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "sweep.toml"
RECOVER = {
    "ensemble": "entries",
    "shape": [7, 6],
    "rank": 1,
    "count": 27,
    "depth": 2,
    "penalty": "weight-decay",
}
TRAIN = {
    "method": "train",
    "ensemble": "gaussian",
    "shape": [5, 4],
    "rank": 1,
    "count": 16,
    "noise": 0.1,
    "depth": 2,
    "optimizer": "label-noise",
    "learning_rate": 0.05,
    "label_noise": 0.1,
    "batch_size": 4,
    "steps": 40,
}
SEEDS = [{**RECOVER, "seed": seed} for seed in range(3)]
RATES = [{**TRAIN, "learning_rate": r, "seed": s} for r in (0.02, 0.05) for s in (0, 1)]


def same(batch, single, rtol):
    for name in sweep_cells.RESULTS:
        if name != "seconds":
            a, b = batch[name], single[name]
            if isinstance(a, float):
                np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12, err_msg=name)
            else:
                assert a == b, name


@pytest.mark.slow
def test_the_example_at_small_size_is_each_cell_by_itself(tmp_path):
    text = EXAMPLE.read_text()
    for long, short in (
        ("[12, 12]", "[7, 6]"),
        ("[1, 2]", "[1]"),
        ("[1.5, 2.0, 2.5, 3.0]", "[2.3]"),
        ("[2, 3, 4]", "[2]"),
        ('["flatness", "weight-decay", "nuclear-norm"]', '["weight-decay", "nuclear-norm"]'),
        ("seeds = 10", "seeds = 2"),
    ):
        assert long in text
        text = text.replace(long, short)
    (tmp_path / "small.toml").write_text(text)
    run_sweep(read_sweep(tmp_path / "small.toml"), tmp_path)
    rows = read_results(tmp_path)
    assert sorted((row["penalty"], row["seed"]) for row in rows) == [
        ("nuclear-norm", 0),
        ("nuclear-norm", 1),
        ("weight-decay", 0),
        ("weight-decay", 1),
    ]
    for row in rows:
        assert set(row) == set(COLUMNS)
        truth, key = draw_truth(jax.random.key(row["seed"]), (7, 6), 1)
        A = draw_covering_entries(key, (7, 6), 28, 1)
        solution = fr.recover(A, A.apply(truth), 2, fr.WeightDecay())
        # Cells are traced together; what a matrix alone is called where it is determined is not asked.
        assert solution.result == fr.recovery.Result.low_rank
        assert row["result"] == fr.recovery.Result[fr.recovery.Result.converged]
        assert row["successful"]
        error = jax.numpy.linalg.norm(solution.matrix - truth)
        np.testing.assert_allclose(row["error"], error, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(
            row["nuclear_norm"], fr.norms.nuclear_norm(solution.matrix), rtol=1e-6
        )
        trace = fr.trace_of_hessian(solution.network, A)
        np.testing.assert_allclose(row["trace"], trace, rtol=1e-5)
        matrix = cvxpy.Variable((7, 6))
        seen = [matrix[i, j] for i, j in zip(A.rows.tolist(), A.columns.tolist(), strict=True)]
        least = cvxpy.Problem(
            cvxpy.Minimize(cvxpy.normNuc(matrix)),
            [cvxpy.hstack(seen) == np.asarray(A.apply(truth))],
        ).solve(solver="CLARABEL")
        np.testing.assert_allclose(row["nuclear_norm"], least, rtol=1e-5)


def test_the_page_shows_the_example():
    page = (EXAMPLE.parents[1] / "docs" / "experiments.md").read_text()
    assert f"```toml\n{EXAMPLE.read_text()}```" in page
    assert len(read_sweep(EXAMPLE).cells) == 2 * 4 * (3 * 2 + 1) * 10


@pytest.mark.slow
def test_a_batch_of_trainings_is_each_of_them_by_itself():
    cells = sweep_of(RATES).cells
    batch = run_batch(cells, 4)
    problems = [sweep_cells._draw(cell) for cell in cells]
    program, _ = sweep_cells._prepared(cells[0].program, problems, 4)
    assert not independent_factorisations(program.as_text())
    for row, cell in zip(batch, cells, strict=True):
        same(row, run_batch([cell], 1)[0], 1e-9)
    assert len({row["train_loss"] for row in batch}) == 4


def test_trainings_that_diverge_say_so_and_nothing_else():
    (row,) = run_batch(sweep_of([{**TRAIN, "learning_rate": 1e3}]).cells, 1)
    assert not row["successful"]
    assert row["error"] is None
    assert "no longer finite" in row["result"]


@pytest.mark.slow
def test_masks_that_determine_nothing_are_not_computed():
    (row,) = run_batch(sweep_of([{**RECOVER, "count": 6}]).cells, 1)
    assert row["result"] == sweep_cells.NO_MASK
    assert row["error"] is None
    assert row["successful"] is None


@pytest.mark.slow
def test_entries_cover_every_line():
    for seed in range(5):
        A = draw_covering_entries(jax.random.key(seed), (8, 5), 22, 2)
        assert min(np.bincount(A.rows, minlength=8)) >= 2
        assert min(np.bincount(A.columns, minlength=5)) >= 2
        assert len({*zip(A.rows.tolist(), A.columns.tolist(), strict=True)}) == 22


def test_programs_are_few_and_padding_is_little():
    cells = sweep_of([{**RECOVER, "seed": seed} for seed in range(50)]).cells
    cut = batches(cells + sweep_of(RATES).cells)
    assert [(len(batch), size) for batch, size in cut] == [(13, 13)] * 3 + [(11, 13), (4, 4)]


def test_a_cell_that_does_not_fit_is_an_error_before_anything_is_written(tmp_path):
    huge = {**RECOVER, "ensemble": "gaussian", "shape": [30000, 30000], "count": 10**6}
    with pytest.raises(MemoryError, match="more than half of the free memory: take fewer"):
        run_sweep([*SEEDS, huge], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_what_is_missing_is_computed(tmp_path, monkeypatch):
    computed = []

    def counted(cells, size):
        computed.extend(cell.key for cell in cells)
        return [sweep_cells._row(cell) for cell in cells]

    monkeypatch.setattr(sweep, "run_batch", counted)
    seen = []
    run_sweep(SEEDS, tmp_path, lambda *told: seen.append(told))
    assert seen == [("0 of 3 cells", 0.0), ("3 of 3 cells", 1.0)]
    more = [*SEEDS, {**RECOVER, "seed": 7}, *RATES]
    run = run_sweep(more, tmp_path)
    assert (run.asked, run.there) == (8, 3)
    run_sweep(more, tmp_path)
    assert sorted(computed) == sorted(cell.key for cell in sweep_of(more).cells)
    rows = read_results(tmp_path)
    assert sorted(row["key"] for row in rows) == sorted(computed)
    (trained,) = [row for row in rows if row["learning_rate"] == 0.02 and row["seed"] == 1]
    assert trained["method"] == "train"
    assert trained["penalty"] is None
    assert trained["m"] == 5


def test_every_file_that_filled_a_folder_is_kept_once(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sweep, "run_batch", lambda cells, size: [sweep_cells._row(cell) for cell in cells]
    )
    (tmp_path / "sweep-mine.toml").write_text("another file of the user's")
    (tmp_path / "sweep-7.toml").write_text("# numbered by hand")
    cells = sweep_of(SEEDS).cells
    for text in ("# one", "# two", "# one"):
        run_sweep(Sweep(cells, text), tmp_path)
    assert read_texts(tmp_path) == {
        "sweep-7.toml": "# numbered by hand",
        "sweep-8.toml": "# one",
        "sweep-9.toml": "# two",
    }


def test_what_a_killed_write_left_is_not_read_and_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sweep, "run_batch", lambda cells, size: [sweep_cells._row(cell) for cell in cells]
    )
    left = tmp_path / "results" / ".part-0.parquet.xyz.parquet"
    left.parent.mkdir()
    left.write_bytes(b"PAR1 and no more")
    assert read_results(tmp_path) == []
    run_sweep(SEEDS, tmp_path)
    assert not left.exists()
    assert len(read_results(tmp_path)) == 3
