"""Opening a bundle: the folder that holds a network as converted for devices. Format:
docs/bundle_format.md.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_tracker.bundle.manifest import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    PRECISIONS,
    Artefact,
    Calibration,
    Content,
    FileFacts,
    Source,
    parse_manifest,
)
from edge_tracker.bundle.spec import ModelSpec
from edge_tracker.errors import BundleError
from edge_tracker.files.untrusted import read_json, reading, short
from edge_tracker.files.what_is_it import kind_of_file
from edge_tracker.options import TrackerOptions, checked_list, checked_path
from edge_tracker.rules.presence_model import PresenceModel

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest has been checked; its files are, when an artefact is opened.

    manifest: the JSON as it was read; what it says is in the other fields.
    """

    path: Path
    spec: ModelSpec
    tracker_defaults: TrackerOptions
    artefacts: tuple[Artefact, ...]
    source: Source
    tools: Mapping[str, str]
    files: Mapping[str, FileFacts]
    calibration: Calibration | None
    presence: PresenceModel | None
    manifest: Content

    def find(self, kind: str, precision: str | None) -> Artefact | None:
        """The artefact of this format and precision; without one, the most exact there is."""
        wanted = PRECISIONS if precision is None else (precision,)
        for candidate in wanted:
            for artefact in self.artefacts:
                if (artefact.format, artefact.precision) == (kind, candidate):
                    return artefact
        return None

    def check_files(self, paths: list[str]) -> None:
        """Raise BundleError unless each file is there with the size and sha256 of the manifest."""
        digests: dict[tuple[int, int], str] = {}
        for relative in checked_list("paths", paths, "[artefact.files()[0]]"):
            redo = _REDO
            if str(relative).startswith("tensorrt/"):
                redo = f"build the engine again: edge-tracker build {self.path} --to tensorrt"
            expected = self.files.get(str(relative))
            if expected is None:
                raise BundleError(
                    f"bundle {self.path}: {relative} is not listed in its {MANIFEST}; {redo}"
                )
            file = self.path / relative
            if not file.is_file():
                raise BundleError(f"bundle {self.path}: {relative} is missing; {redo}")
            status = file.stat()
            size = status.st_size
            if size != expected.size_bytes:
                raise BundleError(
                    f"bundle {self.path}: {relative} has {size} bytes, expected "
                    f"{expected.size_bytes}; it is truncated or was altered; {redo}"
                )
            # Weights that both graphs have are one file of two names.
            identity = (status.st_dev, status.st_ino)
            digest = digests.get(identity) or sha256_of(file)
            digests[identity] = digest
            if digest != expected.sha256:
                raise BundleError(
                    f"bundle {self.path}: {relative} was altered: its sha256 is not that of the "
                    f"{MANIFEST}; {redo}"
                )


_REDO = "copy the bundle again, or convert the checkpoint anew"


def _not_a_folder(path: Path) -> str:
    kind = kind_of_file(path)
    if kind == "checkpoint":
        name = f"{path.name.partition('.')[0]}.bundle"
        return f"{path} is a checkpoint: convert it first, edge-tracker convert {path} -o {name}"
    if kind in ("video", "image"):
        return f"{path} is a {kind}: the bundle comes first, edge-tracker track BUNDLE {path}"
    folder = next((parent for parent in path.parents if (parent / MANIFEST).is_file()), None)
    if folder is not None and (path.name == MANIFEST or kind == "model"):
        return f"{path} is a file of a bundle: give the folder, {folder}"
    return f"{path} is a file, not a bundle's folder: give what edge-tracker convert has made"


def open_bundle(path: str | Path) -> Bundle:
    """Read and check a bundle's manifest.

    Raises BundleError if the folder or manifest is missing, not JSON, of another format version, or
    does not describe a network; the message says which and what to do. TypeError for what is not a
    path.
    """
    path = checked_path("bundle", path)
    with reading(f"bundle {short(str(path))}", "give the folder of a bundle", BundleError):
        if path.exists() and not path.is_dir():
            raise BundleError(_not_a_folder(path))
        if not path.is_dir():
            raise BundleError(
                f"bundle {path}: no such folder; "
                f"make one with: edge-tracker convert CHECKPOINT -o {shlex.quote(str(path))}"
            )
        if not (path / MANIFEST).is_file():
            raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}")
    with reading(f"bundle {path}: {MANIFEST}", _REDO, BundleError):
        manifest = read_json(path / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f'bundle {path}: {MANIFEST} does not say "format": "{FORMAT}"; {_REDO}')
    if manifest.get("format_version") != FORMAT_VERSION:
        raise BundleError(
            f"bundle {path} has format version {manifest.get('format_version')!r:.40}, this "
            f"package reads {FORMAT_VERSION}: convert the checkpoint anew, or install the package "
            "that wrote it"
        )
    try:
        said = parse_manifest(manifest)
    except Exception as error:  # what is in a wrong place may be of any type
        raise BundleError(
            f"bundle {path}: {MANIFEST} is incomplete or wrong ({short(str(error))}); {_REDO}"
        ) from error
    bundle = Bundle(
        path=path,
        spec=said.spec,
        tracker_defaults=said.tracker,
        artefacts=said.artefacts,
        source=said.source,
        tools=said.tools,
        files=said.files,
        calibration=said.calibration,
        presence=said.presence,
        manifest=manifest,
    )
    names = ", ".join(artefact.name for artefact in bundle.artefacts)
    _log.debug("bundle %s holds %s", path, names or "no artefact")
    return bundle


def sha256_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
