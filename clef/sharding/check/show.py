"""The report on the terminal: what is listed, what is wrong, what splits share, what counts, and a verdict.

`python -m clef.shard --dataset NAME --check`: its options, and the run from reading to the report.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from clef import datasets, io
from clef.console import Steps, out
from clef.datasets import cards
from clef.datasets.cards import LEAK_FREE, Card
from clef.datasets.policies import RULES, allowed
from clef.errors import ConfigError, DataError
from clef.sharding.check import scan
from clef.sharding.check.leaks import Shared
from clef.sharding.check.report import Met, Report, Rule, examine
from clef.sharding.check.scan import Match

EXAMPLES = 2
"""Shown of each kind; the JSON has more."""
SPELLINGS = 4
DIFFERENCES = 8
_DONE = {"raise": ("stops", "bold red"), "skip": ("left out", "yellow"), "clamp": ("clamped", ""), "keep": ("kept", "")}
"""A policy in the words of the report, and its colour."""
_SHARED = {"images": "image", "boxes": "box", "copies": "bytes", "near": "look"}
"""What two splits share, by the name of its column."""


def show(report: Report, console: Console = out) -> None:
    """Print it."""
    console.print(Text(f"{report.title}, protocol {report.protocol}", style="bold"))
    parts = {
        "listed": _listed(report),
        "people of each class, as listed": _classes(report),
        "rules that were met: people (or files, or rows) in each split": _faults(report),
        "shared between splits: as listed > as counted": _between(report),
        "people that each protocol counts": _protocols(report),
    }
    for title, part in parts.items():
        console.print()
        console.print(Text(title, style="bold"))
        for line in part:
            console.print(line)
    console.print()
    for line in verdict(report):
        console.print(line)


def verdict(report: Report) -> Iterable[Text]:
    """The closing lines: what stops, what is left out, what leaks."""
    stops = "; ".join(_stop(stop, report) for stop in report.stops)
    yield _line("stops", stops or "nothing", "bold red" if stops else "green")
    left_out = ", ".join(f"{reason} {count:,}" for reason, count in report.left_out.most_common())
    yield _line("left out", left_out or "nobody", "yellow" if left_out else "green")
    leaks = "; ".join(f"{pair.first}, {pair.second}: {_words(pair.counted)}" for pair in report.leaks)
    yield _line("leaks", leaks or "nothing that was looked for", "yellow" if leaks else "green")


def _stop(stop: str, report: Report) -> str:
    """A rule that stops, how often it was met, and how to go on all the same; or what else stops, in words."""
    if stop not in report.rules:
        return stop
    met = sum(found.count for found in report.rules[stop].splits.values())
    instead = " or ".join(f"--policy {stop}={word}" for word in allowed(stop) if word != "raise")
    return f"{stop} {met:,} (to go on: {instead})"


def _words(shared: Shared) -> str:
    found = {f"same {what}": getattr(shared, kind) for kind, what in _SHARED.items()}
    return ", ".join(f"{what} {count:,}" for what, count in found.items() if count)


def _line(what: str, found: str, style: str) -> Text:
    return Text.assemble((f"{what + ':':<10}", "bold"), (found, style))


def _table(*columns: str) -> Table:
    """The first column is text, numbers follow."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=bool(number))
    return table


def _listed(report: Report) -> Iterable[Table | Text]:
    table = _table("split", "images", "people", "boxes")
    for split, found in report.listed.items():
        table.add_row(split, f"{found.images:,}", f"{found.people:,}", found.box_kind)
    yield table
    yield from _release(report.release)
    yield from _told(report)


def _told(report: Report) -> Iterable[Text]:
    """Notes that are no rule's: of where the reader read from. Those on cues are sharding's to tell."""
    splits: dict[str, list[str]] = {}
    for split, rows in report.protocols[report.protocol].splits.items():
        for note in rows.notes:
            if note not in RULES and not note.startswith("cue "):
                splits.setdefault(note, []).append(split)
    yield from (Text(f"{', '.join(names)}: {note}", "dim") for note, names in splits.items())


def _release(match: Match | None) -> Iterable[Text]:
    if match is None:
        yield Text("the card states no release to compare with")
        return
    if match.exact:
        yield Text.assemble(("exactly ", "green"), f"{match.name}: all {len(match.counts)} counts")
        return
    if match.recognised:
        yield Text.assemble(("not exactly ", "yellow"), f"{match.name}, which is the nearest:")
    else:
        yield Text.assemble(("no release that is known", "bold yellow"), f"; the nearest is {match.name}:")
    for count in match.differing[:DIFFERENCES]:
        more = f"{count.found - count.expected:+,}"
        yield Text(f"  {count.split}: {count.found:,} {count.what}, not {count.expected:,} ({more})")
    if len(match.differing) > DIFFERENCES:
        yield Text(f"  and {len(match.differing) - DIFFERENCES} more that differ")


def _classes(report: Report) -> Iterable[Table]:
    table = _table("class", *report.listed)
    for label in report.classes:
        counts = [found.classes[label] for found in report.listed.values()]
        table.add_row(label, *(f"{n:,}" if n else Text("0", "yellow") for n in counts))
    yield table


def _faults(report: Report) -> Iterable[Table | Text]:
    table = _table("rule", "done", *report.listed)
    table.columns[1].justify = "left"
    legend = Table.grid(Column(style="bold", no_wrap=True), Column(), padding=(0, 2, 0, 0))
    met = {name: rule for name, rule in report.rules.items() if rule.splits}
    for name, rule in sorted(met.items(), key=lambda item: _severity(item[1].policy)):
        counts = [f"{rule.splits[split].count:,}" if split in rule.splits else "" for split in report.listed]
        table.add_row(name, Text(*_DONE.get(rule.policy, (rule.policy, ""))), *counts)
        legend.add_row(f" {name}", _about(rule))
    if met:
        yield table
        yield Text()
        yield legend
    yield Text(f"not met: {', '.join(rule for rule in RULES if rule not in met) or 'none'}", style="dim")


