"""The study `certified`: its data, its networks, a run from end to end, its figures; and the example."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from varphi.study import api
from varphi.systems.certified.data import digits, split
from varphi.systems.certified.study import CLAIMS, STUDY, _spearman
from varphi.systems.certified.training import CNN, EQUAL_ACCURACY, EQUAL_WEIGHTS, MLP, network, shaped, trained
from varphi.systems.certified.trial import ALL, FEW, FEW_METHODS, INF, INF_METHODS, METHODS, certified

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "certified.py"


def test_a_split_holds_every_image_once_and_is_the_same_in_every_company():
    x, y = digits()
    assert x.shape == (1797, 64) and x.min() == 0 and x.max() == 1 and set(y.tolist()) == set(range(10))
    alone, company = split([7]), split([3, 7])
    assert torch.equal(alone.fit.x[0], company.fit.x[1]) and torch.equal(alone.held_out.y[0], company.held_out.y[1])
    assert [len(part.y[0]) for part in alone] == [1200, 200, 397]
    together = torch.cat([part.x[0] for part in alone])
    assert torch.equal(together.sum(1).sort().values, x.sum(1).sort().values)


@pytest.mark.parametrize("net", [MLP, CNN])
def test_equal_weights_are_those_of_relu(net):
    relu = trained(net, "relu", EQUAL_ACCURACY, (0, 1), 1)
    other = trained(net, "sigmoid", EQUAL_WEIGHTS, (0, 1), 1)
    for a, b in zip(relu.models, other.models, strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.equal(p, q)
    x = shaped(net, split([0]).held_out.x[0])
    assert not torch.equal(relu.models[0](x), other.models[0](x)) and not relu.models[0].training


def test_training_stops_where_the_accuracy_is_reached():
    found = trained(MLP, "relu", EQUAL_ACCURACY, (0, 1), 40)
    assert all(found.reached) and all(0 < e < 40 for e in found.epochs)
    data = split([0, 1])
    for i, model in enumerate(found.models):
        right = (model(data.validation.x[i]).argmax(1) == data.validation.y[i]).float().mean()
        assert 0.95 <= right < 0.99


def test_a_constrained_network_is_of_the_same_shape():
    x = torch.rand(2, 64)
    for net in (MLP, CNN):
        plain, constrained = network(net, "gelu"), network(net, "gelu", constrained=True)
        assert plain(shaped(net, x)).shape == constrained(shaped(net, x)).shape == (2, 10)
        count = [sum(p.numel() for p in m.parameters()) for m in (plain, constrained)]
        assert count[0] == count[1] and isinstance(plain[-1], nn.Linear)


def test_rank_correlation():
    assert _spearman(np.array([1.0, 5, 2]), np.array([10.0, 12, 11])) == pytest.approx(1)
    assert _spearman(np.array([1.0, 5, 2]), np.array([3.0, 1, 2])) == pytest.approx(-1)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    where = tmp_path_factory.mktemp("certified") / "smoke.db"
    return api.run(STUDY, storage=where, size="smoke", progress=False)


def test_a_run_from_end_to_end(smoke):
    assert not smoke.missing and not smoke.errors and len(smoke.rows) == 6
    for row in smoke.rows:
        assert (row.values("lipschitz_layered") <= row.values("lipschitz_product") * (1 + 1e-6)).all()
        assert (row.values("lipschitz_attained") <= row.values("lipschitz_layered")).all()
        for curve in row.curves.values():
            assert (np.diff(curve, axis=-1) <= 0).all() and curve.max() <= 1
        for which, methods in ((ALL, METHODS), (INF, INF_METHODS), (FEW, FEW_METHODS)):
            limit = row.values(f"{which}attacked")
            known = ~np.isnan(limit)
            for method in methods:
                radius = row.values(f"{which}radius_{method}")
                assert (np.isnan(radius) == ~known).all() and (radius[known] <= limit[known]).all()
    assert smoke.values("epochs", net=MLP, training=EQUAL_WEIGHTS, activation="sigmoid").max() <= 4


def test_the_dear_methods_are_asked_about_the_first_images_that_are_classified_correctly():
    model = trained(MLP, "relu", EQUAL_ACCURACY, (0, 1), 4).models[0]
    held_out = split([0, 1]).held_out
    x, right = held_out.x[0, :4], model(held_out.x[0, :4]).argmax(1)
    labels = torch.where(torch.tensor([True, False, False, False]), (right + 1) % 10, right)
    measures, _ = certified(model, x, labels, 1, 5)
    alone, _ = certified(model, x[1:2], right[1:2], 1, 5)
    for name in ("attacked", "radius_crown", "radius_local-lipschitz"):
        assert measures[f"few_{name}"] == pytest.approx(alone[f"few_{name}"], rel=1e-9)
    assert measures["few_radius_crown-split"] >= measures["few_radius_crown"]
    nothing, curves = certified(model, x[:1], labels[:1], 1, 5)
    assert set(nothing) == set(measures) and np.isnan(nothing["few_radius_alpha-crown"])
    assert not curves["crown"].any()


def test_every_claim_is_judged_and_two_need_no_seeds(smoke):
    verdicts = dict(zip([c.name for c in CLAIMS], smoke.verdicts, strict=True))
    assert verdicts["the product over the layers bounds the network"].status == "supported"
    assert verdicts["sup|f'| is 0.25 for the sigmoid, 1 for ReLU"].status == "supported"
    assert verdicts["its certified radius is larger"].status == "not enough seeds"
    assert "At equal accuracy" in smoke.answer


def test_the_figures(smoke):
    found = STUDY.figures(smoke)
    assert len(found) == 7 and all(f.drawing.axes for f in found)


def test_the_example(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    told = capsys.readouterr().out
    assert "of the way is proved" in told and "Lipschitz constant (L2, all inputs)" in told
