"""Precision, recomputation, compilation and experts: the losses they must give, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.training import ModelShape, PretrainingRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training.model import RouterBalance, load_balance, new_model, packed_losses, target_losses
from tests.training.conftest import TINY, files
from tests.training.test_pretrained_checkpoint import kill_at, run

MOE = TINY.with_changes({"model": {**TINY.model.model_dump(), "experts": 4, "experts_per_token": 2}})


def losses(recipe: PretrainingRecipe, inputs: Inputs, folder: Path, micro_rows: int = 0) -> list[float]:
    return [values["loss"] for _, values in run(recipe, inputs, folder, micro_rows).points]


@pytest.fixture(scope="module")
def plain(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return losses(TINY, inputs, tmp_path_factory.mktemp("plain"))


def test_recomputing_changes_no_loss(plain: list[float], inputs: Inputs, tmp_path: Path) -> None:
    recipe = TINY.with_changes({"compute.gradient_checkpointing": True})
    assert losses(recipe, inputs, tmp_path) == pytest.approx(plain, rel=1e-6)


def test_bf16_is_near_and_not_equal(plain: list[float], inputs: Inputs, tmp_path: Path) -> None:
    found = losses(TINY.with_changes({"compute.precision": "bf16"}), inputs, tmp_path)
    assert found != plain
    assert found == pytest.approx(plain, rel=0.02)
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "out/model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


@pytest.mark.slow
def test_compiled_blocks_give_the_same_losses(plain: list[float], inputs: Inputs, tmp_path: Path) -> None:
    found = losses(TINY.with_changes({"compute.compile": True}), inputs, tmp_path)
    assert found == pytest.approx(plain, rel=1e-4)
    assert (tmp_path / "out/model.safetensors").is_file()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can")
def test_what_a_cpu_cannot_do_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipeError, match=r"compute.precision = fp16: needs a GPU"):
        run(TINY.with_changes({"compute.precision": "fp16"}), inputs, tmp_path)
    with pytest.raises(InvalidRecipeError, match=r"compute.liger = True: its kernels need a GPU"):
        run(TINY.with_changes({"compute.liger": True}), inputs, tmp_path)


def test_more_experts_of_a_token_than_there_are_is_refused() -> None:
    with pytest.raises(InvalidRecipeError, match="experts_per_token=5 must be 1 to experts=4"):
        MOE.with_changes({"model.experts_per_token": 5})


def test_an_even_router_and_one_that_sends_all_to_one_expert() -> None:
    even = torch.eye(4).repeat(1, 1, 2, 1)[:, :, :4] * 1e-6  # each expert is the first choice of one token
    assert load_balance(even, chosen=1) == pytest.approx([1.0], rel=1e-4)
    one = torch.tensor([50.0, 0.0, 0.0, 0.0]).expand(1, 2, 8, 4)
    assert load_balance(one, chosen=1).tolist() == pytest.approx([4.0, 4.0])


def test_the_balance_is_transformers_own_for_one_row_and_layer() -> None:
    from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

    logits = torch.randn(1, 1, 16, 8, generator=torch.Generator().manual_seed(0))
    expected = load_balancing_loss_func((logits[0, 0],), num_experts=8, top_k=2)
    assert load_balance(logits, chosen=2)[0] == pytest.approx(float(expected), rel=1e-5)


def test_experts_never_see_another_document() -> None:
    shape = ModelShape(
        hidden_size=32, layers=2, heads=2, kv_heads=1, intermediate_size=32, experts=4, experts_per_token=2
    )
    model = new_model(shape, 50, 0, 0).eval()
    assert model.config.model_type == "qwen3_moe"
    tokens = torch.randint(0, 50, (1, 12), generator=torch.Generator().manual_seed(1))
    positions = torch.tensor([[*range(5), *range(7)]])
    swapped = torch.cat([tokens[:, 5:], tokens[:, :5]], 1), torch.tensor([[*range(7), *range(5)]])
    one = target_losses(model, tokens, positions, tokens, -100)
    other = target_losses(model, *swapped, swapped[0], -100)
    assert torch.allclose(one, torch.cat([other[7:], other[:7]]), atol=1e-5)
    both = packed_losses(model, tokens, positions, tokens, -100)
    assert isinstance(both, RouterBalance)
    assert 1.5 < both.balance.item() < 4.5


def test_experts_learn_and_do_not_depend_on_how_a_batch_is_cut(inputs: Inputs, tmp_path: Path) -> None:
    whole = losses(MOE, inputs, tmp_path / "whole")
    assert whole[-1] < whole[0] - 0.5
    assert losses(MOE, inputs, tmp_path / "cut", micro_rows=1) == pytest.approx(whole, rel=1e-4)
    unbalanced = losses(MOE.with_changes({"model.router_auxiliary_loss": 0.0}), inputs, tmp_path / "un")
    assert whole[0] - unbalanced[0] == pytest.approx(0.001 * 2, rel=0.2)  # two where all get the same


def test_experts_resume_to_the_same_bytes(inputs: Inputs, tmp_path: Path) -> None:
    run(MOE, inputs, tmp_path / "whole")
    kill_at(MOE, inputs, tmp_path / "killed", "step 6")
    run(MOE, inputs, tmp_path / "killed")
    assert files(tmp_path / "killed/out") == files(tmp_path / "whole/out")
