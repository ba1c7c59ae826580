"""NumPy oracle of dendritic microcircuits: column vectors, one weight for each letter."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = list[np.ndarray]


def phi(u: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-u))


def slope(u: np.ndarray) -> np.ndarray:
    return phi(u) * (1 - phi(u))


class Microcircuit:
    """`W[k]` is `(n_{k+1}, n_k)`; `I[k]`, `T[k]`, `P[k]` belong to hidden layer `k + 1`."""

    def __init__(self, W: Arrays, I: Arrays, T: Arrays, P: Arrays, **numbers: float) -> None:  # noqa: E741
        self.W, self.I, self.T, self.P = W, I, T, P
        self.__dict__.update(numbers)

    numbers: Any = None

    def sweeps(
        self, x: np.ndarray, target: np.ndarray | None, literal: bool = False
    ) -> dict[str, Arrays]:
        """Compartments of the steady state, by a sweep up and one down."""
        N, lam, out, inter = len(self.W), self.lam, self.lam_out, self.lam_inter
        basal, up, r = [], [], x
        for k in range(N):
            basal.append(self.W[k] @ r)
            attenuated = k < N - 1 and not literal
            up.append((1 - lam) * basal[k] if attenuated else basal[k])
            r = phi(up[k])
        u: Arrays = [np.zeros(0)] * N
        u[N - 1] = basal[N - 1] if target is None else (1 - out) * basal[N - 1] + out * target
        vI, uI, apical = ([np.zeros(0)] * (N - 1) for _ in range(3))
        for k in reversed(range(N - 1)):
            vI[k] = self.I[k] @ phi(up[k])
            uI[k] = (1 - inter) * vI[k] + inter * u[k + 1]
            apical[k] = self.T[k] @ phi(u[k + 1]) + self.P[k] @ phi(uI[k])
            u[k] = (1 - lam) * basal[k] + lam * apical[k]
        return {"basal": basal, "soma": u, "apical": apical, "interneuron": uI, "dendrite": vI}

    def equations(
        self, x: np.ndarray, target: np.ndarray | None, steps: int, step: float, start: Any = None
    ) -> dict[str, Arrays]:
        """Compartments after Euler steps of the differential equations."""
        N, g = len(self.W), self.leak
        gA = self.lam * (g + self.g_basal) / (1 - self.lam)
        gT = self.lam_out * (g + self.g_basal) / (1 - self.lam_out)
        gI = self.lam_inter * (g + self.g_basal) / (1 - self.lam_inter)
        batch = x.shape[1]
        if start is None:
            u = [np.zeros((len(w), batch)) for w in self.W]
            uI = [np.zeros((len(w), batch)) for w in self.W[1:]]
        else:
            u, uI = start["soma"], start["interneuron"]

        def look(u: Arrays, uI: Arrays) -> tuple[Arrays, Arrays, Arrays]:
            r = [x, *(phi(each) for each in u)]
            basal = [self.W[k] @ r[k] for k in range(N)]
            vI = [self.I[k] @ r[k + 1] for k in range(N - 1)]
            apical = [self.T[k] @ r[k + 2] + self.P[k] @ phi(uI[k]) for k in range(N - 1)]
            return basal, vI, apical

        for _ in range(steps):
            basal, vI, apical = look(u, uI)
            after = []
            for k in range(N):
                flow = -g * u[k] + self.g_basal * (basal[k] - u[k])
                if k < N - 1:
                    flow = flow + gA * (apical[k] - u[k])
                elif target is not None:
                    flow = flow + gT * (target - u[k])
                after.append(u[k] + step * flow)
            uI = [
                uI[k]
                + step * (-g * uI[k] + self.g_basal * (vI[k] - uI[k]) + gI * (u[k + 1] - uI[k]))
                for k in range(N - 1)
            ]
            u = after
        basal, vI, apical = look(u, uI)
        return {"basal": basal, "soma": u, "apical": apical, "interneuron": uI, "dendrite": vI}

    def changes(self, x: np.ndarray, seen: dict[str, Arrays], conduction: float) -> Any:
        """Means over the batch of all four rules, over the mixing factors."""
        N, batch = len(self.W), x.shape[1]
        r = [x, *(phi(u) for u in seen["soma"])]
        found: dict[str, Arrays] = {"W": [], "I": [], "T": [], "P": []}
        for k in range(N):
            share = conduction * (1.0 if k == N - 1 else 1 - self.lam)
            error = r[k + 1] - phi(share * seen["basal"][k])
            factor = self.lam_out * self.lam ** (N - 1 - k)
            found["W"].append(error @ r[k].T / batch / factor)
        for k in range(N - 1):
            rI = phi(seen["interneuron"][k])
            error = rI - phi(conduction * seen["dendrite"][k])
            found["I"].append(error @ r[k + 1].T / batch / self.lam_inter)
            found["P"].append(-seen["apical"][k] @ rI.T / batch)
            error = r[k + 1] - phi(self.T[k] @ r[k + 2])
            found["T"].append(error @ r[k + 2].T / batch)
        return found


def backprop(x: np.ndarray, target: np.ndarray, W: Arrays, shares: list[float]) -> Any:
    """Changes in the paper's form, and the errors at the apical dendrites.

    `shares` attenuate the fields; 1 is the ordinary network.
    """
    u, r = [], [x]
    for w, share in zip(W, shares, strict=True):
        u.append(share * (w @ r[-1]))
        r.append(phi(u[-1]))
    delta = slope(u[-1]) * (target - u[-1])
    changes, apical = [], []
    for k in reversed(range(len(W))):
        changes.insert(0, delta @ r[k].T / x.shape[1])
        if k:
            apical.insert(0, W[k].T @ delta)
            delta = slope(u[k - 1]) * apical[0]
    return changes, apical
