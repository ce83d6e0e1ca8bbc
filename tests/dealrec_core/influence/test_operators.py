"""How samples are grouped for the operators; what those compute is tested in test_scores.py."""

import numpy as np

from dealrec_core.influence import losses, operators
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.influence import InfluenceConfig
from dealrec_core.surrogate import networks
from dealrec_core.surrogate.sasrec import Shape


def test_a_group_holds_short_batches_up_to_the_tokens_and_every_sample_once() -> None:
    lengths = np.array([1, 3, 1, 2, 5])
    samples = Sequences(np.arange(12) % 4, np.concatenate([[0], np.cumsum(lengths)]), np.array([0, 1, 2, 3, 0]))
    loss = losses.build("softmax", item_count=4, negatives=1, seed=0)
    model = networks.build("sasrec", Shape(4, width=4, layers=1), seed=0)
    task = operators.problem(model, loss, config=InfluenceConfig(batch_tokens=4), device="cpu")
    found = [
        (rows.tolist(), [tuple(items.shape) for items in histories])
        for rows, histories, _ in operators.groups(task, samples)
    ]
    # Two of one item and one of two items are 4 items; a history longer than the limit stands alone.
    assert found == [([0, 2, 3], [(2, 1), (1, 2)]), ([1], [(1, 3)]), ([4], [(1, 5)])]
