"""Measuring in turns, on fake artefacts whose time is told by a clock that only sleeps move."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import edge_tracker
from edge_tracker.backends import openvino
from edge_tracker.backends.choice import backend_of
from edge_tracker.backends.graph import CopyTimes
from edge_tracker.backends.parity import LIMITS
from edge_tracker.bundle.manifest import Artefact, Parity, Source
from edge_tracker.bundle.opening import Bundle
from edge_tracker.cli.main import main
from edge_tracker.errors import BackendUnavailable, EdgeTrackerError
from edge_tracker.measure.bench import benchmark as bench
from edge_tracker.measure.bench.benchmark import benchmark
from edge_tracker.measure.bench.cold_start import measure_cold_start
from edge_tracker.measure.bench.page import bench_page
from edge_tracker.measure.bench.report import BenchReport, BenchSettings
from edge_tracker.measure.bench.rounds import COPIES, ROUND_FRAMES
from edge_tracker.measure.bench.tables import COURSE_ROWS, tables_of
from edge_tracker.measure.doctor import Diagnosis, diagnose
from edge_tracker.measure.verify import ArtefactVerification, Status, Verification
from edge_tracker.tracker import engine
from tests.helpers.fake_graphs import bundle_without_files
from tests.helpers.slow_networks import FakeClock, SlowNetwork

FORMATS = {"fast": ("openvino", "fp16"), "slow": ("onnx", "fp32"), "broken": ("openvino", "int8")}


def verified(artefact: Artefact, status: Status = "passed") -> ArtefactVerification:
    return ArtefactVerification(
        artefact=artefact.name,
        compute="f32",
        backend=backend_of(artefact),
        device="CPU",
        status=status,
        reasons=() if status == "passed" else ("box error 9 px, limit 0.25 px",),
        parity=Parity(0.004, 1e-5, 1e-6),
        parity_limits=LIMITS[artefact.precision],
        closed_loop=None,
    )


@cache
def diagnosis() -> Diagnosis:
    return diagnose()


class FakeBench:
    """Runs benchmark() on a bundle whose artefacts are fake networks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = FakeClock()
        self.networks: dict[tuple[str, str], SlowNetwork | Exception] = {}
        self.statuses: dict[str, Status] = {}
        self.turns: list[str] = []
        monkeypatch.setattr(engine, "open_graphs", self._open)
        monkeypatch.setattr(bench, "verify", self._verify)
        monkeypatch.setattr(bench, "diagnose", diagnosis)

    def add(self, kind: str, network: SlowNetwork | Exception) -> None:
        if isinstance(network, SlowNetwork):
            network.clock = self.clock
        self.networks[FORMATS[kind]] = network

    def run(self, **choices: Any) -> BenchReport:
        artefacts = tuple(
            Artefact(kind, precision, {}, None, 10**6) for kind, precision in self.networks
        )
        bundle = replace(
            bundle_without_files(),
            artefacts=artefacts,
            source=Source("a checkpoint", "5eed"),
        )
        choices = {"iterations": 100, "cold_starts": 0, **choices}
        return benchmark(
            bundle,
            clock=self.clock,
            sleep=self.clock.sleep,
            on_progress=lambda done, total, words: self.turns.append(words),
            **choices,
        )

    def _open(self, bundle: Bundle, *, backend: str, precision: str, **rest: object) -> Any:
        kind = "onnx" if backend == "onnxruntime" else backend
        network = self.networks[kind, precision]
        if isinstance(network, Exception):
            raise network
        return network.graphs()

    def _verify(self, bundle: Bundle, **choices: object) -> Verification:
        results = [verified(a, self.statuses.get(a.name, "passed")) for a in bundle.artefacts]
        return Verification("bundle", "onnx/fp32", 0.9, 60, tuple(results))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeBench:
    return FakeBench(monkeypatch)


def constant(milliseconds: float) -> SlowNetwork:
    return SlowNetwork(search_ms=lambda frame: milliseconds, wait_ms=2.0)


