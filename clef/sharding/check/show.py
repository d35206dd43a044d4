"""The report of the check on the terminal: what is listed, what is wrong, what splits share, what counts, a verdict."""

from collections import Counter
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from clef.console import out
from clef.datasets.policies import RULES, allowed_policies
from clef.sharding.check.leaks import Overlap
from clef.sharding.check.report import Report, RuleCount, RuleReport
from clef.sharding.check.scan import ReleaseMatch

EXAMPLES = 2
"""How many examples of a rule are printed; the JSON has more."""
SPELLINGS = 4
DIFFERENCES = 8
_POLICY_STYLES = {
    "raise": ("stops", "bold red"),
    "skip": ("left out", "yellow"),
    "clamp": ("clamped", ""),
    "keep": ("kept", ""),
}
"""Policy -> what the report calls it, and its style; the most severe first."""
_OVERLAP_COLUMNS = {"images": "image", "boxes": "box", "copies": "bytes", "near": "look"}
"""Field of `Overlap` -> what is the same."""


def print_report(report: Report, console: Console = out) -> None:
    """Print the report."""
    console.print(Text(f"{report.title}, protocol {report.protocol}", style="bold"))
    parts = {
        "listed": _listed_part(report),
        "people of each class, as listed": _classes_part(report),
        "rules that were met: people (or files, or rows) in each split": _rules_part(report),
        "shared between splits: as listed > as counted": _overlap_part(report),
        "people that each protocol counts": _protocols_part(report),
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
    """Yield the last lines: what stops, what is left out, what leaks."""
    stops = "; ".join(_describe_stop(stop, report) for stop in report.stops)
    yield _verdict_line("stops", stops or "nothing", "bold red" if stops else "green")
    left_out = ", ".join(f"{reason} {count:,}" for reason, count in report.left_out.most_common())
    yield _verdict_line("left out", left_out or "nobody", "yellow" if left_out else "green")
    leaks = "; ".join(f"{pair.first}, {pair.second}: {_describe_overlap(pair.counted)}" for pair in report.leaks)
    yield _verdict_line("leaks", leaks or "nothing that was looked for", "yellow" if leaks else "green")


def _describe_stop(stop: str, report: Report) -> str:
    """Return a rule that stops, how often it was met and how to continue; return what else stops as it is."""
    if stop not in report.rules:
        return stop
    met = sum(split.count for split in report.rules[stop].splits.values())
    instead = " or ".join(f"--policy {stop}={word}" for word in allowed_policies(stop) if word != "raise")
    return f"{stop} {met:,} (to continue: {instead})"


def _describe_overlap(shared: Overlap) -> str:
    counts = {f"same {what}": getattr(shared, kind) for kind, what in _OVERLAP_COLUMNS.items()}
    return ", ".join(f"{what} {count:,}" for what, count in counts.items() if count)


def _verdict_line(name: str, text: str, style: str) -> Text:
    return Text.assemble((f"{name + ':':<10}", "bold"), (text, style))


def _new_table(*columns: str) -> Table:
    """Return a table whose first column is text and whose others are numbers."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=bool(number))
    return table


def _listed_part(report: Report) -> Iterable[Table | Text]:
    table = _new_table("split", "images", "people", "boxes")
    for split, counts in report.listed.items():
        table.add_row(split, f"{counts.images:,}", f"{counts.people:,}", counts.box_kind)
    yield table
    yield from _release_part(report.release)
    yield from _reading_notes(report)


def _reading_notes(report: Report) -> Iterable[Text]:
    """Yield the notes that aren't rules, such as which files were read; sharding reports those about cues."""
    splits: dict[str, list[str]] = {}
    for split, outcome in report.protocols[report.protocol].splits.items():
        for note in outcome.notes:
            if note not in RULES and not note.startswith("cue "):
                splits.setdefault(note, []).append(split)
    yield from (Text(f"{', '.join(names)}: {note}", "dim") for note, names in splits.items())


def _release_part(match: ReleaseMatch | None) -> Iterable[Text]:
    if match is None:
        yield Text("the card states no release to compare with")
        return
    if match.exact:
        yield Text.assemble(("exactly ", "green"), f"{match.name}: all {len(match.counts)} counts")
        return
    if match.recognized:
        yield Text.assemble(("not exactly ", "yellow"), f"{match.name}, which is the nearest:")
    else:
        yield Text.assemble(("no release that is known", "bold yellow"), f"; the nearest is {match.name}:")
    for count in match.differing[:DIFFERENCES]:
        more = f"{count.found - count.expected:+,}"
        yield Text(f"  {count.split}: {count.found:,} {count.what}, not {count.expected:,} ({more})")
    if len(match.differing) > DIFFERENCES:
        yield Text(f"  and {len(match.differing) - DIFFERENCES} more that differ")


def _classes_part(report: Report) -> Iterable[Table]:
    table = _new_table("class", *report.listed)
    for label in report.classes:
        counts = [split.classes[label] for split in report.listed.values()]
        table.add_row(label, *(f"{n:,}" if n else Text("0", "yellow") for n in counts))
    for reason in dict.fromkeys(reason for split in report.listed.values() for reason in split.left_out):
        counts = [split.left_out.get(reason, 0) for split in report.listed.values()]
        table.add_row(f"left out: {reason}", *(f"{n:,}" if n else "" for n in counts), style="yellow")
    yield table


def _rules_part(report: Report) -> Iterable[Table | Text]:
    table = _new_table("rule", "done", *report.listed)
    table.columns[1].justify = "left"
    legend = Table.grid(Column(style="bold", no_wrap=True), Column(), padding=(0, 2, 0, 0))
    met = {name: rule for name, rule in report.rules.items() if rule.splits}
    for name, rule in sorted(met.items(), key=lambda item: _severity(item[1].policy)):
        counts = [f"{rule.splits[split].count:,}" if split in rule.splits else "" for split in report.listed]
        table.add_row(name, Text(*_POLICY_STYLES.get(rule.policy, (rule.policy, ""))), *counts)
        legend.add_row(f" {name}", _describe_rule(rule))
    if met:
        yield table
        yield Text()
        yield legend
    yield Text(f"not met: {', '.join(rule for rule in RULES if rule not in met) or 'none'}", style="dim")


def _severity(policy: str) -> int:
    order = list(_POLICY_STYLES)
    return order.index(policy) if policy in order else len(order)


def _describe_rule(rule: RuleReport) -> Text:
    """Return a rule in words, with the spellings that met it and examples."""
    text = Text(rule.about)
    spellings: Counter[str] = Counter()
    for met in rule.splits.values():
        spellings.update(met.found)
    if spellings:
        more = f" and {len(spellings) - SPELLINGS} more" if len(spellings) > SPELLINGS else ""
        text.append(": " + ", ".join(f"{word!r} {count:,}" for word, count in spellings.most_common(SPELLINGS)) + more)
    for example in _pick_examples(rule.splits):
        text.append(f"\n{example}", "dim")
    return text


def _pick_examples(splits: dict[str, RuleCount]) -> list[str]:
    """Return a few examples of different images, and of different splits where possible."""
    first = [met.examples[0] for met in splits.values() if met.examples]
    rest = [example for met in splits.values() for example in met.examples[1:]]
    by_image = {example.partition("#")[0]: example for example in reversed(first + rest)}
    return list(reversed(by_image.values()))[:EXAMPLES]


def _overlap_part(report: Report) -> Iterable[Table | Text]:
    table = _new_table("splits", *(f"same {what}" for what in _OVERLAP_COLUMNS.values()))
    examples: list[Text] = []
    nothing: list[str] = []
    for pair in report.pairs:
        title = f"{pair.first}, {pair.second}"
        if not pair.listed.anything:
            nothing.append(title)
            continue
        cells = [f"{getattr(pair.listed, kind):,} > {getattr(pair.counted, kind):,}" for kind in _OVERLAP_COLUMNS]
        table.add_row(title, *("" if cell == "0 > 0" else cell for cell in cells))
        overlap = pair.counted if pair.counted.anything else pair.listed
        examples += [Text(f"  {title}: {texts[0]}", "dim") for texts in overlap.examples.values() if texts]
    if table.rows:
        yield table
        yield from examples
    if nothing:
        yield Text(f"nothing is shared by: {'; '.join(nothing)}", style="dim")
    for split, copies in report.copies.items():
        if copies.images:
            yield Text(f"{split}: images of the same bytes as another of it: {copies.images:,} ({copies.examples[0]})")


def _protocols_part(report: Report) -> Iterable[Table]:
    table = _new_table("protocol", "split", "listed", "counted", "left out")
    table.columns[1].justify = table.columns[4].justify = "left"
    table.columns[4].no_wrap = False
    for name, protocol in report.protocols.items():
        title = iter([name])  # only the first row of a protocol states its name
        style = "bold" if name == report.protocol else ""
        for split, outcome in protocol.splits.items():
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in outcome.left_out.items())
            table.add_row(next(title, ""), split, f"{outcome.listed:,}", f"{outcome.counted:,}", reasons, style=style)
        if protocol.stops:
            stops = f"stops: {', '.join(protocol.stops)}" if protocol.splits else f"not here: {protocol.stops[0]}"
            shade = "dim" if not protocol.splits else "bold red" if style else "red"
            table.add_row(next(title, ""), "", "", "", Text(stops, shade))
    yield table
