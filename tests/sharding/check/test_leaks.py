"""What two splits share, against a plain search of all pairs; looking only where something was found misses nothing."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from clef.datasets import Person
from clef.sharding.check.leaks import find_shared_images
from clef.sharding.check.scan import ImageScan

NEAR = 3
IMAGES = [Path(f"{i}.jpg") for i in range(12)]
looks = st.lists(
    st.builds(
        ImageScan, digest=st.sampled_from(["", "a", "b", "c", "d"]), hash=st.none() | st.binary(min_size=1, max_size=1)
    ),
    min_size=len(IMAGES),
    max_size=len(IMAGES),
)
splits = st.lists(st.sampled_from(IMAGES), max_size=10)


def people(images: list[Path]) -> list[Person]:
    return [Person(f"{image}#{i}", image, None, ()) for i, image in enumerate(images)]


def bits(one: ImageScan, other: ImageScan) -> int:
    return (one.hash[0] ^ other.hash[0]).bit_count() if one.hash and other.hash else 99


@given(looks, splits, splits, st.randoms())
def test_what_is_shared(seen: list[ImageScan], first: list[Path], second: list[Path], random) -> None:  # type: ignore[no-untyped-def]
    by_image = dict(zip(IMAGES, seen, strict=True))
    found = find_shared_images(people(first), people(second), by_image, NEAR)
    in_both = set(second) & set(first)
    copies = {
        image
        for image in set(second) - in_both
        if by_image[image].digest and by_image[image].digest in {by_image[other].digest for other in first}
    }
    near = {
        image: min(bits(by_image[image], by_image[other]) for other in first)
        for image in set(second) - in_both - copies
        if any(bits(by_image[image], by_image[other]) <= NEAR for other in first)
    }
    assert set(found.in_both) == in_both
    assert {image for image, _ in found.copies} == copies
    assert {image: distance for image, _, distance in found.near} == near

    fewer = [[image for image in images if random.random() < 0.6] for images in (first, second)]
    everywhere = find_shared_images(*map(people, fewer), by_image, NEAR)
    assert find_shared_images(*map(people, fewer), by_image, NEAR, only=found.images) == everywhere
