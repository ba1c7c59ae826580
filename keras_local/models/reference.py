"""Networks of the papers, ready to train.

| function | source |
|---|---|
| `simpnet`, `deepnet`, `deepernet`, `deepnet_s` | Amit 2019 |
| `lenet_mnist`, `lenet_cifar`, `resnet20`, `resnet56` | Sanfiz & Akrout 2021 (BioTorch) |
| `resnet18` | Kunin et al. 2020 |
| `softhebb` | Journe et al. 2023 |
| `vgg8b`, `vgg11b` | Nokland & Eidnes 2019 |

`softhebb` returns an encoder, which `models.pretrain` trains without labels. `vgg8b` and `vgg11b`
return Sequential models of stock layers, for `models.local_losses`. All other functions return a
functional or Sequential model of feedback layers that ends in logits. It is not compiled unless a
loss is given. `models.convert` changes its feedback rules and initial feedback kernels.
"""

from keras_local.models.networks.amit import deepernet as deepernet
from keras_local.models.networks.amit import deepnet as deepnet
from keras_local.models.networks.amit import deepnet_s as deepnet_s
from keras_local.models.networks.amit import simpnet as simpnet
from keras_local.models.networks.biotorch import lenet_cifar as lenet_cifar
from keras_local.models.networks.biotorch import lenet_mnist as lenet_mnist
from keras_local.models.networks.biotorch import resnet20 as resnet20
from keras_local.models.networks.biotorch import resnet56 as resnet56
from keras_local.models.networks.kunin import resnet18 as resnet18
from keras_local.models.networks.nokland import vgg8b as vgg8b
from keras_local.models.networks.nokland import vgg11b as vgg11b
from keras_local.models.networks.softhebb import softhebb as softhebb

__all__ = [
    "deepernet",
    "deepnet",
    "deepnet_s",
    "lenet_cifar",
    "lenet_mnist",
    "resnet18",
    "resnet20",
    "resnet56",
    "simpnet",
    "softhebb",
    "vgg8b",
    "vgg11b",
]
