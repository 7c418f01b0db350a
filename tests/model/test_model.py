"""The language model: torch's LSTM with locked dropout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fixlm import output
from fixlm.model.dropout import locked_dropout
from fixlm.model.embedding import input_embedding
from fixlm.model.language_model import LanguageModel
from fixlm.model.lstm import LockedDropoutLSTM

V, H, E = 13, 6, 4


def model(**rates: float) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(input_embedding(V, E), H, output.build("learned", H, V), **rates)


def test_the_lstm_is_torchs_with_its_names_and_its_numbers() -> None:
    torch.manual_seed(0)
    theirs = nn.LSTM(E, H, 2)
    ours = LockedDropoutLSTM(E, H, between=0.5).eval()
    ours.load_state_dict(theirs.state_dict())
    x, state = torch.randn(7, 3, E), (torch.randn(2, 3, H), torch.randn(2, 3, H))
    out, (hidden, cell) = ours(x, state)
    expected, (expected_hidden, expected_cell) = theirs(x, state)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(hidden, expected_hidden)
    torch.testing.assert_close(cell, expected_cell)


def test_locked_dropout_drops_the_same_units_at_every_step() -> None:
    torch.manual_seed(0)
    dropped = locked_dropout(torch.ones(9, 5, 40), 0.25, training=True)
    assert (dropped == dropped[0]).all()
    assert not (dropped[:, 0] == dropped[:, 1]).all()  # each stream has a mask of its own
    assert sorted(dropped.unique().tolist()) == pytest.approx([0, 1 / 0.75])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("where", ["dropout_input", "dropout_between", "dropout_output"])
def test_each_dropout_acts_in_training_only(where: str) -> None:
    built = model(**{where: 0.5})
    ids = torch.arange(10).view(5, 2)
    first, second = (built(ids, built.start_state(2))[0] for _ in range(2))
    assert not torch.equal(first, second)
    built.eval()
    first, second = (built(ids, built.start_state(2))[0] for _ in range(2))
    assert torch.equal(first, second)


def test_state_carried_on_makes_two_windows_one_stream() -> None:
    built = model().eval()
    ids = torch.arange(12).view(6, 2)
    whole, _ = built(ids, built.start_state(2))
    first, state = built(ids[:4], built.start_state(2))
    second, _ = built(ids[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)


def test_a_projection_joins_an_embedding_of_another_length() -> None:
    vectors = torch.randn(V, 9)
    built = LanguageModel(input_embedding(V, E, vectors, frozen=True), H, output.build("learned", H, V), embed_size=E)
    assert built.input_projection is not None
    assert tuple(built.state_dict()["input_projection.weight"].shape) == (E, 9)
    loss, _ = built.loss(torch.zeros(2, 1, dtype=torch.long), torch.ones(2, 1, dtype=torch.long), built.start_state(1))
    loss.backward()
    assert built.input_embedding.weight.grad is None
    assert built.input_projection.weight.grad is not None


def test_trained_and_fixed_numbers_are_counted_once() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(V, E), dim=1)
    layer = output.build("pmi", E, V, vectors=vectors, in_state_dict=False)  # as a run has it
    both_ends = LanguageModel(input_embedding(V, E, vectors, frozen=True), E, layer)
    lstm = sum(p.numel() for p in nn.LSTM(E, E, 2).parameters())
    assert both_ends.parameter_counts() == {"trainable": lstm + V + 1, "fixed": V * E, "output_trainable": V + 1}


def test_the_input_embeddings_gradient_is_torchs_and_stays_in_its_memory() -> None:
    torch.manual_seed(1)
    ours, ids = input_embedding(50, 6), torch.randint(0, 50, (4, 3, 2))
    plain = torch.nn.Embedding.from_pretrained(ours.weight.detach().clone(), freeze=False)
    memory = None
    for window in ids:
        ours.recycle_gradient()
        plain.zero_grad()
        weights = torch.randn(3, 2, 6)
        for embedding in (ours, plain):
            (embedding(window) * weights).sum().backward()
        torch.testing.assert_close(ours.weight.grad, plain.weight.grad)
        assert ours.weight.grad is not None
        assert memory in (None, ours.weight.grad.data_ptr())
        memory = ours.weight.grad.data_ptr()


def test_gradients_of_several_windows_add_up() -> None:
    ours = input_embedding(5, 2)
    for _ in range(2):
        ours(torch.tensor([1, 1, 4])).sum().backward()
    assert ours.weight.grad is not None
    assert ours.weight.grad[:, 0].tolist() == [0, 4, 0, 0, 2]


# --- weight drop, embedding dropout, penalties, layers of another length --------------------------------------

IDS = torch.arange(12).view(6, 2)


def test_weight_drop_acts_in_training_only_also_after_an_evaluation() -> None:
    built = model(weight_drop=0.5)
    seen = [built(IDS, built.start_state(2))[0] for _ in range(2)]
    built.eval()
    evaluated = [built(IDS, built.start_state(2))[0] for _ in range(2)]
    built.train()
    seen += [built(IDS, built.start_state(2))[0] for _ in range(2)]
    assert torch.equal(*evaluated)
    assert torch.equal(evaluated[0], model().eval()(IDS, built.start_state(2))[0])  # the raw weights
    for i, one in enumerate(seen):
        assert all(not torch.equal(one, other) for other in [*seen[:i], evaluated[0]])


def test_weight_drop_leaves_out_recurrent_weights_alone_and_the_raw_ones_are_trained() -> None:
    built = model(weight_drop=0.5)
    first = IDS[:1]  # one step from the state 0: no recurrent weight has a part in it
    assert torch.equal(built(first, built.start_state(2))[0], built(first, built.start_state(2))[0])
    before = built.lstm.weight_hh_l0.clone()
    loss, _ = built.loss(IDS[:-1], IDS[1:], built.start_state(2))
    loss.backward()
    for layer in (0, 1):
        gradient = getattr(built.lstm, f"weight_hh_l{layer}").grad
        assert gradient is not None
        assert 0.3 < (gradient == 0).float().mean().item() < 0.7  # the dropped ones have none
    assert torch.equal(built.lstm.weight_hh_l0, before)


def test_embedding_dropout_drops_words_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    built = model(dropout_embedding=0.5)
    ids = torch.arange(V).repeat(4).view(4, V)  # each word four times in a window
    read = []
    lstm = built.lstm.forward
    monkeypatch.setattr(built.lstm, "forward", lambda x, state: read.append(x) or lstm(x, state))
    built(ids, built.start_state(V))
    (x,) = read
    dropped = (x == 0).all(dim=2)
    assert 0 < dropped[0].sum() < V
    assert (dropped == dropped[0]).all()
    kept = built.input_embedding(ids)[~dropped]
    torch.testing.assert_close(x[~dropped], 2 * kept)
    built.eval()(ids, built.start_state(V))
    assert torch.equal(read[1], built.input_embedding(ids))


def test_the_penalties_are_beside_the_nats() -> None:
    built = model(dropout_output=0.5)

    def parts(ar: float, tar: float) -> tuple[float, float]:
        torch.manual_seed(5)
        nats, whole, _ = built.regularized_loss(IDS[:-1], IDS[1:], built.start_state(2), ar, tar)
        return nats.item(), whole.item()

    torch.manual_seed(5)
    raw, _ = built.hidden(IDS[:-1], built.start_state(2))
    dropped = locked_dropout(raw, 0.5, training=True)
    plain = parts(0, 0)
    assert plain[0] == plain[1]
    for ar, tar in ((2.0, 0.0), (0.0, 3.0), (2.0, 3.0)):
        nats, whole = parts(ar, tar)
        assert nats == plain[0]
        expected = ar * dropped.pow(2).mean() + tar * (raw[1:] - raw[:-1]).pow(2).mean()
        assert whole - nats == pytest.approx(expected.item(), rel=1e-4)
    _, one_step, _ = built.regularized_loss(IDS[:1], IDS[1:2], built.start_state(2), 1.0, 1.0)
    assert one_step.isfinite()  # no change from step to step in it


@pytest.mark.parametrize(("layers", "last"), [(3, None), (1, 5), (2, 5), (3, 9)])
def test_layers_of_other_numbers_and_lengths_are_torchs_one_on_the_other(layers: int, last: int | None) -> None:
    torch.manual_seed(0)
    ours = LockedDropoutLSTM(E, H, layers, last_hidden_size=last).eval()
    sizes = [H] * (layers - 1) + [last or H]
    x, state = torch.randn(7, 3, E), ours.start_state(3)
    out, (hidden, cell) = ours(x, state)
    expected = x
    for layer, units in enumerate(sizes):
        theirs = nn.LSTM(expected.shape[-1], units)
        theirs.load_state_dict(
            {name: getattr(ours, f"{name[:-1]}{layer}") for name in theirs.state_dict()}  # weight_ih_l0 …
        )
        expected, (h, c) = theirs(expected)
        torch.testing.assert_close(hidden[layer, :, :units], h[0])
        torch.testing.assert_close(cell[layer, :, :units], c[0])
        assert not hidden[layer, :, units:].any()
    torch.testing.assert_close(out, expected)
    first, between = ours(x[:4], state)
    torch.testing.assert_close(torch.cat([first, ours(x[4:], between)[0]]), out)
