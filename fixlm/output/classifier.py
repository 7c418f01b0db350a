"""The paper's head for any classifier: the fixed layers of this library, made by the name of their matrix."""

from typing import Any, cast

import embeddings
from embeddings.errors import InputError, unknown_name
from fixlm.output.fixed import FixedOutput, ScaledOutput
from fixlm.output.registry import build


def FixedClassifier(  # a function with the name of what it makes: the layers have classes already
    in_features: int, classes: int, matrix: Any = "random-orthogonal", **options: Any
) -> ScaledOutput:
    """A last layer with a fixed matrix, in place of a network's ``nn.Linear(in_features, classes)``.

    logits = α Q x̂ + b with x̂ = x/‖x‖, Q fixed, with a row of norm 1 a class, α and b learned (Hoffer, Hubara and
    Soudry 2018). Below, N is ``in_features`` and C is ``classes``. The rules for Q are:

    - ``random-orthogonal``: Q Qᵀ = 1 where C ≤ N, drawn at random. Where C > N no such rows exist; then Q is drawn with
      orthonormal columns and its rows are scaled to norm 1, and two rows have a cosine of about 1/√N.
    - ``hadamard``: the first C rows and N columns of a Sylvester matrix, times 1/√N; it is not stored. Rows are
      orthonormal where N is a power of two and C ≤ N. Rows from the next power of two on have their signs flipped by a
      rule, so that no two are equal.
    - ``sylvester``: the paper's truncated Hadamard matrix, which is the same for C ≤ N and repeats rows where C is
      above the next power of two.

    Args:
        in_features: N, the length of x.
        classes: C.
        matrix: the name of a rule, or vectors as `fixlm.FixedOutput` takes them, a row a class.
        options: ``matrix_seed=`` of a random matrix (1), and the options of `fixlm.FixedOutput`.

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
