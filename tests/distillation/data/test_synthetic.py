"""Rendered samples: reproducible, boxed where the target is, black beyond the frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from distillation.data import drawing
from distillation.data.batches import REUSE_AFTER_BATCHES, Batch, Batches
from distillation.data.cutouts import Cutout, Scene, read_cutouts
from distillation.data.drawing import Look, pose_outline
from distillation.data.images import read_image
from distillation.data.opening import open_source, read_material
from distillation.data.synthetic import Material, Renderer
from distillation.data.view import Ground, Layer, Neighbour, View
from distillation.recipes.recipe import Jitter, RecipeError
from edge_tracker.errors import DatasetError
from tests.helpers.places import SHARED
from tests.helpers.small_training import RECIPE

PLAIN = Look(grey=False, lower_by=1.0, jpeg_quality=None, noise=0.0)
SQUARE = np.array([[-0.5, -0.5], [39.5, -0.5], [39.5, 39.5], [-0.5, 39.5]], np.float32)
IMAGES = SHARED / "data" / "images"


def renderer(
    material: Material, absent_fraction: float = 0.3, search_factor: float = 4.5
) -> Renderer:
    return Renderer(
        material,
        template_size_px=32,
        search_size_px=64,
        seed=5,
        absent_fraction=absent_fraction,
        search_factor=search_factor,
    )


@pytest.fixture(scope="module")
def material(images: Path) -> Material:
    return read_material(images, "train")


def test_a_number_is_always_the_same_sample(material: Material) -> None:
    one, again, other = (renderer(material).render(number) for number in (3, 3, 4))
    assert one.search.tobytes() == again.search.tobytes()
    assert one.edges.tolist() == again.edges.tolist()
    assert one.search.tobytes() != other.search.tobytes()


def test_samples_are_what_they_promise(material: Material) -> None:
    samples = [renderer(material).render(number) for number in range(40)]
    for sample in samples:
        assert sample.template.shape == sample.online_template.shape == (32, 32, 3)
        assert sample.search.shape == (64, 64, 3)
        assert sample.search.dtype == np.uint8
        left, top, right, bottom = sample.edges
        if sample.present:
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
        else:
            assert not sample.edges.any()
    absent = sum(not sample.present for sample in samples)
    assert 5 <= absent <= 20


@pytest.fixture
def white_square_on_grey() -> Material:
    image = np.full((40, 40, 3), 255, np.uint8)
    alpha = np.full((40, 40), 255, np.uint8)
    grey = np.full((400, 400, 3), 60, np.uint8)
    grey[::7] = 90
    return Material([Cutout(image, alpha, SQUARE, 0)], [Scene(grey, (SQUARE,))], [grey])


def draw_square(
    material: Material, target_px: float, centre: float, **ground: Any
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    view = View(rng, 64, target_px, np.array([centre, centre]), 0.0, "template", PLAIN)
    place = Ground(material.backgrounds[0], np.array([200.0, 200.0]), 50.0)._replace(**ground)
    cutout = material.cutouts[0]
    layer = Layer(cutout.image, cutout.alpha, cutout.outline, np.eye(2))
    return view.draw(layer, place, [])


def test_the_box_is_where_the_pixels_are(white_square_on_grey: Material) -> None:
    picture, box = draw_square(white_square_on_grey, 20.0, 30.0)
    bright = picture.min(axis=2) > 0.8 * picture.max()
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    found = [columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5]
    np.testing.assert_allclose(box, found, atol=1.0)
    np.testing.assert_allclose(box, [20, 20, 40, 40], atol=1e-6)


def test_beyond_the_frame_is_black_and_the_box_ends_there(white_square_on_grey: Material) -> None:
    # The target's centre stands 10 ground pixels, 4 in the view, right of the ground's left end.
    picture, box = draw_square(white_square_on_grey, 20.0, 30.0, place_xy=np.array([10.0, 200.0]))
    assert not picture[:, :26].any()
    assert picture[:, 27:].any(axis=2).all()
    np.testing.assert_allclose(box, [25.5, 20, 40, 40], atol=1e-6)


def test_an_outline_lands_at_its_size_and_place_whatever_the_distortion() -> None:
    turned = np.array([[0.0, -1.0], [1.0, 0.0]]) @ np.diag([1.5, 1.0])
    pose = pose_outline(SQUARE, turned, np.array([0.2, -0.1]), 24.0, np.array([10.0, 50.0]))
    low, high = pose.box_xyxy[:2], pose.box_xyxy[2:]
    np.testing.assert_allclose((low + high) / 2, [10, 50])
    assert np.sqrt((high - low).prod()) == pytest.approx(24)
    corners = cv2.perspectiveTransform(SQUARE[None], pose.matrix)[0]
    np.testing.assert_allclose([*corners.min(0), *corners.max(0)], pose.box_xyxy, atol=1e-3)


def test_a_front_layer_never_hides_the_target(white_square_on_grey: Material) -> None:
    cutout = white_square_on_grey.cutouts[0]
    black = Layer(np.zeros_like(cutout.image), cutout.alpha, SQUARE, np.eye(2))
    white = Layer(cutout.image, cutout.alpha, SQUARE, np.eye(2))
    ground = Ground(white_square_on_grey.backgrounds[0], np.array([200.0, 200.0]), 50.0)
    for size in (0.6, 3.0):
        view = View(
            np.random.default_rng(1), 64, 20.0, np.array([32.0, 32.0]), 0.0, "template", PLAIN
        )
        cover = Neighbour(black, np.zeros(2), size, in_front=True, in_template=True)
        picture, _ = view.draw(white, ground, [cover])
        bright = (picture.min(axis=2) > 0.8 * picture.max()).sum()
        assert bright > 0.3 * 20 * 20
        if size == 0.6:
            assert bright < 0.9 * 20 * 20


def test_the_look_greys_blurs_and_adds_grain(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (64, 64, 3), np.uint8)
    grey = drawing.to_grey(image)
    assert (grey[..., 0] == grey[..., 2]).all()
    assert drawing.lower_resolution(image, 4.0).std() < 0.5 * image.std()
    blurred = drawing.motion_blur(image, 9.0, 0.0)
    assert np.abs(np.diff(blurred.astype(int), axis=1)).mean() < 0.5 * (
        np.abs(np.diff(blurred.astype(int), axis=0)).mean()
    )
    flat = np.full((64, 64, 3), 128, np.uint8)
    assert drawing.camera_noise(flat, 8.0, rng).std() == pytest.approx(8.0, rel=0.1)
    assert 0 < np.abs(drawing.jpeg(image, 30).astype(int) - image).mean() < 80


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_cutouts_come_from_polygons_and_from_masks(images: Path) -> None:
    polygons, scenes = read_cutouts(images / "instances" / "train2017")
    assert len(polygons) == 6
    assert len(scenes) == 3
    first = polygons[0]
    assert first.category == 3
    assert first.image.shape[:2] == first.alpha.shape == (51, 57)  # 0.4 x 140 by 0.5 x 100, + 1
    np.testing.assert_allclose(first.outline.max(0) - first.outline.min(0), [57, 51])
    masked, _ = read_cutouts(images / "pedestrians")
    assert [cutout.image.shape[:2] for cutout in masked] == [(50, 30), (60, 40)]
    assert masked[0].alpha[25, 15] == 255


def test_a_search_crop_holds_the_target_as_often_as_its_factor_says(material: Material) -> None:
    """Over many samples: each has its own jitter, the same for both factors."""
    sizes = []
    for factor in (3.0, 4.5):
        source = renderer(material, absent_fraction=0.0, search_factor=factor)
        edges = np.stack([source.render(number).edges for number in range(60)])
        sizes.append(np.median(np.sqrt((edges[:, 2:] - edges[:, :2]).prod(axis=1))))
    assert sizes == pytest.approx([1 / 3.0, 1 / 4.5], rel=0.2)
    assert sizes[0] / sizes[1] == pytest.approx(1.5, rel=0.1)


def test_a_recipe_says_how_much_its_rendered_crops_hold(images: Path) -> None:
    for factor in (3.5, 4.5):
        recipe = replace(RECIPE, jitter=Jitter(search_factor=factor))
        source = open_source(recipe, {"synthetic": images}, "train")
        assert isinstance(source, Renderer)
        assert source.search_factor == factor


USES = 4


@pytest.fixture
def often(material: Material) -> Batches:
    """Two new samples a batch, and six that come back."""
    return Batches(lambda: renderer(material), 2 * USES, None, uses=USES)


def part(batch: Batch, use: int) -> Batch:
    """The samples of a batch that are in it for the so manyth time."""
    templates, search, edges, present = (t[2 * use : 2 * use + 2] for t in batch[:4])
    return Batch(templates, search, edges, present, None)


def mirrored(batch: Batch) -> Batch:
    left, top, right, bottom = batch.edges.unbind(1)
    edges = torch.stack([1 - right, top, 1 - left, bottom], dim=1)
    return Batch(
        batch.templates.flip(3),
        batch.search.flip(2),
        torch.where(batch.present[:, None], edges, torch.zeros(())),
        batch.present,
        None,
    )


def same(one: Batch, other: Batch) -> bool:
    """Mirrored twice, edges are the same but for rounding."""
    pixels = one.templates.equal(other.templates) and one.search.equal(other.search)
    return pixels and one.present.equal(other.present) and one.edges.allclose(other.edges)


def test_a_sample_comes_back_so_many_times_every_second_time_mirrored(often: Batches) -> None:
    new = part(often[0], 0)
    for use in range(1, USES):
        again = part(often[use * REUSE_AFTER_BATCHES], use)
        assert same(again, mirrored(new) if use % 2 else new)
        assert not same(again, new if use % 2 else mirrored(new))
    everything = often[USES * REUSE_AFTER_BATCHES].search
    assert not any(sample.equal(new.search[0]) for sample in everything)
    assert not any(sample.equal(new.search[0].flip(1)) for sample in everything)


def test_samples_without_a_target_have_no_edges_when_mirrored_either(material: Material) -> None:
    batch = Batches(lambda: renderer(material, 0.5), 16, None, uses=2)[0]
    assert 0 < batch.present[8:].sum() < 8
    assert not batch.edges[8:][~batch.present[8:]].any()


def test_the_first_steps_have_samples_as_different_as_later_ones(often: Batches) -> None:
    """What would have come back from before the first step is rendered, and comes back too."""
    steps = [0, 1, REUSE_AFTER_BATCHES, REUSE_AFTER_BATCHES + 1]
    assert all(len(often[step].search) == 2 * USES for step in steps)
    first = [often[step] for step in (0, 1)]
    crops = {sample.numpy().tobytes() for batch in first for sample in batch.search}
    assert len(crops) == 2 * 2 * USES
    for use in range(1, USES - 1):
        assert same(mirrored(part(often[0], use)), part(often[REUSE_AFTER_BATCHES], use + 1))


def test_what_a_batch_holds_depends_on_its_step_alone(material: Material) -> None:
    """Not on what was asked for before, nor on what a worker still keeps."""
    asked_in_order = Batches(lambda: renderer(material), 8, None, uses=2)
    in_order = {step: asked_in_order[step] for step in (0, 1, 32, 33, 50, 64)}
    for step in (64, 0, 33):
        fresh = Batches(lambda: renderer(material), 8, None, uses=2)[step]
        assert same(fresh, in_order[step])
        assert same(asked_in_order[step], fresh)


def test_one_use_is_new_samples_alone(material: Material) -> None:
    once = Batches(lambda: renderer(material), 8, None)
    source = renderer(material)
    for step in (0, REUSE_AFTER_BATCHES):
        expected = [source.render(8 * step + number).search for number in range(8)]
        assert once[step].search.equal(torch.from_numpy(np.stack(expected)))


def test_processes_share_a_batch_without_overlap(material: Material) -> None:
    whole = Batches(lambda: renderer(material), 8, None)[2]
    parts = [Batches(lambda: renderer(material), 8, None, rank=rank, world=2)[2] for rank in (0, 1)]
    for rank, part in enumerate(parts):
        assert part.search.equal(whole.search[4 * rank : 4 * rank + 4])
    with pytest.raises(RecipeError, match="a batch of 8 does not divide by 3 processes"):
        Batches(lambda: renderer(material), 8, None, world=3)
    with pytest.raises(RecipeError, match="8 does not divide by 1 processes into 3 parts"):
        Batches(lambda: renderer(material), 8, None, uses=3)


def test_processes_share_what_comes_back_too(material: Material) -> None:
    whole, *ranks = (
        Batches(lambda: renderer(material), 8, None, uses=2, rank=rank, world=world)[1]
        for rank, world in ((0, 1), (0, 2), (1, 2))
    )
    assert torch.cat([ranks[0].search[:2], ranks[1].search[:2]]).equal(whole.search[:4])
    assert torch.cat([ranks[0].search[2:], ranks[1].search[2:]]).equal(whole.search[4:])


BROKEN = {
    "no such folder": (lambda f: None, "no such folder"),
    "no images": (lambda f: f.mkdir(), "holds no image"),
    "not an image": (
        lambda f: (f.mkdir(), (f / "a.jpg").write_bytes(b"\xff\xd8 broken")),
        r"a\.jpg cannot be decoded.*take it out",
    ),
    "no annotation": (
        lambda f: (f.mkdir(), cv2.imwrite(str(f / "a.jpg"), np.zeros((50, 50, 3), np.uint8))),
        "no annotated object of at least 20 px: expected NAME.jpg beside NAME.txt",
    ),
    "odd polygon": (
        lambda f: (
            f.mkdir(),
            cv2.imwrite(str(f / "a.jpg"), np.zeros((50, 50, 3), np.uint8)),
            (f / "a.txt").write_text("1 0.1 0.1 0.9\n"),
        ),
        r"a\.txt: '1 0\.1 0\.1 0\.9' is not a polygon",
    ),
    "mask of another size": (
        lambda f: (
            f.mkdir(),
            cv2.imwrite(str(f / "a.png"), np.zeros((50, 50, 3), np.uint8)),
            cv2.imwrite(str(f / "a_mask.png"), np.ones((20, 20), np.uint8)),
        ),
        r"a_mask\.png does not decode to a mask of 50x50 pixels",
    ),
}


@pytest.mark.parametrize(("make", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_material_that_cannot_be_used_is_named(make: object, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "cutouts"
    make(folder)  # type: ignore[operator]
    with pytest.raises(DatasetError, match=message):
        read_cutouts(folder)


def test_nothing_to_render_from_is_refused() -> None:
    with pytest.raises(ValueError, match="0 cut-outs, 0 scenes and 0 backgrounds"):
        Material([], [], [])


@pytest.mark.skipif(not IMAGES.is_dir(), reason="no ../shared/data/images here")
def test_real_photographs_are_read() -> None:
    cutouts, scenes = read_cutouts(IMAGES / "instances" / "val2017")
    assert len(cutouts) > 500
    assert len(scenes) > 100
    background = read_image(next(iter(sorted((IMAGES / "backgrounds_test").glob("*.jpg")))))
    sample = renderer(Material(cutouts, scenes, [background])).render(1)
    assert sample.template.std() > 1
