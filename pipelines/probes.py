"""Linear heads by scikit-learn: no loop, no seed, the optimum.

N videos or steps, D feature width, C classes.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.config import TrainSettings
from pipelines.dataset import Example, Examples
from seqmodels.pooling import LinearHead

PROBES = {"linear": "logistic regression", "svm": "a linear support vector machine"}
_ITERATIONS = 10_000


def fit_probe(name: str, head: LinearHead, examples: Examples, settings: TrainSettings) -> LinearHead:
    """Set the weights of ``head`` to those of scikit-learn's model ``name``, one of `PROBES`: each class against all.

    Means of videos, or single steps, standardised with the constants of ``head``, which must have been fitted.
    """
    from sklearn.multiclass import OneVsRestClassifier  # takes a second to load, and only these heads need it

    rows = np.concatenate([_rows(head, item) for item in examples.items])
    positives = np.concatenate([_positives(head, item, len(examples.classes)) for item in examples.items])
    model = OneVsRestClassifier(_model(name, settings)).fit(rows, positives.astype(np.int64))
    with torch.no_grad():
        for label, each in enumerate(model.estimators_):
            weight, bias = _plane(each, rows.shape[1])
            head.out.weight[label] = torch.from_numpy(weight)
            head.out.bias[label] = bias
    return head.eval()


def _model(name: str, settings: TrainSettings) -> Any:  # noqa: ANN401 - scikit-learn has no types
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    if name == "linear":
        return LogisticRegression(C=settings.c, max_iter=_ITERATIONS)
    return LinearSVC(C=settings.c, max_iter=_ITERATIONS, dual="auto", random_state=0)


def _plane(model: Any, width: int) -> tuple[NDArray[np.float64], float]:  # noqa: ANN401 - scikit-learn has no types
    """Weights and bias; of a class that every row has, or none, the certain answer that scikit-learn puts in."""
    if hasattr(model, "coef_"):
        return model.coef_[0], float(model.intercept_[0])
    return np.zeros(width), 30.0 if bool(model.y_[0]) else -30.0


@torch.inference_mode()
def _rows(head: LinearHead, item: Example) -> NDArray[np.float32]:
    steps: NDArray[np.float32] = head.inputs(torch.from_numpy(item.features)).numpy()
    return steps if head.per_step else steps.mean(axis=0, keepdims=True)


def _positives(head: LinearHead, item: Example, n_classes: int) -> NDArray[np.bool_]:
    target: NDArray[np.bool_] = item.target if head.per_step else np.eye(n_classes, dtype=np.bool_)[[int(item.target)]]
    return target
