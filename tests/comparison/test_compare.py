"""Activations in the user's own model: who wins is known beforehand, and every number has another way to it."""

import functools
import json
import math
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import varphi as vp
from varphi.study.engine import StudyInterrupted
from varphi.study.statistics import fewest_seeds


def quiet(*args, **options):
    return vp.compare(*args, progress=False, **options)


def by_hand(toys, activation, seed):
    """`far_from_tanh` without varphi."""
    torch.manual_seed(seed)
    model = toys.build()
    with torch.no_grad():
        x, y = toys.target(model)
        return F.mse_loss(model[2](activation(model[0](x))), y).item()


# Who wins -------------------------------------------------------------------------------------------------------------


def test_the_known_winner_is_found_and_every_number_is_right(toys, storage):
    found = quiet(toys.build, toys.far_from_tanh, ["tanh", "gelu"], storage=storage)
    assert found.baseline == "relu" and found.finished == ("relu", "tanh", "gelu")
    assert found.winners == ("tanh",) and found.ranking.places[0].rank == "1"
    assert len(found.seeds) == fewest_seeds(3) == 7  # enough to tell any two apart, if nothing is said
    for label, torch_s in (("relu", torch.relu), ("tanh", torch.tanh), ("gelu", F.gelu)):
        expected = [by_hand(toys, torch_s, seed) for seed in found.seeds]
        assert found.values(label) == pytest.approx(expected, rel=1e-5, abs=1e-12)
    gain = {g.activation: g for g in found.gains}["tanh"]
    assert gain.finding == "better"
    assert gain.difference.difference == pytest.approx(np.mean(found.values("relu") - found.values("tanh")))
    assert gain.difference.adjusted == pytest.approx(min(1, 2 * 2.0 ** (1 - 7)))  # Holm over two, all pairs one way
    assert found.answer.startswith("tanh is best") and "better: tanh" in found.answer
    assert found.verdict.status == "supported"


def test_highest_mirrors_lowest(toys, storage):
    low = quiet(toys.build, toys.far_from_tanh, ["tanh", "gelu"], storage=storage, seeds=6)

    def close(model):
        return -toys.far_from_tanh(model)

    high = quiet(toys.build, close, ["tanh", "gelu"], storage=storage, seeds=6, best="highest")
    assert [p.name for p in high.ranking.places] == [p.name for p in low.ranking.places]
    assert [g.difference.difference for g in high.gains] == pytest.approx([g.difference.difference for g in low.gains])


def scored(model, seed):
    """A score by name and seed: 'worse' is always worse than relu, 'same' differs by chance alone."""
    chance = np.random.default_rng(seed).normal()
    return {"ReLU": 0.0, "tanh": 1.0 + 0.1 * chance, "gelu": chance}[model[1]._get_name()]


@pytest.mark.parametrize(
    ("others", "status"), [(["tanh"], "refuted"), (["tanh", "gelu"], "undecided"), (["gelu"], "undecided")]
)
def test_only_if_all_others_are_worse_is_the_model_s_own_the_best(toys, storage, others, status):
    found = quiet(toys.build, scored, others, storage=storage, seeds=10)
    assert found.verdict.status == status
    assert ("would have shown" in found.verdict.evidence) == ("gelu" in others)
    assert {g.activation: g.finding for g in found.gains} == {
        other: {"tanh": "worse", "gelu": "not told apart"}[other] for other in others
    }


def test_few_seeds_cannot_tell_and_say_how_many_could(toys, storage):
    found = quiet(toys.build, toys.far_from_tanh, ["tanh", "gelu"], storage=storage, seeds=5)
    assert {g.finding for g in found.gains} == {"not enough seeds to tell"}
    assert found.verdict.status == "not enough seeds"
    assert "5 seeds cannot tell 3 apart, 7 could" in found.answer and "model's own; 7 could" in found.answer


