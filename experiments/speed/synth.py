"""How fast positives are written, against a plain loop around ``generate``: ``python experiments/speed/synth.py``.

The plain loop takes 16 rows at a time in the order of the file, pads them on the left and calls ``generate``, as a
script would. The other side is the generator of ``embedllm synth``. Both use the same weights in the same dtype, the
same prompts, the same way of drawing tokens and the same limit of new tokens, and take turns. The ratio is that of the
medians, of the time on the wall and of the processor's.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from embedllm.synth.draft import Item
from embedllm.synth.llm import Llm
from embedllm.synth.rows import read_rows
from embedllm.synth.styles import drawn_style

BATCH = 16


def main() -> None:
    """Print texts per second of both sides, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded:smollm2_135m")
    parser.add_argument("--source", default="embedded:wikipedia_sentences")
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = read_rows(options.source, column="anchor", limit=options.texts)
    generator = Llm(model=options.model)
    generator.prepare(rows)
    sides: dict[str, Callable[[Sequence[Item]], int]] = {
        "plain loop": lambda items: plain_loop(generator, items),
        "embedllm synth": lambda items: len(generator.generate(items)),
    }
    for write in sides.values():
        write(rows.items[:4])  # warm up
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, write in sides.items():
            wall, processor = time.perf_counter(), time.process_time()
            write(rows.items)
            seconds[name].append((time.perf_counter() - wall, time.process_time() - processor))
            print(f"{name}: {seconds[name][-1][0]:.1f} s, {seconds[name][-1][1]:.1f} s of processor", flush=True)
    medians = {name: [statistics.median(kind) for kind in zip(*times, strict=True)] for name, times in seconds.items()}
    for name, (wall, processor) in medians.items():
        print(f"{name}: {len(rows) / wall:.2f} texts/s, {len(rows) / processor:.2f} texts per second of processor")
    plain, ours = medians.values()
    print(f"ratio of medians: {plain[0] / ours[0]:.2f} on the wall, {plain[1] / ours[1]:.2f} of the processor")


def plain_loop(generator: Llm, items: Sequence[Item]) -> int:
    """Write the positives of items as a script would, and return their number."""
    model, tokenizer = generator._decoding.model, generator._tokenizer
    written = 0
    for start in range(0, len(items), BATCH):
        rows = [prompt_ids(generator, tokenizer, item) for item in items[start : start + BATCH]]
        longest = max(map(len, rows))
        ids = torch.tensor([[min(generator._decoding.stop)] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        with torch.inference_mode():
            found = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                do_sample=True,
                temperature=generator.temperature,
                top_k=generator.top_k,
                top_p=generator.top_p,
                max_new_tokens=generator.max_new_tokens,
                eos_token_id=sorted(generator._decoding.stop),
                pad_token_id=min(generator._decoding.stop),
            )
        written += len(tokenizer.batch_decode(found[:, longest:], skip_special_tokens=True))
    return written


def prompt_ids(generator: Llm, tokenizer: Any, item: Item) -> list[int]:
    """Return all tokens of an item's prompt."""
    frame = generator._frames[drawn_style(item, generator.styles)]
    text = tokenizer(frame.lead + item.text, add_special_tokens=False).input_ids
    return [*frame.prefix, *text, *frame.suffix]


if __name__ == "__main__":
    main()
