"""A model from outside becomes a checkpoint artifact: weights in fp32, our folder layout, read back once."""

from pathlib import Path

from infra.errors import InputError
from infra.output import Outcome, Output
from models.checkpoint import load_model, save_model
from models.config import ModelConfig
from models.gguf import import_gguf
from tasks.configs.import_model import ImportModelConfig, check_source, content_digest

SPDX = {name.casefold(): name for name in ("Apache-2.0", "MIT", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC0-1.0")}
"""Model files write licences in lower case; rows and cards use SPDX's spelling."""
REMEDY = "give a Llama- or Nemotron-family model with its own tokenizer and chat template"


def run(config: ImportModelConfig, output: Output) -> Outcome:
    """Raises InputError where the source is missing, changed since the plan was made, or not a model of ours."""
    source, folder = Path(config.source), output.scratch_folder()
    _check_identity(config, source)
    output.progress(0, 3, "steps", doing="reading")
    try:
        licence = _convert(config, source, folder)
        output.progress(1, 3, "steps", doing="checking")
        model, tokenizer = load_model(folder)
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{source} cannot be imported: {error}", REMEDY) from error
    if not tokenizer.chat_template:
        raise InputError(f"{source} has no chat template", "add `chat_template` to its tokenizer_config.json")
    output.progress(2, 3, "steps", doing="writing")
    output.write_folder(folder)
    output.progress(3, 3, "steps", doing="done")
    return Outcome(
        metrics={"parameters": float(model.config.num_parameters)},
        result=_card(config, model.config, licence) | {"tokenizer": tokenizer.digest()},
    )


def _check_identity(config: ImportModelConfig, source: Path) -> None:
    found_format, found = check_source(source), content_digest(source)
    if (found_format, found) != (config.format, config.digest):
        raise InputError(
            f"{source} is {found_format} with sha256 {found}; expected {config.format} with {config.digest}",
            "it changed since the plan was made; run again to plan with what is there now",
        )


def _convert(config: ImportModelConfig, source: Path, folder: Path) -> str:
    """Fill `folder`; returns the licence that the source names itself, "" for none."""
    if config.format == "gguf":
        licence = import_gguf(source, folder).licence
        return SPDX.get(licence.casefold(), licence)
    model, tokenizer = load_model(source)
    save_model(model, tokenizer, folder)
    return ""


def _card(config: ImportModelConfig, model: ModelConfig, licence: str) -> dict[str, str | int]:
    return {
        "family": model.family,
        "format": config.format,
        "layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "vocab_size": model.vocab_size,
        "licence": config.licence or licence,
        "name": Path(config.source).name,
    }