def test_activations_of_every_kind_compete(toys, storage):
    given = ["softplus(beta=3)", vp.get("elu", alpha=0.5), "x*sigmoid(2*x)", nn.Tanh(), "ReLU"]
    found = quiet(toys.build, toys.far_from_tanh, given, storage=storage, seeds=2)
    assert found.finished == ("relu", "softplus(beta=3)", "elu(alpha=0.5)", "x*sigmoid(2*x)", "tanh")
    assert found.values("tanh") == pytest.approx([0, 0], abs=1e-12)
    assert found.values("softplus(beta=3)") == pytest.approx(
        [by_hand(toys, nn.Softplus(beta=3), seed) for seed in (0, 1)], rel=1e-5
    )


def test_the_model_s_own_with_other_parameters_is_told_from_the_usual_one(storage):
    def build():
        return nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(0.5), nn.Linear(8, 1))

    def fit(model):
        return float(model(torch.ones(5, 3)).detach().square().mean())

    found = quiet(build, fit, ["leaky_relu", "relu"], storage=storage, seeds=2)
    assert found.finished == ("leaky_relu (own)", "leaky_relu", "relu")
    own, usual = (found.values(label).tolist() for label in found.finished[:2])
    assert own != usual
    torch.manual_seed(0)
    assert fit(build()) == pytest.approx(own[0])


def test_a_learned_activation_is_learned(toys, storage):
    learned = []

    def fit(model):
        value = toys.train(model)["loss"]
        learned.append(model[1].current("beta").item() if isinstance(model[1], vp.Activation) else None)
        return value

    quiet(toys.build, fit, [vp.get("softplus", learn="beta")], storage=storage, seeds=2)
    moved = [beta for beta in learned if beta is not None]
    assert len(moved) == 2 and all(beta != 1.0 for beta in moved)


# Seeds ----------------------------------------------------------------------------------------------------------------


def test_a_seed_is_the_same_weights_and_the_same_luck_for_every_activation(toys, storage):
    seen = {}

    def fit(model, seed):
        weights = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
        luck = [torch.rand(()).item(), float(np.random.rand()), random.random()]  # noqa: NPY002
        seen.setdefault(seed, []).append((weights, luck))
        return float(len(seen))

    random.seed(5)
    torch.manual_seed(5)
    quiet(toys.build, fit, ["tanh", "gelu"], storage=storage, seeds=[3, 8])
    after = random.random(), torch.rand(()).item()
    random.seed(5)
    torch.manual_seed(5)
    assert after == (random.random(), torch.rand(()).item())  # the caller's own luck is left alone
    assert set(seen) == {3, 8} and all(len(runs) == 3 for runs in seen.values())
    for seed, runs in seen.items():
        torch.manual_seed(seed)
        expected = torch.cat([p.detach().flatten() for p in toys.build().parameters()]).tolist()
        assert all(run == runs[0] for run in runs) and runs[0][0] == expected
    assert seen[3][0] != seen[8][0]


def test_a_module_is_copied_and_initialised_anew(storage):
    given = nn.Sequential(
        nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4), nn.LayerNorm(4)
    )
    before = {name: value.clone() for name, value in given.state_dict().items()}
    starts = []

    def fit(model):
        starts.append({name: value.clone() for name, value in model.state_dict().items()})
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        return 1.0

    quiet(given, fit, ["tanh"], storage=storage, seeds=2)
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())
    first, same, other, _ = starts  # seed 0 twice, seed 1 twice
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])
    assert not torch.equal(first["0.weight"], before["0.weight"])
    # The weights are those that the layers would have got from the seed in the first place.
    torch.manual_seed(0)
    assert first["5.weight"].tolist() == [1.0] * 4 and first["1.running_var"].tolist() == [1.0] * 4


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.scale * x


def test_parameters_that_no_seed_can_renew_ask_for_a_factory(storage):
    with pytest.raises(ValueError, match=r"0 \(Scaled\) has parameters but no reset_parameters\(\).*pass a factory"):
        quiet(nn.Sequential(Scaled(), nn.ReLU()), lambda model: 1.0, storage=storage)
    assert quiet(lambda: nn.Sequential(Scaled(), nn.ReLU()), lambda model: 1.0, ["tanh"], storage=storage, seeds=2)


