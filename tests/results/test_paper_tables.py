"""This grid's numbers in the paper's layouts: ours, published, the earlier reproduction and the gap."""

import json

from tests.results.factories import Grid, data, result


def test_ours_stand_beside_all_published_systems_and_the_reproduction(grid: Grid) -> None:
    for seed, value in enumerate((20.0, 22.0)):
        grid.add("emotic", "emot_net", "clef", seed, result(value))
    grid.add("emotic", "cd_net", "ccim", 0, result(30.0, random_init=["face"]))
    table = grid.by_title()["EMOTIC: mAP next to published systems, percent"]
    assert table.columns == ["system", "published", "reproduction", "here", "gap", "second gap"]
    assert table.rows[0] == ["HLCR", "30.02", "–", "–", "–", "–"]
    assert ["EMOT-Net, its paper", "27.38", "–", "–", "–", "–"] in table.rows
    assert ["EMOT-Net", "27.93", "27.01", "–", "–", "–"] in table.rows
    assert ["EMOT-Net + CLEF", "31.67", "23.23", "21.00", "-10.67", "-2.23"] in table.rows
    assert ["CD-Net + CCIM", "–", "–", "30.00°", "–", "–"] in table.rows, "ours alone"
    assert "reproduction: from the METU CENG501 report" in table.notes[0]
    assert table.notes[1:] == [
        "published: on the protocol paper, not leak_free as here; test is not the official one: 100 people listed, "
        "7,280 there",
        "° without pre-training, as configured: the main table says what",
    ]
    assert not any(row[0] in ("GRERN", "Fine-tuned VGGNet") for row in table.rows), "not reported on EMOTIC"


def test_ablations_and_readings_have_tables_of_their_own(grid: Grid) -> None:
    values = {"vanilla": 80.0, "clef": 84.0, "without_kl": 83.5, "star_vector": 86.0, "long": 81.0, "another": 82.0}
    presets = {"without_kl": "clef", "star_vector": "clef", "long": "vanilla"}
    for method, value in values.items():
        grid.add("caer_s", "cd_net", method, 0, result(value), preset_of=presets.get(method))
    grid.add("caer_s", "cd_net", "star_vector", 1, result(88.0), preset_of="clef")  # no other method has this seed
    tables = grid.by_title()
    ablations = tables["CAER-S: ablations of CLEF, accuracy, percent"]
    assert ablations.columns[:4] == ["setting", "CD-Net, published", "CD-Net, here", "CD-Net, gap"]
    assert ["without_kl", "88.09", "83.50", "-4.59", "90.36", "–", "–"] in ablations.rows
    assert ["random_counterfactual", "76.43", "–", "–", "78.25", "–", "–"] in ablations.rows
    readings = tables["CAER-S: readings of the method, accuracy, percent"]
    assert readings.columns == ["setting", "CD-Net", "CD-Net - clef", "CD-Net - vanilla"]
    assert readings.rows == [
        ["vanilla", "80.00", "-4.00", "+0.00"],
        ["clef", "84.00", "+0.00", "+4.00"],
        ["star_vector", "87.00", "+2.00", "+6.00"],
    ], "a preset of vanilla and a further method are no readings of CLEF"


def test_ccim_against_clef(grid: Grid) -> None:
    for method, value in (("vanilla", 30.0), ("ccim", 36.0), ("clef", 34.5)):
        grid.add("emotic", "emoticon", method, 0, result(value))
    table = grid.by_title()["EMOTIC: CCIM against CLEF, mAP, percent"]
    assert table.columns[4] == "CLEF - CCIM, published"
    assert table.rows[-1] == ["EmotiCon", "35.28", "39.13", "38.05", "-1.08", "30.00", "36.00", "34.50", "-1.50"]
    assert table.rows[3] == ["CD-Net", "28.87", "–", "32.51", "–", "–", "–", "–", "–"]


