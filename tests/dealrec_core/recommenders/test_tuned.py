from dealrec_core.language.training import Trained
from dealrec_core.recommenders.tuned import unchanged


def trained(validation_losses: list[float], best_epoch: int) -> Trained:
    losses, qualities = [1.0] * (len(validation_losses) - 1), [0.0] * len(validation_losses)
    return Trained(None, losses, validation_losses, qualities, best_epoch, 0, 0, 1e-3, 0)


def test_a_tuning_without_a_better_epoch_changed_nothing():
    assert unchanged(trained([2.0, 2.5, 3.0], 0)) == "none of 2 epochs was better than the start"


def test_a_loss_that_hardly_moved_changed_nothing():
    assert unchanged(trained([2.0, 1.9981], 1)) == "the validation loss moved from 2.0000 to 1.9981, by less than 0.1%"
    assert unchanged(trained([2.0, 1.9979], 1)) is None


def test_a_better_epoch_with_a_higher_loss_is_a_change():
    assert unchanged(trained([2.0, 1.0, 2.1], 2)) is None
