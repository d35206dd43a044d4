"""The format of cue files: what is written is read, and what is not as documented is named with its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from clef.cues import files
from clef.cues.files import CueName
from clef.errors import DataError

VALUES: dict[CueName, Any] = {
    "face": [1, 2.5, 30, 40],
    "person": [-3.5, 0, 200, 400.25],
    "landmarks": [[i, i / 2] for i in range(68)],
    "pose": [[i, -i, i / 16] for i in range(17)],
    "regions": [[0, 0, 5, 5], [1.5, 1, 9, 9]],
}


def write(folder: Path, cue: CueName, *lines: str, version: str = "1") -> Path:
    path = files.cue_path(folder, cue)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(files.header_line(cue, "me", version) + "".join(lines))
    return path


def tuples(value: Any) -> Any:
    return tuple(map(tuples, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("cue", VALUES)
def test_what_is_written_is_read(tmp_path: Path, cue: CueName) -> None:
    path = write(tmp_path, cue, files.finding_line("a/b.jpg#0", VALUES[cue]), files.finding_line("ü\u2028.jpg#1", None))
    read = files.read_cue_file(path)
    assert read.values == {"a/b.jpg#0": tuples(VALUES[cue]), "ü\u2028.jpg#1": None}
    assert (read.cue, read.made_by) == (cue, "me 1")


def test_any_tool_may_write_it(tmp_path: Path) -> None:
    # Other spacing and order, Windows line ends, no line end at the end, characters as they are.
    path = files.cue_path(tmp_path, "face")
    path.parent.mkdir()
    head = '{"version": 2, "cue": "face", "extractor": "x", "note": "more"}'
    path.write_bytes(f'{head}\r\n{{"value": [0, 0, 9, 9], "key": "é\u2028#0"}}'.encode())
    assert files.read_cue_file(path).values == {"é\u2028#0": (0, 0, 9, 9)}
    assert files.read_cue_file(path).made_by == "x 2"


def test_a_depth_image_lies_beside_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, "depth", files.finding_line("x/y.jpg", "depth/x/y.png"), files.finding_line("z.jpg", None))
    assert files.read_cue_file(path).values == {"x/y.jpg": tmp_path / "cues/depth/x/y.png", "z.jpg": None}


def test_found_are_the_files_that_are_there(tmp_path: Path) -> None:
    assert files.find_cue_files(tmp_path) == []
    write(tmp_path, "regions")
    write(tmp_path, "face")
    (tmp_path / "cues/notes.txt").write_text("mine")
    assert [file.cue for file in files.find_cue_files(tmp_path)] == ["face", "regions"]


@pytest.mark.parametrize(
    ("cue", "value"),
    [
        ("face", [1, 2, 3]),
        ("face", [0, 0, 0, 0]),  # how others write "no face"; here it is null
        ("face", [5, 0, 1, 9]),
        ("face", [0, 0, True, 9]),
        ("face", ["0", "0", "1", "1"]),
        ("face", [0, 0, 1e400, 1]),
        ("face", {"x": 1}),
        ("person", 7),
        ("landmarks", [[0, 0]] * 67),
        ("landmarks", [[0, 0, 1]] * 68),
        ("landmarks", "points"),
        ("pose", [[0, 0]] * 17),
        ("pose", [[0, 0, 1.5]] * 17),
        ("regions", [[0, 0, 1, 1], [2, 2, 2, 5]]),
        ("depth", "/etc/passwd"),
        ("depth", "../../x.png"),
        ("depth", ""),
        ("depth", 3),
    ],
)
def test_what_is_no_value_of_a_cue_is_refused_with_its_line(tmp_path: Path, cue: CueName, value: Any) -> None:
    path = write(tmp_path, cue, files.finding_line("a", None), files.finding_line("b", value))
    with pytest.raises(DataError, match=rf"{cue}\.jsonl:3: not a value of the cue {cue}"):
        files.read_cue_file(path)


@pytest.mark.parametrize("text", ['{"key": "b", "val', "[1, 2]", "", "null", '{"key": "b", "value": [NaN, 0, 1, 1]}'])
def test_a_damaged_line_is_named(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "face", files.finding_line("a", None), f"{text}\n", files.finding_line("c", None))
    with pytest.raises(DataError, match=r"face\.jsonl:3: "):
        files.read_cue_file(path)


@pytest.mark.parametrize("entry", [{"key": "a"}, {"key": "a", "value": None, "more": 1}, {"id": "a", "value": None}])
def test_a_line_says_key_and_value(tmp_path: Path, entry: dict[str, Any]) -> None:
    path = write(tmp_path, "face", json.dumps(entry) + "\n")
    with pytest.raises(DataError, match=r"face\.jsonl:2: .*is expected"):
        files.read_cue_file(path)


def test_a_key_stands_once(tmp_path: Path) -> None:
    path = write(tmp_path, "face", files.finding_line("a", None), files.finding_line("a", [0, 0, 1, 1]))
    with pytest.raises(DataError, match=r"face\.jsonl:3: a has a line already"):
        files.read_cue_file(path)


@pytest.mark.parametrize("head", ["", "{}", '{"cue": "pose", "extractor": "x", "version": "1"}', '{"cue": "face"}'])
def test_the_first_line_must_say_what_made_it(tmp_path: Path, head: str) -> None:
    path = files.cue_path(tmp_path, "face")
    path.parent.mkdir()
    path.write_text(head + "\n")
    with pytest.raises(DataError, match=r"face\.jsonl:1: "):
        files.read_cue_file(path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "face")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"face\.jsonl: can't be read"):
        files.read_cue_file(path)


def test_the_digest_tells_of_every_byte_and_of_depth_images(tmp_path: Path) -> None:
    write(tmp_path, "face", files.finding_line("a", [0, 0, 8, 8]))
    write(tmp_path, "depth", files.finding_line("a", "depth/a.png"))
    seen = {files.digest_files(files.find_cue_files(tmp_path))}
    write(tmp_path, "face", files.finding_line("a", [0, 0, 8, 9]))
    seen.add(files.digest_files(files.find_cue_files(tmp_path)))
    (tmp_path / "cues/depth").mkdir()
    (tmp_path / "cues/depth/a.png").write_bytes(b"12")
    seen.add(files.digest_files(files.find_cue_files(tmp_path)))
    (tmp_path / "cues/depth/a.png").write_bytes(b"123")
    seen.add(files.digest_files(files.find_cue_files(tmp_path)))
    assert len(seen) == 4
    assert files.digest_files(files.find_cue_files(tmp_path)) in seen


@pytest.mark.parametrize("cue", ["face", "person"])
def test_boxes_that_seem_to_be_shares_of_the_frame_are_refused(tmp_path: Path, cue: CueName) -> None:
    path = write(tmp_path, cue, files.finding_line("a.jpg#0", [0.1, 0.2, 0.5, 1]), files.finding_line("b.jpg#0", None))
    with pytest.raises(DataError, match=rf"{cue}\.jsonl: all boxes lie between 0 and 1.*pixels are expected"):
        files.read_cue_file(path)
