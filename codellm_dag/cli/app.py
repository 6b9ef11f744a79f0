"""The commands, in the order of ``codellm-dag --help``."""

from __future__ import annotations

import typer

from codellm_dag.cli import (
    demo,
    diff,
    environments,
    lineage,
    plan,
    reap,
    render,
    report,
    reproduce,
    scores,
    trials,
    verify,
    why,
)

app = typer.Typer(
    name="codellm-dag",
    help="Every benchmark number is one command away from what made it, and from being made again.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    demo.demo,
    scores.scores,
    report.report,
    lineage.lineage,
    diff.diff,
    reproduce.reproduce,
    why.why,
    trials.trials,
    verify.verify,
    plan.plan,
    render.render,
    reap.reap,
):
    app.command()(command)
app.add_typer(environments.app, name="environments")
