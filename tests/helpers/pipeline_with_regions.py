"""Runs a GStreamer pipeline and prints the first region of interest on each buffer at its end.

    python3 pipeline_with_regions.py PIPELINE [FRAMES NUMBER X Y W H]

PIPELINE ends in `appsink name=end`. One that begins with `appsrc name=start` is given the frames of
the file FRAMES, raw BGR of 320 x 240; frame NUMBER has a region of type "person".
A line for each buffer: null, or type, x, y, w, h and what the tracker says.
Run by the Python that has GStreamer's modules.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, Gst, GstVideo  # noqa: E402

FRAME_BYTES = 320 * 240 * 3


def main(text: str, frames: str, number: int, *region_xywh: int) -> None:
    Gst.init(None)
    pipeline = Gst.parse_launch(text)
    pipeline.set_state(Gst.State.PLAYING)
    start, end = pipeline.get_by_name("start"), pipeline.get_by_name("end")
    if start is not None:
        pixels = Path(frames).read_bytes()
        for index in range(len(pixels) // FRAME_BYTES):
            frame = pixels[index * FRAME_BYTES : (index + 1) * FRAME_BYTES]
            buffer = Gst.Buffer.new_wrapped(frame)
            buffer.pts = index * Gst.SECOND // 30
            if index == number:
                GstVideo.buffer_add_video_region_of_interest_meta(buffer, "person", *region_xywh)
            start.emit("push-buffer", buffer)
        start.emit("end-of-stream")
    while (sample := end.emit("pull-sample")) is not None:
        print(json.dumps(first_region(sample.get_buffer())), flush=True)  # noqa: T201
    pipeline.set_state(Gst.State.NULL)


def first_region(buffer: Gst.Buffer) -> list[object] | None:
    region = GstVideo.buffer_get_video_region_of_interest_meta_id(buffer, 0)
    if region is None:
        return None
    facts = region.get_param("edgetracker")
    names = ("pts", "x", "y", "w", "h", "score", "found")
    told = facts and {name: facts.get_value(name) for name in names}
    return [GLib.quark_to_string(region.roi_type), region.x, region.y, region.w, region.h, told]


if __name__ == "__main__":
    pipeline_text, *of_start = sys.argv[1:]
    frames_file, number, *region = of_start or ("", "-1")
    main(pipeline_text, frames_file, int(number), *map(int, region))
