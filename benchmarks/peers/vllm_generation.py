"""vLLM's side of benchmarks/generation.py, run by its own Python: `PYTHON FILE MODEL REQUESTS ANSWERS`."""

import json
import sys
import time
from pathlib import Path


def main(model: str, requests: str, answers: str) -> None:
    from vllm import LLM, SamplingParams

    work = json.loads(Path(requests).read_text())
    llm = LLM(model, dtype="float32", enforce_eager=True, max_num_seqs=256, max_model_len=2048)
    prompts = [{"prompt_token_ids": prompt} for prompt in work["prompts"]]
    greedy = {"temperature": 0, "stop_token_ids": work["stop"], "detokenize": False}
    llm.generate(prompts[:4], SamplingParams(max_tokens=4, **greedy), use_tqdm=False)
    llm.reset_prefix_cache()
    start = time.perf_counter()
    made = llm.generate(
        prompts, [SamplingParams(max_tokens=limit, **greedy) for limit in work["limits"]], use_tqdm=False
    )
    seconds = time.perf_counter() - start
    rows = [[token for token in one.outputs[0].token_ids if token not in work["stop"]] for one in made]
    Path(answers).write_text(json.dumps({"seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main(*sys.argv[1:])
