"""Medians, ratios, verdicts and the bottleneck on made-up numbers, and the turns that contenders take."""

import pytest

from benchmarks import common, loading, sharding
from benchmarks.common import Spread
from benchmarks.loading import CACHE, CEILING, JPEG, LOOSE

RATES = {
    CEILING: [1000.0, 2000.0, 1000.0],
    JPEG: [900.0, 1000.0, 950.0],
    CACHE: [2700.0, 3000.0, 2800.0],
    "webdataset, as shipped": [900.0, 1000.0, 950.0],
    "webdataset, our decoder": [1000.0, 1000.0, 1000.0],
    LOOSE: [90.0, 50.0, 95.0],
}


def test_a_spread_is_median_and_extremes() -> None:
    assert common.spread([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)
    assert common.spread([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)


def test_ratios_are_taken_round_by_round() -> None:
    # Of the medians it would be 950 / 1000 = 0.95; by rounds they are 0.9, 0.5 and 0.95.
    assert common.compare(RATES, JPEG, CEILING).ratio == Spread(0.9, 0.5, 0.95)


def test_verdicts_compare_medians_of_ratios_with_the_targets() -> None:
    verdicts = {verdict.what.partition(" / ")[2]: verdict for verdict in loading.verdicts(RATES)}
    assert list(verdicts) == [CEILING, JPEG, "webdataset, as shipped", "webdataset, our decoder", LOOSE]
    assert verdicts[CEILING].met  # 0.9 is enough
    assert verdicts[JPEG].ratio.median == pytest.approx(3.0)  # the node cache's: 3, 3 and 2.95
    assert verdicts[JPEG].met
    assert verdicts["webdataset, as shipped"].ratio.median == 1
    assert verdicts["webdataset, as shipped"].met is False  # must be faster, not just as fast
    assert verdicts["webdataset, our decoder"].met  # 0.95 is enough
    assert (verdicts[LOOSE].ratio.median, verdicts[LOOSE].met) == (10, None)


def test_a_verdict_below_its_target_is_missed() -> None:
    rates = RATES | {JPEG: [890.0, 890.0, 890.0]}
    assert loading.verdicts(rates)[0].met is False


def test_without_peers_only_ours_is_judged() -> None:
    rates = {name: RATES[name] for name in (CEILING, JPEG)}
    assert [verdict.what for verdict in loading.verdicts(rates)] == [f"{JPEG} / {CEILING}"]


def test_the_sharder_is_compared_with_its_ceiling_and_itself() -> None:
    rates = {
        "ceiling (1)": [10.0, 10.0],
        "sharder (1)": [8.0, 9.0],
        "ceiling (2)": [20.0, 20.0],
        "sharder (2)": [16.0, 16.2],
    }
    verdicts = sharding.verdicts(rates, 2)
    assert [verdict.ratio.median for verdict in verdicts] == pytest.approx([0.85, 0.805, 1.9])
    assert [verdict.met for verdict in verdicts] == [True, False, True]
    assert [verdict.target for verdict in verdicts] == pytest.approx([0.85, 0.85, 1.8])


def test_one_process_is_compared_with_its_ceiling_alone() -> None:
    rates = {"ceiling (1)": [10.0], "sharder (1)": [9.0]}
    assert [verdict.what for verdict in sharding.verdicts(rates, 1)] == ["sharder (1) / ceiling (1)"]


def test_the_bottleneck_is_the_stage_that_takes_most_of_a_workers_time() -> None:
    # A thousand people take 0.1 + 1 + 0.5 + 0.4 s: half of it is decode+squash. `decode` is part of that.
    rates = {"read": 10_000.0, "decode": 1500.0, "decode+squash": 1000.0, "augment": 2000.0, "collate": 2500.0}
    sentence = loading.bottleneck(rates | {"to cpu": 100.0}, 480)
    assert sentence == (
        "decode+squash is the bottleneck: 50% of a worker's time; alone it does 1,000 people/s, "
        "the whole loader from JPEG 480."
    )
    assert loading.bottleneck(rates | {"read": 900.0}, 480).startswith("read is the bottleneck")


def test_contenders_take_turns_and_the_first_round_is_not_counted() -> None:
    turns: list[str] = []
    shown: list[tuple[int, int]] = []

    def run(name: str) -> common.Run:
        def measure() -> float:
            turns.append(name)
            return float(len(turns))

        return measure

    rates = common.interleaved({"a": run("a"), "b": run("b")}, 2, lambda _, done, total: shown.append((done, total)))
    assert turns == ["a", "b"] * 3
    assert rates == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert shown == [(n, 6) for n in range(1, 7)]


@pytest.mark.parametrize(("load", "warned"), [(0.6, False), (0.7, True)])
def test_a_busy_machine_is_reported(load: float, warned: bool) -> None:
    assert bool(common.busy_warning({"load": load, "cores": 2})) is warned


@pytest.mark.parametrize(("value", "text"), [(0.954, "0.95"), (12.34, "12.3"), (1203.4, "1,203")])
def test_numbers_in_tables(value: float, text: str) -> None:
    assert common.format_number(value) == text