def _severity(policy: str) -> int:
    order = list(_DONE)
    return order.index(policy) if policy in order else len(order)


def _about(rule: Rule) -> Text:
    """A rule in words, with its spellings and examples."""
    text = Text(rule.about)
    spellings: Counter[str] = Counter()
    for met in rule.splits.values():
        spellings.update(met.found)
    if spellings:
        more = f" and {len(spellings) - SPELLINGS} more" if len(spellings) > SPELLINGS else ""
        text.append(": " + ", ".join(f"{word!r} {count:,}" for word, count in spellings.most_common(SPELLINGS)) + more)
    for place in _places(rule.splits):
        text.append(f"\n{place}", "dim")
    return text


def _places(splits: dict[str, Met]) -> list[str]:
    """Examples, from different splits where there are any, and of different images."""
    first = [met.examples[0] for met in splits.values() if met.examples]
    rest = [place for met in splits.values() for place in met.examples[1:]]
    by_image = {place.partition("#")[0]: place for place in reversed(first + rest)}
    return list(reversed(by_image.values()))[:EXAMPLES]


def _between(report: Report) -> Iterable[Table | Text]:
    table = _table("splits", *(f"same {what}" for what in _SHARED.values()))
    places: list[Text] = []
    for pair in report.pairs:
        if pair.listed.anything:
            cells = [f"{getattr(pair.listed, kind):,} > {getattr(pair.counted, kind):,}" for kind in _SHARED]
            table.add_row(f"{pair.first}, {pair.second}", *("" if cell == "0 > 0" else cell for cell in cells))
            shown = (pair.counted if pair.counted.anything else pair.listed).examples
            places += [_example(f"{pair.first}, {pair.second}", found) for kind in shown for found in shown[kind][:1]]
    if table.rows:
        yield table
        yield from places
    nothing = [f"{pair.first}, {pair.second}" for pair in report.pairs if not pair.listed.anything]
    if nothing:
        yield Text(f"nothing is shared by: {'; '.join(nothing)}", style="dim")
    for split, copies in report.copies.items():
        if copies.images:
            yield Text(f"{split}: images of the same bytes as another of it: {copies.images:,} ({copies.examples[0]})")


def _example(splits: str, found: str) -> Text:
    return Text(f"  {splits}: {found}", style="dim")


def _protocols(report: Report) -> Iterable[Table]:
    table = _table("protocol", "split", "listed", "counted", "left out")
    table.columns[1].justify = table.columns[4].justify = "left"
    table.columns[4].no_wrap = False
    for name, protocol in report.protocols.items():
        title = iter([name])
        style = "bold" if name == report.protocol else ""
        for split, rows in protocol.splits.items():
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in rows.left_out.items())
            table.add_row(next(title, ""), split, f"{rows.listed:,}", f"{rows.counted:,}", reasons, style=style)
        if protocol.stops:
            stops = f"stops: {', '.join(protocol.stops)}" if protocol.splits else f"not here: {protocol.stops[0]}"
            shade = "dim" if not protocol.splits else "bold red" if style else "red"
            table.add_row(next(title, ""), "", "", "", Text(stops, shade))
    yield table


NEAR = 16
"""Of 256 bits. In 99 of 100 cases the same photograph as JPEG of quality 50, or at a quarter of its size, stays within
16. Different photographs are some 128 apart; crops of the same one that overlap, more than 24."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the check."""
    group = parser.add_argument_group("looking at a source before it is sharded")
    group.add_argument(
        "--check", action="store_true", help="report what is listed, what is wrong, what leaks; shard nothing"
    )
    group.add_argument("--json", metavar="PATH", type=Path, help="with --check: write the report there, too")
    group.add_argument(
        "--near",
        type=int,
        metavar="BITS",
        help=f"with --check: frames look the same up to so many of 256 bits (default: {NEAR})",
    )


def wanted(args: argparse.Namespace) -> bool:
    """Whether the check was asked for. ConfigError for an option of it without it."""
    if not args.check and (args.json or args.near is not None):
        raise ConfigError("--json and --near are options of --check: add it, or leave them out")
    return bool(args.check)


def run(args: argparse.Namespace, card: Card, policies: dict[str, str]) -> int:
    """Check the source of `card`, as `args.protocol` has it. Returns 3 if a rule would stop sharding."""
    source = Path(args.source or card.source)
    datasets.draw(card, source, args.workers)
    variants = {name: cards.load(args.dataset, name, policies) for name in (LEAK_FREE, *card.protocols)}
    near = NEAR if args.near is None else args.near
    report = look(variants, args.protocol, source, Path(args.cues or source), args.workers, near)
    if args.json:
        io.write(args.json, report.json())
    show(report)
    return DataError.exit_code if report.stops else 0


def look(
    variants: Mapping[str, Card], protocol: str, source: Path, cues: Path, workers: int = 1, near: int = NEAR
) -> Report:
    """The report on `source` under `protocol`, one of the card's `variants`. Raises DataError, ConfigError."""
    if not 0 <= near < scan.BITS // 2:
        raise ConfigError(f"--near {near}: from 0 to {scan.BITS // 2 - 1} bits are expected")
    with Steps("protocols") as progress:
        sources = scan.read(variants, protocol, source, cues, progress)
    images = scan.images(sources.values())
    with Steps("images") as progress:
        max_pixels = variants[protocol].storage.max_pixels
        looks = scan.survey(images, max_pixels, workers, progress)
    with Steps("pairs of splits") as progress:
        return examine(sources, protocol, source, looks, near, progress)
