"""Two small drawn sets in the official layouts of EMOTIC and CAER-S, with a known context bias.

Nothing of the real sets may be passed on, so whoever tries the toolkit gets these. They exist for two more
reasons: their readers meet the real layouts with their faults, and their causal model is known. A person's
label shows in face and arms; the scene goes with the label with a chosen strength in train, val and test
(`main/`), and not at all in a second test (`shift/`). A method that claims to remove context bias can be
held to that.

The design, top down: `generate` plans a set and draws it; `emotic_layout` and `caer_s_layout` turn groups
of people into files; `world` samples the groups (the causal model); `expression` says what a label looks
like; `figure` and `scene` draw with a `pen`, a figure by its `anatomy`. From the same anatomy `cue_files` writes
what extractors would find (`keypoints`, `proposals`). Labels are sampled for a whole split at once in one process,
and every drawing has a seed of its own, so that any number of workers writes the same bytes. Difficulty was
fixed with plain probes (`docs/demo-data.md`), before any debiasing method was run on the sets.
"""

from clef.demo.generate import STRENGTH, DemoError, generate

__all__ = ["STRENGTH", "DemoError", "generate"]
