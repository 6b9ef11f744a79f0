"""``codellm-dag render``: a recipe as the configuration files and the launch command of its framework."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from codellm_dag.cli.recipes import RecipeOption, SetOption, choose
from codellm_dag.cli.render_job import Sources, job_of, link_model
from codellm_dag.cli.session import (
    DEFAULT_STORE,
    DebugOption,
    JsonOption,
    Session,
    StoreOption,
    escape,
    session,
)
from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.training.backends.protocol import (
    Backend,
    BackendUnavailableError,
    Rendered,
    TrainingJob,
    backend,
)
from codellm_dag.training.environments.available import IN_PROCESS
from codellm_dag.training.environments.framework import MissingEnvironmentError

LAUNCH = "launch.sh"
_PROGRAMS: Mapping[str, str] = {"megatron": "Megatron-LM", "megatron_deepspeed": "Megatron-DeepSpeed"}
"""Backends whose program, ``pretrain_gpt.py``, is in a repository and no package."""


def render(
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="pretrained_checkpoint, sft_checkpoint.")],
    recipe: RecipeOption = "",
    changes: SetOption = None,
    devices: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many train.")] = 1,
    micro_rows: Annotated[
        int, typer.Option(min=0, help="Rows of a forward pass, at most.", show_default="all of a device's")
    ] = 0,
    model: Annotated[
        str,
        typer.Option(
            metavar="FOLDER", help="Hugging Face folder to fine-tune.", show_default="the recipe's base"
        ),
    ] = "",
    data: Annotated[
        str,
        typer.Option(metavar="FOLDER", help="With train.parquet: messages.", show_default="the recipe's"),
    ] = "",
    out: Annotated[
        str, typer.Option("--out", metavar="FOLDER", help="A new one.", show_default="./BACKEND-STAGE")
    ] = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The configuration files and the launch command of the framework that a recipe names, in a folder.

    Checked by the framework's own parser where its environment is built. Pretraining needs the recipe only;
    fine-tuning reads the newest model and conversations in the store, or --model and --data.

    [bold]Examples[/]

    codellm-dag render pretrained_checkpoint --recipe pretrain-1b --devices 8
    --set pretrained_checkpoint.backend.name=torchtitan

    codellm-dag render sft_checkpoint --recipe sft-qwen2.5-coder-14b --model Qwen2.5-Coder-14B --devices 8
    --set sft_checkpoint.backend.name=verl
    """
    with session(store, as_json=as_json, debug=debug) as here:
        from codellm_dag.training.rows import InvalidTrainingDataError

        choice = choose(recipe, changes)
        with tempfile.TemporaryDirectory(prefix="render-") as work:
            try:
                job = job_of(stage, choice, Sources(here.store, model, data), devices, micro_rows, Path(work))
                folder = _new_folder(out or f"{job.backend.name}-{stage}")
                chosen = backend(job.backend.name)
                rendered = chosen.render(job)
                unchecked = _check(chosen, rendered)
            except (InvalidTrainingDataError, BackendUnavailableError) as error:
                raise InvalidRecipeError(str(error)) from error
            launch = _launch(job, rendered)
            files = _write(job, chosen, rendered, folder, launch)
        answer = {
            "stage": stage,
            "backend": job.backend.name,
            "devices": devices,
            "steps": job.plan.steps,
            "folder": str(folder),
            "files": files,
            "launch": launch,
            "environment": dict(rendered.environment),
            "checked": not unchecked,
            "unchecked": unchecked or None,
            "not_here": _not_here(chosen),
        }
        if as_json:
            here.json({"store": here.store.url, **answer})
        else:
            _print(here, answer)


def _new_folder(name: str) -> Path:
    folder = Path(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRecipeError(f"--out {name!r} is there and not an empty folder; name a new one")
    return folder


def _check(chosen: Backend, rendered: Rendered) -> str:
    """Have the framework's own parser read `rendered`; why it could not, or nothing."""
    try:
        chosen.validate(rendered)
    except MissingEnvironmentError as error:
        return str(error)
    return ""


def _launch(job: TrainingJob, rendered: Rendered) -> str | None:
    """The command line, for the framework's own Python; None where there is no program to launch."""
    group = f"python -m torch.distributed.run --nproc-per-node={job.processes}"
    if repository := _PROGRAMS.get(job.backend.name):
        return f'{group} "${{REPOSITORY:?a clone of {repository}}}/pretrain_gpt.py" $(cat arguments.txt)'
    if not rendered.command:
        return None
    return f"{group if job.processes > 1 else 'python'} {shlex.join(rendered.command)}"


def _write(
    job: TrainingJob, chosen: Backend, rendered: Rendered, folder: Path, launch: str | None
) -> list[str]:
    """Write everything into `folder`; the names, in order."""
    rendered.write(folder)
    if (job.work / "model").is_dir():
        link_model(job.work / "model", folder / "model")
    if write_data := getattr(chosen, "write_data", None):
        write_data(job, folder)
    if launch:
        exports = [f"export {name}={shlex.quote(text)}" for name, text in rendered.environment.items()]
        lines = ["#!/bin/sh", 'cd "$(dirname "$0")" || exit 1', *exports, f'exec {launch} "$@"']
        (folder / LAUNCH).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def _not_here(chosen: Backend) -> str | None:
    """Why the framework does not train on this machine, in its backend's words; None where it does."""
    try:
        chosen.version()
    except MissingEnvironmentError:
        return None  # said as unchecked
    except BackendUnavailableError as error:
        return str(error).partition(": ")[2]
    return None


def _print(here: Session, answer: Mapping[str, Any]) -> None:
    def say(text: str) -> None:
        here.out.print(text, soft_wrap=True)

    devices = "a device" if answer["devices"] == 1 else f"{answer['devices']} devices"
    title = f"{answer['stage']} for {answer['backend']} on {devices}, {answer['steps']:,} steps"
    say(f"[bold]{escape(title)}[/]")
    for name in answer["files"]:
        say(f"  {escape(Path(answer['folder']) / name)}")
    checked = "[green]✓[/] checked by the framework's own parser"
    say(checked if answer["checked"] else f"not checked: {escape(answer['unchecked'])}")
    if answer["not_here"]:
        say(f"[dim]{escape(answer['not_here'])}[/]")
    if answer["launch"]:
        say(f"launch, with the framework's own Python (sh {LAUNCH} does it):\n  {escape(answer['launch'])}")
    elif answer["backend"] in IN_PROCESS:
        say(f"no launch command: it trains inside the stage; `{here.command('demo')}` runs it")
    else:
        say("no launch command: the files are for a training program of yours")
