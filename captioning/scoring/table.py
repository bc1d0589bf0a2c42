"""The results of `captioning score` and `captioning evaluate` as readable tables."""

import shlex
from typing import Any

from vision_rnn.console import counted
from vision_rnn.tables import markdown_table


def score_table(document: dict[str, Any]) -> str:
    """Return the tables: scores, diversity of the captions and, if requested, comparison and audit.

    Args:
        document: The document that the command prints with `--json`.
    """
    parts = [document["protocol"], _scores(document), f"captions: {diversity_line(document['captions'])}"]
    if "against" in document:
        parts.append(_comparison(document["against"]))
    if "audit" in document:
        parts.append(_audit(document["audit"]))
    signatures = [f"  {score['signature']}" for score in document["scores"].values()]
    return "\n\n".join([*parts, "\n".join(["Signatures:", *signatures])])


def evaluation_table(document: dict[str, Any]) -> str:
    """Return the scores of a model as text.

    Args:
        document: Result of `captioning.scoring.model.evaluate`.
    """
    scores = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D")
    return "\n".join(
        [
            document["protocol"],
            "",
            f"{document['split']}: {counted(document['images'], 'image')}, "
            f"{counted(document['references'], 'reference')}; {counted(document['candidate_length'], 'word')}, "
            f"and {document['reference_length']} in the closest references",
            "",
            "  ".join(f"{name:>7}" for name in scores),
            "  ".join(f"{document[name]:7.4f}" for name in scores),
            "",
            f"perplexity {document['perplexity']:.2f} per word, of {document['predicted_words']} words and end tokens",
        ]
    )


def calibration_table(document: dict[str, Any]) -> str:
    """Return how a model's confidence agrees with the scores of its captions.

    Args:
        document: The fields of a `captioning.confidence.Calibration`.
    """
    rows = [[f"{confidence:.2f}", f"{share:.2f}", str(count)] for confidence, share, count in document["reliability"]]
    return "\n\n".join(
        [
            f"{document['images']} images, each rated by a fit without it; good captions have a CIDEr-D of at least "
            f"{document['good']:g}",
            markdown_table(["mean confidence", "share of good captions", "captions"], rows),
            f"rank correlation of confidence and CIDEr-D: {document['correlation']:.3f}",
        ]
    )


def before_and_after(document: dict[str, Any]) -> str:
    """Return what a training has changed, with some captions, and the command that uses the model.

    Args:
        document: Result of `captioning.own.steps.train_own`.
    """
    after = document["after"]
    evaluations = {"before": document["before"], "after": after}
    measured = {name: scores for name, scores in evaluations.items() if scores}
    names = ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr-D")
    rows = [[name, *(f"{scores[name]:.4f}" for scores in measured.values())] for name in names]
    examples = [
        f"{photo}: {' -> '.join(scores['captions'][photo] for scores in measured.values())}"
        for photo in list(after["captions"])[:3]
    ]
    return "\n".join(
        [
            f"scores on {counted(after['images'], 'photo')} of the split {after['split']}, with "
            f"{counted(after['references'], 'caption')}:",
            "",
            markdown_table(["score", *measured], rows),
            *examples,
            "",
            f"model: {document['model']}",
            f"next: captioning caption photo.jpg --model {shlex.quote(document['model'])}",
        ]
    )


def _scores(document: dict[str, Any]) -> str:
    rows = [
        [name, f"{score['score']:.4f}", f"{score['low']:.4f} to {score['high']:.4f}"]
        for name, score in document["scores"].items()
    ]
    images = counted(document["images"], "image")
    if document["subset_of"]:
        images = f"{document['images']} of {document['subset_of']} images, those with a caption"
    counts = (
        f"{images}, {counted(document['references'], 'reference')}; {counted(document['candidate_length'], 'word')}, "
        f"and {document['reference_length']} in the closest references"
    )
    return f"{markdown_table(['score', 'value', '95 % interval'], rows)}\n{counts}"


def diversity_line(like: dict[str, Any]) -> str:
    """Return the diversity of captions in one line.

    Args:
        like: Fields of `evaluation.diversity.Diversity`.
    """
    never_seen = "" if like["never_seen"] is None else f", {100 * like['never_seen']:.1f} % in no training caption"
    return (
        f"{like['vocabulary']} different words, {like['mean_length']:.2f} words per caption, distinct-1 "
        f"{like['distinct_1']:.4f}, distinct-2 {like['distinct_2']:.4f}, {100 * like['different']:.1f} % different"
        f"{never_seen}, {like['repeating']} with a repeated triple of words, {like['broken_off']} that break off"
    )


def _comparison(against: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{found['difference']['score']:+.4f}",
            f"{found['difference']['low']:+.4f} to {found['difference']['high']:+.4f}",
            f"{found['p_value']:.3f}",
        ]
        for name, found in against["scores"].items()
    ]
    table = markdown_table(["score", "difference", "95 % interval", "p"], rows)
    return f"Difference from the scores of {against['file']}, by paired bootstrap:\n\n{table}".rstrip()


def _audit(audit: dict[str, Any]) -> str:
    names = list(next(iter(audit["protocols"].values())))
    rows = [
        [protocol, *(f"{scores[name]:.4f}" if name in scores else "" for name in names)]
        for protocol, scores in audit["protocols"].items()
    ]
    parts = [f"The same captions under other protocols:\n\n{markdown_table(['protocol', *names], rows)}".rstrip()]
    if "claimed" in audit:
        found = [f"{name} ({protocol})" for protocol, name in audit["matching"]]
        parts.append(f"claimed {audit['claimed']}: {', '.join(found) if found else 'matches none of these'}")
    parts += [f"suspicious: {suspicion}" for suspicion in audit["suspicions"]] or ["nothing suspicious"]
    return "\n\n".join(parts)
