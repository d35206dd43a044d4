"""Two small drawn sets in the official layouts of EMOTIC and CAER-S, with a known context bias.

The real sets may not be passed on, so everyone who tries the toolkit gets these. They have two more uses: the dataset
readers meet the real layouts with their faults, and the causal model is known. A person's label shows in face and arms.
The scene goes with the label with a chosen strength in train, val and test (`main/`), and not at all in a second test
(`shift/`). So a method that claims to remove context bias can be checked.

The design, top down: `generate` plans a set and draws it. `emotic` and `caer_s` turn groups of people into files, with
the faults of real copies. `world` samples the groups (the causal model, and what each label looks like). `figure` and
`scenes` draw with a `pen`; `cues` writes what extractors would find, from the same geometry. Labels are sampled for a
whole split at once in one process, and every drawing has a seed of its own, so that any number of workers writes the
same bytes. The difficulty was set with plain probes (docs/demo-data.md), before any debiasing method was run on the
sets.
"""

from clef.demo.generate import STRENGTH, DemoError, generate

__all__ = ["STRENGTH", "DemoError", "generate"]
