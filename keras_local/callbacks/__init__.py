"""Callbacks that write angles, convergence and figures into the logs of `fit`, and resume it.

They add their measurements to `logs` at the end of each epoch, next to loss and metrics. `History`
and the progress bar always see them; callbacks that the user passes (`CSVLogger`, `TensorBoard`,
`EarlyStopping`) see them if they come later in the list.
"""

from keras_local.callbacks.alignment import AlignmentMonitor as AlignmentMonitor
from keras_local.callbacks.convergence import ConvergenceMonitor as ConvergenceMonitor
from keras_local.callbacks.figures import TensorBoardFigures as TensorBoardFigures
from keras_local.callbacks.resume import ResumeExactly as ResumeExactly
from keras_local.callbacks.resumed_fit import resume_fit as resume_fit
from keras_local.dynamics.monitor import SettlingMonitor as SettlingMonitor

__all__ = [
    "AlignmentMonitor",
    "ConvergenceMonitor",
    "ResumeExactly",
    "SettlingMonitor",
    "TensorBoardFigures",
    "resume_fit",
]
