"""Files of torch.save are read to the bits that torch.load reads; what is not one is named."""

from __future__ import annotations

import gzip
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from edge_tracker.errors import CheckpointError
from mixformerv2.checkpoint import read_checkpoint
from tests.helpers.crafted_checkpoints import (
    before_zip,
    dictionary,
    group,
    named,
    tensor,
    text,
    zipped,
)

State = dict[str, Tensor]


def values(count: int = 3000) -> Tensor:
    """float32 of every size, subnormals too."""
    bits = np.random.default_rng(0).integers(0, 2**32, count, np.uint32)
    floats = bits.view(np.float32)
    return torch.from_numpy(np.where(np.isfinite(floats), floats, np.float32(1.5)))


def tied() -> State:
    shared = values()
    return {"a": shared, "b": shared, "part": shared[100:200]}


def views() -> State:
    base = values().reshape(30, 100)
    return {"transposed": base.T, "every other": base[::2, 1::3], "one": base[4, 7], "row": base[3]}


STATES: dict[str, Callable[[], State]] = {
    "float32": lambda: {"w": values(), "scalar": torch.tensor(3.5)},
    "float64": lambda: {"w": values().double() / 3},
    "float16": lambda: {"w": values().clamp(-6e4, 6e4).half()},
    "bfloat16": lambda: {"w": values().clamp(-3e38, 3e38).bfloat16(), "one": values(1).bfloat16()},
    "tied": tied,
    "views": views,
    "half views": lambda: {name: t.clamp(-6e4, 6e4).half() for name, t in views().items()},
}  # fmt: skip


def assert_same_bits(path: Path, wrap: str | None = None) -> None:
    expected = torch.load(path, weights_only=True)
    expected = expected if wrap is None else expected[wrap]
    read = read_checkpoint(path).state
    assert read.keys() == expected.keys()
    for name, stored in expected.items():
        wanted = stored.float().contiguous().view(torch.int32)
        assert read[name].dtype == torch.float32
        assert torch.equal(read[name].contiguous().view(torch.int32), wanted), name


@pytest.mark.parametrize("zipped", [True, False], ids=["now", "before PyTorch 1.6"])
@pytest.mark.parametrize("kind", STATES)
def test_bits_are_those_that_pytorch_reads(kind: str, zipped: bool, tmp_path: Path) -> None:
    torch.save(STATES[kind](), tmp_path / "c.pth", _use_new_zipfile_serialization=zipped)
    assert_same_bits(tmp_path / "c.pth")


def test_a_zip_of_pytorch_1_7_is_read_to_the_same_bits(tmp_path: Path) -> None:
    """It has no byte order and no alignment records, and its folder is called archive."""
    stored = values(12)
    path = tmp_path / "c.pth"
    zipped(path, dictionary({"w": tensor("0", 12, (3, 4))}), {"0": stored.numpy().tobytes()})
    assert_same_bits(path)


def test_the_shipped_network_is_read_to_the_same_bits_from_every_format(
    nano_checkpoint: Path, tmp_path: Path
) -> None:
    if nano_checkpoint.suffix != ".safetensors":
        assert_same_bits(nano_checkpoint, "net")
        return
    state = safetensors.torch.load_file(nano_checkpoint)
    read = read_checkpoint(nano_checkpoint).state
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())
    torch.save({"net": state}, tmp_path / "c.pth.tar")
    assert_same_bits(tmp_path / "c.pth.tar", "net")


def test_one_tensor_under_many_names_is_converted_once(tmp_path: Path) -> None:
    shared = values().clamp(-6e4, 6e4).half()
    torch.save({f"w{number}": shared for number in range(50)}, tmp_path / "c.pth")
    read = read_checkpoint(tmp_path / "c.pth").state
    assert len({tensor.data_ptr() for tensor in read.values()}) == 1


