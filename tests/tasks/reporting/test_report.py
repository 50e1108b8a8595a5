"""The report of a whole turn: what the page says, that it escapes what models wrote, and that it stands alone."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from infra.errors import InputError

EVIL = '<script>alert("owned")</script><img src="http://evil.example/x.png">'
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, the text of each section, and whether every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[tuple[str, str]] = []
        self.text: dict[str, str] = {}
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("id") or ""))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "title":
            return  # hints inside plots repeat what stands beside them
        for name in {name for tag, name in self.open if name} | {""}:
            self.text[name] = f"{self.text.get(name, '')} {data}"

    def says(self, section: str) -> str:
        """A section's text with single spaces."""
        return " ".join(self.text[section].split())


@pytest.fixture(scope="module")
def page(turn):
    return Page(turn("better").html())


def test_the_headline_gives_the_verdict_its_numbers_and_the_next_command(turn, page):
    result = turn("better").inputs["verdict"].manifest().result
    assert result["verdict"] == "promote"
    said = page.says("verdict")
    assert "Promoted The candidate answers" in said and "It is the new generator." in said
    assert f"{100 * result['gain']:+.1f} points, 95 % interval" in said
    assert all(f"{100 * bound:+.1f}".replace("-", "−") in said for bound in result["ci"])
    assert all(reason in said for reason in result["reasons"])
    assert page.says("next") == "ratchet run --preset tiny --set seed=3 --iterations 2"


def test_families_show_both_accuracies_and_the_smallest_gain(turn, page):
    result = turn("better").inputs["verdict"].manifest().result
    said = page.says("gained")
    for name, numbers in result["families"].items():
        row = f"{name} {numbers['n']} {100 * numbers['generator']:.1f} % {100 * numbers['candidate']:.1f} %"
        assert row in said
    assert f"{100 * result['smallest_detectable_gain']:+.1f} points (with 80 % power)" in said


def test_steps_mark_best_and_worst_and_say_where_it_changed(page):
    said = page.says("steps")
    assert "rose most at general sft (+15.0 points)" in said and "fell most at rpo 1 (−5.0 points)" in said
    assert "starts from the base, another model" in said
    assert re.search(r'<td>dpo</td><td class="best">88.3 %<small>\+13.3</small>', page.html)
    assert re.search(r'<td>generator</td><td class="worst">60.0 %', page.html)


def test_both_directions_of_flips_stand_side_by_side(turn, page):
    result = turn("better").inputs["verdict"].manifest().result
    said = page.says("flips")
    assert f"Only the candidate is right: {result['gained']}" in said
    assert f"Only the generator is right: {result['lost']}" in said
    assert re.search(r"generator\s+old 3 .*candidate\s+new 3 ", said)


def test_the_candidate_is_held_against_the_controls(turn, page):
    accuracy = turn("better").inputs["exams"][1].manifest().metrics["accuracy"]
    assert f"human only 300 33.3 % {100 * (accuracy - 1 / 3):+.1f}" in page.says("controls")


def test_the_funnel_reaches_the_stages_behind_the_data(page):
    said = page.says("data")
    assert "topics 20 12 not finished 5 repeated 3" in said
    assert "clean prompts prompts 9 7 contaminated 2" in said
    assert said.index("topics 20") < said.index("clean prompts") < said.index("general mix 102 36")
    assert "documents" not in said, "the base's pretraining is no data of this turn"
    assert "general mix : 36 rows, 100.0 % synthetic" in said and "dialogues 12, 12 synthetic" in said
    assert "maths 10 30 20.0 % 40.0 % 90.0 %" in said


def test_judges_and_reward_model_show_how_far_they_can_be_trusted(page):
    said = page.says("judges")
    assert re.search(r"LLM 10 6 40\.0 % \d+\.\d % \d+\.\d %", said)
    assert re.search(r"ground truth and reward model \d+\.\d % 20 pairs", said)
    assert "73.1 % of 52 pairs" in said and "helpfulness 0.5" in said


def test_training_shows_the_aims_of_rpo(page):
    said = page.says("training")
    assert "rpo 1 RPO 3 0.2 0.8 auto 1.6 8 33.3 % 0.4 90.0 %" in said
    assert "dpo DPO 3 0.2 – – – – 0.4 90.0 %" in said


def test_curves_of_every_model_and_of_pretraining_are_plotted(page):
    for title in ("pretrain: loss", "continued: loss", "general sft: loss", "rpo 1: gap between chosen and rejected"):
        assert f"<title>{title}</title>" in page.html
    assert "reward gap" in page.says("training")


def test_time_splits_jobs_into_own_work_and_the_rest(page):
    said = page.says("time")
    assert "2 jobs took 1 min 42 s in all, in an iteration of 4 min 00 s" in said
    assert "12.2 % was the stages' own work" in said  # five stages of 2.5 s in 102.5 s
    assert "general sft 1 min 30 s 5.0 s 37.5 %" in said


