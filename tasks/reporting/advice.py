"""The one command to try next, from what the verdict says and the settings that the artifacts were made with."""

import shlex
from dataclasses import dataclass

from tasks.configs.evaluation_set import EvaluationSetConfig
from tasks.configs.training import PreferenceTuningConfig
from tasks.configs.world import WorldItemsConfig
from tasks.reporting.lineage import Turn
from tasks.reporting.numerals import percent
from tasks.reporting.steps import largest_move

MOST_REPLAY = 0.5
MORE = 2
"""Factor for what there should be more of."""


@dataclass(frozen=True)
class Advice:
    command: str
    why: str


def advice_of(turn: Turn) -> Advice:
    result = turn.verdict.manifest.result
    if result["verdict"] == "promote":
        return Advice(
            with_iterations(turn),
            "The wheel moved. The next turn starts from the new generator; what exists is reused.",
        )
    if result["verdict"] == "insufficient":
        return more_items(turn)
    worse = [name for name, family in result["families"].items() if family["regressed"]]
    if worse and (replay := more_replay(turn, worse)):
        return replay
    fall = largest_move(turn, "accuracy", up=False)
    if (result["gain"] or 0.0) <= 0 and fall and (gentler := slower_step(turn, fall.label)):
        return gentler
    return Advice(
        with_setting(turn, "scale", f"{MORE * scale_of(turn):g}"),
        "Nothing in particular broke, so the gain was too small for this gate to be sure of: try with twice the rows"
        " and steps. A changed plan is a lineage of its own.",
    )


def more_replay(turn: Turn, worse: list[str]) -> Advice | None:
    """More of the model's own good answers in the mix, where families were unlearnt."""
    mix = turn.data.get("general mix")
    share = mix.manifest.recipe.get("replay_share") if mix else None
    if share is None or MORE * share > MOST_REPLAY:
        return None
    wanted = MORE * share if share else 0.1
    why = f"{', '.join(worse)} got worse: replay more of what the model did well before ({percent(share)} until now)."
    return Advice(with_setting(turn, "general_mix.replay_share", f"{wanted:g}"), why)


def slower_step(turn: Turn, label: str) -> Advice | None:
    """Half the learning rate of the step after which the accuracy fell most."""
    rate = turn.models[label].manifest.recipe.get("learning_rate")
    if not isinstance(rate, float):
        return None
    name = f"{plan_field(turn, label)}.learning_rate"
    why = f"The accuracy fell most at {label}, which learnt at a rate of {rate:g}: try half of that."
    return Advice(with_setting(turn, name, f"{rate / 2:g}"), why)


def plan_field(turn: Turn, label: str) -> str:
    """Where the plan keeps a step's settings: its phase, or its place among the preference-tuning turns."""
    turns = [name for name in turn.models if turn.models[name].manifest.stage == PreferenceTuningConfig.stage]
    return f"preference_tuning.{turns.index(label)}" if label in turns else label.replace(" ", "_")


def more_items(turn: Turn) -> Advice:
    """A larger sealed half, so that the next verdict can be one."""
    needed = turn.verdict.manifest.recipe.get("min_items", 200)
    why = f"The gate needs {needed} paired questions with checkable answers, and enough kinds of them: ask more."
    sets = turn.of_stage(WorldItemsConfig.stage) + turn.of_stage(EvaluationSetConfig.stage)
    gate = sets[-1].manifest.recipe.get("gate") if sets else None
    if isinstance(gate, dict) and gate:
        family = max((name for name in gate if name != "open"), key=lambda name: gate[name], default="open")
        return Advice(with_setting(turn, f"evaluation_set.gate.{family}", str(MORE * gate[family])), why)
    wanted = max(MORE * gate, needed) if isinstance(gate, int) else MORE * needed
    name = "evaluation_set.gate" if isinstance(gate, int) else "gate_exam.max_items"
    return Advice(with_setting(turn, name, str(wanted)), why)


def command_again(turn: Turn) -> str:
    """The command that makes this very iteration again."""
    words = shlex.split(turn.config.reproduce)
    return shlex.join(words_of(turn)) if is_run(words) else turn.config.reproduce


def words_of(turn: Turn) -> list[str]:
    """The run that made this iteration, in its own lineage; where that was no `ratchet run`, one of its preset.

    `--fresh` would start yet another lineage: the salt that it drew takes its place.
    """
    words = shlex.split(turn.config.reproduce)
    words = words if is_run(words) else ["ratchet", "run", "--preset", turn.config.preset]
    salts = {str(node.manifest.recipe.get("salt", "")) for node in turn.behind} - {""}
    if "--fresh" not in words or len(salts) != 1:
        return words
    return [*(word for word in words if word != "--fresh"), "--set", f'salt="{salts.pop()}"']


def is_run(words: list[str]) -> bool:
    return words[:2] == ["ratchet", "run"]


def with_iterations(turn: Turn) -> str:
    """The same command for at least one turn more than this one."""
    words, wanted = without(words_of(turn), "--iterations"), turn.config.number + 1
    before = option(words_of(turn), "--iterations")
    if before is not None and before.isdigit():
        wanted = max(wanted, int(before))
    return shlex.join([*words, "--iterations", str(wanted)])


def with_setting(turn: Turn, name: str, value: str) -> str:
    """The same command with one more setting, in place of an earlier value of it."""
    words = words_of(turn)
    kept = [
        i for i, word in enumerate(words)
        if not (word == "--set" and words[i + 1 : i + 2] and words[i + 1].startswith(f"{name}="))
        and not (i and words[i - 1] == "--set" and word.startswith(f"{name}="))
        and not word.startswith(f"--set={name}=")
    ]  # fmt: skip
    return shlex.join([*(words[i] for i in kept), "--set", f"{name}={value}"])


def scale_of(turn: Turn) -> float:
    """The command's --set scale=…, 1 where it has none."""
    words = words_of(turn)
    found = [word.rpartition("scale=")[2] for word in words if word.startswith(("scale=", "--set=scale="))]
    try:
        return float(found[-1]) if found else 1.0
    except ValueError:
        return 1.0


def option(words: list[str], name: str) -> str | None:
    for i, word in enumerate(words):
        if word == name and i + 1 < len(words):
            return words[i + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def without(words: list[str], name: str) -> list[str]:
    return [
        word for i, word in enumerate(words)
        if word != name and not word.startswith(f"{name}=") and not (i and words[i - 1] == name)
    ]  # fmt: skip
