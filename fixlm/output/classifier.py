"""The paper's head for any classifier: one of the fixed layers, by the name of its matrix.

`FixedClassifier` is a function, since `FixedOutput` and `HadamardOutput` are all that it needs.
"""

from typing import Any, cast

import embeddings
from embeddings.errors import InputError, unknown_name
from fixlm.output.fixed import FixedOutput, ScaledOutput
from fixlm.output.registry import build


def FixedClassifier(in_features: int, classes: int, matrix: Any = "random-orthogonal", **options: Any) -> ScaledOutput:
    """A last layer with a fixed matrix, in place of a network's ``nn.Linear(in_features, classes)``.

    logits = α Q x̂ + b with x̂ = x/‖x‖ (Hoffer, Hubara and Soudry 2018). Q has a fixed row of norm 1 for each class; α
    and b are learned. With N ``in_features``, C ``classes`` and P = 2^m the next power of two from N on, Q may be:

    - ``random-orthogonal``: Q Qᵀ = 1 where C ≤ N, drawn at random. Where C > N no such rows exist. Then a matrix with
      orthonormal columns is drawn and its rows are scaled to norm 1; two rows have a cosine of about 1/√N.
    - ``hadamard``: the first C rows and N columns of the Sylvester matrix of order P, times 1/√N; it is not stored. Its
      rows are orthonormal where N = P ≥ C. Rows from P on are rows below with some signs changed by a rule, so that no
      two are equal.
    - ``sylvester``: the truncated Hadamard matrix of the paper's authors: the same where C ≤ P, with repeated rows
      where C > P.

    Args:
        in_features: N, the length of x.
        classes: C.
        matrix: the name of a rule, or vectors as `fixlm.FixedOutput` takes them, a row a class. Where their length M is
            not N, a learned map from N to M numbers comes first.
        options: ``matrix_seed=`` of a random matrix (1), and the options of what is returned.

    Returns:
        A `fixlm.HadamardOutput` for ``hadamard``, else a `fixlm.FixedOutput`: (…, N) → logits (…, C).

    Raises:
        InputError: there is no such rule, or the vectors are not of as many classes.

    >>> import torch
    >>> head = FixedClassifier(64, 10)
    >>> print(head)
    FixedOutput(in_features=64, out_features=10, trained=11)
    >>> torch.testing.assert_close(head.matrix() @ head.matrix().t(), torch.eye(10))
    >>> loss = torch.nn.functional.cross_entropy(head(torch.randn(32, 64)), torch.randint(10, (32,)))
    """
    if not isinstance(matrix, str):
        head = FixedOutput(in_features, matrix, **options)
        if head.out_features != classes:
            raise InputError("matrix", "not a row for each class", found=head.out_features, expected=classes)
        return head
    rules = [name for name in embeddings.vector_names() if not embeddings.get(name).NEEDS_CORPUS]
    if matrix not in rules:
        raise unknown_name("matrix", "rule", matrix, rules)
    return cast(ScaledOutput, build(matrix, in_features, classes, **options))
