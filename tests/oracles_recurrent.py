"""Recurrent cells in NumPy, by loops over time: forward, backward with feedback kernels, traces."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def simple_step(p: dict[str, Array], x: Array, h: Array) -> dict[str, Array]:
    u = x @ p["w"] + h @ p["u"] + p["b"]
    return {"x": x, "h_": h, "h": np.tanh(u)}


def simple_back(p: dict[str, Array], s: dict[str, Array], dh: Array) -> dict[str, Array]:
    d = dh * (1.0 - s["h"] ** 2)
    return {"fields": d, "messages": d, "h": np.zeros_like(dh)}


def leaky_step(p: dict[str, Array], x: Array, h: Array) -> dict[str, Array]:
    f = np.tanh(x @ p["w"] + h @ p["u"] + p["b"])
    return {"x": x, "h_": h, "f": f, "h": (1 - 1 / p["tau"]) * h + f / p["tau"]}


def leaky_back(p: dict[str, Array], s: dict[str, Array], dh: Array) -> dict[str, Array]:
    d = dh * (1.0 - s["f"] ** 2) / p["tau"]
    return {"fields": d, "messages": d, "h": (1 - 1 / p["tau"]) * dh}


def lstm_step(p: dict[str, Array], x: Array, h: Array, c: Array) -> dict[str, Array]:
    z = x @ p["w"] + h @ p["u"] + p["b"]
    zi, zf, zg, zo = np.split(z, 4, axis=-1)
    i, f, g, o = sigmoid(zi), sigmoid(zf), np.tanh(zg), sigmoid(zo)
    new = f * c + i * g
    return dict(x=x, h_=h, c_=c, i=i, f=f, g=g, o=o, c=new, h=o * np.tanh(new))


def lstm_back(p: dict[str, Array], s: dict[str, Array], dh: Array, dc: Array) -> dict[str, Array]:
    t = np.tanh(s["c"])
    dc = dc + dh * s["o"] * (1 - t**2)
    d = np.concatenate(
        [
            dc * s["g"] * s["i"] * (1 - s["i"]),
            dc * s["c_"] * s["f"] * (1 - s["f"]),
            dc * s["i"] * (1 - s["g"] ** 2),
            dh * t * s["o"] * (1 - s["o"]),
        ],
        axis=-1,
    )
    return {"fields": d, "messages": d, "h": np.zeros_like(dh), "c": dc * s["f"]}


def gru_step(p: dict[str, Array], x: Array, h: Array) -> dict[str, Array]:
    """`reset_after=True`: the second row of the bias is inside of the reset."""
    a, r_ = x @ p["w"] + p["b"][0], h @ p["u"] + p["b"][1]
    az, ar, ah = np.split(a, 3, axis=-1)
    rz, rr, rh = np.split(r_, 3, axis=-1)
    z, r = sigmoid(az + rz), sigmoid(ar + rr)
    hh = np.tanh(ah + r * rh)
    return dict(x=x, h_=h, z=z, r=r, rh=rh, hh=hh, h=z * h + (1 - z) * hh)


def gru_back(p: dict[str, Array], s: dict[str, Array], dh: Array) -> dict[str, Array]:
    dz = dh * (s["h_"] - s["hh"]) * s["z"] * (1 - s["z"])
    da = dh * (1 - s["z"]) * (1 - s["hh"] ** 2)
    dr = da * s["rh"] * s["r"] * (1 - s["r"])
    fields = np.concatenate([dz, dr, da], axis=-1)
    messages = np.concatenate([dz, dr, da * s["r"]], axis=-1)
    return {"fields": fields, "messages": messages, "h": dh * s["z"]}


def gru_before_step(p: dict[str, Array], x: Array, h: Array) -> dict[str, Array]:
    """`reset_after=False`: two messages, h and r h."""
    n = h.shape[-1]
    a = x @ p["w"] + p["b"]
    first = h @ p["u"][:, : 2 * n]
    z, r = sigmoid(a[:, :n] + first[:, :n]), sigmoid(a[:, n : 2 * n] + first[:, n:])
    hh = np.tanh(a[:, 2 * n :] + (r * h) @ p["u"][:, 2 * n :])
    return dict(x=x, h_=h, z=z, r=r, hh=hh, h=z * h + (1 - z) * hh)


def gru_before_back(p: dict[str, Array], s: dict[str, Array], dh: Array) -> dict[str, Array]:
    n = dh.shape[-1]
    dz = dh * (s["h_"] - s["hh"]) * s["z"] * (1 - s["z"])
    da = dh * (1 - s["z"]) * (1 - s["hh"] ** 2)
    second = da @ p["bu"][:, 2 * n :].T  # at the message r h
    dr = second * s["h_"] * s["r"] * (1 - s["r"])
    fields = np.concatenate([dz, dr, da], axis=-1)
    # The last columns are done with here.
    own = dh * s["z"] + second * s["r"]
    return {
        "fields": fields,
        "messages": np.concatenate([dz, dr, np.zeros_like(da)], axis=-1),
        "h": own,
        "u": np.concatenate([s["h_"].T @ dz, s["h_"].T @ dr, (s["r"] * s["h_"]).T @ da], axis=-1),
    }


CELLS: dict[str, tuple[Any, Any, int]] = {
    "simple": (simple_step, simple_back, 1),
    "leaky": (leaky_step, leaky_back, 1),
    "lstm": (lstm_step, lstm_back, 4),
    "gru": (gru_step, gru_back, 3),
    "gru_before": (gru_before_step, gru_before_back, 3),
}


def run(kind: str, p: dict[str, Array], x: Array, mask: Array | None = None) -> list[Any]:
    """The states of all steps; x is `(batch, time, n)`; a masked step keeps the state."""
    step = CELLS[kind][0]
    n = p["u"].shape[0]
    state = [np.zeros((len(x), n))] * (2 if kind == "lstm" else 1)
    seen = []
    for t in range(x.shape[1]):
        s = step(p, x[:, t], *state)
        s["m"] = np.ones((len(x), 1)) if mask is None else mask[:, t, None].astype(float)
        new = [s["h"], s["c"]] if kind == "lstm" else [s["h"]]
        state = [s["m"] * a + (1 - s["m"]) * b for a, b in zip(new, state, strict=True)]
        s["out"] = state[0]
        seen.append(s)
    return seen


def backward(
    kind: str, p: dict[str, Array], seen: list[Any], errors: Array, cross: bool = True
) -> dict[str, Array]:
    """Gradients for the errors `(batch, time, n)` at the outputs, through `bw` and `bu`.

    Without `cross` no error returns through recurrent synapses. Under "signals" are the errors that
    arrive at the messages of each step, from above and through recurrent synapses.
    """
    back = CELLS[kind][1]
    found = {"w": np.zeros_like(p["w"]), "u": np.zeros_like(p["u"]), "b": np.zeros_like(p["b"])}
    below, signals, sent = [], [], np.zeros_like(errors[:, 0])
    carry = {"h": np.zeros_like(errors[:, 0])}
    if kind == "lstm":
        carry["c"] = np.zeros_like(errors[:, 0])
    for t in reversed(range(len(seen))):
        s = seen[t]
        signals.append(errors[:, t] + sent)
        carry["h"] = carry["h"] + errors[:, t]
        now = {name: s["m"] * value for name, value in carry.items()}
        kept = {name: (1 - s["m"]) * value for name, value in carry.items()}
        d = back(p, s, *now.values())
        below.append(d["fields"] @ p["bw"].T)
        found["w"] += s["x"].T @ d["fields"]
        found["u"] += d["u"] if "u" in d else s["h_"].T @ d["messages"]
        if found["b"].ndim == 2:
            found["b"] += np.stack([d["fields"].sum(0), d["messages"].sum(0)])
        else:
            found["b"] += d["fields"].sum(0)
        carry = {name: d[name] + kept[name] for name in carry}
        if cross:
            sent = d["messages"] @ p["bu"].T
            carry["h"] = carry["h"] + sent
    found["x"] = np.stack(below[::-1], axis=1)
    found["signals"] = np.stack(signals[::-1], axis=1)
    return found


def traces(kind: str, p: dict[str, Array], seen: list[Any], signals: Array) -> dict[str, Array]:
    """`sum_t L_t e_t` online, forwards in time: a trace for each example and synapse.

    `signals` are the L of all steps, `(batch, time, units)`.
    """
    batch, n = seen[0]["h"].shape
    found: dict[str, Array] = {}
    for name, presynaptic in (
        ("w", lambda s: s["x"]),
        ("u", lambda s: s["h_"]),
        ("b", lambda s: np.ones((batch, 1))),
    ):
        inputs = presynaptic(seen[0]).shape[1]
        gates = CELLS[kind][2]
        eps = np.zeros((gates, batch, inputs, n))
        total = np.zeros((gates, inputs, n))
        for t, s in enumerate(seen):
            pre = presynaptic(s)[:, :, None]
            if kind == "lstm":
                factors = [
                    s["g"] * s["i"] * (1 - s["i"]),
                    s["c_"] * s["f"] * (1 - s["f"]),
                    s["i"] * (1 - s["g"] ** 2),
                ]
                for k, factor in enumerate(factors):
                    eps[k] = s["f"][:, None] * eps[k] + factor[:, None] * pre
                tc = np.tanh(s["c"])
                gain = s["o"] * (1 - tc**2)
                e = [gain[:, None] * eps[k] for k in range(3)]
                e.append((tc * s["o"] * (1 - s["o"]))[:, None] * pre)
            elif kind == "gru":
                k_ = (1 - s["z"]) * (1 - s["hh"] ** 2)
                factors = [
                    (s["h_"] - s["hh"]) * s["z"] * (1 - s["z"]),
                    k_ * s["rh"] * s["r"] * (1 - s["r"]),
                    k_ * s["r"] if name == "u" else k_,
                ]
                for k, factor in enumerate(factors):
                    eps[k] = s["z"][:, None] * eps[k] + factor[:, None] * pre
                e = list(eps)
            elif kind == "leaky":
                slope = (1 - s["f"] ** 2) / p["tau"]
                eps[0] = (1 - 1 / p["tau"]) * eps[0] + slope[:, None] * pre
                e = list(eps)
            else:
                eps[0] = (1 - s["h"] ** 2)[:, None] * pre
                e = list(eps)
            total += np.stack([np.einsum("bj,bij->ij", signals[:, t], each) for each in e])
        found[name] = np.concatenate(list(total), axis=-1)
    found["b"] = found["b"][0]
    return found


def snap1(p: dict[str, Array], seen: list[Any], signals: Array, leak: float) -> dict[str, Array]:
    """The same for a simple (`leak` 0) or leaky cell whose trace knows the unit's own synapse."""
    batch, n = seen[0]["h"].shape
    rate = 1.0 - leak
    found = {}
    for name, presynaptic in (("w", lambda s: s["x"]), ("u", lambda s: s["h_"])):
        eps = np.zeros((batch, presynaptic(seen[0]).shape[1], n))
        total = np.zeros(eps.shape[1:])
        for t, s in enumerate(seen):
            slope = rate * (1 - (s["f"] if "f" in s else s["h"]) ** 2)
            factor = leak + slope * np.diag(p["u"])
            eps = factor[:, None] * eps + slope[:, None] * presynaptic(s)[:, :, None]
            total += np.einsum("bj,bij->ij", signals[:, t], eps)
        found[name] = total
    return found


def rtrl(p: dict[str, Array], x: Array, signals: Array, tau: float) -> dict[str, Array]:
    """Real-time recurrent learning of a leaky cell: all influences, forwards in time."""
    batch, n = len(x), p["u"].shape[0]
    inputs = x.shape[2]
    h = np.zeros((batch, n))
    influence = {"w": np.zeros((batch, n, inputs, n)), "u": np.zeros((batch, n, n, n))}
    total = {"w": np.zeros((inputs, n)), "u": np.zeros((n, n))}
    for t in range(x.shape[1]):
        f = np.tanh(x[:, t] @ p["w"] + h @ p["u"] + p["b"])
        slope = (1 - f**2) / tau
        jacobian = (1 - 1 / tau) * np.eye(n)[None] + slope[:, :, None] * p["u"].T[None]
        for name, pre in (("w", x[:, t]), ("u", h)):
            own = np.einsum("bk,bi,jk->bkij", slope, pre, np.eye(n))
            influence[name] = np.einsum("bkl,blij->bkij", jacobian, influence[name]) + own
            total[name] += np.einsum("bk,bkij->ij", signals[:, t], influence[name])
        h = (1 - 1 / tau) * h + f / tau
    return total
