"""`python -m clef.predict`: an image of a demo set scores as its shards did, and what is missing or wrong is named."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import clef
import clef.predict.__main__ as command
from clef.cells import predictions
from clef.config import CellConfig, resolve
from clef.cues import view
from clef.cues.detectors import FasterRcnn, FasterRcnnPerson
from clef.cues.extractor import Extractor
from clef.cues.files import CueName
from clef.datasets import Person, cards
from clef.datasets.splits import read
from clef.predict import panel
from clef.predict.panel import person_predictions, predictions_from_arrays
from clef.predict.people import PersonFinder, make_batch
from clef.sharding import frame, shard_plan
from tests.conftest import Cells, Run
from tests.engine.factories import train_cell

pytestmark = pytest.mark.xdist_group("audited")


@pytest.fixture
def run(run_of: Callable[..., Run]) -> Run:
    return run_of(command.main)


def people(sources: Path, dataset: str) -> list[Person]:
    """Those of test, as the source lists them: all are usable."""
    return read(cards.load(dataset), sources / dataset)["test"].people


def given(person: Person) -> Person:
    """What a user says of a person: the image, the box and the face."""
    return Person(person.id, person.image, person.box, (), person.face)


def comma(box: tuple[float, ...] | None) -> str:
    return ",".join(map(str, box or ()))


@pytest.mark.parametrize(
    ("dataset", "backbone", "method"), [("caer_s_demo", "emot_net", "clef"), ("caer_s_demo", "caer_net", "ccim")]
)
def test_an_image_of_the_set_scores_as_recorded(
    cells: Cells, sources: Path, dataset: str, backbone: str, method: str
) -> None:
    folder = cells(dataset, backbone, method)
    model, recorded = clef.load(folder, device="cpu"), np.load(folder / "predictions-test.npz")
    listed = people(sources, dataset)
    assert len(listed) == len(recorded["scores"])
    for index in (0, 11, 40):
        person = listed[index]
        listed_person = [given(person)]
        found = PersonFinder(model.config, listed_person).find_people(person.image, listed_person, Path())
        batch = make_batch(found, model.config)
        np.testing.assert_allclose(model.predict(batch).scores.numpy()[0], recorded["scores"][index], atol=1e-5)


def test_a_cell_that_blanks_the_subject_scores_images_too(
    cells: Cells, sources: Path, tiny: Callable[..., CellConfig]
) -> None:
    start = {"method.start_from": str(cells("caer_s_demo", "emot_net", "vanilla")), "method.candidates": [0.7]}
    folder = train_cell(tiny("caer_s_demo", "emot_net", "clef_at_test", **start))
    model, recorded = clef.load(folder, device="cpu"), predictions.read(predictions.path_of(folder, "test"), "test")
    person = people(sources, "caer_s_demo")[0]
    listed = [given(person)]
    batch = make_batch(PersonFinder(model.config, listed).find_people(person.image, listed, Path()), model.config)
    np.testing.assert_allclose(model.predict(batch).scores.numpy()[0], recorded["scores"][0], atol=1e-5)


def test_a_photo_is_turned_as_its_exif_data_say(cells: Cells, sources: Path, tmp_path: Path) -> None:
    model, person = clef.load(cells("emotic_demo", "emot_net", "clef"), device="cpu"), people(sources, "emotic_demo")[0]
    with Image.open(person.image) as image:
        upright = image.convert("RGB")
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.png", exif=exif)
    subjects = [given(replace(person, image=tmp_path / name)) for name in ("upright.png", "lying.png")]
    finder = PersonFinder(model.config, subjects)
    batches = [make_batch(finder.find_people(one.image, [one], tmp_path), model.config) for one in subjects]
    one, other = (model.predict(batch).scores.numpy() for batch in batches)
    np.testing.assert_array_equal(one, other)


def test_cues_that_are_found_are_read_as_those_of_the_shards(
    cells: Cells, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cells("emotic_demo", "emoticon", "vanilla")
    model, recorded = clef.load(folder, device="cpu"), np.load(folder / "predictions-test.npz")
    card = cards.load("emotic_demo")
    planned = shard_plan.make_plan(card, sources / "emotic_demo", tmp_path, None)
    planned.jobs()  # the cues join
    index, person = next((i, p) for i, p in enumerate(planned.readings["test"].people) if p.face and p.cues.landmarks)
    assert person.cues.depth is not None
    with Image.open(person.cues.depth) as image:
        depth = np.asarray(image)
    values = {"landmarks": person.cues.landmarks, "pose": person.cues.pose, "depth": depth}
    monkeypatch.setattr("clef.predict.people.find_extractor", lambda cue, _: finding(cue, values[cue]))
    found = PersonFinder(model.config, [given(person)]).find_people(person.image, [given(person)], tmp_path)
    batch = make_batch(found, model.config)
    assert all(bool(valid) for valid in batch["valid"].values())
    np.testing.assert_allclose(model.predict(batch).scores.numpy()[0], recorded["scores"][index], atol=1e-5)


@pytest.mark.parametrize(("face", "said"), [("5,5,15,15", "box 0, 0, 20, 20 "), ("900,5,950,15", "20, without face ")])
def test_a_cue_that_is_lacking_is_said(run: Run, cells: Cells, sources: Path, face: str, said: str) -> None:
    folder, image = cells("caer_s_demo", "caer_net", "ccim"), people(sources, "caer_s_demo")[0].image
    code, shown, _ = run(image, "--cell", folder, "--box", "0,0,20,20", "--face", face)
    assert code == 0
    assert said in shown


@pytest.mark.parametrize("here", [True, False])
def test_others_beside_a_given_box_are_agents_where_the_cell_reads_them(
    sources: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], here: bool
) -> None:
    layer = {"dataset": "emotic_demo", "backbone": {"name": "emoticon", "third": "agents"}, "method": "vanilla"}
    subject = Person("x", people(sources, "emotic_demo")[0].image, (12.0, 6.0, 58.0, 88.0), ())
    monkeypatch.setattr("clef.predict.people.find_extractor", lambda cue, _: finding(cue, None))
    with_detector(monkeypatch, TWO, "" if here else "no weights")
    (found,) = PersonFinder(resolve.resolve(layer), [subject]).find_people(subject.image, [subject], Path())
    assert found.box == subject.box
    assert found.cues.others == ((TWO[1],) if here else ())
    note = "also reads the other people in the image, but they can't be found: no weights"
    assert (note in capsys.readouterr().err) is not here


def with_detector(monkeypatch: pytest.MonkeyPatch, found: list[tuple[float, ...]], missing: str = "") -> None:
    """A detector that finds these people, or is not here."""
    monkeypatch.setattr(FasterRcnn, "missing", classmethod(lambda cls, settings=None: missing))
    monkeypatch.setattr(FasterRcnn, "_version", lambda self: "stand-in")
    monkeypatch.setattr(FasterRcnnPerson, "setup", lambda self: None)
    monkeypatch.setattr(FasterRcnnPerson, "find_people", lambda self, frame: found)


def finding(cue: CueName, value: Any) -> type[Extractor]:
    """An extractor that always finds that."""
    return type("Finding", (Extractor,), {"cue": cue, "name": "finding", "find": lambda *_: value})


@pytest.mark.slow
def test_the_command_prints_every_class_in_order_and_draws_a_panel(run: Run, cells: Cells, sources: Path) -> None:
    folder = cells("caer_s_demo", "emot_net", "clef")
    person = people(sources, "caer_s_demo")[5]
    code, said, _ = run(person.image, "--box", comma(person.box), "--cell", folder, "--panel", "panel.png")
    assert code == 0
    scores = np.load(folder / "predictions-test.npz")["scores"][5]
    classes = cards.load("caer_s_demo").classes
    positions = [said.index(f" {classes[k]} ") for k in np.argsort(-scores)]
    assert positions == sorted(positions)
    assert "TIE (score) TE NDE factual counterfactual" in said
    with Image.open("panel.png") as drawn:
        pixels = np.asarray(drawn.convert("RGB"))
    assert drawn.format == "PNG"
    signs = {(0, 114, 178) if score > 0 else (213, 94, 0) for score in scores if abs(score) > 0.1 * np.ptp(scores)}
    assert signs <= set(map(tuple, pixels.reshape(-1, 3).tolist())), "the bars of TIE"
    assert f"box {', '.join(f'{value:g}' for value in person.box or ())}" in said


@pytest.mark.slow
def test_numbers_told_are_the_predictions(cells: Cells, sources: Path) -> None:
    for method in ("clef", "vanilla"):
        model = clef.load(cells("caer_s_demo", "emot_net", method), device="cpu")
        prediction = model.predict(next(iter(model.batches("test"))))
        one = person_predictions(model.config, model.classes, prediction)[3]
        assert one.factual is not None
        assert one.factual.sum() == pytest.approx(1)
        assert one.order[0] == int(prediction.scores[3].argmax())
        if method == "vanilla":
            assert (one.counterfactual, one.effects) == (None, {})
            np.testing.assert_allclose(one.factual, prediction.scores[3].softmax(0).numpy(), atol=1e-6)
        else:
            np.testing.assert_allclose(one.effects["TIE"], one.score, atol=1e-5)


def test_no_probability_is_shown_of_a_method_that_states_none() -> None:
    linear = {"dataset": "emotic_demo", "backbone": "emot_net", "method": {"name": "vanilla", "output": "linear"}}
    scores = np.array([[0.8, 0, -0.3, 1.2]])
    classes = ["a", "b", "c", "d"]
    (one,) = predictions_from_arrays(resolve.resolve(linear), classes, {"scores": scores, "Y_e": scores})
    assert one.factual is not None
    assert one.factual.tolist() == [0.8, 0, 0, 1]
    own = resolve.resolve(linear | {"method": "mine:Own"})
    (one,) = predictions_from_arrays(own, classes, {"scores": scores})
    assert one.factual is None
    assert [column.header for column in command._table("person 1", one).columns] == ["emotion", "score"]
    assert [title for title, _ in panel._columns(one)] == ["score"]


def test_probabilities_of_a_method_that_is_not_clef_are_those_of_its_scores() -> None:
    own = {"dataset": "caer_s_demo", "backbone": "emot_net", "method": {"name": "mine:Own", "probabilities": True}}
    own["loss"] = {"categories": "cross_entropy"}  # type: ignore[assignment]
    scores, context = np.log([[0.1, 0.2, 0.7]]), np.array([[5.0, 0.0, 0.0]])
    arrays = {"scores": scores, "Y_e": scores, "Y_c": context}
    (one,) = predictions_from_arrays(resolve.resolve(own), ["a", "b", "c"], arrays)
    assert one.factual is not None
    np.testing.assert_allclose(one.factual, [0.1, 0.2, 0.7])


TWO = [(10.0, 5.0, 60.0, 90.0), (100.0, 20.0, 150.0, 100.0)]


def test_without_a_box_everyone_is_shown_whom_the_detector_finds(
    run: Run, cells: Cells, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, image = cells("caer_s_demo", "emot_net", "vanilla"), people(sources, "caer_s_demo")[0].image
    with_detector(monkeypatch, TWO)
    code, said, _ = run(image, "--cell", folder, "--panel", "two.png")
    assert code == 0
    assert "person 1, box 10, 5, 60, 90" in said
    assert "person 2, box 100, 20, 150, 100" in said
    with Image.open("two.png") as drawn:
        assert drawn.height > 600, "one below the other"
    monkeypatch.setattr(FasterRcnnPerson, "find_people", lambda self, frame: [])
    code, _, said = run(image, "--cell", folder)
    assert (code, "no person found; say where one is with --box x1,y1,x2,y2" in said) == (3, True)


def test_what_cannot_be_predicted_is_refused(run: Run, cells: Cells, sources: Path, tmp_path: Path) -> None:
    folder, image = cells("caer_s_demo", "emot_net", "vanilla"), people(sources, "caer_s_demo")[0].image
    pose = cells("emotic_demo", "emoticon", "vanilla")
    for name in ("text.png", "mine.png"):
        (tmp_path / name).write_text("no image")
    refusals = [
        ((image, "--cell", "nosuch"), 2, "nosuch: no such folder"),
        ((image, "--cell", folder, "--box", "1,2,3"), 2, "four numbers x1,y1,x2,y2 are expected, not '1,2,3'"),
        ((image, "--cell", folder, "--box", "9,2,3,4"), 2, "left, top, right, bottom are expected, not '9,2,3,4'"),
        ((image, "--cell", folder, "--box", "0,0,inf,4"), 2, "left, top, right, bottom are expected, not '0,0,inf,4'"),
        ((image, "--cell", folder, "--panel", "p.pdf"), 2, "--panel p.pdf: the panel is a PNG; end the name in .png"),
        (("text.png", "--cell", folder, "--panel", "./text.png"), 2, "--panel text.png: that is a file that this"),
        ((image, "--cell", folder, "--panel", "mine.png"), 2, "mine.png is there already. Write over it? Add --force"),
        ((image, "--cell", folder, "--face", "1,2,3,4"), 2, "--face: one for each --box, in the same order"),
        ((image, "--cell", folder, "--box", "900,2,903,4"), 3, "the box is empty, or lies outside the frame"),
        (("none.jpg", "--cell", folder, "--box", "1,2,3,4"), 3, "none.jpg: image missing"),
        (("text.png", "--cell", folder, "--box", "1,2,3,4"), 3, "text.png: image truncated"),
        ((image, "--cell", pose, "--box", "1,2,30,40"), 5, "pose by mediapipe: the package mediapipe is not installed"),
    ]
    for arguments, code, message in refusals:
        found, _, said = run(*arguments)
        assert message in said
        assert found == code


def test_grey_of_16_bits_is_read_as_the_same_in_8(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (30, 40)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    for path in (tmp_path / "8.png", tmp_path / "16.png"):
        for pixels in (view.read_image(path), np.asarray(frame.decode_frame(path, 10**6, None).pixels)):
            np.testing.assert_array_equal(pixels, np.stack([grey] * 3, axis=2))


def test_an_image_larger_than_the_limit_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (40, 30)).save(tmp_path / "large.png")
    monkeypatch.setattr(view, "MAX_PIXELS", 40 * 30 - 1)
    with pytest.raises(view.UnreadableImage, match="image too large"):
        view.read_image(tmp_path / "large.png")


def test_the_detector_that_is_missing_is_named_with_what_to_do(
    run: Run, cells: Cells, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, image = cells("caer_s_demo", "emot_net", "vanilla"), people(sources, "caer_s_demo")[0].image
    monkeypatch.setattr("clef.cues.extractor.FOLDER", str(tmp_path))
    code, _, said = run(image, "--cell", folder)
    assert code == 5
    assert "person by faster_rcnn" in said
    assert "python -m clef.weights" in said
    assert "--fetch coco-fasterrcnn" in said
    assert "or give it with --box x1,y1,x2,y2" in said


@pytest.mark.slow
def test_real_processes(tmp_path: Path) -> None:
    for words, code in (("--help", 0), ("image.png", 2)):
        done = subprocess.run([sys.executable, "-m", "clef.predict", words], cwd=tmp_path, capture_output=True,
                              text=True, env=os.environ)  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
