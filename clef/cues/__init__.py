"""Cues: what extractors find in an image besides what the dataset annotates. They are extracted once, before sharding.

`files` is the format in which they are kept, and joins them to the people of a dataset; it imports no torch. `run` and
`python -m clef.cues` extract them, with the extractors in `faces`, `mediapipe_pose`, `detectors` and `depth`.
"""
