"""Pickles are interpreted, never run; what they take is bounded by their length."""

from __future__ import annotations

import io
import pickle
import struct
import time
import types
from collections import OrderedDict

import pytest

from mixformerv2 import pickle_machine
from mixformerv2.pickle_machine import Global, Inert, Storage, StoredTensor, interpret
from mixformerv2.stored_entries import UnreadableFile
from tests.helpers.crafted_checkpoints import (
    dictionary,
    group,
    named,
    tensor,
    text,
    whole,
)

PLAIN = {
    "none": None,
    "flags": [True, False],
    "numbers": (1, -1, 255, 65536, 2**31, -(2**40), 2**80, 1.5, -0.0),
    "text": "Größe",
    "bytes": b"\0\xff",
    "nested": {"a": [(), [], {}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]},
    7: "a number for a key",
    None: 1,
    True: 2,
}


def value_of(content: bytes) -> object:
    return interpret(io.BytesIO(content))[0]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_plain_values_are_what_pickle_makes_of_them(protocol: int) -> None:
    plain = {**PLAIN, "bytes": None} if protocol < 3 else PLAIN
    assert value_of(pickle.dumps(plain, protocol)) == plain


def test_what_is_shared_stays_shared_and_may_contain_itself() -> None:
    inner = [1]
    outer: list[object] = [inner, inner]
    outer.append(outer)
    read = value_of(pickle.dumps(outer))
    assert isinstance(read, list)
    assert read[0] is read[1]
    assert read[2] is read


def test_ordered_dictionaries_are_dictionaries_and_sets_are_lists() -> None:
    read = value_of(pickle.dumps((OrderedDict(a=1, b=2), {3}, frozenset((4,))), 4))
    assert read == ({"a": 1, "b": 2}, [3], [4])


def test_other_classes_become_records_of_their_name() -> None:
    space = types.SimpleNamespace(width=3)
    read = value_of(pickle.dumps([space, OrderedDict, complex(1, 2)]))
    assert isinstance(read, list)
    assert isinstance(read[0], Inert)
    assert (read[0].name, read[0].state) == ("types.SimpleNamespace", {"width": 3})
    assert read[1] == Global("collections", "OrderedDict")
    assert (read[2].name, read[2].arguments) == ("builtins.complex", (1.0, 2.0))


def test_a_call_is_a_record_and_what_it_returns_can_be_called_and_filled() -> None:
    opcodes = (
        named("os", "system") + group(text("true")) + b"R"  # os.system("true")
        + b")R"  # (...)()
        + b"}" + text("x") + b"Nsb"  # its state
        + text("key") + b"Ns"  # an item
        + b"Na."  # appended
    )  # fmt: skip
    read = value_of(opcodes)
    assert isinstance(read, Inert)
    assert (read.name, read.state, read.items) == ("os.system", {"x": None}, {"key": None})


