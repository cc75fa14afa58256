"""Everything that can go wrong and is not a mistake in the arguments.

    EdgeTrackerError
    ├── CheckpointError       a training checkpoint cannot be read, or is not a MixFormerV2
    ├── BundleError           a bundle is missing, damaged, altered, or of another format version
    ├── BackendUnavailable    this machine cannot run what was asked for
    │   └── EngineMismatch    a TensorRT engine was built for another device, version or graph
    ├── VideoError            frames cannot be read or written
    ├── DatasetError          an annotated data set, or a sequence of it, cannot be used
    ├── CalibrationError      samples for int8 cannot be recorded or used
    │   └── Int8Refused       int8 costs more accuracy than is allowed
    └── NotInitialised        `update` was called before `init`

Wrong arguments raise the built-in ValueError or TypeError.
"""


class EdgeTrackerError(Exception):
    """Base of all named failures; its message says what was wrong, the value, and the remedy."""


class CheckpointError(EdgeTrackerError):
    """A training checkpoint cannot be read, or does not hold a MixFormerV2 network."""


class BundleError(EdgeTrackerError):
    """A bundle is missing, damaged, altered, or of another format version."""


class BackendUnavailable(EdgeTrackerError):
    """This machine lacks what was asked for: a package, driver, device or artefact."""


class EngineMismatch(BackendUnavailable):
    """A TensorRT engine was built for another device, TensorRT version or graph."""


class VideoError(EdgeTrackerError):
    """Frames cannot be read from a source, or written to a file."""


class DatasetError(EdgeTrackerError):
    """An annotated data set, or one of its sequences, is missing, damaged or not understood."""


class CalibrationError(EdgeTrackerError):
    """Calibration samples, or the sequences that judge int8, are missing, too few or damaged."""


class Int8Refused(CalibrationError):
    """An int8 artefact loses more accuracy than is allowed; the bundle was written without it."""


class NotInitialised(EdgeTrackerError):
    """`update` was called before `init`, or after `close`."""
