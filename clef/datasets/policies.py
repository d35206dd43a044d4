"""Policies: what is done about each fault that a dataset may have.

A card states them, `--policy RULE=POLICY` overrides them. `raise` stops and names where the fault is. `skip` leaves the
person out. `clamp` cuts a box to the frame. `keep` flags the person and continues. `stored` and `turned` do so too, and
say which pixels the boxes of a rotated image are in, unless the source states the image's size, which tells. Whatever
is done is counted in the manifest: nothing is repaired or dropped silently.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from clef.errors import ConfigError, DataError
from clef.yaml_config import Strict, state_once

Skip = Literal["skip", "raise"]
Keep = Literal["keep", "skip", "raise"]
Note = Literal["keep", "raise"]


class Policies(Strict):
    """A field for each rule, that is, each known fault: its name, its policies, its default and what it is about."""

    image_missing: Skip = Field("skip", description="the image is not there")
    image_unreadable: Skip = Field("skip", description="the image is truncated, not an image, or grey in floats")
    image_too_large: Skip = Field("skip", description="the image has more pixels than storage.max_pixels")
    image_converted: Keep = Field("keep", description="the image is grey, CMYK or has a palette: made RGB")
    image_misnamed: Keep = Field("keep", description="the image is of another format than its name says")
    image_rotated: Literal["stored", "turned", "skip", "raise"] = Field(
        "stored",
        description="EXIF turns the image, and its boxes may be in pixels of the image as stored, or as turned",
    )
    image_resized: Keep = Field(
        "keep", description="the annotations state another size of the image, so its boxes may not fit"
    )
    image_shared: Keep = Field("skip", description="the image is in val, and in another split too")
    box_outside: Literal["clamp", "skip", "raise"] = Field("clamp", description="the box reaches beyond the frame")
    box_empty: Skip = Field("skip", description="the box is empty, or lies outside the frame")
    box_tiny: Keep = Field("keep", description="the box holds fewer than 400 square pixels")
    box_repeated: Keep = Field(
        "keep", description="the same box (or none) of the image was listed before in this split"
    )
    box_unmatched: Note = Field("keep", description="a row of a box file names an image or a person that is not there")
    box_conflict: Note = Field("raise", description="rows of a box file give one image two boxes (keep: the first)")
    face_outside: Literal["clamp", "skip", "raise"] = Field("clamp", description="the face reaches beyond the frame")
    face_empty: Keep = Field("keep", description="the face box is empty or lies outside the frame: no face")
    face_missing: Literal["skip", "full", "center", "raise"] = Field(
        "skip", description="the image has no face box, where the subject is a face (full, center: a box of ours)"
    )
    face_is_person: Note = Field(
        "keep", description="the face boxes look like people's: their median is over 25 % of the frame"
    )
    label_alias: Note = Field("keep", description="a class in another spelling: read as the class")
    label_unknown: Skip = Field("raise", description="a label that is no class of this set")
    label_conflict: Note = Field(
        "raise", description="the label in a row of a box file is not that of the folder (keep: the folder's)"
    )
    label_missing: Keep = Field("keep", description="a person without any label")
    annotators_missing: Keep = Field("keep", description="no labels by annotator: the combined ones are read anyway")
    vad_unknown: Keep = Field("keep", description="valence, arousal or dominance unknown: masked in the loss")
    vad_outside: Keep = Field("keep", description="valence, arousal or dominance outside 1 to 10")
    file_stray: Note = Field("keep", description="a file that is no image of the set: not read")

    def of(self, rule: str) -> str:
        """Return the policy of a rule."""
        return str(getattr(self, rule))

    def check(self, rule: str, where: str) -> str:
        """Return the policy of a rule that was met at `where`. Raises DataError if it is `raise`."""
        policy = self.of(rule)
        if policy == "raise":
            others = [word for word in allowed_policies(rule) if word != "raise"]
            instead = " or ".join(f"--policy {rule}={word}" for word in others)
            raise DataError(f"{where}: {describe(rule)} (policy {rule}: raise; to continue: {instead})")
        return policy


RULES = tuple(Policies.model_fields)
"""The names of all rules."""


def describe(rule: str) -> str:
    """Return what a rule is about, in words; return any other text as it is."""
    field = Policies.model_fields.get(rule)
    return str(field.description) if field else rule


def allowed_policies(rule: str) -> tuple[str, ...]:
    """Return the policies that a rule can have."""
    schema = Policies.model_json_schema()["properties"][rule]
    return tuple(schema["enum"])


def describe_counts(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counts with each rule replaced by its description."""
    return {describe(rule): count for rule, count in counts.items()}


def parse_policies(stated: Sequence[str]) -> dict[str, str]:
    """Return the policies that `--policy rule=word` states. Raises ConfigError; the card checks the words."""
    if malformed := [text for text in stated if "=" not in text]:
        raise ConfigError(f"--policy {malformed[0]}: RULE=WORD is expected, such as box_tiny=skip")
    policies: dict[str, str] = {}
    for text in stated:
        rule, _, word = text.partition("=")
        state_once(policies, rule, word, f"--policy {text}")
    return policies
