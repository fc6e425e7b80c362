"""The command line: one line per command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import dinotools
from dinotools.configs.attention import AttentionConfig, JaccardConfig
from dinotools.configs.classification import KnnConfig
from dinotools.configs.copydays import CopydaysConfig, CopydaysMakeConfig
from dinotools.configs.data import DataStatsConfig
from dinotools.configs.data_sets import (
    DataCheckConfig,
    DataFetchConfig,
    DataInfoConfig,
    DataListConfig,
    DataPrepareConfig,
    DataSampleConfig,
)
from dinotools.configs.demo import DemoConfig
from dinotools.configs.doctor import DoctorConfig
from dinotools.configs.embedding import EmbedConfig
from dinotools.configs.export import ExportConfig
from dinotools.configs.features import FeaturesConfig
from dinotools.configs.finetuning import FinetuneConfig
from dinotools.configs.linear import LinearConfig
from dinotools.configs.lowshot import LowshotConfig
from dinotools.configs.models import InfoConfig, ListConfig, ThroughputConfig
from dinotools.configs.photos import DuplicatesConfig, IndexConfig, SearchConfig
from dinotools.configs.pretraining import PretrainConfig
from dinotools.configs.recipes import RecipesListConfig, RecipesRunConfig, RecipesShowConfig
from dinotools.configs.report import ReportConfig
from dinotools.configs.retrieval import RetrievalConfig
from dinotools.configs.video import DavisConfig, DavisScoreConfig, PcaVideoConfig
from dinotools.options import command, run_app
from dinotools.runtime import distributed

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False)
models = typer.Typer(no_args_is_help=True, help="Networks and their files.")
app.add_typer(models, name="models")
data = typer.Typer(no_args_is_help=True, help="Data sets.")
app.add_typer(data, name="data")
recipes = typer.Typer(no_args_is_help=True, help="Shell scripts that reproduce the paper's tables and figures.")
app.add_typer(recipes, name="recipes")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dinotools {dinotools.__version__}")
        raise typer.Exit


@app.callback()
def dinotools_app(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Pre-train DINO vision transformers without labels, and measure any frozen backbone as the DINO paper does."""


command(app, "demo", DemoConfig, "dinotools.demo:run")
command(app, "doctor", DoctorConfig, "dinotools.doctor:run")
command(app, "pretrain", PretrainConfig, "dinotools.pretraining.trainer:run", presets=True)
command(app, "report", ReportConfig, "dinotools.reproduction.command:run")
command(app, "export", ExportConfig, "dinotools.models.export.command:run")
command(app, "features", FeaturesConfig, "dinotools.features.command:run")
command(app, "knn", KnnConfig, "dinotools.evaluation.knn:run")
command(app, "linear", LinearConfig, "dinotools.evaluation.linear.probe:run")
command(app, "lowshot", LowshotConfig, "dinotools.evaluation.lowshot:run")
command(app, "finetune", FinetuneConfig, "dinotools.evaluation.finetuning.trainer:run", presets=True)
command(app, "retrieval", RetrievalConfig, "dinotools.evaluation.retrieval.command:run")
command(app, "copydays", CopydaysConfig, "dinotools.evaluation.copydays:run")
command(app, "copydays-make", CopydaysMakeConfig, "dinotools.data.copydays_making:run")
command(app, "index", IndexConfig, "dinotools.photos.indexing:run")
command(app, "search", SearchConfig, "dinotools.photos.searching:run")
command(app, "duplicates", DuplicatesConfig, "dinotools.photos.duplicates:run")
command(app, "davis", DavisConfig, "dinotools.evaluation.davis.command:run")
command(app, "davis-score", DavisScoreConfig, "dinotools.evaluation.davis.scoring:run")
command(app, "pca-video", PcaVideoConfig, "dinotools.evaluation.pca_video:run")
command(app, "attention", AttentionConfig, "dinotools.evaluation.attention.command:run")
command(app, "jaccard", JaccardConfig, "dinotools.evaluation.jaccard:run")
command(app, "embed", EmbedConfig, "dinotools.evaluation.embedding.command:run")
command(models, "list", ListConfig, "dinotools.models.catalogue:list_models")
command(models, "info", InfoConfig, "dinotools.models.catalogue:describe_model")
command(models, "throughput", ThroughputConfig, "dinotools.evaluation.throughput:run")
command(data, "list", DataListConfig, "dinotools.data.manifests.catalogue:list_sets")
command(data, "info", DataInfoConfig, "dinotools.data.manifests.catalogue:describe")
command(data, "fetch", DataFetchConfig, "dinotools.data.manifests.fetching:run")
command(data, "check", DataCheckConfig, "dinotools.data.manifests.checking:run")
command(data, "prepare", DataPrepareConfig, "dinotools.data.manifests.preparing:run")
command(data, "sample", DataSampleConfig, "dinotools.data.miniatures.command:run")
command(data, "stats", DataStatsConfig, "dinotools.data.stats:run")
command(recipes, "list", RecipesListConfig, "dinotools.recipes:list_recipes")
command(recipes, "show", RecipesShowConfig, "dinotools.recipes:show")
command(recipes, "run", RecipesRunConfig, "dinotools.recipes:run")


def main() -> None:
    """Entry point of the ``dinotools`` script."""
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]  # accepted anywhere on the line
    distributed.leave(run_app(lambda: app(args=arguments), debug=debug))


if __name__ == "__main__":
    main()
