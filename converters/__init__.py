"""Checkpoint -> ONNX pair -> OpenVINO IR, and the bundle that holds them. Needs the `convert`
extra.
"""

import edge_tracker.version  # noqa: F401 (before ONNX Runtime, which it keeps from reporting)
