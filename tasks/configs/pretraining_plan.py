"""The part of a plan that makes its models from nothing: documents of the procedural world, or the user's own texts.

documents:
  english: {reader: plain_text, path: /data/english}      what mixtures call english, whatever its rows say
  code: {reader: python_files, path: /data/code}
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, TypeAdapter, model_validator

from tasks.configs.base import Config
from tasks.configs.pretraining_data import TokenizeConfig, TrainTokenizerConfig
from tasks.configs.sources import TEXTS, SourceConfig
from tasks.configs.training import PretrainConfig, SFTConfig
from tasks.configs.world import DocumentsConfig, HumanRowsConfig, TokenizerConfig

Phase = Literal["documents", "continued_documents"]
PHASES: dict[Phase, str] = {"documents": "main", "continued_documents": "continued"}
"""The setting of what each phase reads, and that of its training."""
ONE_TEXT = "such as {english: {reader: plain_text, path: PLACE}}"
SOURCE_NAME = re.compile(r"[A-Za-z0-9_-]+")
WORLD = "world"
"""What mixtures call the procedural world's documents: the source that their rows name."""
Sources = dict[str, SourceConfig]


def _documents(value: Any) -> Any:
    """A mapping is of sources unless it holds the procedural world's settings; null takes a source of a preset out."""
    if isinstance(value, DocumentsConfig):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"expected sources by name, {ONE_TEXT}")
    if value and value.keys() <= DocumentsConfig.model_fields.keys():
        return value
    found = {name: one for name, one in value.items() if one is not None}
    for name, one in found.items():
        if not isinstance(name, str):
            raise ValueError(f"a source is called {name!r}, which is no text in YAML: put its name in quotes")
        if not isinstance(one, Mapping | SourceConfig):
            raise ValueError(f"{name} is {one!r}: expected a source, {ONE_TEXT}")
    return TypeAdapter(Sources).validate_python(found)


def _kind_of(*kinds: type[Config], such_as: str) -> BeforeValidator:
    """A mapping is of the kind that knows most of its names, so that an error speaks of what was meant."""

    def choose(value: Any) -> Any:
        if isinstance(value, kinds):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"expected settings, such as {such_as}")
        return max(kinds, key=lambda kind: len(value.keys() & kind.model_fields.keys())).model_validate(value)

    return BeforeValidator(choose)


Documents = Annotated[DocumentsConfig | Sources, BeforeValidator(_documents)]


class PretrainingPlan(Config):
    """From nothing to a weak teacher and a stronger base."""

    documents: Documents
    """The procedural world's, or texts by the names that `main`'s mixtures give them."""
    continued_documents: Documents
    """The same for `continued`. What both phases read is read and tokenized once."""
    tokenizer: Annotated[
        TokenizerConfig | TrainTokenizerConfig,
        _kind_of(TokenizerConfig, TrainTokenizerConfig, such_as="{vocabulary: 32000}"),
    ]
    """Whole words of the procedural world, or SentencePiece's pieces of the main phase's documents, of any kind."""
    tokenize: TokenizeConfig = TokenizeConfig()
    human_rows: Annotated[
        HumanRowsConfig | SourceConfig,
        _kind_of(HumanRowsConfig, SourceConfig, such_as="{reader: human_sft, path: FILE}"),
    ]
    """Conversations that align the first teacher: the procedural world's, or a source of dialogues."""
    main: PretrainConfig
    continued: PretrainConfig
    teacher_sft: SFTConfig

    @model_validator(mode="after")
    def _reads_what_there_is(self) -> "PretrainingPlan":
        for setting, phase in PHASES.items():
            found = getattr(self, setting)
            if isinstance(found, dict):
                _check_texts(setting, found)
            config: PretrainConfig = getattr(self, phase)
            try:
                config.check_sources(found if isinstance(found, dict) else [WORLD])
            except ValueError as error:
                raise ValueError(f"{setting} and {phase} do not fit: {error}") from error
        if self.tokenize.source:
            raise ValueError(f"tokenize.source is {self.tokenize.source!r}: leave it out, documents have their names")
        human = self.human_rows
        if isinstance(human, SourceConfig) and human.purpose != "dialogues":
            raise ValueError(f"human_rows is a source of {human.purpose}; expected one of dialogues, such as human_sft")
        return self

    @model_validator(mode="after")
    def _main_starts_fresh(self) -> "PretrainingPlan":
        if self.main.learning_rate_from == "base":
            raise ValueError("main.learning_rate_from is base, and the main phase has none: set it to setting")
        if self.main.trainable != "all":
            raise ValueError(
                f"main.trainable is {self.main.trainable!r}, which leaves fresh weights as they are: set it to all"
            )
        return self

    @model_validator(mode="after")
    def _own_texts_go_together(self) -> "PretrainingPlan":
        sources = [*self.sources()]
        if sources and isinstance(self.tokenizer, TokenizerConfig):
            raise ValueError(
                f"tokenizer knows the procedural world's words only, and {sources} are texts of your own: learn one "
                "from them, such as tokenizer={vocabulary: 32000}"
            )
        if isinstance(self.documents, dict) and isinstance(self.human_rows, HumanRowsConfig):
            raise ValueError(
                "human_rows are the procedural world's, and documents are texts of your own: give human_rows a source "
                "of dialogues, such as human_rows={reader: human_sft, path: FILE}"
            )
        if isinstance(self.tokenizer, TrainTokenizerConfig) and self.tokenizer.chat_template == "none":
            raise ValueError("tokenizer.chat_template is none, and the teacher learns conversations: set it to chatml")
        return self

    def named(self, setting: Phase) -> dict[str, DocumentsConfig | SourceConfig]:
        """What a phase reads by the names that mixtures give it, sorted; "" where its rows name their sources."""
        found = getattr(self, setting)
        return dict(sorted(found.items())) if isinstance(found, dict) else {"": found}

    def tokenize_as(self, name: str) -> TokenizeConfig:
        """How what goes by a name in `named` is tokenized."""
        return self.tokenize.model_copy(update={"source": name}) if name else self.tokenize

    def sources(self) -> Sources:
        """The user's own files by their settings, such as "documents.english"."""
        found = {f"{setting}.{name}": config for setting in PHASES for name, config in self.named(setting).items()}
        return {
            setting: config
            for setting, config in (found | {"human_rows": self.human_rows}).items()
            if isinstance(config, SourceConfig)
        }


def _check_texts(setting: str, sources: Sources) -> None:
    """Raises ValueError where there is no source, one has an odd name, or one gives no text."""
    if not sources:
        raise ValueError(f"{setting} is empty: name a source, such as english: {{reader: plain_text, path: …}}")
    for name, source in sources.items():
        if not SOURCE_NAME.fullmatch(name):
            raise ValueError(f"{setting} has a source called {name!r}: use letters, digits, '_' and '-'")
        if source.purpose not in TEXTS:
            raise ValueError(
                f"{setting}.{name}: the reader {source.reader!r} gives {source.purpose}; expected one that gives "
                f"{' or '.join(TEXTS)}, such as plain_text"
            )
