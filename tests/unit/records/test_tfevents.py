"""TensorBoard's files are read as TensorBoard reads them, while they grow, whatever is in them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from launcher.records.tfevents import LARGEST, NoEvents, Point, points


def written(path: Path, *events: event_pb2.Event) -> bytes:
    with path.open("wb") as file:
        records = RecordWriter(file)
        for event in events:
            records.write(event.SerializeToString())
        records.flush()
    return path.read_bytes()


def simple(tag: str, step: int, value: float, time: float = 1.5) -> event_pb2.Event:
    summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, simple_value=value)])
    return event_pb2.Event(wall_time=time, step=step, summary=summary)


def tensor(**fields: object) -> event_pb2.Event:
    value = summary_pb2.Summary.Value(tag="t", tensor=tensor_pb2.TensorProto(**fields))
    return event_pb2.Event(wall_time=2.0, step=7, summary=summary_pb2.Summary(value=[value]))


ONE = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)])


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"dtype": types_pb2.DT_FLOAT, "float_val": [0.5]}, 0.5),
        ({"dtype": types_pb2.DT_DOUBLE, "double_val": [0.25]}, 0.25),
        ({"dtype": types_pb2.DT_FLOAT, "tensor_content": struct.pack("<f", 3.0)}, 3.0),
        ({"dtype": types_pb2.DT_INT64, "tensor_content": struct.pack("<q", -4)}, -4.0),
        ({"dtype": types_pb2.DT_FLOAT, "float_val": [0.5], "tensor_shape": ONE}, None),
        ({"dtype": types_pb2.DT_STRING, "string_val": [b"text"]}, None),
    ],
)
def test_a_tensor_without_dimensions_is_a_scalar(
    tmp_path: Path, fields: dict[str, object], value: float | None
) -> None:
    found, _ = points(written(tmp_path / "e", tensor(**fields)))
    assert [point.value for point in found] == ([] if value is None else [value])


def test_a_file_is_read_as_it_grows(tmp_path: Path) -> None:
    begin = event_pb2.Event(wall_time=1.0, file_version="brain.Event:2")
    steps = [simple("train/loss", step, 1 / (step + 1)) for step in range(20)]
    large = event_pb2.Event(wall_time=1.0, graph_def=bytes(LARGEST + 10))
    data = written(tmp_path / "e", begin, *steps[:10], large, *steps[10:])
    for size in (1, 7, 50, 999, len(data)):
        found: list[Point] = []
        at = have = 0
        while have < len(data):
            have = min(len(data), have + size * 100)
            new, skip = points(data[at:have])
            found += new
            at += skip
        assert [point.step for point in found] == list(range(20)), size
        assert found[3] == Point("train/loss", 3, 1.5, pytest.approx(0.25))
        assert at == len(data)


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    found, _ = points(written(tmp_path / "e", simple("a", 1, float("nan")), simple("b", 2, 1.0)))
    assert [point.tag for point in found] == ["b"]


@given(st.binary(max_size=200))
def test_odd_bytes_end_in_one_error(data: bytes) -> None:
    for whole in (data, struct.pack("<QI", len(data), 0) + data + bytes(4)):
        try:
            points(whole)
        except NoEvents:
            pass
