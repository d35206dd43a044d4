"""The prediction for every person of an image, or of many images with one model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from clef.cues.own_images import PeopleByImage
from clef.datasets.person import Person
from clef.errors import ClefError, DataError, SetupError
from clef.predict.panel import PersonPrediction, person_predictions
from clef.predict.people import PersonFinder, make_batch

if TYPE_CHECKING:
    from clef.engine.model_io import TrainedModel  # needs torch


@dataclass(frozen=True)
class PredictedPerson:
    """One person and the prediction for them."""

    person: Person
    prediction: PersonPrediction
    without: tuple[str, ...]
    """The inputs that the cell reads and this person lacks."""


def predict_image(
    image: Path, given: Sequence[Person], model: "TrainedModel", finder: PersonFinder
) -> list[PredictedPerson]:
    """Return the predictions for the people given for an image, or for all whom the detector finds in it.

    Raises DataError for an image, a box or a cue that can't be used, and SetupError where the system won't read one.
    """
    with TemporaryDirectory() as scratch:
        people = finder.find_people(image, given, Path(scratch))
        batch = make_batch(people, model.config)
    predictions = person_predictions(model.config, model.classes, model.predict(batch))
    lacking = [tuple(name for name, valid in batch["valid"].items() if not valid[i]) for i in range(len(people))]
    return [PredictedPerson(*one) for one in zip(people, predictions, lacking, strict=True)]


def predict_images(
    people_of: PeopleByImage, model: "TrainedModel", finder: PersonFinder
) -> Iterator[tuple[Path, list[PredictedPerson] | ClefError]]:
    """Yield the predictions for each image, or why there are none: one that can't be used fails alone."""
    for image, given in people_of.items():
        try:
            yield image, predict_image(image, given, model, finder)
        except (DataError, SetupError) as error:
            yield image, error