def test_what_is_measured(fake: FakeBench) -> None:
    fake.add("fast", constant(4.0))
    (artefact,) = fake.run(iterations=130).artefacts
    assert (artefact.name, artefact.precision) == ("openvino/fp16", "fp16")
    assert artefact.update.count == 130
    assert artefact.update.p50 == pytest.approx(4.0)
    # A default interval of 25 frames, from the start of each turn, 5 of them not counted.
    assert artefact.refresh_frames == (20, 45, 70, 95, 120)
    for frame in artefact.refresh_frames:
        assert artefact.updates_ms[frame] == pytest.approx(6.0)
    assert artefact.stages["template_wait"].count == 5
    assert artefact.stage_mean_ms["template_wait"] == pytest.approx(5 * 2.0 / 130)
    assert sum(artefact.stage_mean_ms.values()) == pytest.approx(artefact.update.mean)
    assert artefact.unaccounted == pytest.approx(0.0)
    assert [turn.frames for turn in artefact.rounds] == [50, 50, 30]


def test_copies_are_measured_where_the_backend_tells_them(fake: FakeBench) -> None:
    network = constant(4.0)
    network.copies = CopyTimes(to_device_ms=0.5, from_device_ms=0.25)
    fake.add("fast", network)
    fake.add("slow", constant(9.0))
    report = fake.run()
    told, untold = report.artefacts
    assert {name: times.p50 for name, times in told.copies.items()} == {
        "to_device": 0.5,
        "from_device": 0.25,
    }
    assert untold.copies == {}
    (table,) = [table for table in tables_of(report) if table.title.startswith("Stages")]
    (row,) = [row for row in table.rows if "of it, copy to device" in row]
    cells = dict(zip(table.columns, row, strict=True))
    assert (cells["model"], cells["p50"]) == (told.name, "0.500")
    # Of a mean update of 4 ms and four waits of 2 ms in 100; in two turns, after one of warm-up.
    assert cells["share"] == "12.3%"
    assert cells["count"] == str(2 * COPIES)


def test_turns_alternate_and_the_first_round_is_warm_up(fake: FakeBench) -> None:
    fake.add("fast", constant(4.0))
    fake.add("slow", constant(9.0))
    report = fake.run(iterations=3 * ROUND_FRAMES)
    turns = [words.split()[1] for words in fake.turns if words.startswith("measuring")]
    a, b = "openvino/fp16", "onnx/fp32"
    assert turns == [b, a, a, b, b, a, a, b]
    assert [len(artefact.rounds) for artefact in report.artefacts] == [3, 3]
    assert [artefact.update.p50 for artefact in report.artefacts] == pytest.approx([4.0, 9.0])


def test_a_duration_is_of_updates_and_a_slow_artefacts_turn_ends_in_time(fake: FakeBench) -> None:
    fake.add("slow", constant(500.0))
    (artefact,) = fake.run(iterations=None, duration_s=6.0).artefacts
    assert artefact.update.count == 12
    assert [turn.frames for turn in artefact.rounds] == [4, 4, 4]


def test_rare_spikes_show_in_p99_and_timeline_and_not_in_p50(fake: FakeBench) -> None:
    def search_ms(frame: int) -> float:
        return 9.0 if frame % 50 == 49 else 4.0

    fake.add("fast", SlowNetwork(search_ms=search_ms, wait_ms=0.0))
    report = fake.run(iterations=1000)
    (artefact,) = report.artefacts
    assert artefact.update.p50 == pytest.approx(4.0)
    assert artefact.update.p99 == pytest.approx(9.0)
    spikes = [ms for ms in artefact.updates_ms if ms > 5]
    assert 18 <= len(spikes) <= 20
    # In the page's timeline, the columns that hold a spike reach to its height.
    page = bench_page(report)
    ranges = re.findall(r'd="((?:M[\d.]+ [\d.]+V[\d.]+)+)"[^>]*opacity:1"', page)[0]
    tops = [float(top) for top in re.findall(r"V([\d.]+)", ranges)]
    assert sum(top == min(tops) for top in tops) == len(spikes)
    assert min(tops) < 0.6 * max(tops)