def test_reparametrised_weights_ask_for_a_factory(storage):
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), nn.ReLU())
    with pytest.raises(ValueError, match=r"parametrizations.*pass a factory"):
        quiet(normed, lambda model: 1.0, storage=storage)


def test_the_activations_of_attention_start_as_torch_starts_them():
    from varphi.comparison.model import Source

    layer = nn.TransformerEncoderLayer(8, 2, 16)
    fresh = Source(layer).fresh(0)
    assert fresh.self_attn.out_proj.bias.eq(0).all() and fresh.self_attn.in_proj_bias.eq(0).all()


def test_the_same_comparison_gives_the_same_numbers(toys, tmp_path):
    runs = [
        quiet(toys.build, toys.train, ["tanh"], storage=tmp_path / name, seeds=3, measure="loss") for name in ("a", "b")
    ]
    assert runs[0].values("tanh").tolist() == runs[1].values("tanh").tolist()
    assert runs[0].health == runs[1].health


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(["tanh", "gelu", "softplus(beta=3)"]))
def test_the_order_of_activations_is_of_no_matter(toys, order):
    with tempfile.TemporaryDirectory() as folder:
        found = quiet(toys.build, toys.train, order, storage=Path(folder) / "a.db", seeds=2, measure="loss")
        alone = quiet(toys.build, toys.train, order[:1], storage=Path(folder) / "b.db", seeds=2, measure="loss")
    assert found.finished == ("relu", *order)
    for label in ("relu", order[0]):  # nor does it matter who else takes part
        assert found.values(label).tolist() == alone.values(label).tolist()


