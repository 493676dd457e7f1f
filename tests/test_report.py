import numpy as np

from siamjax import report


def test_of_each_two_identities_the_worst_mistake_is_shown():
    beyond = np.array([0.1, 0.9, 0.5, 0.7, 0.8, 0.2])
    identities = np.array([[1, 2], [2, 1], [1, 2], [3, 4], [5, 6], [4, 5]])
    wrong = np.array([True, True, True, True, False, True])
    assert report.worst_of_each(beyond, wrong, identities).tolist() == [1, 3, 5]
