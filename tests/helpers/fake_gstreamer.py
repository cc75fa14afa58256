"""Stand-ins for what the GStreamer element takes from gi.repository, to run it without GStreamer.

They keep what the element attaches and posts, and do nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from edge_tracker.rules.crop import Image


@dataclass
class Region:
    roi_type: str
    x: int
    y: int
    w: int
    h: int
    params: list[dict[str, Any]] = field(default_factory=list)

    def add_param(self, facts: Structure) -> None:
        self.params.append(facts.values)


@dataclass
class Buffer:
    """Of one frame, whose rows may be longer than its pixels and start later in memory."""

    memory: bytes
    pts: int = 0
    layout: SimpleNamespace | None = None
    readable: bool = True
    regions: list[Region] = field(default_factory=list)
    objects: Objects | None = None
    mapped: int = 0

    def map(self, flags: object) -> tuple[bool, SimpleNamespace]:
        self.mapped += self.readable
        return self.readable, SimpleNamespace(data=self.memory)

    def unmap(self, memory: object) -> None:
        self.mapped -= 1


def buffer_of(frame: Image, row_bytes: int, pts: int = 0, **more: Any) -> Buffer:
    """Its last row ends with the last pixel."""
    height, width = frame.shape[:2]
    rows = np.zeros((height, row_bytes), np.uint8)
    rows[:, : 3 * width] = frame.reshape(height, 3 * width)
    return Buffer(rows.tobytes()[: row_bytes * (height - 1) + 3 * width], pts, **more)


@dataclass
class Structure:
    name: str
    values: dict[str, Any] = field(default_factory=dict)

    def set_value(self, name: str, value: object) -> None:
        self.values[name] = value

    def copy(self) -> Structure:
        return Structure(self.name, dict(self.values))


class Objects:
    """Analytics metadata: objects, of which the numbers are x, y, w, h and confidence."""

    def __init__(self, *objects: tuple[Any, ...]) -> None:
        self.objects = list(objects)

    def add_od_mtd(self, *facts: Any) -> None:
        self.objects.append(facts)

    def get_od_mtd(self, number: int) -> tuple[bool, SimpleNamespace | None]:
        if number >= len(self.objects):
            return False, None
        _, *numbers = self.objects[number]
        return True, SimpleNamespace(get_location=lambda: (True, *numbers))


class BaseTransform:
    def set_in_place(self, in_place: bool) -> None:
        assert in_place
        self.posted: list[tuple[str, Any]] = []

    def post_message(self, message: tuple[str, Any]) -> None:
        self.posted.append(message)


def add_region(buffer: Buffer, kind: str, x: int, y: int, w: int, h: int) -> Region:
    buffer.regions.append(Region(kind, x, y, w, h))
    return buffer.regions[-1]


def add_objects(buffer: Buffer) -> Objects:
    buffer.objects = buffer.objects or Objects()
    return buffer.objects


def fake_gi(with_analytics: bool) -> dict[str, ModuleType]:
    """Modules by name, for sys.modules. Caps are (width, height, row bytes)."""
    gi, repository = ModuleType("gi"), ModuleType("gi.repository")

    def require_version(name: str, version: str) -> None:
        if not hasattr(repository, name):
            raise ValueError(f"Namespace {name} not available")

    gi.__dict__.update(require_version=require_version, repository=repository)
    repository.__dict__.update(
        GLib=SimpleNamespace(
            Error=SimpleNamespace(new_literal=lambda domain, words, code: words),
            quark_from_string=lambda text: text,
        ),
        GObject=SimpleNamespace(
            ParamFlags=SimpleNamespace(READWRITE=3),
            TYPE_UINT64="guint64",
            Value=lambda kind, value: value,
        ),
        Gst=SimpleNamespace(
            init=lambda arguments: None,
            Caps=SimpleNamespace(from_string=lambda text: text),
            FlowReturn=SimpleNamespace(OK="ok", ERROR="error"),
            MapFlags=SimpleNamespace(READ=1),
            Message=SimpleNamespace(
                new_element=lambda source, facts: ("element", facts.values),
                new_error=lambda source, words, debug: ("error", words),
                new_info=lambda source, words, debug: ("info", words),
            ),
            PadDirection=SimpleNamespace(SRC=1, SINK=2),
            PadPresence=SimpleNamespace(ALWAYS=0),
            PadTemplate=SimpleNamespace(new=lambda *facts: facts),
            Rank=SimpleNamespace(NONE=0),
            StreamError=SimpleNamespace(quark=lambda: 0, FAILED=1),
            Structure=SimpleNamespace(new_empty=Structure),
        ),
        GstBase=SimpleNamespace(BaseTransform=BaseTransform),
        GstVideo=SimpleNamespace(
            VideoInfo=VideoInfo,
            buffer_get_video_meta=lambda buffer: buffer.layout,
            buffer_get_video_region_of_interest_meta_id=lambda buffer, number: (
                buffer.regions[number] if buffer.regions else None
            ),
            buffer_add_video_region_of_interest_meta=add_region,
        ),
    )
    if with_analytics:
        repository.__dict__["GstAnalytics"] = SimpleNamespace(
            buffer_get_analytics_relation_meta=lambda buffer: buffer.objects,
            buffer_add_analytics_relation_meta=add_objects,
        )
    return {"gi": gi, "gi.repository": repository}


class VideoInfo:
    @staticmethod
    def new_from_caps(caps: tuple[int, int, int]) -> SimpleNamespace:
        width, height, row_bytes = caps
        return SimpleNamespace(width=width, height=height, stride=[row_bytes], offset=[0])
