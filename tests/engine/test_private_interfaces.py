"""What the engine uses of torch and accelerate without their promise to keep it. Failures here tell what changed."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.optim import SGD, Adam, AdamW

from clef.engine.train_step import NonFiniteGuard, skips_on_device

UPDATED = "an update of {} took away what the engine uses; mend {}"


def test_one_kernel_finds_numbers_that_are_not_finite() -> None:
    where = UPDATED.format("torch", "NonFiniteGuard.check")
    check = getattr(torch, "_amp_foreach_non_finite_check_and_unscale_", None)
    assert check is not None, where
    good, flag = torch.tensor([1.5, -2.0]), torch.zeros(())
    check([good, good.clone()], flag, torch.ones(()))
    assert (good.tolist(), flag.item()) == ([1.5, -2.0], 0), where
    check([good, torch.tensor([torch.inf])], flag, torch.ones(()))
    assert flag.item() == 1, where
    check([good], flag, torch.ones(()))
    assert flag.item() == 1, f"the flag no longer stays set: {where}"


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_fused_optimizers_skip_a_step_where_found_inf_is_set(kind: type) -> None:
    where = UPDATED.format("torch", "NonFiniteGuard.attach and skips_on_device")
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer, guard = kind([weight], lr=0.1, fused=True), NonFiniteGuard(torch.device("cpu"))
    assert skips_on_device(optimizer), f"not seen as a fused one of torch's: {where}"
    assert not skips_on_device(kind([weight], lr=0.1, fused=False))
    guard.attach(optimizer)
    weight.grad = torch.ones(3)
    optimizer.step()
    assert weight.max() < 1, where
    before = weight.detach().clone()
    guard.check([torch.tensor([torch.nan])])
    optimizer.step()
    assert torch.equal(weight, before), f"a step was made although found_inf was set: {where}"


def test_accelerates_state_can_be_reset_for_the_next_cell() -> None:
    where = UPDATED.format("accelerate", "clef.engine.run.running_ranks")
    assert hasattr(AcceleratorState, "_reset_state"), where
    assert Accelerator(cpu=True, mixed_precision="bf16").mixed_precision == "bf16"
    AcceleratorState._reset_state()
    assert Accelerator(cpu=True, mixed_precision="no").mixed_precision == "no", where