def test_clef_less_ccim_is_over_the_seeds_that_both_have(grid: Grid) -> None:
    for seed, value in enumerate((30.0, 36.0, 42.0)):
        grid.add("emotic", "emoticon", "ccim", seed, result(value))
    grid.add("emotic", "emoticon", "clef", 0, result(31.0))
    grid.add("emotic", "emoticon", "clef", 1, None)
    table = grid.by_title()["EMOTIC: CCIM against CLEF, mAP, percent"]
    assert table.rows[-1][5:] == ["–", "36.00", "31.00", "+1.00"]
    assert table.notes[1] == "CLEF - CCIM, here: over the seeds that both have: EmotiCon 1 (CCIM has 3, CLEF 1)"


def test_classes_here_published_and_the_gap(grid: Grid) -> None:
    def scored(fear: float) -> dict:
        content = result(50.0)
        content["splits"]["test"]["per_class"] = {"Fear": fear, "Pain": 4.0}
        return content

    grid.add("emotic", "emot_net", "vanilla", 0, scored(10.0))
    grid.add("emotic", "emot_net", "vanilla", 1, scored(13.0))
    grid.add("emotic", "emot_net", "ccim", 0, scored(99.0))
    tables = grid.by_title()
    names = ["here", "published", "here minus published"]
    here, theirs, gap = (tables[f"EMOTIC: AP of each class, test, percent, {name}"] for name in names)
    assert here.columns == ["class", "chance", "EMOT-Net", "EMOT-Net + CCIM"]
    assert len(here.rows) == 27
    assert here.rows[15] == ["Fear", "–", "11.50 ± 2.12", "99.00"]
    assert here.rows[-1] == ["mAP", "17.00", "50.00 ± 0.00", "50.00"]
    assert theirs.columns == ["class", "EMOT-Net"], "of CCIM nothing is published"
    assert theirs.rows[15] == ["Fear", "15.70"]
    assert gap.rows[15] == ["Fear", "-4.20"]
    assert gap.rows[-1] == ["mAP", "+22.07"]
    assert gap.rows[0] == ["Affection", "–"]


def test_classes_of_both_tests_and_of_methods_that_are_no_main_ones(grid: Grid) -> None:
    methods = [f"reading_{number}" for number in range(12)]
    for method in methods:
        content = result(50.0)
        content["splits"]["test_shift"]["per_class"] = {"Fear": 7.0}
        grid.add("emotic_demo", "emot_net", method, 0, content)
    tables = grid.by_title()
    assert tables["EMOTIC demo: AP of each class, test, percent, here"].rows[-1][2] == "50.00"
    table = tables["EMOTIC demo: AP of each class, test_shift, percent, here"]
    assert table.columns == ["class", "chance", *(f"EMOT-Net + {method}" for method in methods)], "none is cut off"
    assert [row[2] for row in table.rows if row[0] == "Fear"] == ["7.00"]
    grid.add("emotic_demo", "emot_net", "ccim", 0, result(50.0))
    table = grid.by_title()["EMOTIC demo: AP of each class, test, percent, here"]
    assert table.columns == ["class", "chance", *(f"EMOT-Net + {method}" for method in (*methods, "CCIM"))]


def test_classes_in_the_papers_layout_are_of_its_methods(grid: Grid) -> None:
    for method in ("another", "ccim"):
        grid.add("emotic", "emot_net", method, 0, result(50.0))
    table = grid.by_title()["EMOTIC: AP of each class, test, percent, here"]
    assert table.columns == ["class", "chance", "EMOT-Net + CCIM"]
    assert table.notes[0] == "of vanilla, CCIM and CLEF alone; rows.csv has those of another too"


def test_classes_read_off_a_figure_say_so(grid: Grid) -> None:
    grid.add("caer_s", "emot_net", "clef", 0, result(80.0))
    grid.add("emotic", "emot_net", "clef", 0, result(30.0))
    for title, table in grid.by_title().items():
        said = "published numbers of each class were read off a figure, to within about 0.1" in table.notes
        assert said == (
            title
            in {
                f"CAER-S: accuracy of each class, test, percent, {one}" for one in ("published", "here minus published")
            }
        ), title


