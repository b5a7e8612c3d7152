"""Records: torn lines, resumed steps, Parquet, damage named by line."""

import json

import numpy as np
import pytest

from latebloom.theory import InputError, read_record
from latebloom.theory.record import COLUMNS, RecordWriter, header, write_parquet
from tests.helpers import synthetic_record, tiny_plan


def row(step, value, split="val"):
    return dict(zip(COLUMNS, (step, step * 64, 1e9 * step, 0.1 * step, 1, 0, split, "loss", value), strict=True))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run" / "record.jsonl"
    with RecordWriter(path, header(tiny_plan(), seed=3, config={"microbatch": 4})) as writer:
        writer.write(row(step, 5 - 0.01 * step) for step in range(0, 101, 10))
    return path


def test_reads_what_was_written(path):
    record = read_record(path.parent)
    assert record.plan == tiny_plan()
    assert record.header.plan_digest == tiny_plan().digest
    assert record.header.seed == 3
    step, loss = record.curve()
    assert step.tolist() == list(range(0, 101, 10))
    assert loss == pytest.approx(5 - 0.01 * step, rel=0)
    assert record.final() == 4.0
    assert list(record.to_pandas().columns) == ["run", *COLUMNS]


def test_torn_last_line_is_dropped_and_resumed_steps_count_once(path):
    with path.open("a") as file:
        file.write('{"step":100,"tok')
    assert len(read_record(path)) == 11
    with RecordWriter(path, header(tiny_plan(), seed=3)) as writer:  # a resumed run repeats steps 90 and 100
        writer.write([row(90, 3.0), row(100, 2.0)])
    record = read_record(path)
    assert record.curve()[1][-2:].tolist() == [3.0, 2.0]
    assert len(record) == 11


def test_damage_elsewhere_is_named_by_line(path):
    lines = path.read_text().splitlines()
    lines[4] = lines[4][:20]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"record\.jsonl:5"):
        read_record(path)


@pytest.mark.parametrize("content", ["", "{}\n", "no\n", '{"record":{}}\n'])
def test_not_a_record(tmp_path, content):
    (tmp_path / "record.jsonl").write_text(content)
    with pytest.raises(InputError):
        read_record(tmp_path)


def test_missing_file_and_unfinished_run(tmp_path):
    with pytest.raises(InputError, match="is not there"):
        read_record(tmp_path / "none")
    plan = tiny_plan()
    with pytest.raises(InputError, match="has no val loss at its last step 100; resume the run"):
        synthetic_record(plan, np.array([1, 50]), np.array([5.0, 4.0]), name="half").final()


def test_non_finite_values_are_null_in_json_and_nan_in_columns(path):
    with RecordWriter(path, header(tiny_plan(), seed=3)) as writer:
        writer.write([row(100, float("inf"))])
    assert json.loads(path.read_text().splitlines()[-1])["value"] is None
    assert np.isnan(read_record(path).curve()[1][-1])


def test_parquet_holds_the_same(path, tmp_path):
    record = read_record(path)
    write_parquet(record, tmp_path / "r.parquet")
    again = read_record(tmp_path / "r.parquet")
    assert again.header == record.header
    for name in COLUMNS:
        assert again.columns[name].tolist() == record.columns[name].tolist()


def written(path, **columns):
    """Parquet of the record with other columns, as a stranger might write it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    record = read_record(path)
    table = pa.table(dict(record.columns) | columns)
    pq.write_table(
        table.replace_schema_metadata({"record": record.header.to_json(indent=0)}), path.with_name("x.parquet")
    )
    return path.with_name("x.parquet")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("step", lambda n: [-1] * n, r"step = -1: is no count"),
        ("step", lambda n: [0.5] * n, r"step = 0.5: is no count"),
        ("step", lambda n: [float("nan")] * n, r"step = nan: is no count"),
        ("step", lambda n: [None] + [1] * (n - 1), r"step = None: is not a number in every row"),
        ("tokens", lambda n: [-5] * n, r"tokens = -5: is no count"),
        ("flops", lambda n: [float("inf")] * n, r"flops = inf: is not in 0 \.\.\. 1e\+30"),
        ("wall_s", lambda n: [-1e300] * n, r"wall_s = -1e\+300: is not in 0"),
        ("split", lambda n: [1] * n, r"split = 'int64': is not text in every row"),
        ("split", lambda n: [None] + ["val"] * (n - 1), r"split = 'string': is not text in every row"),
        ("metric", lambda n: ["\x1b[2J"] * n, r"holds the character '\\x1b', which cannot be shown"),
        ("value", lambda n: ["x"] * n, r"value = 'string': is not numbers"),
    ],
)
def test_rows_of_parquet_are_checked(name, values, message, path):
    with pytest.raises(InputError, match=message):
        read_record(written(path, **{name: values(len(read_record(path)))}))
    assert len(read_record(written(path))) == len(read_record(path))


def test_a_header_that_does_not_fit_names_its_file(path, tmp_path):
    head, rest = path.read_text().split("\n", 1)
    path.write_text(head.replace('"seed":3', '"seed":"x"') + "\n" + rest)
    with pytest.raises(InputError, match=r"record\.jsonl: \$\.seed = 'x': expected int"):
        read_record(path)
