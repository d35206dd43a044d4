"""The search for near duplicates against brute force, and the hash on a photograph."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.data import astronaut

from clef.sharding.check import DEFAULT_NEAR_BITS
from clef.sharding.check.leaks import nearest_bit_strings
from clef.sharding.check.scan import perceptual_hash
from tests.sharding.check.factories import picture

strings = st.integers(1, 6).flatmap(
    lambda size: st.tuples(*[st.lists(st.binary(min_size=size, max_size=size), min_size=1, max_size=20)] * 2)
)


@given(strings)
def test_the_nearest_string_is_that_of_brute_force(both: tuple[list[bytes], list[bytes]]) -> None:
    of, among = both
    distances, places = nearest_bit_strings(of, among)
    for string, distance, place in zip(of, distances, places, strict=True):
        every = [sum((a ^ b).bit_count() for a, b in zip(string, other, strict=True)) for other in among]
        assert distance == min(every)
        assert place == every.index(min(every))


def test_many_strings_are_searched_in_blocks() -> None:
    rng = np.random.default_rng(0)
    among = [rng.bytes(32) for _ in range(700)]
    spoiled = [bytes([among[i][0] ^ 0b101, *among[i][1:]]) for i in range(600)]
    distances, places = nearest_bit_strings(spoiled, among)
    assert set(distances) == {2}
    assert places.tolist() == list(range(600))


def distance(one: Image.Image, other: Image.Image) -> int:
    a, b = (perceptual_hash(image) for image in (one, other))
    assert a is not None
    assert b is not None
    return sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True))


def recoded(image: Image.Image, quality: int) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return Image.fromarray(astronaut())


def test_a_photograph_re_encoded_or_made_smaller_is_near(photograph: Image.Image) -> None:
    for quality in (95, 75, 50):
        assert distance(photograph, recoded(photograph, quality)) <= DEFAULT_NEAR_BITS
    for part in (0.9, 0.5, 0.25):
        small = photograph.resize((round(photograph.width * part), round(photograph.height * part)))
        assert distance(photograph, small) <= DEFAULT_NEAR_BITS
    assert distance(photograph, recoded(photograph.resize((256, 256)), 60)) <= DEFAULT_NEAR_BITS


def test_other_frames_are_far(photograph: Image.Image) -> None:
    assert distance(photograph, picture(0)) > 64
    assert distance(picture(1), picture(0)) > 64
    assert distance(photograph, photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) > 64
    crops = [photograph.crop((x, x, x + 380, x + 380)) for x in (0, 60)]  # overlapping views
    assert distance(*crops) > DEFAULT_NEAR_BITS


@pytest.mark.parametrize("colour", ["black", "white", (90, 120, 30)])
def test_a_flat_image_is_like_no_other(colour: str) -> None:
    assert perceptual_hash(Image.new("RGB", (80, 60), colour)) is None
