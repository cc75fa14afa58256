"""Recording calibration samples, and int8. Needs the `calibrate` extra."""

import edge_tracker.version  # noqa: F401 (before ONNX Runtime, which it keeps from reporting)
