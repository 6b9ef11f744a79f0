"""``codellm-dag plan``: what a training run needs before it is launched; with ``--manifests`` its pods."""

from __future__ import annotations

from typing import Annotated

import typer

from codellm_dag.cli.manifests import print_manifests
from codellm_dag.cli.plan_answer import answer_json, print_answer
from codellm_dag.cli.plan_question import Sizes, question_of
from codellm_dag.cli.recipes import RecipeOption, SetOption, choose
from codellm_dag.cli.session import DEFAULT_STORE, DebugOption, JsonOption, StoreOption, session
from codellm_dag.recipes.pod_presets import DEFAULT_PODS, IMAGE_VARIABLE, PODS_VARIABLE
from codellm_dag.scaling.run_plan import DEFAULT_MFU, plan_run

_SIZES = "Sizes"
_PODS = "Pods (with --manifests)"


def plan(
    stages: Annotated[
        list[str],
        typer.Argument(
            metavar="STAGE...", help="pretrained_checkpoint, sft_checkpoint; with --manifests any stage."
        ),
    ],
    recipe: RecipeOption = "",
    changes: SetOption = None,
    devices: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="How many train.", rich_help_panel=_SIZES)
    ] = 1,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="cpu, h100-80gb, …", rich_help_panel=_SIZES)
    ] = "cpu",
    memory: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="GB",
            help="Memory of a device.",
            rich_help_panel=_SIZES,
            show_default="the device's",
        ),
    ] = 0.0,
    teraflops: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="TFLOP/S",
            help="Peak of a device.",
            rich_help_panel=_SIZES,
            show_default="the device's",
        ),
    ] = 0.0,
    mfu: Annotated[
        float, typer.Option(min=0.0001, max=1, help="Share of the peak.", rich_help_panel=_SIZES)
    ] = DEFAULT_MFU,
    price: Annotated[
        float,
        typer.Option(min=0, help="Price of a device-hour.", rich_help_panel=_SIZES, show_default="not told"),
    ] = 0.0,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="Another model than the recipe's: a published one, or a config.json.",
            rich_help_panel=_SIZES,
        ),
    ] = "",
    sequence_length: Annotated[
        int, typer.Option(min=0, help="Tokens of a row.", rich_help_panel=_SIZES, show_default="the recipe's")
    ] = 0,
    micro_rows: Annotated[
        int,
        typer.Option(
            min=0,
            help="Rows of a forward pass, at most.",
            rich_help_panel=_SIZES,
            show_default="all of a device's",
        ),
    ] = 0,
    tokens: Annotated[
        int,
        typer.Option(
            min=0,
            help="Tokens of the run; of one epoch where it fine-tunes.",
            rich_help_panel=_SIZES,
            show_default="the recipe's",
        ),
    ] = 0,
    precision: Annotated[
        str, typer.Option(help="fp32, bf16 or fp16.", rich_help_panel=_SIZES, show_default="the recipe's")
    ] = "",
    gradient_checkpointing: Annotated[
        bool | None,
        typer.Option(
            help="Keep each block's input only.", rich_help_panel=_SIZES, show_default="the recipe's"
        ),
    ] = None,
    tensor_parallel: Annotated[
        int, typer.Option(min=0, rich_help_panel=_SIZES, show_default="the least that fits")
    ] = 0,
    pipeline_parallel: Annotated[
        int, typer.Option(min=0, rich_help_panel=_SIZES, show_default="the least that fits")
    ] = 0,
    manifests: Annotated[
        bool,
        typer.Option("--manifests", help="The Kubernetes manifests instead of sizes.", rich_help_panel=_PODS),
    ] = False,
    pods: Annotated[
        str,
        typer.Option(
            "--pods",
            metavar="NAME|FILE",
            envvar=PODS_VARIABLE,
            show_envvar=True,
            show_default=DEFAULT_PODS,
            help="Shape of the pods: a preset, or a YAML file.",
            rich_help_panel=_PODS,
        ),
    ] = "",
    image: Annotated[
        str,
        typer.Option(
            "--image",
            metavar="IMAGE",
            envvar=IMAGE_VARIABLE,
            show_envvar=True,
            help="Image of shapes that name none.",
            rich_help_panel=_PODS,
        ),
    ] = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """What training needs, before anything is launched: FLOPs, memory, hours, files, and what will not fit.

    Exit code 1 where nothing fits.

    With --manifests the Kubernetes manifests of any stage as YAML, checked by all rules that hold before
    launch; the fingerprint in names is shown as zeros.

    [bold]Examples[/]

    codellm-dag plan pretrained_checkpoint

    codellm-dag plan pretrained_checkpoint --recipe pretrain-1b --devices 16 --device h100-80gb --micro-rows 8

    codellm-dag plan sft_checkpoint --model qwen2.5-coder-14b --devices 64 --device h100-80gb --precision bf16
    --gradient-checkpointing --sequence-length 4096 --set sft_checkpoint.batch.global_rows=64

    codellm-dag plan rl_policy --manifests --pods pods.yaml | kubectl apply --dry-run=server -f -
    """
    with session(store, as_json=as_json, debug=debug) as here:
        if manifests:
            print_manifests(here, stages, pods, image)
            return
        choice = choose(recipe, changes)
        sizes = Sizes(
            devices=devices,
            device=device,
            memory_gb=memory,
            teraflops=teraflops,
            mfu=mfu,
            price=price,
            model=model,
            sequence_length=sequence_length,
            micro_rows=micro_rows,
            tokens=tokens,
            precision=precision,
            checkpointing=gradient_checkpointing,
            tensor_parallel=tensor_parallel,
            pipeline_parallel=pipeline_parallel,
        )
        questions = [(stage, question_of(stage, choice, sizes)) for stage in stages]
        answers = [(stage, asked, plan_run(asked)) for stage, asked in questions]
        if as_json:
            here.json({"store": here.store.url, "sizes": [answer_json(*one) for one in answers]})
        else:
            for one in answers:
                print_answer(here, *one)
        if not all(answer.fitting for _, _, answer in answers):
            here.no()