def test_what_is_needed_to_make_it_again_is_there(turn, page):
    said = page.says("again")
    assert "ratchet run --preset tiny --set seed=3" in said and "abc123" in said and "cpu test x1" in said
    assert turn("better").inputs["verdict"].fingerprint in said
    assert "<b>too small</b>" in said


def test_what_models_wrote_is_text_and_nothing_else(page):
    assert not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "object", "embed", "form"}
    assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
    for section in ("flips", "samples"):
        assert EVIL in page.says(section)


def test_nothing_is_loaded_from_elsewhere(page):
    loads = [
        (tag, a) for tag, a in page.tags if a.keys() & {"src", "srcset", "data", "action"} or tag in ("link", "base")
    ]
    assert not loads
    targets = {a["href"] for _, a in page.tags if "href" in a}
    assert {target for target in targets if not target.startswith("#")} == {"http://127.0.0.1:5000/#/run"}
    style = page.html[page.html.index("<style>") : page.html.index("</style>")]
    assert "url(" not in style and "@import" not in style and "prefers-color-scheme: dark" in style
    assert {target[1:] for target in targets if target.startswith("#")} <= page.text.keys()


def test_plots_are_well_formed(page):
    found = re.findall(r"<svg .*?</svg>", page.html, re.DOTALL)
    assert len(found) > 25
    assert all(ElementTree.fromstring(svg).get("viewBox") for svg in found)


def test_a_regression_asks_for_more_replay(turn):
    made = turn("worse at maths")
    assert made.inputs["verdict"].manifest().result["families"]["maths"]["regressed"]
    page = Page(made.html())
    assert "Kept the generator" in page.says("verdict") and "maths got worse" in page.says("verdict")
    assert page.says("next") == "ratchet run --preset tiny --set seed=3 --set general_mix.replay_share=0.2"


def test_an_accuracy_that_fell_asks_for_a_slower_step(turn):
    page = Page(turn("equal").html())
    assert page.says("next").endswith("--set preference_tuning.1.learning_rate=0.0001")
    assert "fell most at rpo 1" in page.says("verdict")


def test_too_few_items_ask_for_more_of_them(turn):
    page = Page(turn("better", min_items=1000).html())
    assert "Undecided" in page.says("verdict")
    assert page.says("next").endswith("--set evaluation_set.gate.instruction=200")


def test_an_earlier_setting_is_replaced_and_iterations_never_shrink(turn):
    worse, better = turn("worse at maths"), turn("better")
    again = worse.html(reproduce="ratchet run --set general_mix.replay_share=0.1 --iterations=2")
    assert Page(again).says("next") == "ratchet run --iterations=2 --set general_mix.replay_share=0.2"
    again = better.html(reproduce="ratchet run --iterations 9 --json")
    assert Page(again).says("next") == "ratchet run --json --iterations 9"
    again = better.html(reproduce="ratchet deploy --cron '0 0 * * *'", number=4)
    assert Page(again).says("next") == "ratchet run --preset tiny --iterations 5"


def test_a_fresh_lineage_is_gone_on_with_by_its_salt(turn):
    page = Page(turn("better").html(reproduce="ratchet run --fresh"))
    assert page.says("next") == "ratchet run --set 'salt=\"12ab34cd\"' --iterations 2"
    assert "ratchet run --set 'salt=\"12ab34cd\"' The same command" in page.says("again")


def test_what_a_plan_does_not_have_is_said_and_not_made_up(turn):
    empty = dict.fromkeys(("data", "models", "evaluations", "controls"), ())
    page = Page(turn("better").html(empty, data=(), steps=(), controls=(), timeline=(), wall_s=0.0, links={}, notes=()))
    assert "Nothing was trained" in page.says("training") and "Nothing was trained" in page.says("steps")
    assert "no controls" in page.says("controls") and "no data sets" in page.says("samples")
    assert "no job timings" in page.says("time")
    assert "None" not in page.text[""].replace("None.", "") and "nan" not in page.text[""].lower().split()


def test_artifacts_that_the_store_has_lost_are_left_out(turn):
    made = turn("better", min_items=201)
    lost = made.workshop.made["judging"]
    made.workshop.store.delete(f"{lost.key}/manifest.json")
    page = Page(made.html())
    assert "No judging stage left its report" in page.says("judges")
    assert "topics 20 12" in page.says("data") and "judging" not in page.says("data")


def test_a_judge_without_verdicts_shows(turn):
    said = Page(turn("better", llm=False).html()).says("judges")
    assert "LLM: no verdict on 0 pairs." in said and "LLM 0 0 – – – –" in said


def test_labels_must_fit_the_artifacts(turn):
    with pytest.raises(InputError, match="steps: 3 artifacts for the labels"):
        turn("better").html(steps=("general sft",))


def test_the_page_holds_no_clock_of_its_own(turn):
    """Two runs of the stage on the same artifacts, seconds apart, differ in nothing but the asked settings."""
    first, second = turn("better").html(seed=1), turn("better").html(seed=2)
    clean = [re.sub(r"Report [0-9a-f]{32}", "Report", html) for html in (first, second)]
    assert clean[0] == clean[1]
