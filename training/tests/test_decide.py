"""The decision algorithm on cases small enough to work out by hand. Run with `python -m unittest discover tests`."""

import unittest

import numpy as np

from millgate_training.certify import certify
from millgate_training.decide import Batch, Mixture, Rules, answering, choose, combine
from millgate_training.scores import ece

CLOUD = np.array([False, False, True])


def rules(**options):
    flat = np.tile([0.0, 1.0, 0.0], (3, 1))  # competence = the expert's own confidence
    return Rules(CLOUD, np.zeros(3), flat, **options)


class Choice(unittest.TestCase):
    def chosen(self, scores, prices=(0, 0, 0), available=(1, 1, 1), substitutes=()):
        r = rules(substitutes=list(substitutes))
        r.prices = np.array(prices, float)
        eligible = np.ones((1, 3), bool)
        sets = choose(np.array([scores], float), eligible, r)
        local, cloud = (answering(s, eligible, np.array(available, bool), r) for s in sets)
        return np.flatnonzero(local[0]).tolist(), np.flatnonzero(cloud[0]).tolist()

    def test_the_two_best_split_by_tier(self):
        self.assertEqual(self.chosen([2, 0, 1]), ([0], [2]))

    def test_a_tier_that_was_not_chosen_gives_its_best(self):
        self.assertEqual(self.chosen([2, 1, 0]), ([0, 1], [2]))

    def test_an_expert_that_is_away_is_replaced_by_its_substitute(self):
        self.assertEqual(self.chosen([2, 0, 1], available=(0, 1, 1), substitutes=[[1], [], []]), ([1], [2]))

    def test_an_outage_does_not_change_who_was_wanted(self):
        self.assertEqual(self.chosen([2, 0, 3], available=(1, 1, 0)), ([0], []))

    def test_ties_go_to_the_first(self):
        self.assertEqual(self.chosen([1, 1, 1]), ([0, 1], [2]))

    def test_a_price_moves_the_choice(self):
        self.assertEqual(self.chosen([2, 0, 1], prices=(0, 0, 5)), ([0, 1], [2]))


class Combination(unittest.TestCase):
    p = np.array([[[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]]])

    def test_weights_follow_competence(self):
        answer = combine(self.p, np.array([[0.5, 0.5, 0.5]]), np.array([[True, True, False]]), rules())
        np.testing.assert_allclose(answer.weights, [[0.5, 0.5, 0]])
        np.testing.assert_allclose(answer.p, [[0.6, 0.4]])
        np.testing.assert_allclose(answer.risk, [1 - 0.5 * 0.5])  # only the first agrees

    def test_a_light_expert_is_dropped(self):
        answer = combine(self.p, np.array([[0.9, 0.5, 0.5]]), np.array([[True, True, False]]), rules())
        np.testing.assert_allclose(answer.weights, [[1, 0, 0]])
        np.testing.assert_allclose(answer.risk, [0.1])

    def test_modes(self):
        batch = Batch(np.array([[2.0, 0.0, 1.0]]), self.p, np.ones((1, 3), bool))
        m = Mixture(batch, rules(thresholds={("deeppcb", 0.02): 0.2}))
        self.assertEqual(m.local.verdict.tolist(), [0])
        self.assertEqual(m.asks(np.array([0, 0]), 0.02).tolist(), [False])
        self.assertEqual(m.asks(np.array([0, 0]), 0.01).tolist(), [True])  # no threshold: always ask


class Certificate(unittest.TestCase):
    def test_no_errors(self):
        risk = np.linspace(0, 1, 500)
        self.assertEqual(certify(risk, np.zeros(500, bool), 0.02)[1:], (500, 0))

    def test_too_few_samples(self):
        self.assertIsNone(certify(np.linspace(0, 1, 140), np.zeros(140, bool), 0.02))

    def test_stops_at_the_first_failure(self):
        risk = np.linspace(0, 1, 1000)
        wrong = np.arange(1000) >= 900
        threshold, kept, errors = certify(risk, wrong, 0.02)
        self.assertTrue(900 <= kept < 930 and errors == kept - 900 and threshold < 0.94)


class Calibration(unittest.TestCase):
    def test_ece(self):
        self.assertAlmostEqual(ece(np.full(100, 0.9), np.arange(100) < 80), 0.1)


if __name__ == "__main__":
    unittest.main()
