"""What stands on the page of `dinotools report`, read back from its HTML."""

import re

import pytest

from dinotools.reporting import paper
from dinotools.reproduction import beside_paper, classification, page, pictures, provenance, retrieval, training
from dinotools.reproduction.comparison import Comparison
from tests.reproduction import sample
from tests.reproduction.test_training import make_run


def plain(html):
    return " ".join(re.sub("<[^>]*>", " ", html).split())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def compared(root):
    return sample.comparison(root)


@pytest.fixture(scope="module")
def text(root, compared):
    runs = training.read_runs([make_run(root / "runs" / "mine", teacher_temp=0.05)])
    page.write_page(root / "report" / "index.html", compared, runs)
    return (root / "report" / "index.html").read_text(encoding="utf-8")


def test_every_part_stands_there_once_and_in_order(text):
    titles = re.findall(r"<h2 id[^>]*>(.*?)</h2>", text)
    assert titles == [
        "Summary",
        paper.tables()["table2"].title,
        *("Other results", "Training run", "Sweeps of linear classifiers", "Classes", "Features in the plane"),
        *("Attention", "Retrieval", "Videos", "Provenance"),
    ]
    contents = re.findall(r'<li><a href="#([^"]*)">', re.search(r"<nav.*?</nav>", text, re.DOTALL)[0])
    assert contents == re.findall('<section id="([^"]*)"', text)
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', text)) <= set(ids)