def test_an_artefact_that_cannot_be_loaded_is_reported(fake: FakeBench) -> None:
    fake.add("broken", BackendUnavailable("no int8 here"))
    fake.add("fast", constant(4.0))
    report = fake.run()
    assert [artefact.name for artefact in report.artefacts] == ["openvino/fp16"]
    assert [(f.what, f.reason) for f in report.failures] == [("openvino/int8", "no int8 here")]
    assert "Not measured: openvino/int8: no int8 here" in bench_page(report)


def test_an_artefact_that_fails_on_the_way_is_reported(fake: FakeBench) -> None:
    def search_ms(frame: int) -> float:
        if frame > 80:
            raise EdgeTrackerError("out of memory")
        return 1.0

    fake.add("fast", SlowNetwork(search_ms=search_ms))
    fake.add("slow", constant(9.0))
    report = fake.run()
    assert [artefact.name for artefact in report.artefacts] == ["onnx/fp32"]
    assert [(f.what, f.reason) for f in report.failures] == [("openvino/fp16", "out of memory")]


def test_nothing_to_measure(fake: FakeBench) -> None:
    fake.add("broken", BackendUnavailable("no int8 here"))
    report = fake.run()
    assert report.artefacts == ()
    assert report.recommendation.artefact is None
    assert "openvino/int8" in bench_page(report)


def test_a_camera_is_played_to_each(fake: FakeBench) -> None:
    fake.add("fast", constant(4.0))
    fake.add("slow", constant(15.0))
    fast, slow = fake.run(iterations=60, target_fps=100.0).artefacts
    assert fast.camera is not None
    assert slow.camera is not None
    assert (fast.camera.frames, fast.camera.dropped, fast.camera.deadline_misses) == (60, 0, 0)
    assert slow.camera.dropped == pytest.approx(20, abs=1)
    assert slow.camera.latency.p50 > 15.0


def test_a_long_camera_shows_the_machine_over_time(fake: FakeBench) -> None:
    fake.add("fast", constant(4.0))
    report = fake.run(iterations=60, target_fps=50.0, camera_s=100.0)
    (artefact,) = report.artefacts
    assert artefact.update.count == 60
    assert artefact.camera is not None
    assert (artefact.camera.frames, len(artefact.camera.course)) == (5000, 20)
    (table,) = [table for table in tables_of(report) if "over time" in table.title]
    times = [dict(zip(table.columns, row, strict=True))["at"] for row in table.rows]
    assert len(times) == COURSE_ROWS
    assert (times[0], times[-1]) == ("0:05", "1:40")
    assert "over time" in bench_page(report)


@pytest.mark.parametrize(
    ("options", "fps", "seconds"),
    [
        ([], None, None),
        (["--target-fps", "25"], 25.0, None),
        (["--profile", "long"], 30.0, 600.0),
        (["--profile", "long", "--target-fps", "60"], 60.0, 600.0),
    ],
)
def test_the_long_profile_is_ten_minutes_of_a_camera(
    options: list[str],
    fps: float | None,
    seconds: float | None,
    nano_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}

    def fake_benchmark(bundle: object, **choices: Any) -> BenchReport:
        asked.update(choices)
        raise EdgeTrackerError("enough")

    monkeypatch.setattr(bench, "benchmark", fake_benchmark)
    assert main(["bench", str(nano_bundle.path), *options]) == 1
    assert (asked["target_fps"], asked["camera_s"]) == (fps, seconds)


def test_several_targets_are_compared_with_as_many_trackers(fake: FakeBench) -> None:
    """A run of the fake takes as long for any number of targets."""
    fake.add("fast", constant(4.0))
    report = fake.run(iterations=20, targets=(1, 4))
    (artefact,) = report.artefacts
    one, four = artefact.several
    assert (one.targets, four.targets) == (1, 4)
    assert four.update.count == four.singles.count == 20
    assert (one.update.p50, one.singles.p50, one.ratio) == pytest.approx((4.0, 4.0, 1.0))
    assert (four.update.p50, four.singles.p50, four.ratio) == pytest.approx((4.0, 16.0, 0.25))
    (table,) = [table for table in tables_of(report) if table.title.startswith("Several")]
    assert table.rows[1][-3:] == ("1.000", "16.000", "0.25")
    assert "Several targets" in bench_page(report)


