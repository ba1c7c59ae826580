"""Where each classical rule ends, by theory or by another way to compute it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from keras_local.constraints import Orthogonal
from keras_local.plasticity import (
    BCM,
    HPCA,
    KWTA,
    Convallis,
    Hebb,
    NonlinearHebbian,
    Oja,
    OjaSubspace,
    PlasticityRule,
    Sanger,
    SimilarityMatching,
)
from tests.plasticity.settle import settle
from tests.support import BACKEND, array, probe


class TestPrincipalComponents:
    """A Gaussian in ten dimensions with variances from 5 to 0.2, centred; all samples a step."""

    @staticmethod
    def data() -> tuple[np.ndarray, np.ndarray]:
        """The samples as one batch, and their principal directions in falling order."""
        rng = np.random.default_rng(0)
        turn, _ = np.linalg.qr(rng.normal(size=(10, 10)))
        x = rng.normal(size=(300, 10)) * np.sqrt(np.linspace(5.0, 0.2, 10)) @ turn.T
        x -= x.mean(axis=0)
        return x[None], np.linalg.eigh(x.T @ x)[1][:, ::-1]

    def run(self, rule: PlasticityRule, units: int, steps: int, size: float = 0.1) -> Any:
        x, directions = self.data()
        start = size * np.random.default_rng(1).normal(size=(10, units))
        return directions, *settle(rule, x, start, 0.05, steps)

    def test_oja_is_the_first(self) -> None:
        directions, kernel = self.run(Oja(), 3, 1000)
        np.testing.assert_allclose(np.abs(directions[:, 0] @ kernel), 1.0, atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1.0, atol=1e-4)

    @pytest.mark.slow
    def test_sanger_orders_them(self) -> None:
        directions, kernel = self.run(Sanger(), 4, 1500)
        cosines = np.abs(np.sum(directions[:, :4] * kernel, axis=0))
        np.testing.assert_allclose(cosines, 1.0, atol=1e-4)
        np.testing.assert_allclose(kernel.T @ kernel, np.eye(4), atol=1e-3)

    def test_oja_subspace_spans_them_unordered(self) -> None:
        directions, kernel = self.run(OjaSubspace(), 4, 1000)
        projector = directions[:, :4] @ directions[:, :4].T
        np.testing.assert_allclose(kernel @ kernel.T, projector, atol=7e-3)
        np.testing.assert_allclose(kernel.T @ kernel, np.eye(4), atol=1e-3)
        assert np.max(np.abs(np.sum(directions[:, :4] * kernel, axis=0))) < 0.99

    def test_similarity_matching_spans_them(self) -> None:
        directions, kernel, lateral = self.run(SimilarityMatching(), 3, 800, size=0.3)
        filters = kernel @ np.linalg.inv(lateral).T
        np.testing.assert_allclose(filters.T @ filters, np.eye(3), atol=1e-3)
        projector = directions[:, :3] @ directions[:, :3].T
        np.testing.assert_allclose(filters @ filters.T, projector, atol=5e-3)
        assert np.max(np.abs(lateral - np.eye(3))) > 0.5

    def test_hebb_follows_the_first_without_bound(self) -> None:
        directions, kernel = self.run(Hebb(), 3, 300)
        cosines = directions[:, 0] @ kernel / np.linalg.norm(kernel, axis=0)
        assert np.all(np.abs(cosines) > 0.95)
        assert np.linalg.norm(kernel) > 10.0


def test_linear_hpca_is_sanger_over_the_root_of_the_inputs() -> None:
    tensor = keras.ops.convert_to_tensor
    x, w = tensor(probe((12, 9))), tensor(probe((9, 4), 1))
    ours = array(HPCA("linear").update(x, w))
    np.testing.assert_allclose(3.0 * ours, array(Sanger().update(x, w)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bounded", [True, False])
def test_bcm_answers_to_one_pattern(bounded: bool) -> None:
    """Four independent patterns, each with probability 1/4: response 4 to one, 0 to the others."""
    rng = np.random.default_rng(0)
    patterns = np.abs(rng.normal(size=(4, 8)))
    patterns /= np.linalg.norm(patterns, axis=1, keepdims=True)
    start = 0.1 * np.abs(rng.normal(size=(8, 6)))
    rule = BCM(threshold_rate=0.1, bounded=bounded)
    kernel, threshold = settle(rule, patterns[None], start, 0.05, 6000, decay=False)
    responses = np.sort(np.maximum(patterns @ kernel, 0.0), axis=0)
    np.testing.assert_allclose(responses[-1], 4.0, rtol=0.1)
    assert np.all(responses[-2] < 0.4)
    np.testing.assert_allclose(threshold, 4.0, rtol=0.1)


def test_kwta_is_k_means() -> None:
    """One winner: every unit ends in the mean of what it wins."""
    rng = np.random.default_rng(0)
    centres = 3.0 * np.eye(4)
    x = centres[np.arange(80) % 4] + 0.3 * rng.normal(size=(80, 4))
    start = centres + 0.5 * rng.normal(size=(4, 4))
    (kernel,) = settle(KWTA(1), x[None], start.T, 0.2, 200)
    means = np.array([x[i::4].mean(axis=0) for i in range(4)])
    np.testing.assert_allclose(kernel.T, means, atol=1e-4)


class TestProjectionPursuit:
    """Two heavy-tailed sources among ten, mixed and made white again: who finds them?"""

    @staticmethod
    def mixture(white: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Batches, the directions of the two sources, and the first principal component."""
        rng = np.random.default_rng(0)
        sources = rng.normal(size=(20000, 10))
        sources[:, :2] = rng.laplace(size=(20000, 2)) / np.sqrt(2.0)
        mixing = rng.normal(size=(10, 10))
        x = sources @ mixing.T
        x -= x.mean(axis=0)
        values, vectors = np.linalg.eigh(x.T @ x / len(x))
        if white:
            whitening = vectors @ np.diag(values**-0.5) @ vectors.T
            x, mixing = x @ whitening, whitening @ mixing
        directions = mixing[:, :2] / np.linalg.norm(mixing[:, :2], axis=0)
        return x.reshape(100, 200, 10), directions, vectors[:, -1]

    def best(self, nonlinearity: str, modulator: float = 1.0) -> float:
        """The largest cosine of one of 16 units with one of the two sources."""
        batches, directions, _ = self.mixture()
        start = np.random.default_rng(1).normal(size=(10, 16))
        start /= np.linalg.norm(start, axis=0)
        rule = NonlinearHebbian(nonlinearity)
        (kernel,) = settle(rule, batches, start, 0.05, 10, modulator=modulator)
        return float(np.max(np.abs(directions.T @ kernel)))

    @pytest.mark.parametrize("f", ["cubic", "squared_relu", "quadratic", "sparse_coding", "bcm"])
    def test_heavy_tails_are_found(self, f: str) -> None:
        assert self.best(f) > 0.95

    def test_a_linear_unit_selects_nothing(self) -> None:
        assert self.best("linear") < 0.9

    def test_the_wrong_sign_avoids_them(self) -> None:
        assert self.best("cubic", modulator=-1.0) < 0.4

    def test_without_whitening_variance_decides(self) -> None:
        batches, _, first = self.mixture(white=False)
        start = np.random.default_rng(1).normal(size=(10, 2))
        (kernel,) = settle(NonlinearHebbian("cubic"), batches, start, 0.01, 4)
        np.testing.assert_allclose(np.abs(first @ kernel), 1.0, atol=0.02)

    def test_orthogonal_units_share_the_sources(self) -> None:
        batches, directions, _ = self.mixture()
        start, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(10, 2)))
        rule = NonlinearHebbian("cubic", constraint=Orthogonal())
        (kernel,) = settle(rule, batches, start, 0.05, 6)
        cosines = np.sort(np.abs(directions.T @ kernel), axis=0)
        assert np.all(cosines[1] > 0.95)
        assert np.all(cosines[0] < 0.2)


