"""How to look for people."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class DetectSettings:
    """How to look for people.

    search_period: frames over which one round of the search through the whole image is spread, 1..1000. Somebody new is
    seen after that many frames at most, near the camera after half as many.
    min_person_height: of the smallest person to find, as a fraction of the image height, 0.05..1. Halving it makes the
    search about four times as dear.
    max_people: followed at most, the largest first, 1..100; each costs one run of the landmark network per frame. While
    so many are followed, nobody else is searched for.
    detection_threshold: score from which a find of the search is looked at closely, 0..1.
    presence_threshold: the landmark network's certainty from which a newcomer is a person, 0..1.
    confidence_threshold: mean confidence of a newcomer's joints in the image from which it is a person, 0..1.
    keep_presence, keep_confidence: the same for somebody who was there in the frame before, from 0 to the thresholds.
    merge_similarity: two people whose joints agree to at least this are one, 0..1.
    """

    search_period: int = 60
    min_person_height: float = 1.0 / 6.0
    max_people: int = 8
    detection_threshold: float = 0.5
    presence_threshold: float = 0.5
    confidence_threshold: float = 0.6
    keep_presence: float = 0.15
    keep_confidence: float = 0.45
    merge_similarity: float = 0.5

    def __post_init__(self) -> None:
        ranges = {'search_period': (1, 1000), 'min_person_height': (0.05, 1.0), 'max_people': (1, 100),
                  'detection_threshold': (0.01, 0.99), 'presence_threshold': (0.0, 1.0),
                  'confidence_threshold': (0.0, 1.0), 'keep_presence': (0.0, self.presence_threshold),
                  'keep_confidence': (0.0, self.confidence_threshold), 'merge_similarity': (0.05, 1.0)}
        for field in fields(self):
            low, high = ranges[field.name]
            value = getattr(self, field.name)
            if not low <= value <= high:
                raise ValueError(f'{field.name} is {value}, but must lie in {low} .. {high}')
