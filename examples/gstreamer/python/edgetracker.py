"""edgetracker: a GStreamer element that tracks one target and says on each buffer where it is.

GStreamer finds it where GST_PLUGIN_PATH names the folder above this one. See docs/gstreamer.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstBase", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, GObject, Gst, GstBase, GstVideo  # noqa: E402

try:
    gi.require_version("GstAnalytics", "1.0")
    from gi.repository import GstAnalytics
except (ImportError, ValueError):  # GStreamer before 1.24
    GstAnalytics = None

# Packages of the tracker are imported where it is opened: one that is missing is an error on the
# bus then, where GStreamer would drop the element and remember that.
if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_tracker import EdgeTracker

Gst.init(None)

Box = tuple[float, float, float, float]

CAPS = Gst.Caps.from_string("video/x-raw,format=BGR")
READ_WRITE = GObject.ParamFlags.READWRITE
TARGET = "target"


def parse_box(text: str) -> Box:
    """ "x,y,width,height" as numbers; ValueError for anything else."""
    try:
        x, y, w, h = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"box is {text!r}: expected x,y,width,height in pixels") from None
    return x, y, w, h


def inner_pixels(box: Box, width_px: int, height_px: int) -> tuple[int, int, int, int]:
    """Of a box that may reach out of the frame: x, y, width, height, rounded."""
    x, y, w, h = box
    left, right = (min(max(round(edge), 0), width_px) for edge in (x, x + w))
    top, bottom = (min(max(round(edge), 0), height_px) for edge in (y, y + h))
    return left, top, right - left, bottom - top


def box_from_upstream(buffer: Gst.Buffer) -> Box | None:
    """The first object that an element upstream, such as a detector, attached."""
    region = GstVideo.buffer_get_video_region_of_interest_meta_id(buffer, 0)
    if region is not None:
        return region.x, region.y, region.w, region.h
    objects = GstAnalytics and GstAnalytics.buffer_get_analytics_relation_meta(buffer)
    if objects:
        is_there, first = objects.get_od_mtd(0)
        if is_there:
            _, x, y, w, h, _ = first.get_location()
            return x, y, w, h
    return None


class EdgeTrackerElement(GstBase.BaseTransform):
    """Tracks from the first buffer on, or, where no `box` is set, from the first one with an object
    from upstream. Until then buffers pass untouched. Setting `box` anew starts anew.
    """

    __gtype_name__ = "GstEdgeTracker"
    __gstmetadata__ = (
        "Edge tracker",
        "Filter/Analyzer/Video",
        "Tracks one target with a converted MixFormerV2 network",
        "edge_tracker",
    )
    __gsttemplates__ = (
        Gst.PadTemplate.new("src", Gst.PadDirection.SRC, Gst.PadPresence.ALWAYS, CAPS),
        Gst.PadTemplate.new("sink", Gst.PadDirection.SINK, Gst.PadPresence.ALWAYS, CAPS),
    )
    __gproperties__: ClassVar = {
        "bundle": (str, "Bundle", "A folder made by edge-tracker convert", "", READ_WRITE),
        "box": (str, "Box", "x,y,width,height of the target in the next frame", "", READ_WRITE),
        "backend": (str, "Backend", "auto, openvino, onnxruntime or tensorrt", "auto", READ_WRITE),
        "threads": (int, "Threads", "CPU threads, 0 for all cores", 0, 1024, 0, READ_WRITE),
    }

    def __init__(self) -> None:
        super().__init__()
        self.settings = {"bundle": "", "box": "", "backend": "auto", "threads": 0}
        self.tracker: EdgeTracker | None = None
        self.started = False
        self.waits = False
        self.video = GstVideo.VideoInfo()
        self.set_in_place(True)

    def do_get_property(self, setting: GObject.ParamSpec) -> object:
        return self.settings[setting.name]

    def do_set_property(self, setting: GObject.ParamSpec, value: Any) -> None:
        self.settings[setting.name] = value
        if setting.name == "box":
            self.started = False

    def do_start(self) -> bool:
        try:
            self.open()
        except Exception as error:  # whatever goes wrong belongs on the bus
            self.refuse(error)
            return False
        self.started = self.waits = False
        return True

    def do_stop(self) -> bool:
        if self.tracker is not None:
            self.tracker.close()
            self.tracker = None
        return True

    def do_set_caps(self, incaps: Gst.Caps, outcaps: Gst.Caps) -> bool:
        self.video = GstVideo.VideoInfo.new_from_caps(incaps)
        return True

    def do_transform_ip(self, buffer: Gst.Buffer) -> Gst.FlowReturn:
        try:
            self.track(buffer)
        except Exception as error:  # an exception would be lost in GStreamer's thread
            self.refuse(error)
            return Gst.FlowReturn.ERROR
        return Gst.FlowReturn.OK

    def open(self) -> None:
        if not self.settings["bundle"]:
            raise ValueError("bundle is not set: give the folder made by edge-tracker convert")
        if self.settings["box"]:
            parse_box(self.settings["box"])
        try:
            from edge_tracker import EdgeTracker
        except ModuleNotFoundError as error:
            raise RuntimeError(
                f"{error}: PYTHONPATH has to name the folder of packages in which edge_tracker is "
                "installed, for the Python that GStreamer uses"
            ) from error
        self.tracker = EdgeTracker(
            self.settings["bundle"],
            backend=self.settings["backend"],
            num_threads=self.settings["threads"] or None,
        )

    def track(self, buffer: Gst.Buffer) -> None:
        if self.started:
            result = self.tracker.update(self.frame(buffer))
            self.tell(buffer, result.box, result.score, result.found)
            return
        # Before the box is read: the application may set another one at any time.
        self.started = True
        box = parse_box(self.settings["box"]) if self.settings["box"] else box_from_upstream(buffer)
        if box is not None:
            self.tracker.init(self.frame(buffer), box)
            self.tell(buffer, box, 1.0, True)
            return
        self.started = False
        if not self.waits:
            self.waits = True
            words = "no box is set: waiting for an element upstream to attach a region of interest"
            # gst-launch-1.0 prints the second of the two.
            self.post_message(Gst.Message.new_info(self, failure(words), words))

    def frame(self, buffer: Gst.Buffer) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 BGR, a copy."""
        import numpy as np

        height, width = self.video.height, self.video.width
        layout = GstVideo.buffer_get_video_meta(buffer) or self.video
        start, row_bytes = layout.offset[0], layout.stride[0]
        is_readable, memory = buffer.map(Gst.MapFlags.READ)
        if not is_readable:
            raise RuntimeError("the buffer's pixels cannot be read")
        try:
            # The last row may end with its last pixel.
            pixels = np.frombuffer(memory.data, np.uint8)[start:]
            needed = (height - 1) * row_bytes + 3 * width
            if len(pixels) < needed:
                raise ValueError(
                    f"a buffer of {len(pixels)} bytes holds no frame of {width} x {height} pixels, "
                    f"which takes {needed}: set caps that are those of the video"
                )
            rows = np.lib.stride_tricks.as_strided(pixels, (height, 3 * width), (row_bytes, 1))
            return rows.reshape(height, width, 3).copy()
        finally:
            buffer.unmap(memory)

    def tell(self, buffer: Gst.Buffer, box: Box, score: float, found: bool) -> None:
        """On the bus always, on the buffer while the target is found."""
        facts = Gst.Structure.new_empty("edgetracker")
        facts.set_value("pts", GObject.Value(GObject.TYPE_UINT64, buffer.pts))
        for name, value in zip("xywh", box, strict=True):
            facts.set_value(name, float(value))
        facts.set_value("score", score)
        facts.set_value("found", found)
        if found:
            region_xywh = inner_pixels(box, self.video.width, self.video.height)
            GstVideo.buffer_add_video_region_of_interest_meta(
                buffer, TARGET, *region_xywh
            ).add_param(facts.copy())
            if GstAnalytics:
                objects = GstAnalytics.buffer_add_analytics_relation_meta(buffer)
                objects.add_od_mtd(GLib.quark_from_string(TARGET), *region_xywh, score)
        self.post_message(Gst.Message.new_element(self, facts))

    def refuse(self, error: Exception) -> None:
        words = str(error) or type(error).__name__
        self.post_message(Gst.Message.new_error(self, failure(words), type(error).__name__))


def failure(words: str) -> GLib.Error:
    return GLib.Error.new_literal(Gst.StreamError.quark(), words, Gst.StreamError.FAILED)


__gstelementfactory__ = ("edgetracker", Gst.Rank.NONE, EdgeTrackerElement)
