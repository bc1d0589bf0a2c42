"""Scoring a captioner on a split of a prepared data set, by real decoding."""

from dataclasses import asdict
from typing import Any

import torch
from tqdm import tqdm

from captioning.captioner import Captioner, SearchConfig
from data_prep.images import load_image
from data_prep.prepared import PreparedCaptions
from evaluation.captions import score_captions

BATCH_SIZE = 32
PROTOCOL = (
    "COCO caption protocol: PTB tokens in lower case without punctuation, corpus BLEU with brevity penalty and closest "
    "reference length, CIDEr-D with document frequencies of the evaluated references, all references of the split; "
    "captions from beam search (beam size {beam_size}, length exponent {length_exponent}, at most {max_words} words)."
)


@torch.inference_mode()
def evaluate(
    captioner: Captioner, data: PreparedCaptions, split: str, search: SearchConfig | None = None
) -> dict[str, Any]:
    """Caption every image of a split and score the captions; return scores, counts, protocol and captions.

    Args:
        captioner: The model.
        data: The prepared data set.
        split: Which split.
        search: Beam search settings; by default the model's own.
    """
    rows = data.split(split)
    search = search or captioner.search
    texts: list[list[str]] = []
    with tqdm(total=len(rows), desc=f"captioning {split}", unit="image") as progress:
        for start in range(0, len(rows), BATCH_SIZE):
            images = [load_image(image["bytes"]) for image in rows["image"][start : start + BATCH_SIZE]]
            texts += [captions[0].words for captions in captioner.caption(images, search=search)]
            progress.update(len(images))
    scores = score_captions(texts, rows["tokens"][:])
    return {
        "split": split,
        "content_hash": data.content_hash,
        "protocol": PROTOCOL.format(**asdict(search)),
        **scores.as_dict(),
        "captions": dict(zip(rows["name"][:], map(" ".join, texts), strict=True)),
    }
