import numpy as np
import torch

from dealrec_core.samples.sequences import Sequences
from dealrec_core.surrogate import logits, networks
from dealrec_core.surrogate.sasrec import Shape

SAMPLES = Sequences(np.array([0, 1, 2, 3, 4, 0]), np.array([0, 1, 3, 4, 6]), np.array([1, 2, 3, 4]))


def test_every_sample_comes_once_with_the_product_of_state_and_table():
    model = networks.build("sasrec", Shape(5, width=4, heads=1, history_length=3), seed=0)
    table = model.eval().item_table()
    rows = []
    for block in logits.blocks(model, SAMPLES, cells=5):
        assert block.logits.shape == (1, 5)  # 5 cells hold one sample's logits
        torch.testing.assert_close(block.logits, (block.states @ table.T).detach())
        assert block.targets.tolist() == [[SAMPLES.targets[block.rows[0]]]]
        assert not block.logits.requires_grad
        rows.append(int(block.rows[0]))
    assert rows == [0, 2, 1, 3]  # short histories first
