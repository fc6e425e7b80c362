import json

import pytest
from typer.testing import CliRunner

from dinotools.cli import app
from dinotools.configs.data_sets import DataInfoConfig, DataListConfig
from dinotools.configs.files import shipped
from dinotools.data.manifests import manifest
from dinotools.data.manifests.catalogue import describe, list_sets, recipes_by_set, size_of
from dinotools.data.manifests.manifest import File


def recipe(shelf_path, name, head):
    path = shelf_path.parents[1] / "recipes" / f"{name}.sh"
    path.write_text(f"#!/usr/bin/env bash\n# Table\n#\n{head}\nneed something\n", encoding="utf-8")


def test_the_list(shelf):
    big = shelf(
        "big", splits=[{"name": "a", "images": 5}, {"name": "b", "images": 7}], access="request", how_to_get="Ask."
    )
    shelf("cifar", files=[{"name": "a", "urls": ["https://a.org/a"], "bytes": 170_498_071}])
    recipe(big, "table10", "# Data        any of big cifar")
    recipe(big, "table2", "# Data        big, optionally bigger\n# Time  big")
    result = list_sets(DataListConfig())
    assert result.rows == [
        {
            "name": "big",
            "images": 12,
            "download": "",
            "how": "ask",
            "licence": "CC BY 4.0",
            "recipes": "table2 table10",
        },
        {
            "name": "cifar",
            "images": None,
            "download": "170 MB",
            "how": "fetch",
            "licence": "CC BY 4.0",
            "recipes": "table10",
        },
    ]
    assert result.metrics["big"]["recipes"] == ["table2", "table10"]
    assert result.metrics["cifar"]["files"][0]["bytes"] == 170_498_071


def test_the_description(shelf):
    shelf(
        files=[
            {"name": "a.zip", "urls": ["https://a.org/a", "https://b.org/a"], "md5": "0" * 32, "sum_source": "them"},
            {"name": "p_{1..9}.tar", "urls": ["https://a.org/{1..9}"]},
        ],
        splits=[{"name": "val", "images": 1999, "classes": 30}],
        expect=[{"path": "val/*.jpg", "count": 1999, "about": "frames"}],
        problems=["one", "two"],
        commands=["dinotools knn"],
        prepare="cars",
    )
    result = describe(DataInfoConfig(name="set"))
    said = [(row["property"], row["value"]) for row in result.rows]
    assert ("split val", "1,999 images, 30 classes or sequences") in said
    assert ("file", f"a.zip\nmd5 {'0' * 32} (them)\nhttps://a.org/a\nhttps://b.org/a") in said
    assert ("layout", "val/*.jpg: 1,999 · frames") in said
    assert [value for name, value in said if name == "known problem"] == ["one", "two"]
    assert sum(name == "file" for name, _ in said) == 4 and ("files", "… and 6 more") in said
    assert "how to get it" not in dict(said)
    assert result.notes == (
        "dinotools data fetch set --to data/set",
        "dinotools data prepare set data/set",
        "dinotools data check set data/set",
    )


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ([], ""),
        ([None], ""),
        ([170_498_071], "170 MB"),
        ([6_744_924_160, 147_897_477_120], "155 GB"),
        ([2_000_000_000, None], "over 2 GB"),
        ([500], "0.5 kB"),
        ([400_000_000_000], "400 GB"),
    ],
)
def test_sizes(sizes, shown):
    assert size_of([File(name=str(i), bytes=size) for i, size in enumerate(sizes)]) == shown


def test_what_a_recipe_needs_stands_in_its_head():
    """The line that people read, and the one that the shell reads, do not contradict one another."""
    users = recipes_by_set()
    for path in shipped("recipes").glob("*.sh"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("need "):
                for name in line.split()[1:]:
                    assert name.startswith(("$", '"', "#")) or path.stem in users[name], (path.stem, name)
    assert "table5" in users["davis2017"]


@pytest.mark.parametrize("words", [["list"], ["info", "cifar10"]])
def test_the_commands(words):
    runner = CliRunner()
    table = runner.invoke(app, ["data", *words])
    assert table.exit_code == 0, table.output
    assert "cifar10" in table.output
    as_json = runner.invoke(app, ["data", *words, "--json"])
    metrics = json.loads(as_json.stdout)["metrics"]
    facts = metrics if words[0] == "info" else metrics["cifar10"]
    assert facts["homepage"] == manifest.read("cifar10").homepage
    assert facts["access"] == "open"
