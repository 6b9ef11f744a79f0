"""``codellm-dag demo``: the whole life cycle on this machine, ending with the leaderboard."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from codellm_dag.cli import format as fmt
from codellm_dag.cli.leaderboard import leaderboard, next_commands
from codellm_dag.cli.recipes import Choice, RecipeOption, SetOption, check_backends, choose, save_choice
from codellm_dag.cli.scores import costs_of, score_json
from codellm_dag.cli.session import (
    DEFAULT_STORE,
    INTERRUPTED,
    DebugOption,
    JsonOption,
    Session,
    StoreOption,
    session,
    state_folder,
)
from codellm_dag.lineage.names import place
from codellm_dag.lineage.scores import list_scores

if TYPE_CHECKING:
    from codellm_dag.cli.job import Ended


def demo(
    recipe: RecipeOption = "",
    changes: SetOption = None,
    threads: Annotated[
        int, typer.Option(min=0, metavar="N", help="CPU threads of a stage; 0: two, or all of one.")
    ] = 0,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run the whole life cycle on this machine.

    From raw sources through tokenizer, pretraining, SFT and RL to the leaderboard.
    What is there already is reused; a run that was stopped goes on where it was.

    [bold]Examples[/]

    codellm-dag demo

    codellm-dag demo --recipe tiny --set pretrained_checkpoint.optimizer.learning_rate=0.002
    """
    with session(store, as_json=as_json, debug=debug) as here:
        choice = choose(recipe, changes)
        _check_backends(choice)
        here.store.check()
        save_choice(here.store, choice)
        _run(here, choice, threads)


def _check_backends(choice: Choice) -> None:
    """Raise InvalidRecipeError where a framework cannot train on this machine, if stages run on it."""
    from resources.launcher import chosen_launcher  # imports Dagster

    launcher = choice.run_config().get("resources", {}).get("launcher", {}).get("config", {})
    if chosen_launcher(launcher.get("kind", "")) != "kubernetes":
        check_backends(choice)


def _run(here: Session, choice: Choice, threads: int) -> None:
    from codellm_dag.cli.job import run_lifecycle  # imports Dagster

    start = time.monotonic()
    console = here.err if here.as_json else here.out
    if not here.as_json:
        told = f"{choice.text} · store {place(here.store)}"
        here.out.print(Text.assemble(("The life cycle of a code model", "bold"), (f"  {told}", "dim")))
        here.out.print()
    state = state_folder(here.store)
    ended = run_lifecycle(here.store.url, choice, threads, state, console)
    seconds = time.monotonic() - start
    if ended.interrupted:
        here.err.print("\nStopped. What is finished is kept: the same command goes on from here.")
        raise typer.Exit(INTERRUPTED)
    if here.as_json:
        here.json(_json(here, choice, ended, seconds))
    elif ended.success:
        _print(here, choice, ended, seconds)
    else:
        here.err.print(Text.assemble(("\nerror", "bold red"), f": {ended.problem}"), soft_wrap=True)
        here.err.print(Text(f"The whole log: {ended.log}"), soft_wrap=True)
        here.err.print("What is finished is kept: the same command goes on from here.")
    if not ended.success:
        here.no()


def _json(here: Session, choice: Choice, ended: Ended, seconds: float) -> dict[str, Any]:
    scores = [score for score in list_scores(here.store) if score.current] if ended.success else []
    costs = costs_of(here.store, scores)
    return {
        "store": here.store.url,
        "recipe": choice.recipe,
        "set": list(choice.changes),
        "run_id": ended.run_id,
        "success": ended.success,
        "problem": ended.problem or None,
        "left_out": ended.left_out,
        "seconds": round(seconds, 3),
        "assets": [
            {
                "asset": item.asset,
                "partition": item.partition,
                "action": item.action,
                "reason": item.reason,
                "seconds": round(item.seconds, 3),
            }
            for item in ended.done
        ],
        "scores": [score_json(score, costs[score.report_id]) for score in scores],
        "next": [command for command, _ in next_commands(here, choice, scores)],
    }


def _print(here: Session, choice: Choice, ended: Ended, seconds: float) -> None:
    scores = [score for score in list_scores(here.store) if score.current]
    computed = [item for item in ended.done if item.action == "computed"]
    reused = [item for item in ended.done if item.action == "reused"]
    told = f"{len(computed)} computed, {len(reused)} reused in {fmt.duration(seconds)}"
    here.out.print()
    for line in ended.left_out:
        here.out.print(Text(f"left out  {line}", style="yellow"), soft_wrap=True)
    here.out.print(f"[bold]Done[/]: {told}\n")
    if not scores:
        return
    here.out.print(leaderboard(scores, here.out.width))
    here.out.print("\n[bold]Try next[/]")
    for command, why in next_commands(here, choice, scores):
        here.out.print(Text.assemble("  ", (command, "cyan")), soft_wrap=True)
        here.out.print(Text(f"    {why}", style="dim"), soft_wrap=True)