@pytest.mark.skipif(BACKEND == "jax", reason="a constraint with a memory")
class TestConvallis:
    """Two groups of ten inputs that are active in turn, drawn anew for each step."""

    def run(self, rule: PlasticityRule) -> tuple[np.ndarray, np.ndarray]:
        """The mean weight of each group, and the potential to each, for one unit."""
        rng = np.random.default_rng(0)
        active = np.repeat(np.eye(2), 10, axis=1)
        x = active[np.arange(20) % 2] * rng.uniform(0.5, 1.5, size=(50, 20, 20))
        start = rng.uniform(0.02, 0.08, size=(20, 1))
        kernel = settle(rule, x, start, 0.02, 40, decay=False)[0]
        return kernel.reshape(2, 10).mean(axis=1), np.sort((active @ kernel)[:, 0])

    def test_one_assembly_wins(self) -> None:
        weights, potentials = self.run(Convallis())
        low, high = np.sort(weights)
        assert (high - low) / (high + low) > 0.5
        assert potentials[1] > 0.8
        assert 1.1 < potentials[1] + potentials[0] < 1.5

    def test_the_rate_constraint_alone_selects_nothing(self) -> None:
        weights, potentials = self.run(Silent())
        low, high = np.sort(weights)
        assert (high - low) / (high + low) < 0.1
        assert potentials[1] - potentials[0] < 0.2


class Silent(Convallis):
    """The same constraint, and no learning."""

    def gains(self, post: Any, *own: Any) -> Any:
        return 0.0 * post


LOW, HIGH = 0.5, 1.5
FUNCTIONS = {
    "linear": lambda u: u,
    "relu": lambda u: max(u - LOW, 0.0),
    "squared_relu": lambda u: max(u - LOW, 0.0) ** 2,
    "quadratic": lambda u: max(u - LOW, 0.0) * (u - HIGH),
    "cubic": lambda u: u**3,
    "sigmoid": lambda u: 1.0 / (1.0 + np.exp(-u)),
    "sparse_coding": lambda u: u - np.tanh(u),
    "soft_threshold": lambda u: np.sign(u) * max(abs(u) - LOW, 0.0),
    "bcm": lambda u: max(u, 0.0) * (u - LOW),
}


@pytest.mark.parametrize("nonlinearity", FUNCTIONS)
def test_nonlinearities_are_those_of_their_table(nonlinearity: Any) -> None:
    currents = [-2.0, -0.7, -0.3, 0.0, 0.2, 0.6, 1.2, 1.7, 3.0]
    tensor = keras.ops.convert_to_tensor(np.array([currents], "float32"))
    found = array(NonlinearHebbian(nonlinearity, LOW, HIGH).gains(tensor))
    wanted = [FUNCTIONS[nonlinearity](u) for u in currents]
    np.testing.assert_allclose(found[0], wanted, rtol=1e-5, atol=1e-7)
