"""A small machine that interprets pickles and runs nothing that they name.

It knows numbers, text, containers and the records of PyTorch's tensors. Every other class or
function is a name, and what is made with it an inert record of that name. Work and memory grow with
the length of the pickle only: shared values stay shared, nothing is hashed, compared or walked
through but text and small numbers.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from mixformerv2.stored_entries import COPY_AGAIN, SAVE_WEIGHTS, UnreadableFile

MAX_OPCODES = 1_000_000
MAX_DEPTH = 1_000
MAX_INT_BITS = 4096
MAX_DIMENSIONS = 16
MAX_ARGUMENTS = 16
MAX_LENGTH = 1 << 40


@dataclass(frozen=True)
class Global:
    """A class or function by its name; it is never looked up."""

    module: str
    name: str


@dataclass(eq=False)
class Inert:
    """What a pickle makes with a class or function that this machine does not know.

    arguments: of the call; state: what was set on it; items: what was put into it by key.
    """

    name: str
    arguments: tuple[Any, ...] = field(default=(), repr=False)
    state: Any = field(default=None, repr=False)
    items: dict[Any, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Storage:
    """The elements behind tensors: `kind` is PyTorch's name of their type, as FloatStorage."""

    key: str
    kind: str
    elements: int


class StoredTensor(NamedTuple):
    """A view of a storage; offset and strides count elements, and stay within the storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def interpret(file: BinaryIO) -> tuple[Any, dict[str, Storage]]:
    """Read one pickle from where `file` stands -> its value, and the storages that it names.

    The value consists of None, bool, int, float, str, bytes, list, tuple, dict and the records of
    this module; sets are lists. Keys of a dict that are no text, small whole number, bool or None
    are replaced by records that equal nothing. A value may contain itself.

    Raises UnreadableFile for a pickle that is damaged, too large, or does to a tensor or a
    function what PyTorch never does.
    """
    machine = _Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickletools, about escapes in old text
            return machine.run(file), machine.storages
    except UnreadableFile:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
        raise UnreadableFile(
            f"has a pickle that is damaged at its opcode {machine.done} "
            f"({type(error).__name__}); {COPY_AGAIN}"
        ) from error


class _Machine:
    def __init__(self) -> None:
        self.done = 0
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self, file: BinaryIO) -> Any:
        while self.done < MAX_OPCODES:
            self.done += 1
            code = file.read(1)
            if (known := _OPCODES.get(code)) is None:
                if not code:
                    raise UnreadableFile(f"ends within a pickle; {COPY_AGAIN}")
                raise UnreadableFile(
                    f"has the opcode {code!r} in a pickle, which PyTorch never writes; {COPY_AGAIN}"
                )
            read_argument, act = known
            if act is None:
                return self.stack.pop()
            act(self, read_argument(file) if read_argument is not None else None)
        raise UnreadableFile(f"has a pickle of more than {MAX_OPCODES} opcodes; {SAVE_WEIGHTS}")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_int(self, value: int) -> None:
        if value.bit_length() > MAX_INT_BITS:
            raise UnreadableFile(f"has a whole number of {value.bit_length()} bits; {COPY_AGAIN}")
        self.stack.append(value)

    def mark(self, _: None) -> None:
        if len(self.marked) >= MAX_DEPTH:
            raise UnreadableFile(f"nests more than {MAX_DEPTH} deep; {SAVE_WEIGHTS}")
        self.marked.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        since, self.stack = self.stack, self.marked.pop()
        return since

    def pop(self, _: None) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def put(self, index: int | None) -> None:
        index = len(self.memo) if index is None else index
        if not 0 <= index < 1 << 32:
            raise IndexError
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Inert):
            raise _misuse("appends to", target)

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, (dict, Inert)):
            raise _misuse("puts items into", target)
        _fill(target if isinstance(target, dict) else target.items, pairs)

    def build(self, _: None) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Inert):
            target.state = state
        elif not isinstance(target, dict):  # a state dict has its `_metadata` so
            raise _misuse("sets attributes of", target)

    def dict_since_mark(self, _: None) -> None:
        pairs = self.since_mark()
        self.stack.append({})
        self.set_items(pairs)

    def pop_mark(self, _: None) -> None:
        self.since_mark()

    def call(self, _: None) -> None:
        arguments = self.stack.pop()
        self.stack.append(_call(self.stack.pop(), arguments))

    def call_with_keywords(self, _: None) -> None:
        self.stack.pop()
        self.call(None)

    def call_since_mark(self, _: None) -> None:
        function, *arguments = self.since_mark()
        self.stack.append(_call(function, tuple(arguments)))

    def instance(self, argument: str) -> None:
        self.stack.append(_call(_global(argument), tuple(self.since_mark())))

    def stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError
        self.stack.append(Global(module, name))

    def persistent(self, _: None) -> None:
        """A storage, or the class of a module with its source text (before PyTorch 1.6)."""
        match self.stack.pop():
            case ("module", Global() as kind, _, _):
                self.stack.append(kind)
            case ("storage", Global() as kind, str(key), _, int(elements)) | (
                "storage",
                Global() as kind,
                str(key),
                _,
                int(elements),
                None,
            ) if elements >= 0:
                storage = Storage(key, kind.name, elements)
                if self.storages.setdefault(key, storage) != storage:
                    raise UnreadableFile(f"says two things about its storage {key!r}; {COPY_AGAIN}")
                self.stack.append(self.storages[key])
            case _:
                raise UnreadableFile(
                    f"has a storage that is described as PyTorch never does; {SAVE_WEIGHTS}"
                )


def _global(argument: str) -> Global:
    module, name = argument.split(" ", 1)
    return Global(module, name)


def _misuse(what: str, target: object) -> UnreadableFile:
    return UnreadableFile(
        f"has a pickle that {what} a {type(target).__name__}, which PyTorch never does; "
        f"{SAVE_WEIGHTS}"
    )


def _fill(target: dict[Any, Any], pairs: list[Any]) -> None:
    if len(pairs) % 2:
        raise IndexError
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        target[_as_key(key)] = value


def _as_key(key: Any) -> Any:
    """Only what is hashed in no time, and cannot be chosen to collide."""
    small = isinstance(key, int) and abs(key) < 1 << 31
    return key if key is None or small or isinstance(key, (str, bytes)) else Inert("a key")


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(arguments, tuple):
        raise TypeError
    if isinstance(function, Global):
        known = _KNOWN.get((function.module, function.name))
        if known is not None:
            if len(arguments) > MAX_ARGUMENTS:
                raise TypeError
            return known(*arguments)
        return Inert(f"{function.module}.{function.name}", arguments)
    if isinstance(function, Inert):
        return Inert(function.name, arguments)
    raise _misuse("calls", function)


def _dictionary(*arguments: Any) -> Any:
    """An empty one, filled by later opcodes; Python 2 gave the items to the call."""
    given_items = arguments and isinstance(arguments[0], (list, tuple, dict))
    return Inert("a dictionary of Python 2", arguments) if given_items else {}


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    if not isinstance(storage, Storage) or not isinstance(offset, int):
        raise TypeError
    if not (isinstance(shape, tuple) and isinstance(strides, tuple)):
        raise TypeError
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise UnreadableFile(f"has a tensor of {len(shape)} dimensions; {COPY_AGAIN}")
    if not all(type(number) is int for number in (offset, *shape, *strides)):
        raise TypeError
    count, last = 1, offset
    for length, step in zip(shape, strides, strict=True):
        count *= length
        last += (length - 1) * step
    within = 0 <= offset <= storage.elements and count <= storage.elements
    small = all(0 <= number < MAX_LENGTH for number in (*shape, *strides))
    if not within or not small or (count and last >= storage.elements):
        raise UnreadableFile(
            f"has a tensor of shape {str(shape)[:80]} that does not fit into its "
            f"{storage.elements} stored elements; {COPY_AGAIN}"
        )
    return StoredTensor(storage, offset, shape, strides)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _from_type(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    """A tensor of a subclass, or with attributes: the tensor."""
    return _call(function, arguments)


def _itself(values: Any = ()) -> Any:
    return values


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): _dictionary,
    ("collections", "defaultdict"): _dictionary,
    ("builtins", "dict"): _dictionary,
    ("builtins", "set"): _itself,
    ("__builtin__", "set"): _itself,
    ("torch", "Size"): _itself,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type"): _from_type,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
}

_Act = Callable[[_Machine, Any], None]

#: What each opcode does; None ends the pickle.
_ACTS: dict[str, _Act | None] = {
    "STOP": None,
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "NONE": _Machine.push,
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), _Machine.push_int
    ),
    **dict.fromkeys(
        (
            "FLOAT", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE",
            "BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
        ),
        _Machine.push,
    ),
    "BYTEARRAY8": lambda machine, value: machine.push(bytes(value)),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_SET": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "FROZENSET": lambda machine, _: machine.push(machine.since_mark()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "DICT": _Machine.dict_since_mark,
    "SETITEM": lambda machine, _: machine.set_items(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.append(machine.since_mark()),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.take(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.take(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.take(3))),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": lambda machine, name: machine.push(_global(name)),
    "STACK_GLOBAL": _Machine.stack_global,
    "INST": _Machine.instance,
    "OBJ": _Machine.call_since_mark,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "NEWOBJ_EX": _Machine.call_with_keywords,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}  # fmt: skip

_OPCODES: dict[bytes, tuple[Any, _Act | None]] = {
    opcode.code.encode("latin-1"): (opcode.arg and opcode.arg.reader, _ACTS[opcode.name])
    for opcode in pickletools.opcodes
    if opcode.name in _ACTS
}