def test_a_tensor_is_a_view_of_its_storage() -> None:
    read, storages = interpret(
        io.BytesIO(dictionary({"w": tensor("7", 12, (2, 3), (6, 2), 1), "b": tensor("7", 12, ())}))
    )
    storage = Storage("7", "FloatStorage", 12)
    assert storages == {"7": storage}
    assert read == {
        "w": StoredTensor(storage, 1, (2, 3), (6, 2)),
        "b": StoredTensor(storage, 0, (), ()),
    }


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        pytest.param(0, (5,), (1,), id="longer than its storage"),
        pytest.param(0, (10**6, 10**6), (0, 0), id="one element repeated without end"),
        pytest.param(3, (2,), (1,), id="starts too late"),
        pytest.param(9, (0,), (1,), id="empty and starts behind it"),
        pytest.param(0, (2,), (5,), id="strides past the end"),
        pytest.param(-1, (2,), (1,), id="starts before the storage"),
        pytest.param(2, (2,), (-1,), id="goes backwards"),
        pytest.param(0, (-1, -1), (1, 1), id="negative lengths"),
        pytest.param(0, (0, 10**300), (1, 1), id="a length beyond numbers"),
        pytest.param(0, (1,), (1 << 61,), id="a stride beyond any storage"),
    ],
)
def test_a_tensor_that_leaves_its_storage_is_refused(
    offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    with pytest.raises(UnreadableFile, match="does not fit into its 4 stored elements"):
        value_of(tensor("0", 4, size, stride, offset) + b".")


@pytest.mark.parametrize(
    ("opcodes", "says"),
    [
        (tensor("0", 4, (4,)) + b"}b.", "sets attributes of a StoredTensor"),
        (named("torch._utils", "_rebuild_tensor_v2") + b"N}\x86b.", "sets attributes of a Global"),
        (tensor("0", 4, (4,)) + b"Na.", "appends to a StoredTensor"),
        (b"]NNs.", "puts items into a list"),
        (text("eval") + b")R.", "calls a str"),
        (tensor("0", 4, (4,)) + tensor("0", 5, (4,)) + b".", "two things about its storage '0'"),
        (tensor("0", -1, ()) + b".", "a storage that is described as"),
        (group(text("file"), text("/etc/passwd")) + b"Q.", "a storage that is described as"),
        (named("torch._utils", "_rebuild_tensor_v2") + b")R.", "damaged at its opcode"),
        (named("torch._utils", "_rebuild_tensor_v2") + group(b"N" * 40) + b"R.", "damaged at"),
        (tensor("0", 4, (1,) * 17) + b".", "a tensor of 17 dimensions"),
        (b"h\x05.", "damaged at its opcode 1"),
        (b"R", "damaged at its opcode 1"),
        (b"\x82\x01.", "the opcode b'\\\\x82'"),
        (b"P1\n.", "the opcode b'P'"),
        (b"N", "ends within a pickle"),
        (b"X\xff\xff\xff\x7fab", "damaged at its opcode 1"),
        (b"p-1\n.", "damaged at its opcode 1"),
        (b"Np%d\n." % 2**70, "damaged at its opcode 2"),
        (whole(10**3000) + b".", "a whole number of"),
        (b"I" + b"9" * 5000 + b"\n.", "damaged at its opcode 1"),
        (b"(" * 2000 + b".", "nests more than 1000 deep"),
        (b"N" * 1_000_001, "more than 1000000 opcodes"),
    ],
)  # fmt: skip
def test_what_pytorch_never_writes_is_refused(opcodes: bytes, says: str) -> None:
    with pytest.raises(UnreadableFile, match=says):
        value_of(opcodes)


def pairs_of_pairs(depth: int) -> bytes:
    """(t, t), `depth` deep: 2^depth leaves once it is written out."""
    return text("a") + b"".join(
        b"\x71" + bytes([level % 256]) + b"h" + bytes([level % 256]) + b"\x86"
        for level in range(depth)
    )


def colliding_keys(count: int) -> bytes:
    """Whole numbers of one hash, as keys."""
    modulus = 2**61 - 1
    numbers = (index * modulus for index in range(1, count + 1))
    return b"}(" + b"".join(pickle.dumps(number, 2)[2:-1] + b"N" for number in numbers) + b"u."


@pytest.mark.parametrize(
    "opcodes",
    [
        pytest.param(b"}" + pairs_of_pairs(200) + b"Ns.", id="a key that takes ages to hash"),
        pytest.param(b"N" + b"\x85" * 900_000 + b".", id="tuples 900,000 deep"),
        pytest.param(b"}N" + b"\x85" * 300_000 + b"Ns.", id="a key 300,000 deep"),
        pytest.param(colliding_keys(100_000), id="keys of one hash"),
        pytest.param(b"]" * 900_000 + b".", id="many lists"),
        pytest.param(
            b"(" + b"N" * 300_000 + b"lq\0" + (named("builtins", "set") + b"h\0\x85R") * 100_000
            + b".",
            id="a long list copied again and again",
        ),
    ],
)  # fmt: skip
def test_work_grows_with_the_length_only(opcodes: bytes) -> None:
    began = time.process_time()
    value_of(opcodes)
    assert time.process_time() - began < 20.0


def test_every_opcode_that_python_writes_is_known_or_refused_by_choice() -> None:
    import pickletools

    left_out = {op.name for op in pickletools.opcodes} - pickle_machine._ACTS.keys()
    assert left_out == {
        "PERSID", "STRING", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER",
    }  # fmt: skip


def test_a_text_longer_than_the_file_is_refused_without_its_memory() -> None:
    with pytest.raises(UnreadableFile, match="damaged"):
        value_of(b"\x8d" + struct.pack("<Q", 1 << 40) + b"short")