class Branching(nn.Module):
    """A forward that nobody can read without running it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        z = self.linear(x)
        return F.relu(z) if z.sum() > -1e9 else z


@pytest.mark.parametrize("inputs", [(), (torch.ones(2, 3),)])
def test_a_forward_that_depends_on_data(storage, inputs):
    def fit(model):
        loss = model(torch.randn(6, 3)).square().mean()
        loss.backward()
        return loss.item()

    found = quiet(Branching, fit, ["tanh"], storage=storage, seeds=2, inputs=inputs)
    torch.manual_seed(0)
    model = Branching()
    torch.manual_seed(0)
    x = torch.randn(6, 3)
    assert found.values("relu")[0] == pytest.approx(model(x).square().mean().item())
    assert found.values("tanh")[0] == pytest.approx(torch.tanh(model.linear(x)).square().mean().item())
    assert found.health[0].units == 3 and found.health[0].gradient.start > 0


# Going on -------------------------------------------------------------------------------------------------------------


def test_what_is_stored_is_not_trained_again(toys, storage, log):
    first = quiet(toys.build, toys.far_from_tanh, ["tanh"], storage=storage, seeds=3)
    assert len(log()) == 6
    again = quiet(toys.build, toys.far_from_tanh, ["tanh"], storage=storage, seeds=3)
    assert len(log()) == 6 and again.values("tanh").tolist() == first.values("tanh").tolist()
    quiet(toys.build, toys.train, ["tanh"], storage=storage, seeds=3, measure="loss")
    assert len(log()) == 12  # another training is another run


def test_ctrl_c_keeps_what_is_finished(toys, storage, log, monkeypatch):
    monkeypatch.setenv("STOP", "3")
    with pytest.raises(StudyInterrupted, match=r"3 of 6 trials.*the same command goes on"):
        quiet(toys.build, toys.interrupted, ["tanh"], storage=storage, seeds=3)
    assert len(log()) == 3
    monkeypatch.delenv("STOP")
    found = quiet(toys.build, toys.interrupted, ["tanh"], storage=storage, seeds=3)
    assert len(log()) == 6 and not found.failures and found.finished == ("relu", "tanh")


def test_other_code_is_another_run(toys, storage, log):
    def fit(model, factor):
        return factor * toys.far_from_tanh(model)

    for factor in (1.0, 2.0, 1.0):
        quiet(toys.build, functools.partial(fit, factor=factor), ["tanh"], storage=storage, seeds=2)
    assert len(log()) == 8  # two runs of four; the third was stored


# Failures -------------------------------------------------------------------------------------------------------------


def broken_for(toys, label, error):
    def fit(model, seed):
        if seed == 1 and model[1]._get_name() == label:
            raise error
        return toys.far_from_tanh(model)

    return fit


def test_an_activation_that_fails_is_shown_and_the_others_go_on(toys, storage, tmp_path):
    fit = broken_for(toys, "gelu", FloatingPointError("the loss is gone"))
    found = quiet(toys.build, fit, ["gelu", "tanh"], storage=storage, seeds=7)
    assert found.finished == ("relu", "tanh") and set(found.failures) == {"gelu"}
    (failure,) = found.failures["gelu"]
    assert failure.seeds == (1,) and "FloatingPointError: the loss is gone" in failure.traceback
    assert found.winners == ("tanh",) and [g.activation for g in found.gains] == ["tanh"]
    shown = str(found)
    assert "failed on 1 of 7 seeds" in shown and "the loss is gone" in shown
    assert "FloatingPointError: the loss is gone" in found.report(tmp_path / "page.html").read_text()
    assert found.to_dict()["failures"]["gelu"][0]["kind"] == "error"


def test_without_its_own_activation_a_model_has_no_baseline(toys, storage):
    found = quiet(toys.build, broken_for(toys, "ReLU", ValueError("no")), ["gelu", "tanh"], storage=storage, seeds=7)
    assert found.finished == ("gelu", "tanh") and found.winners == ("tanh",) and not found.gains
    assert "relu, the model's own activation, failed" in found.verdict.evidence
    assert "failed" in found.answer and all(math.isnan(cost.relative) for cost in found.costs)


@pytest.mark.parametrize("best", ["lowest", "highest"])
def test_a_training_that_diverges_is_worst(toys, storage, best):
    def fit(model):
        gone = model[1]._get_name() == "gelu"
        return math.nan if gone else toys.far_from_tanh(model) * (1 if best == "lowest" else -1)

    found = quiet(toys.build, fit, ["gelu", "tanh"], storage=storage, seeds=7, best=best)
    assert [p.name for p in found.ranking.places] == ["tanh", "relu", "gelu"]
    assert {g.activation: g.finding for g in found.gains} == {"gelu": "worse", "tanh": "better"}


def test_nan_and_infinity_in_the_model_are_counted(storage):
    def fit(model):
        with torch.no_grad():
            for x in (0.0, math.nan, math.inf, 1.0):
                model(torch.full((2, 1), x))
        return 1.0

    found = quiet(lambda: nn.Sequential(nn.Linear(1, 1), nn.ReLU()), fit, ["tanh"], storage=storage, seeds=2)
    cost = {c.activation: c for c in found.costs}
    assert cost["tanh"].nonfinite == 2  # NaN only: tanh of infinity is 1
    assert cost["relu"].nonfinite >= 2


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (None, "fit returned nothing"),
        ("0.3", "a str; a number is needed"),
        (True, "a bool; a number is needed"),
        (1j, "a complex; a number is needed"),
        (torch.zeros(3), "a Tensor; a number is needed"),
        ({"accuracy": 0.5}, "no measure 'result'; it returned 'accuracy'; name one with measure="),
        (-math.inf, "better than any number"),
        (math.nan, "NaN for every activation and seed"),
    ],
)
def test_a_fit_that_gives_no_measure_is_refused_after_one_training(toys, storage, returned, told):
    calls = []

    def fit(model):
        calls.append(model)
        return returned

    with pytest.raises(ValueError, match=told):
        quiet(toys.build, lambda model: fit(model), ["tanh"], storage=storage, seeds=2)
    assert len(calls) == (4 if isinstance(returned, float) and math.isnan(returned) else 1)


@pytest.mark.parametrize("returned", [2, 2.0, np.float32(2), np.array([2.0]), torch.tensor(2.0), torch.tensor([[2]])])
def test_numbers_of_every_kind_are_taken(toys, storage, returned):
    found = quiet(toys.build, functools.partial(_return, returned), ["tanh"], storage=storage, seeds=2)
    assert found.values("tanh").tolist() == [2.0, 2.0]


def _return(value, model):
    return value


REFUSED = {
    "no activation was found": {"model": lambda: nn.Linear(2, 2)},
    "must be a torch.nn.Module or a function": {"model": "resnet"},
    "must return a torch.nn.Module, got int": {"model": lambda: 3},
    "no activation 'rellu'. Did you mean 'relu'": {"activations": ["rellu"]},
    "nothing to compare the model's own 'relu' with": {"activations": ["relu", nn.ReLU()]},
    "'tanh' is given twice": {"activations": ["tanh", vp.get("tanh")]},
    "is a list of activations, got the text 'tanh'": {"activations": "tanh"},
    "has no parameter 'gamma'": {"activations": ["softplus(gamma=3)"]},
    "parameters of an activation are numbers": {"activations": ["softplus(beta=two)"]},
    "fit must be a function": {"fit": 3},
    r"will be called as fit\(model\), but it is fit\(\)": {"fit": lambda: 1.0},
    r"fit\(model, learning_rate=...\), but it is fit": {"tune": {"learning rate": (1e-3, 1.0)}},
    r"must be \(low, high\) or a Range": {"fit": lambda model, lr: 1.0, "tune": {"lr": 0.1}},
    "the lower first": {"fit": lambda model, lr: 1.0, "tune": {"lr": (1.0, 0.1)}},
    "best is 'lowest' or 'highest', got 'max'": {"best": "max"},
    "nothing is tuned": {"tune_by": "loss"},
    "needs at least one point": {"fit": lambda model, lr: 1.0, "tune": {"lr": (0.1, 1.0)}, "points": 0},
    "'training time' is taken": {"measure": ("loss", "training time")},
    "fit gets seed= already": {"fit": lambda model, seed: 1.0, "tune": {"seed": (0.1, 1.0)}},
    "fit gets learning_rate= already": {
        "fit": lambda model, learning_rate: 1.0,
        "tune": {"learning rate": (0.1, 1.0), "learning-rate": (0.1, 1.0)},
    },
    "at least 2 different seeds": {"seeds": 1},
    "no activation 'gelu' to replace; it has relu": {"replace": "gelu"},
    "other processes cannot be given this comparison": {"jobs": 2},
}


@pytest.mark.parametrize("told", REFUSED)
def test_what_cannot_be_compared_is_refused_before_any_training(toys, storage, log, told):
    options = {"model": toys.build, "fit": lambda model: toys.far_from_tanh(model), "activations": ["tanh"], "seeds": 2}
    with pytest.raises((TypeError, ValueError, LookupError), match=told):
        quiet(storage=storage, **(options | REFUSED[told]))
    assert log() == []


def test_of_several_activations_one_is_chosen(storage):
    def build():
        return nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.Sigmoid())

    with pytest.raises(ValueError, match=r"relu \(2×\), sigmoid \(1×\); say which is exchanged: replace='relu'"):
        quiet(build, lambda model: 1.0, ["tanh"], storage=storage, seeds=2)
    found = quiet(build, functools.partial(_return, 1.0), ["tanh"], storage=storage, seeds=2, replace="ReLU")
    assert [p.label for p in found.places] == ["1", "3"]
    found = quiet(build, functools.partial(_return, 1.0), ["tanh"], storage=storage, seeds=2, replace="sigmoid")
    assert [p.label for p in found.places] == ["5"] and found.baseline == "sigmoid"


# Tuning ---------------------------------------------------------------------------------------------------------------


def test_every_activation_tries_the_same_points_and_keeps_its_best(toys, storage, log):
    found = quiet(
        toys.build, toys.train, ["tanh"], storage=storage, seeds=3, measure=("closeness", "loss"), best="highest",
        tune={"learning rate": (1e-4, 1e-1)}, points=4,
    )  # fmt: skip
    rows = found.results.rows
    assert rows[0].points == rows[1].points and len(rows[0].points) == 4 and len(log()) == 2 * 3 * 4
    assert all(1e-4 <= point["learning rate"] <= 1e-1 for point in rows[0].points)
    for row in rows:
        medians = [np.sort(values)[1] for values in row.measures["closeness"]]  # of three seeds
        assert row.chosen == int(np.argmax(medians))
        assert found.values(row.setting["activation"]).tolist() == row.measures["closeness"][row.chosen].tolist()
        # Each point by hand.
        torch.manual_seed(2)
        model = toys.build()
        model[1] = vp.get(row.setting["activation"])
        torch.manual_seed(2)
        by_hand = toys.train(model, row.points[1]["learning rate"])["loss"]
        assert row.measures["loss"][1, 2] == pytest.approx(by_hand, rel=1e-6)
    assert "flatters" in str(found)  # by the measure that is shown


def test_points_are_chosen_by_the_measure_that_is_named(toys, storage):
    def fit(model, rate):
        return {"test": rate, "validation": abs(rate - 0.5)}

    found = quiet(
        toys.build, fit, ["tanh"], storage=storage, seeds=2, measure="test", tune={"rate": (0.0, 1.0)}, points=8,
        tune_by="validation",
    )  # fmt: skip
    for row in found.results.rows:
        rates = np.array([point["rate"] for point in row.points])
        assert row.point["rate"] == rates[np.argmin(abs(rates - 0.5))]
    assert "chosen by validation" in str(found).replace("\n", " ")


def test_a_point_that_raises_is_no_failure_of_the_activation(toys, storage):
    def fit(model, rate):
        if rate > 0.5:
            raise FloatingPointError("too fast")
        return rate

    with pytest.warns(UserWarning, match="FloatingPointError: too fast"):
        found = quiet(toys.build, fit, ["tanh"], storage=storage, seeds=2, tune={"rate": (0.1, 1.0)}, points=8)
    assert not found.failures and found.finished == ("relu", "tanh")
    assert np.isnan(found.results.rows[0].measures["result"]).any() and found.values("tanh").max() <= 0.5

    def never(model, rate):
        raise FloatingPointError("always too fast")

    with pytest.warns(UserWarning):
        found = quiet(toys.build, never, ["tanh"], storage=storage, seeds=2, tune={"rate": (0.1, 1.0)}, points=2)
    assert set(found.failures) == {"relu", "tanh"} and "always too fast" in found.failures["relu"][0].traceback


# Processes, data, pages -----------------------------------------------------------------------------------------------


def test_two_processes_give_the_numbers_of_one(toys, tmp_path, log):
    one = quiet(toys.build, toys.train, ["tanh", "softplus(beta=3)"], storage=tmp_path / "a", seeds=2, measure="loss")
    assert len(log()) == 6
    two = quiet(
        toys.build, toys.train, ["tanh", "softplus(beta=3)"], storage=tmp_path / "b", seeds=2, measure="loss", jobs=2
    )
    assert len(log()) == 12
    assert all(one.values(label).tolist() == two.values(label).tolist() for label in one.finished)


def test_what_was_found_is_data_text_and_a_page(toys, storage, tmp_path):
    found = quiet(toys.build, toys.train, ["tanh", "gelu"], storage=storage, seeds=7, measure=("loss", "draw"))
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["baseline"] == "relu" and data["measure"] == "loss" and len(data["health"]) == 3
    assert [row["activation"] for row in data["rows"]] == ["relu", "tanh", "gelu"]
    assert data["rows"][1]["loss"] == found.values("tanh").tolist()
    text = str(found)
    for told in ("gain over relu", "dead", "saturated", "gradient norm", "ns per element", "the model's own", "draw"):
        assert told in text, told
    page = found.report(tmp_path / "page.html").read_text()
    for told in ("Activations in build", "Gradient health", "Cost", "seed by seed", "<svg"):
        assert told in page, told
    assert "varphi study run" not in page  # no listed study repeats it
    assert repr(found).startswith("<Comparison of relu, tanh, gelu by loss")


def test_the_public_names():
    from varphi.comparison import Comparison, compare

    assert vp.compare is compare and vp.Comparison is Comparison