def test_nothing_is_asked_from_a_network_and_text_is_no_markup(text):
    sources = re.findall(r'(?:src|href|poster|action)="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
    assert sources and all(each.startswith(("data:", "#", "../")) for each in sources)
    assert "http" not in re.sub("<p>.*?</p>", "", text, flags=re.DOTALL)
    assert "<b>" not in text and "&lt;b&gt;class 2&lt;/b&gt;" in text and "a &lt;b&gt; c" in text


def test_the_summary_counts_verdicts(compared):
    summary = plain(beside_paper.summary(compared))
    published = sum(len(row.values) for table in paper.tables().values() for row in table.rows)
    tally = "numbers published {} measured here 3 reproduced 1 outside the tolerance 1 other conditions 1"
    assert tally.format(published) in summary


def test_a_table_tells_ours_the_papers_and_what_differs(root, compared):
    (table,) = compared.tables
    entries = {entry.found.path: entry for entry in provenance.named([table.cells[0].result])}
    section = beside_paper.section(table, entries)
    rows = [plain(row) for row in re.findall("<tr>(.*?)</tr>", section.split("</table>")[0], re.DOTALL)]
    row, k_nn = table.cells[0].row, table.cells[0].paper
    assert rows[1].startswith(f"{row.label} k-NN {k_nn + 0.1:.2f} % {k_nn:g} % +0.10 ± 0.3 ✓ reproduced")
    assert "\N{MINUS SIGN}2.50 ± 0.3 ✗ outside the tolerance" in rows[2]
    assert "≠ other conditions epochs is 3, not 300" in rows[3] and "1 more four" in rows[3]
    n_missing = sum(cell.ours is None for cell in table.cells)
    assert f"<summary>{n_missing} numbers are not measured here</summary>" in section
    folded = section.split("<details>")[-2]
    assert all(f">{cell.paper:,g}<" in folded for cell in table.cells if cell.ours is None)


def test_without_results_of_the_paper_there_is_no_empty_part(tmp_path):
    runs = training.read_runs([make_run(tmp_path / "mine")])
    text = page.assemble(tmp_path / "index.html", Comparison((), ()), runs)
    assert re.findall(r"<h2 id[^>]*>(.*?)</h2>", text) == ["Training run", "Provenance"]
    assert f"dinotools pretrain --config {tmp_path}/mine/config.toml" in text


def test_provenance_tells_what_made_a_number(compared):
    entry = provenance.named([compared.tables[0].cells[0].result])[0]
    facts = dict(provenance.facts(entry))
    assert facts["checkpoint"] == "dino_vits16, vit_small teacher, patches of 16"
    assert facts["sha256"] == "ab" * 32
    assert facts["data"] == "/in1k; train images 1,280; train skipped 0; val images 50; val skipped 1"
    assert (facts["device"], facts["seed"], facts["wall time"]) == ("cpu, precision fp32", "7", "12.5 s")
    assert "torch 2.14.1" in facts["versions"]
    assert provenance.repeat(entry).startswith("dinotools knn --config ")


@pytest.mark.parametrize(
    "command", ["dinotools knn", "python -m dinotools knn", "/usr/bin/dinotools knn", "app.py knn"]
)
def test_a_command_is_named_however_it_was_called(tmp_path, command):
    found = sample.result(tmp_path / "a", "knn", {})
    found.document["command"] = command
    assert provenance.named([found])[0].command == "knn"


def test_folders_of_one_name_are_told_apart(tmp_path):
    found = [sample.result(tmp_path / parent / "knn", "knn", {}) for parent in ("a", "b")]
    assert [entry.name for entry in provenance.named([*found, found[0]])] == [str(each.folder) for each in found]


def test_links_lead_to_what_is_near(tmp_path):
    target = tmp_path / "a b" / "embedding.html"
    target.parent.mkdir()
    assert provenance.linked(target, "x", tmp_path / "report" / "index.html") == ""  # not there yet
    target.touch()
    assert (
        provenance.linked(target, "x", tmp_path / "report" / "index.html") == '<a href="../a%20b/embedding.html">x</a>'
    )
    assert provenance.linked(target, "x", tmp_path / "1" / "2" / "3" / "index.html") == ""


def test_the_sweep_shows_every_cell_and_frames_the_chosen(tmp_path):
    (entry,) = provenance.named([sample.linear(tmp_path / "linear")])
    table = classification.sweeps([entry])
    values = re.findall(r'<td(?: class="chosen")?[^>]*>([\d.]+|diverged)</td>', table)
    shown = [
        "diverged" if c["holdout_top1"] is None else f"{c['holdout_top1']:.1f}"
        for c in entry.section("metrics")["grid"]
    ]
    assert values == shown
    assert re.findall(r'class="chosen"[^>]*>([\d.]+)<', table) == ["71.0"]


def test_words_on_colours_can_be_read(tmp_path):
    (entry,) = provenance.named([sample.linear(tmp_path / "linear")])
    for ground, words in re.findall(r"background: #(\w{6}); color: #(\w{3})", classification.sweeps([entry])):
        channels = [int(ground[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        light, dark = sorted([classification.luminance(channels), float(words == "fff")], reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_the_hardest_classes_come_first(tmp_path):
    entries = provenance.named([sample.knn(tmp_path / "knn")])
    shown = re.findall(r'<th scope="row">(.*?)</th>', classification.classes(entries))
    assert shown == [f"class {i}" for i in (1, 2, 3, 4, 7, 8, 9, 10)]


def test_the_best_and_the_worst_queries_are_chosen(compared):
    queries = [
        {"name": i, "scores": {"AP Medium": score}} for i, score in enumerate((0.5, None, 0.1, 0.9, 0.3, 0.7, 0.2, 0.0))
    ]
    names = {title: [query["name"] for query in of] for title, of in retrieval.chosen(queries).items()}
    assert names == {"The best 3 of 7": [3, 5, 0], "The worst 3": [7, 2, 6]}
    assert [query["name"] for query in retrieval.chosen(queries[:4])["All queries, the best first"]] == [3, 0, 2]


def test_lists_and_videos_are_drawn_from_what_is_there(text):
    retrieved = text[text.index('id="part-retrieval"') : text.index('id="part-videos"')]
    assert retrieved.count("<article") == 6 and "query_9" not in retrieved
    videos = text[text.index('id="part-videos"') : text.index('id="part-provenance"')]
    assert "bear, frame 00001: 2 objects, J&amp;F 61.2" in videos
    assert "not there any more: 1." in plain(videos)


def test_a_picture_is_shrunk(tmp_path):
    from PIL import Image

    shown = pictures.embedded(Image.new("RGBA", (3000, 1500), "red"), 'a "red" one')
    assert f'width="{pictures.LONGER_SIDE}" height="{pictures.LONGER_SIDE // 2}"' in shown
    assert 'alt="a &quot;red&quot; one"' in shown


def test_a_damaged_picture_is_named_and_hides_nothing_else(tmp_path):
    found = sample.attention(tmp_path / "attention")
    (found.folder / "overview.png").write_bytes(b"\x89PNG damaged")
    assert "overview.png cannot be read" in pictures.attention(provenance.named([found]))


def test_a_folder_whose_name_is_no_text_is_reported(tmp_path):
    odd = make_run(tmp_path / "plain").rename(tmp_path / "caf\udce9")
    runs = training.read_runs([odd, make_run(tmp_path / "other")])
    page.write_page(tmp_path / "index.html", Comparison((), ()), runs)
    assert "caf" in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "metrics", "config", "files"),
    [
        ("linear", {"grid": [{"lr": 0.1, "holdout_top1": 3.0}], "chosen": None}, {}, {}),
        ("linear", {"grid": [{"lr": 0.1, "pooling": "cls", "holdout_top1": None}], "chosen": {}}, {}, {}),
        ("knn", {"per_class": {"accuracy": {"a": 5.0}}}, {}, {}),
        ("embed", {}, {}, {"embedding.csv": b"name,x\na,1\n"}),
        ("embed", {}, {}, {"embedding.csv": b"name,class,x,y\n"}),
        ("embed", {}, {}, {"embedding.csv": b"\xff\xfe"}),
        ("attention", {"inputs": ["a.jpg"]}, {}, {"overview.png": b""}),
        ("davis-score", {}, {"data": "/gone"}, {}),
        ("retrieval", {}, {}, {"lists.json": b"{"}),
        ("retrieval", {}, {}, {"lists.json": b'{"queries": [{"name": "a"}]}'}),
    ],
)
def test_what_is_of_another_version_is_named_and_hides_nothing_else(tmp_path, command, metrics, config, files):
    damaged, sound = sample.result(tmp_path / "old", command, metrics, **config), sample.knn(tmp_path / "sound")
    for name, content in files.items():
        (damaged.folder / name).write_bytes(content)
    page.write_page(tmp_path / "index.html", Comparison((), (damaged, sound)), [])
    found = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert found.count("damaged or of another version") == 1
    assert "class 10" in found


def test_parts_of_a_document_that_are_none_are_empty(tmp_path):
    found = sample.result(tmp_path / "odd", "knn", {"top1": 1.0})
    found.document["details"] = {"checkpoint": "dino_vits16", "data": [1, 2], "protocol": 3}
    found.document["machine"] = None
    page.write_page(tmp_path / "index.html", Comparison((), (found,)), [])
    assert "top1 1" in (tmp_path / "index.html").read_text(encoding="utf-8")