def test_seconds_of_several_targets_are_of_both(fake: FakeBench) -> None:
    fake.add("fast", constant(4.0))
    (artefact,) = fake.run(iterations=None, duration_s=1.0, targets=(4,)).artefacts
    (several,) = artefact.several
    assert several.update.count == pytest.approx(1000 / (4 + 16), abs=2)


def test_an_unverified_artefact_is_measured_but_not_recommended(fake: FakeBench) -> None:
    fake.add("fast", constant(4.0))
    fake.add("slow", constant(9.0))
    fake.statuses["openvino/fp16"] = "failed"
    report = fake.run()
    assert report.recommendation.artefact == "onnx/fp32"
    assert "openvino/fp16 is left out: failed (box error 9 px" in report.recommendation.reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"frame_width": 32},
        {"iterations": 0},
        {"duration_s": 0.0},
        {"duration_s": float("nan")},
        {"target_fps": -1.0},
        {"camera_s": 0.0},
        {"targets": (2, 0)},
    ],
)
def test_bad_settings_are_refused(wrong: Mapping[str, Any]) -> None:
    good = BenchSettings(640, 480, None, None, 10.0, None, 30.0)
    with pytest.raises(ValueError, match=f"{next(iter(wrong)).split('_')[0]}.* is .*expected"):
        replace(good, **wrong)
    with pytest.raises(ValueError, match="camera_s without target_fps"):
        replace(good, camera_s=5.0, target_fps=None)


# With real artefacts.


def test_cold_start_in_fresh_processes(nano_bundle: Bundle) -> None:
    artefact = nano_bundle.find("onnx", "fp32")
    assert artefact is not None
    starts = measure_cold_start(nano_bundle, artefact, "onnxruntime", num_threads=1, runs=1)
    for start in (starts.cold, starts.warm):
        assert min(start.import_ms, start.load_ms, start.init_ms, start.first_update_ms) > 0
        assert start.total_ms > start.import_ms
    assert starts.peak_memory_bytes is None or starts.peak_memory_bytes > 10e6
    with pytest.raises(EdgeTrackerError, match=r"a fresh process failed: .*no device 'TPU'"):
        measure_cold_start(nano_bundle, artefact, "onnxruntime", device="TPU", runs=1)


def command(bundle: Bundle, *options: str) -> list[str]:
    return ["bench", str(bundle.path), "--iterations", "40", "--threads", "1",
            "--no-cold-start", *options]  # fmt: skip


def test_the_command_and_its_files(
    nano_bundle: Bundle,
    cache_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(openvino, "cache_folder", lambda folder: cache_dir)
    report, page = tmp_path / "bench.json", tmp_path / "bench.html"
    options = ["--target-fps", "50", "--json", str(report), "--html", str(page)]
    assert main(command(nano_bundle, *options)) == 0
    output = capsys.readouterr().out
    for artefact in nano_bundle.artefacts:
        assert artefact.name in output
    assert "recommended: " in output
    assert re.search(r"measuring adds \d+\.\d us to an update", output)
    assert "40 updates are too few for a p99" in output
    content = json.loads(report.read_text())
    assert len(content["artefacts"]) == len(nano_bundle.artefacts)
    for entry in content["artefacts"]:
        assert entry["unaccounted"] < 0.05
        assert sum(entry["stage_mean_ms"].values()) == pytest.approx(
            entry["update"]["mean"], rel=0.05
        )
        assert entry["verification"]["status"] in ("passed", "failed")
    text = page.read_text()
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"https?:|src=|href=|@import|url\(", text), "something outside the page"

    again = command(nano_bundle, "--compare", str(report), "--backend", "onnxruntime")
    assert main(again) == 0
    assert "new / old" in capsys.readouterr().out
    report.write_text("{}")
    assert main(again) == 1
    assert "was not written by bench --json" in capsys.readouterr().err


def test_the_library_function_has_the_commands_name() -> None:
    assert edge_tracker.benchmark is benchmark


@pytest.mark.parametrize(
    "wrong", [["--frame", "640"], ["--target-fps", "0"], ["--duration", "x"], ["--targets", "0"]]
)
def test_wrong_usage(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(["bench", "bundle", *wrong])
    assert exit_status.value.code == 2
    assert wrong[1] in capsys.readouterr().err
