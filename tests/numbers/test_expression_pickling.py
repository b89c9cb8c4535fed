import copy
import pickle

from varphi.numbers import tanh, variable


def test_deep_expressions_are_pickled_and_copied_to_the_same_node():
    deep = variable("x")
    for _ in range(5000):
        deep = tanh(deep) / 3
    assert pickle.loads(pickle.dumps(deep)) is deep
    assert copy.deepcopy(deep) is deep


def test_an_expression_is_rebuilt_where_it_was_not_known():
    text = pickle.dumps(tanh(variable("x") * 0.123456789) + 7)
    rebuilt = pickle.loads(text)
    assert rebuilt.digest == (tanh(variable("x") * 0.123456789) + 7).digest
