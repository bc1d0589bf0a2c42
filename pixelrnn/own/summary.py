"""What a training on pictures has gained, and the commands that use the model, as text."""

import shlex
from typing import Any

from vision_rnn.tables import markdown_table


def summary(document: dict[str, Any]) -> str:
    """Return the likelihoods before and after, and the next commands.

    Args:
        document: Result of `pixelrnn.own.steps.train_own`.
    """
    after = document["after"]
    rows = [
        [
            name,
            _with_error(measured["nats_per_image"], measured["standard_error"], 2),
            _with_error(measured["bits_per_dimension"], measured["bits_standard_error"], 4),
        ]
        for name, measured in (
            (f"before: {document['compared_with']}", document["before"]),
            ("after: this model", after),
        )
    ]
    model, label = shlex.quote(document["model"]), " --label 0" if document["classes"] else ""
    resize = " --resize" if document["resized"] else ""
    run = shlex.quote(document["run"])
    return "\n".join(
        [
            f"likelihood of {after['images']} pictures of the split {after['split']} (lower is better):",
            "",
            markdown_table(["", "nats per picture", "bits/dim"], rows),
            f"samples: {document['samples']}",
            f"model: {document['model']}",
            f"next: pixelrnn complete picture.png --mask lower-half{resize} --model {model}{label}",
            f"next: pixelrnn sample -n 64 --model {model}{label} -o samples.png",
            f"next: pixelrnn report {run} -o report.html",
        ]
    )


def _with_error(value: float, error: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")