def test_demo_sets_have_ccim_and_ablations_without_anything_published(grid: Grid) -> None:
    for method, value in {"vanilla": 40.0, "ccim": 41.0, "clef": 44.0, "without_kl": 43.0}.items():
        grid.add("emotic_demo", "emot_net", method, 0, result(value))
    grid.add("emotic_demo", "emot_net", "clef", 1, result(90.0))
    tables = grid.by_title()
    table = tables["EMOTIC demo: CCIM against CLEF, test, mAP, percent"]
    assert table.columns == ["setting", "EMOT-Net", "EMOT-Net - ccim", "EMOT-Net - vanilla"]
    assert table.rows[1:] == [["ccim", "41.00", "+0.00", "+1.00"], ["clef", "67.00", "+3.00", "+4.00"]]
    table = tables["EMOTIC demo: ablations of CLEF, here, test_shift, mAP, percent"]
    assert table.columns == ["setting", "EMOT-Net", "EMOT-Net - clef", "EMOT-Net - vanilla"]
    assert table.rows[2:] == [["without_kl", "33.00", "-1.00", "+3.00"]]
    assert not any("readings" in title for title in tables)


def test_what_started_at_random_is_marked_in_every_table(grid: Grid) -> None:
    parts = {"factual": 41.0, "Y_e": 42.0, "Y_c": 20.0}
    for method, value in {"vanilla": 40.0, "clef": 44.0, "star_vector": 43.0}.items():
        content = result(value, variants=parts if method == "clef" else {})
        grid.add("emotic", "emot_net", method, 0, content, preset_of="clef" if method == "star_vector" else None)
    folder = grid.out / "g/emotic-emot_net-clef-s0"
    (folder / "result.json").write_text(json.dumps(result(44.0, variants=parts, random_init=["branch"])))
    tables = grid.by_title()
    for title in (
        "mAP, percent",
        "the parts of the prediction, mAP, percent",
        "mAP, method minus vanilla, percent",
        "further measures, percent",
    ):
        methods = {row[1] for row in tables[f"EMOTIC: {title}"].rows}
        assert "clef°" in methods, title
        assert methods <= {"vanilla", "clef°", "star_vector"}, title
    of_class = "EMOTIC: AP of each class, test, percent"
    assert tables[f"{of_class}, here"].columns == ["class", "chance", "EMOT-Net", "EMOT-Net + CLEF°"]
    assert tables[f"{of_class}, here minus published"].columns == ["class", "EMOT-Net", "EMOT-Net + CLEF°"]
    assert tables[f"{of_class}, published"].columns == ["class", "EMOT-Net", "EMOT-Net + CLEF"]
    readings = tables["EMOTIC: readings of the method, mAP, percent"]
    assert [row[1] for row in readings.rows] == ["40.00", "44.00°", "43.00"]
    for title, table in tables.items():
        shown = any("°" in text for row in (table.columns, *table.rows) for text in row)
        assert shown == any(note.startswith("° without pre-training") for note in table.notes), title


def test_nothing_is_published_of_other_sets_and_protocols_stay_apart(grid: Grid) -> None:
    grid.add("caer_s_demo", "emot_net", "clef", 0, result(50.0))
    assert not any("published" in title for title in grid.by_title())
    grid.add("emotic", "emot_net", "clef", 0, result(20.0))
    grid.add("emotic", "emot_net", "clef", 1, result(30.0, data=data("paper")))
    tables = grid.by_title()
    for protocol, value in (("leak_free", "20.00"), ("paper", "30.00")):
        table = tables[f"EMOTIC, protocol {protocol}: mAP next to published systems, percent"]
        assert [row[3] for row in table.rows if row[3] != "–"] == [value]


def test_without_vanilla_there_is_nothing_to_compare_with(grid: Grid) -> None:
    grid.add("emotic", "emot_net", "clef", 0, result(20.0))
    assert not any("minus vanilla" in title for title in grid.by_title())
    grid.add("emotic", "caer_net", "vanilla", 0, result(20.0))
    assert not any("minus vanilla" in title for title in grid.by_title()), "another backbone's is none"
    grid.add("emotic", "caer_net", "clef", 1, result(20.0))
    assert not any("minus vanilla" in title for title in grid.by_title()), "nor another seed's"
    grid.add("emotic", "caer_net", "clef", 0, result(21.0))
    [row] = grid.by_title()["EMOTIC: mAP, method minus vanilla, percent"].rows
    assert row == ["CAER-Net", "clef", "test", "1", "+1.00", "–", "–", "1", "1", "needs 6 seeds"]
