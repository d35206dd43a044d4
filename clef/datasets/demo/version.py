"""The generator's version: raised when what it writes changes. It stands in a set's facts and in its cue files."""

VERSION = 2