def test_many_overlapping_views_that_would_take_much_memory_are_refused(tmp_path: Path) -> None:
    items = {f"w{n}": tensor("0", 10_000, (9_000,), offset=n) for n in range(1000)}
    path = zipped(tmp_path / "c.pth", dictionary(items), {"0": bytes(40_000)})
    with pytest.raises(CheckpointError, match="share their elements and take 36000000 bytes apart"):
        read_checkpoint(path)


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name, kind in (("storages", tarfile.FIFOTYPE), ("tensors", tarfile.SYMTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/hostname"
            archive.addfile(entry)


def scripted(path: Path, comment: bytes = b"") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "version", "code/__torch__.py"):
            archive.writestr(f"net/{name}", "x")
        archive.comment = comment


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (tar, "is a tar archive, not a checkpoint"),
        (lambda path: path.write_bytes(gzip.compress(b"x" * 99)), "is compressed with gzip"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "is an HDF5 file"),
        (lambda path: path.write_text("<!DOCTYPE html><html>"), "is a web page, not the file"),
        (scripted, "is a TorchScript archive, which holds code; save the network's state_dict"),
        (lambda path: scripted(path, b"PK\5\6"), "does not end as a zip of PyTorch does"),
        (lambda path: path.write_bytes(pickle.dumps({"w": 1})), "a pickle that torch.save did not"),
        (
            lambda path: zipped(path, dictionary({"w": tensor("0", 4, (4,))}), {}),
            "names a storage '0' that is not in it",
        ),
        (
            lambda path: zipped(path, dictionary({"w": tensor("0", 4, (4,))}), {"0": bytes(15)}),
            "stores 15 bytes under '0' where 4 elements of FloatStorage take 16",
        ),
        (
            lambda path: before_zip(path, dictionary({"w": tensor("0", 4, (4,))})),
            "names a storage '0' that is not in it",
        ),
        (
            lambda path: before_zip(
                path, dictionary({"w": tensor("0", 4, (4,))}), ("0",), (4).to_bytes(8, "little")
            ),
            "but its storages end at",
        ),
        (
            lambda path: before_zip(
                path, dictionary({"w": tensor("0", 4, (4,))}), ("0", "0"), b"\4" + bytes(7 + 16)
            ),
            "a storage '0' that no tensor needs",
        ),
        (
            lambda path: before_zip(path, dictionary({}), (), b"more"),
            r"but its storages end at",
        ),
        (lambda path: zipped(path, dictionary({}) + b"N.", {}), "has bytes after its pickle"),
        (lambda path: path.write_bytes(b"\x93NUMPY" + bytes(99)), "is an array of NumPy"),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_named_as_what_it_is(
    make: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    make(tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=f"checkpoint {tmp_path / 'c.pth'} .*{says}"):
        read_checkpoint(tmp_path / "c.pth")


def test_a_class_with_forged_source_writes_nothing(tmp_path: Path) -> None:
    """PyTorch compares the source of a pickled class with the present one, and writes a patch of
    the name that the class gives itself.
    """
    victim = tmp_path / "victim"
    function = named("torch._utils", "_rebuild_tensor_v2")
    attributes = b"}(" + text("__name__") + text(str(victim)) + text("dump_patches") + b"\x88u"
    forged = function + group(b"N", attributes) + b"b"
    body = b"\x80\x02" + group(text("module"), forged, text("a\n"), text("b\n")) + b"Q."
    before_zip(tmp_path / "c.pth", body)
    with pytest.raises(CheckpointError, match="sets attributes of a Global"):
        read_checkpoint(tmp_path / "c.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.pth"]


@pytest.mark.parametrize("name", ["byteorder", "version", "data/0", "data.pkl"])
def test_an_entry_twice_or_unknown_is_refused(name: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "c.pth", dictionary({"w": tensor("0", 1, (1,))}), {"0": bytes(4)})
    for extra, says in (
        (f"archive/{name}", "has two entries"),
        ("archive/extra", "an entry 'extra', which torch.save never writes"),
        ("other/data/1", "a zip of more than one folder"),
    ):
        copy = tmp_path / "copy.pth"
        copy.write_bytes(path.read_bytes())
        warned = pytest.warns(UserWarning, match="Duplicate") if name in extra else nullcontext()
        with warned, zipfile.ZipFile(copy, "a") as archive:
            archive.writestr(extra, b"x")
        with pytest.raises(CheckpointError, match=says):
            read_checkpoint(copy)


def test_another_byte_order_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    items = dictionary({"w": tensor("0", 1, (1,))})
    zipped(path, items, {"0": bytes(4)}, byte_order="big")
    with pytest.raises(CheckpointError, match="a machine of another byte order; where it was made"):
        read_checkpoint(path)
