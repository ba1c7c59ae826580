"""One train step of BioTorch 0.0.16 beside plain torch on the nets of `feedback_step`.

    python -m pip install --no-deps biotorch==0.0.16
    python -m benchmarks.biotorch_step [--net mlp conv] [--rules fa usf dfa] [--rounds 15]

BioTorch is another package with feedback rules (Apache-2.0). It needs torch alone for what is timed
here; `--no-deps` leaves out its other requirements and leaves torch as it is installed. Ratios of
this package on the same nets, to stock Keras layers on TensorFlow, come from

    python -m benchmarks.feedback_step --rules all --optimizer momentum

Each ratio is to backpropagation in its own framework, so compare ratios and not times, and give
both frameworks as many threads: torch has two here (`--threads`), and TensorFlow takes every core
it may run on, so put `taskset -c 0,1` before both commands where there are more. Eager, on a fixed
batch, SGD with momentum 0.9. Ratios are medians over interleaved rounds, with quartiles.

All three rules run on torch 2.13. For `dfa` torch warns of a deprecated kind of hook, which still
acts. `dfa` of BioTorch computes the error of backpropagation too and throws it away, and in a
convolution it sends the error back through one kernel for each class that all positions share.
"""

from __future__ import annotations

import argparse
import contextlib
import io

from benchmarks._rounds import interleaved, ratio

try:
    import torch
    from biotorch.module.biomodule import BioModule
except ImportError as error:
    raise SystemExit(
        f"{error}. This benchmark needs torch and BioTorch: "
        "python -m pip install --no-deps biotorch==0.0.16"
    ) from error

RULES = {"fa": "feedback alignment", "usf": "sign symmetry", "dfa": "direct feedback"}


def mlp():
    """Return 3072-1024-1024-10, the input shape and the batch size."""
    layers = [
        torch.nn.Linear(3072, 1024),
        torch.nn.ReLU(),
        torch.nn.Linear(1024, 1024),
        torch.nn.ReLU(),
        torch.nn.Linear(1024, 10),
    ]
    return torch.nn.Sequential(*layers), (3072,), 128


def conv():
    """Return three 3x3 convolutions of 64 channels on 32x32x3, the input shape, the batch size."""
    layers = []
    for channels in (3, 64, 64):
        layers += [torch.nn.Conv2d(channels, 64, 3, padding=1), torch.nn.ReLU()]
    layers += [torch.nn.Flatten(), torch.nn.Linear(64 * 32 * 32, 10)]
    return torch.nn.Sequential(*layers), (3, 32, 32), 64


def step(net, rule):
    """Return a function that runs one train step."""
    torch.manual_seed(0)
    model, shape, batch = mlp() if net == "mlp" else conv()
    inputs = torch.randn(batch, *shape)
    labels = torch.randint(0, 10, (batch,))
    loss = torch.nn.CrossEntropyLoss()
    if rule is not None:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it converted
            model = BioModule(model, rule, copy_weights=True, output_dim=10)
    arguments = (inputs, labels, loss) if rule == "dfa" else (inputs,)
    # A rate at which the conv net with `dfa` does not diverge; it does at 1e-3.
    optimizer = torch.optim.SGD(model.parameters(), 1e-5, momentum=0.9)

    def train():
        optimizer.zero_grad()
        value = loss(model(*arguments), labels)
        value.backward()
        optimizer.step()
        return value

    return train


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", nargs="+", choices=("mlp", "conv"), default=["mlp", "conv"])
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("One train step of BioTorch over that of plain torch: median [quartiles]")
    for net in arguments.net:
        steps = {"stock": step(net, None)}
        for rule in arguments.rules:
            steps[rule] = step(net, rule)
        times = interleaved(steps, arguments.rounds, repeats=20 if net == "mlp" else 5)
        stock = sorted(times["stock"])[len(times["stock"]) // 2]
        print(f"\n{net}, momentum (stock step {stock:.1f} ms)")
        for rule in arguments.rules:
            name = f"{RULES[rule]} ({rule})"
            print(f"  {name:28s}{ratio(times, rule, 'stock')}", flush=True)


if __name__ == "__main__":
    main()
