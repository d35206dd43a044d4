"""The memory of batches: where fields lie, when a buffer is free again, and the private function of torch it needs."""

import numpy as np
import torch

from clef.data.batch_memory import BatchLayout, BufferPool, Field


def test_torch_still_has_the_private_function_that_allocates_shared_memory() -> None:
    make = getattr(torch.UntypedStorage, "_new_shared", None)
    assert make is not None, "torch has no UntypedStorage._new_shared any more: BufferPool must allocate otherwise"
    storage = make(128)
    assert storage.is_shared(), "UntypedStorage._new_shared gives memory that is not shared: workers could not fill it"
    assert storage.nbytes() == 128


def test_fields_of_any_type_lie_one_after_another_in_a_buffer() -> None:
    layout = BatchLayout(
        {
            ("index",): Field(torch.int64),
            ("valid", "body"): Field(torch.bool),
            ("body",): Field(torch.uint8, (2, 5, 3), image=True),
            ("vad",): Field(torch.float32, (3,)),
        }
    )
    buffer = torch.zeros(layout.size(2), dtype=torch.uint8)
    arrays = layout.arrays(buffer, 2)
    arrays["index",][:] = [7, 8]
    arrays["valid", "body"][:] = [True, False]
    arrays["body",][:] = np.arange(60).reshape(2, 2, 5, 3)
    arrays["vad",][:] = [[1, 2, 3], [4, 5, 6]]
    batch = layout.batch(buffer, 2)
    assert batch["index"].tolist() == [7, 8]
    assert batch["valid"]["body"].tolist() == [True, False]
    assert batch["body"].shape == (2, 3, 2, 5)
    assert torch.equal(batch["body"].permute(0, 2, 3, 1).flatten(), torch.arange(60, dtype=torch.uint8))
    assert batch["vad"].tolist() == [[1, 2, 3], [4, 5, 6]]
    buffer.zero_()
    assert batch["index"].tolist() == [7, 8], "copied: keeping an index must not keep the buffer"
    assert not batch["body"].any(), "a view"


def test_a_buffer_is_free_again_when_its_last_view_is_gone() -> None:
    pool = BufferPool(16, 2)
    first, second = pool.reserve(16), pool.reserve(10)
    assert (first, second, pool.reserve(1)) == (0, 1, None)
    pool.buffer(0).fill_(5)
    borrowed = pool.borrow(0)
    view = borrowed[3:]
    del borrowed
    assert pool.reserve(1) is None, "a view is still used"
    assert view.eq(5).all()
    del view
    assert pool.reserve(17) is None, "too large for any"
    assert pool.reserve(16) == 0
