import csv
import io

from dinotools.reproduction.comparison import compare
from dinotools.reproduction.writing import as_csv, as_markdown, provenance
from tests.reproduction.results import knn

NAMED = knn(74.42, paper_row="table2/dino_vits16")
OTHER = knn(31.0, folder="a|b_*c*", classes=10)


def lines(comparison):
    return list(csv.DictReader(io.StringIO(as_csv(comparison))))


def test_a_line_of_csv_per_cell_with_where_it_comes_from():
    comparison = compare([NAMED])
    found = lines(comparison)
    assert len(found) == len(comparison.tables[0].cells)
    (ours,) = [line for line in found if line["ours"]]
    assert (ours["table"], ours["row"], ours["column"]) == ("table2", "dino_vits16", "k-NN")
    assert (float(ours["ours"]), float(ours["paper"]), ours["verdict"]) == (74.42, 74.5, "reproduced")
    assert ours["path"] == "knn/results.json"
    assert ours["checkpoint sha256"] == "ab" * 32
    assert (ours["torch"], ours["device"], ours["date"]) == ("2.14.1", "NVIDIA H100", "1970-01-01T00:00:01+00:00")
    missing = [line for line in found if not line["ours"]]
    assert {line["verdict"] for line in missing} == {"not measured"}
    assert {line["path"] for line in missing} == {""}


def test_results_of_no_row_are_in_the_csv_too():
    found = lines(compare([OTHER]))
    assert [(line["table"], line["column"], line["ours"]) for line in found[1:]] == [
        ("", "k20 top1", "31.0"),
        ("", "k20 top5", "90.0"),
    ]


def test_markdown_has_every_number_once_as_printed_and_escapes_names():
    text = as_markdown(compare([NAMED, OTHER]))
    assert "| DINO ViT-S/16 | k-NN | 74.42 | 74.5 | -0.08 | 0.1 | reproduced |  | 1 |" in text
    assert "| DINO ViT-B/16 | linear | – | 78.2 | – | 0.3 | not measured |  |  |" in text
    assert "| DINO RN50 | im/s | – | 1,237 |" in text
    assert "a\\|b\\_\\*c\\*/results.json" in text
    assert "official README" in text
    grids = [line for line in text.splitlines() if line.startswith("|")]
    widths = {line.replace("\\|", "").count("|") for line in grids if "sha256" in line or line.startswith("| 1 |")}
    assert len(widths) == 1


def test_provenance_of_what_nobody_wrote_down_is_none():
    found = knn(1.0)
    found.document.pop("versions")
    assert provenance(found)["torch"] is None
    assert provenance(found)["command"] == "dinotools knn"
