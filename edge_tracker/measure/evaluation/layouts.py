"""Which layout a data set has, and where its sequences are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_tracker.errors import DatasetError
from edge_tracker.files.untrusted import reading, short
from edge_tracker.options import checked_name, checked_path
from edge_tracker.video.frames import is_image_name, natural_key

#: By name, what tells each layout: also the words of the message where none is found. Where a
#: layout's pixels begin, and how it marks an absent target: ground_truth.py.
LAYOUTS = {
    "otb": "NAME/img/*.jpg with NAME/groundtruth_rect.txt",
    "lasot": "NAME/img/*.jpg with NAME/groundtruth.txt and NAME/full_occlusion.txt",
    "got10k": "NAME/*.jpg with NAME/groundtruth.txt and NAME/absence.label or meta_info.ini",
    "uav123": "anno/UAV123/NAME.txt with data_seq/UAV123/NAME/*.jpg",
    "trackingnet": "anno/NAME.txt with frames/NAME/*.jpg, or TEST and TRAIN_* folders of these",
    "vot": "NAME/color/*.jpg or NAME/*.jpg with NAME/groundtruth.txt",
    "plain": "NAME/img/*.jpg with NAME/groundtruth.txt",
}

# Sequences of OTB-100 whose annotation covers a part of their images, as its web page lists them.
_OTB_RANGES = {
    "David": (299, 770),
    "Diving": (0, 215),
    "Football1": (0, 74),
    "Freeman3": (0, 460),
    "Freeman4": (0, 283),
}

# Videos of UAV123 that are annotated in parts (NAME_1, NAME_2, ...): first and last image of each,
# counted from 1. Neighbours share an image, and some images belong to no part.
_UAV123_PARTS = {
    "bird1": ((1, 253), (775, 1477), (1573, 2437)),
    "car1": ((1, 751), (751, 1627), (1627, 2629)),
    "car6": ((1, 487), (487, 1807), (1807, 2953), (2953, 3925), (3925, 4861)),
    "car8": ((1, 1357), (1357, 2575)),
    "car16": ((1, 415), (415, 1993)),
    "group1": ((1, 1333), (1333, 2515), (2515, 3925), (3925, 4873)),
    "group2": ((1, 907), (907, 1771), (1771, 2683)),
    "group3": ((1, 1567), (1567, 2827), (2827, 4369), (4369, 5527)),
    "person2": ((1, 1189), (1189, 2623)),
    "person4": ((1, 1501), (1501, 2743)),
    "person5": ((1, 877), (877, 2101)),
    "person7": ((1, 1249), (1249, 2065)),
    "person8": ((1, 1075), (1075, 1525)),
    "person12": ((1, 601), (601, 1621)),
    "person14": ((1, 847), (847, 1813), (1813, 2923)),
    "person17": ((1, 1501), (1501, 2347)),
    "person19": ((1, 1243), (1243, 2791), (2791, 4357)),
    "truck4": ((1, 577), (577, 1261)),
    "uav1": ((1, 1555), (1555, 2377), (2473, 3469)),
}


class MixedLayouts(DatasetError):
    """A folder in which several layouts stand side by side."""


@dataclass(frozen=True)
class SequenceFolder:
    """One sequence of a data set, found but not read.

    images: the folder of its images. truth: the file of its boxes. image_range: first image and
    image after the last, counted from 0 in natural order, where the boxes are of a part of them.
    """

    name: str
    layout: str
    images: Path
    truth: Path
    image_range: tuple[int, int] | None = None


def find_sequences(dataset: str | Path, layout: str | None = None) -> list[SequenceFolder]:
    """The sequences of a data set in natural order, its layout recognised unless it is given.

    A folder that only resembles the others (no annotation, no images, empty) is listed too: reading
    it says what is missing. Raises ValueError for an unknown layout's name; DatasetError for a
    missing folder, where nothing is recognised, or where several layouts are.
    """
    dataset = checked_path("dataset", dataset)
    if layout is not None:
        checked_name("layout", layout, LAYOUTS)
    with reading(f"data set {short(str(dataset))}", "give its folder", DatasetError):
        if not dataset.is_dir():
            raise DatasetError(f"data set {dataset}: no such folder")
    sequences: list[SequenceFolder] = []
    if layout in (None, "uav123"):
        sequences = _find_uav123(dataset)
    if not sequences and layout in (None, "trackingnet"):
        sequences = _find_trackingnet(dataset)
    if not sequences and layout not in ("uav123", "trackingnet"):
        sequences = _find_folders(dataset, layout)
    if not sequences:
        wanted = LAYOUTS if layout is None else {layout: LAYOUTS[layout]}
        known = "; ".join(f"{name}: {form}" for name, form in wanted.items())
        state = "is empty" if not any(dataset.iterdir()) else "has no layout that is known here"
        raise DatasetError(f"data set {dataset} {state}. Expected inside it, {known}")
    repeated = [name for name, count in Counter(s.name for s in sequences).items() if count > 1]
    if repeated:
        raise DatasetError(
            f"data set {dataset} has several sequences named {repeated[0]}: rename all but one"
        )
    return sorted(sequences, key=lambda sequence: natural_key(sequence.name))


def _find_uav123(dataset: Path) -> list[SequenceFolder]:
    named_itself = dataset.parent.name == "anno"
    candidates = [dataset] if named_itself else [dataset / "anno" / n for n in ("UAV123", "UAV20L")]
    for truths in candidates:
        videos = truths.parents[1] / "data_seq" / "UAV123"
        if truths.is_dir() and videos.is_dir():
            return [_uav123_sequence(truth, videos) for truth in _text_files(truths)]
    return []


def _uav123_sequence(truth: Path, videos: Path) -> SequenceFolder:
    name, image_range = truth.stem, None
    part = re.fullmatch(r"(.+)_([1-9])", name)
    video = name
    if part is not None and int(part[2]) <= len(_UAV123_PARTS.get(part[1], ())):
        video = part[1]
        first, last = _UAV123_PARTS[video][int(part[2]) - 1]
        image_range = (first - 1, last)
    return SequenceFolder(name, "uav123", videos / video, truth, image_range)


def _find_trackingnet(dataset: Path) -> list[SequenceFolder]:
    subsets = [dataset, *(child for child in dataset.iterdir() if child.is_dir())]
    return [
        SequenceFolder(truth.stem, "trackingnet", subset / "frames" / truth.stem, truth)
        for subset in subsets
        if (subset / "anno").is_dir() and (subset / "frames").is_dir()
        for truth in _text_files(subset / "anno")
    ]


def _find_folders(dataset: Path, layout: str | None) -> list[SequenceFolder]:
    """Sequences that are folders: the data set itself, its children, or theirs (as in LaSOT)."""
    children = _folders_in([dataset])
    for candidates in ([dataset], children, _folders_in(children)):
        recognised = {folder: _layout_of(folder) for folder in candidates}
        layouts = {found: folder for folder, found in recognised.items() if found is not None}
        if not layouts:
            continue
        if layout is None and len(layouts) > 1:
            examples = ", ".join(f"{f.name} looks like {found}" for found, f in layouts.items())
            raise MixedLayouts(
                f"data set {dataset} mixes layouts: {examples}; name the right one with --layout"
            )
        chosen = layout or next(iter(layouts))
        return [
            sequence
            for folder, found in recognised.items()
            if found is not None or _is_damaged_sequence(folder)
            for sequence in _sequences_of(folder, chosen)
        ]
    return []


def _text_files(folder: Path) -> list[Path]:
    """But for hidden ones: macOS leaves a ._NAME.txt beside each NAME.txt on other disks."""
    return [path for path in folder.glob("*.txt") if not path.name.startswith(".")]


def _folders_in(parents: Iterable[Path]) -> list[Path]:
    return [
        child
        for parent in parents
        for child in parent.iterdir()
        if child.is_dir() and not child.name.startswith(".")
    ]


def _layout_of(folder: Path) -> str | None:
    """What the files of one sequence's folder tell; None if it has no ground truth."""

    def has(*names: str) -> bool:
        return any((folder / name).exists() for name in names)

    if any(folder.glob("groundtruth_rect*.txt")):
        return "otb"
    if not has("groundtruth.txt"):
        return None
    if has("img"):
        return "lasot" if has("full_occlusion.txt", "out_of_view.txt", "nlp.txt") else "plain"
    if has("color", "sequence") or any(folder.glob("*.tag")):
        return "vot"
    if has("meta_info.ini", "absence.label", "cover.label") or folder.name.startswith("GOT-10k"):
        return "got10k"
    return "vot"


def _is_damaged_sequence(folder: Path) -> bool:
    names = [child.name for child in folder.iterdir() if not child.name.startswith(".")]
    return not names or "img" in names or any(is_image_name(name) for name in names)


def _sequences_of(folder: Path, layout: str) -> Sequence[SequenceFolder]:
    if layout == "otb":
        # Several files are several targets; Human4 has an empty one beside the real one.
        files = sorted(folder.glob("groundtruth_rect*.txt"))
        truths = [file for file in files if file.stat().st_size > 0] or files[:1]
        truths = truths or [folder / "groundtruth_rect.txt"]
        image_range = _OTB_RANGES.get(folder.name)
        names = [
            folder.name if len(truths) == 1 else f"{folder.name}.{number}"
            for number in range(1, len(truths) + 1)
        ]
        return [
            SequenceFolder(name, layout, folder / "img", truth, image_range)
            for name, truth in zip(names, truths, strict=True)
        ]
    images = folder
    if layout in ("lasot", "plain"):
        images = folder / "img"
    elif layout == "vot" and (folder / "color").is_dir():
        images = folder / "color"
    return [SequenceFolder(folder.name, layout, images, folder / "groundtruth.txt")]
