"""The verb ``posterior`` on tiny models: its figures by slow references, what it writes, what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from command_line import Command

from perl_eval import posterior
from perl_eval.bayes import best_of_n
from perl_eval.bayes.best_of_poisson import best_of_poisson_bound
from perl_eval.errors import DataError, UserError
from perl_eval.figure_names import BEST_OF_LINE, TARGET_LINE
from perl_eval.metrics.glossary import MEANINGS, POSTERIOR
from perl_eval.models.backbone import open_backbone
from perl_eval.models.from_scratch import make_model, make_tokenizer
from perl_eval.models.tokenize import encode_prompt
from perl_eval.posterior import compare
from perl_eval.posterior.methods import _rejected, draw_pool, methods, pool_of
from perl_eval.posterior.problem import Models, PosteriorOptions, Setting, open_setting
from perl_eval.records import Completion, Estimate
from perl_eval.sources import rows
from perl_eval.storage import run_folder
from perl_eval.training import policy, reward, sft
from perl_eval.worlds import coffee

torch.set_num_threads(1)
OPTIONS = PosteriorOptions(
    beta=1.0, draws=3, pool=40, n=4, acceptance=0.4, max_new_tokens=8, max_tokens=40, most=60, missing_end_reward=-1.0
)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("posterior")


@pytest.fixture(scope="module")
def data(room: Path) -> Path:
    asked = tiny_models.prompts(1, 30)
    return tiny_models.write_rows(room / "prompts", train=asked, test=tiny_models.prompts(2, 6))


@pytest.fixture(scope="module")
def models(room: Path, data: Path) -> Models:
    demonstrations = tiny_models.write_rows(
        room / "demonstrations", train=tiny_models.demonstrations(1, 300), validation=tiny_models.demonstrations(2, 30)
    )
    pairs = tiny_models.write_rows(room / "pairs", train=tiny_models.preferences(3, 120))
    blank = tiny_models.save_blank(room / "blank")
    prior = sft.run(
        demonstrations,
        room / "prior",
        options=sft.SftOptions(model=str(blank), epochs=4, batch=16, learning_rate=1e-2, max_tokens=32),
    )
    rewarded = reward.run(
        pairs,
        prior,
        room / "reward",
        options=reward.RewardOptions(epochs=2, batch=16, learning_rate=1e-2, max_tokens=40, max_new_tokens=8),
    )
    tuned = policy.run(
        data,
        prior,
        rewarded,
        room / "tuned",
        options=policy.PolicyOptions(
            steps=12, batch=16, group=4, learning_rate=1e-2, beta=1.0, max_new_tokens=8, max_tokens=40
        ),
    )
    return Models(prior, (rewarded,), (tuned,))


@pytest.fixture(scope="module")
def compared(room: Path, data: Path, models: Models) -> Path:
    return posterior.run(data, models, room / "compared", options=replace(OPTIONS, upper=4.0, most=1500), seed=3)


def by_subject(folder: Path) -> dict[str, dict[str, Estimate]]:
    found: dict[str, dict[str, Estimate]] = {}
    for one in run_folder.read(folder, Estimate):
        assert one.name not in found.get(one.subject, {}), (one.subject, one.name)
        found.setdefault(one.subject, {})[one.name] = one
    return found


def setting_of(data: Path, models: Models) -> Setting:
    return open_setting(rows.asked(data, "test", limit=OPTIONS.limit), models, OPTIONS, seed=3)


COLLAPSE = {
    *("entropy", "entropy of the draws", "unique share", "mode share", "self-BLEU", "repetition"),
    *("distinct-1", "distinct-2", "distinct-3", "perplexity under the prior"),
}
METHODS = ["prior", "tuned", "best of 4", "rejection", "quasi-rejection", "SIR of 4", "SMC of 4"]


def test_every_method_has_every_figure_or_says_why(compared: Path) -> None:
    found = by_subject(compared)
    compared_here = [name for name in found if name != "target" and not name.startswith((TARGET_LINE, BEST_OF_LINE))]
    assert compared_here == METHODS
    for name in METHODS:
        figures = found[name]
        for wanted in ("reward", "KL(method || prior)", "KL(method || target)", "KL(target || method)"):
            one = figures[wanted]
            assert one.value is not None or one.reason, (name, wanted)
        assert not COLLAPSE - figures.keys(), name
        assert "true reward" not in figures
    sampler = found["SIR of 4"]
    assert "upper bound" in sampler["KL(method || target)"].method
    assert sampler["KL(target || method)"].reason == "the sampler has no density to ask"


def test_every_name_is_explained(compared: Path) -> None:
    absent = {"reward, best@4", "true reward", "true reward, best@2", "true reward, best@4"}  # 3 draws, no known reward
    named = {one.name for one in run_folder.read(compared, Estimate)} | absent
    assert named <= POSTERIOR.keys() | MEANINGS.keys()
    assert POSTERIOR.keys() <= named
    assert not POSTERIOR.keys() & (MEANINGS.keys() - {"entropy"})


def test_a_policys_figures_are_those_of_its_answers(compared: Path, data: Path, models: Models) -> None:
    """Reward, KLs and J recomputed from the written answers, one forward pass each."""
    figures = by_subject(compared)["tuned"]
    answers = [one for one in run_folder.read(compared, Completion) if one.policy == "tuned"]
    assert len(answers) == 18
    setting = setting_of(data, models)
    place = {item: context for context, item in enumerate(setting.items)}
    contexts = np.array([place[one.item] for one in answers])
    sequences = [one.token_ids for one in answers]
    evidence = setting.target.evidence(contexts, sequences)
    prior = setting.prior.log_probs(contexts, sequences)
    own = setting.policies["tuned"].log_probs(contexts, sequences)
    assert [one.logprob for one in answers] == pytest.approx(own, abs=1e-3)
    assert [one.prior_logprob for one in answers] == pytest.approx(prior, abs=1e-3)
    assert figures["reward"].value == pytest.approx(evidence.mean(), abs=1e-6)
    of_two = [np.mean([max(pair) for pair in combinations(evidence[contexts == c], 2)]) for c in np.unique(contexts)]
    assert figures["reward, best@2"].value == pytest.approx(np.mean(of_two), abs=1e-6)
    assert figures["KL(method || prior)"].value == pytest.approx((own - prior).mean(), abs=1e-3)
    assert figures["J"].value == pytest.approx((evidence - own + prior).mean(), abs=1e-3)
    log_z = pool_of(draw_pool(setting), OPTIONS.pool).log_z
    expected = (log_z[contexts] - (prior + evidence - own)).mean()
    assert figures["KL(method || target)"].value == pytest.approx(expected, abs=2e-3)
    assert figures["gap beta log Z - J"].value == pytest.approx(expected, abs=2e-3)


def test_rewards_are_the_trainers(data: Path, models: Models) -> None:
    """Evidence is what `train policy` rewards, over beta; an answer that never ended gets the same penalty."""
    from perl_eval.models.generate import Rollout
    from perl_eval.training.reward_function import learned_reward

    setting = setting_of(data, models)
    drawn = setting.prior.draw(np.arange(6), np.zeros(6, np.int64))
    backbone = open_backbone(models.prior)
    asked = setting.prior.asked.prompts
    rollouts = [Rollout(asked[c], s, True) for c, s in zip(drawn.contexts, drawn.sequences, strict=True)]
    expected = learned_reward(list(models.rewards), backbone)([], rollouts)
    found = setting.target.evidence(drawn.contexts, drawn.sequences)
    for ended, value, wanted in zip(map(setting.prior.finished, drawn.sequences), found, expected, strict=True):
        assert value == pytest.approx(wanted if ended else -1.0, abs=1e-4)
    endless = (7,) * 8
    assert setting.target.evidence(np.array([0]), [endless]).tolist() == [-1.0]


def test_costs_are_counted(compared: Path) -> None:
    found = by_subject(compared)
    answers = run_folder.read(compared, Completion)
    for name in ("prior", "tuned"):
        tokens = np.mean([len(one.token_ids) for one in answers if one.policy == name])
        assert found[name]["tokens drawn an answer"].value == pytest.approx(tokens)
    for name in ("best of 4", "SIR of 4"):
        assert found[name]["answers scored an answer"].value == 4.0
        assert (found[name]["tokens drawn an answer"].value or 0) > 3 * tokens
    assert found["tuned"]["tokens drawn in training"].value == pytest.approx(12 * 16 * 4.5, rel=0.4)
    seen, expected = (found["quasi-rejection"][f"acceptance, {which}"].value for which in ("seen", "expected"))
    assert expected == pytest.approx(0.4, abs=0.01)
    assert seen == pytest.approx(0.4, abs=0.15)


def test_samplers_come_nearer_to_the_target_than_the_prior(compared: Path) -> None:
    found = by_subject(compared)
    prior = found["prior"]
    for name in METHODS[2:]:
        assert (found[name]["reward"].value or 0) > (prior["reward"].value or 0)
    for name in ("rejection", "quasi-rejection"):
        assert (found[name]["KL(method || target)"].value or 0) < 0.3 * (prior["KL(method || target)"].value or 0)
    exact = found["rejection"]
    assert exact["draws above the bound"].value == 0
    assert exact["KL(method || target)"].value == pytest.approx(0.0, abs=1e-9)
    assert exact["total variation to target"].value == pytest.approx(0.0, abs=1e-9)
    above, plain = exact["log Z, from above"], found["target"]["log Z"]
    assert (above.high or 0) > (plain.low or 0)
    quasi = found["quasi-rejection"]
    kept = quasi["draws above the bound"].value == 0  # which is chance, as are the weights; only then it is exact
    assert quasi["total variation to target"].value is not None
    assert (quasi["total variation to target"].value < 1e-9) == kept
    assert ("log Z, from above" in quasi) == kept
    best = found["best of 4"]["KL bound log n - (n - 1) / n"].value
    assert best == pytest.approx(math.log(4) - 0.75)
    assert (found["best of 4"]["KL(method || prior)"].value or 9) <= best + 1e-9
    assert "KL bound log n - (n - 1) / n" not in exact  # it is best-of-n's alone, and beside its KL, not in its place


def test_log_z_from_above_needs_a_bound_that_the_pool_keeps_too(data: Path, models: Models) -> None:
    """Else draws are cut off that the few of the sampler did not meet, and are not exact."""
    setting = replace(setting_of(data, models), options=replace(OPTIONS, draws=1, most=500))
    pool = pool_of(draw_pool(setting), OPTIONS.pool)
    bound = pool.log_weights.max(-1) + 1.0
    above = pool.log_weights.copy()
    above[0, 0] = bound[0] + 1.0
    for weights, wanted in ((pool.log_weights, True), (above, False)):
        given = _rejected(setting, replace(pool, log_weights=weights), "quasi-rejection", bound)
        assert given.sampled.exceeded == given.sampled.missing == 0
        assert ("log Z, from above" in {one.name for one in given.extra}) == wanted


def test_the_frontier_is_ordered(compared: Path) -> None:
    found = by_subject(compared)
    line = [found[name] for name in found if name.startswith(TARGET_LINE)]
    kls = [one["KL(method || prior)"].value or 0.0 for one in line]
    rewards = [one["reward"].value or 0.0 for one in line]
    assert len(line) == 8
    assert kls == sorted(kls)
    assert rewards == sorted(rewards)
    best = [found[f"{BEST_OF_LINE} {n}"]["reward"].value or 0.0 for n in (1, 2, 4, 8)]
    assert best == sorted(best)
    # The target at the run's own beta is the target: E[log evidence] - log Z is its KL to the prior.
    own = found[f"{TARGET_LINE} 1"]
    assert own["KL(method || prior)"].value == pytest.approx(found["target"]["KL(target || prior)"].value)


def test_a_bound_that_does_not_hold_is_said(room: Path, data: Path, models: Models) -> None:
    options = replace(OPTIONS, upper=0.0, samplers=("rejection",), limit=3)
    found = by_subject(posterior.run(data, models, room / "bounded", options=options))["rejection"]
    over = found["draws above the bound"]
    assert (over.value or 0) > 0
    assert over.reason == "the bound does not hold: this was quasi-rejection"
    assert (found["KL(method || target)"].value or 0) > 0


def test_answers_that_are_not_found_are_missing(room: Path, data: Path, models: Models) -> None:
    options = replace(OPTIONS, upper=200.0, samplers=("rejection",), limit=2, most=4)
    found = by_subject(posterior.run(data, models, room / "missing", options=options))["rejection"]
    assert found["reward"].value is None
    assert (found["reward"].n_missing, found["reward"].reason) == (6, "no answer was found")


def test_pictures_are_written_and_do_not_change(compared: Path, room: Path, data: Path, models: Models) -> None:
    from perl_eval.posterior import plot

    svg = (compared / "frontier.svg").read_bytes()
    assert svg.startswith(b"<?xml")
    assert b"best of 4" in svg
    assert b"KL: upper bound" in svg
    assert (compared / "frontier.png").read_bytes().startswith(b"\x89PNG")
    plot.draw(run_folder.read(compared, Estimate), room / "again")
    assert (room / "again" / "frontier.svg").read_bytes() == svg


def test_the_seed_decides_and_a_second_call_is_done(room: Path, data: Path, models: Models) -> None:
    options = replace(OPTIONS, limit=2, draws=2, pool=8, n=2, upper=1.0, most=20)
    once = posterior.run(data, models, room / "once", options=options, seed=3)
    again = posterior.run(data, models, room / "twice", options=options, seed=3)
    other = posterior.run(data, models, room / "other-seed", options=options, seed=4)
    assert run_folder.read(again, Estimate) == run_folder.read(once, Estimate)
    assert run_folder.read(again, Completion) == run_folder.read(once, Completion)
    assert run_folder.read(other, Completion) != run_folder.read(once, Completion)
    before = (once / "estimates.parquet").stat().st_mtime_ns
    posterior.run(data, models, once, options=options, seed=3)
    assert (once / "estimates.parquet").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="the seed was 3 and is now 4"):
        posterior.run(data, models, once, options=options, seed=4)


def test_answers_hang_on_seed_prompt_and_name_only(room: Path, data: Path, models: Models, compared: Path) -> None:
    """So figures of a collapse are of the same prompts and seeds, whatever else is compared, and however much of it."""
    options = replace(OPTIONS, limit=3, draws=2, samplers=("best-of-n",))
    fewer = posterior.run(data, models, room / "fewer", options=options, seed=3)

    def said(folder: Path) -> dict[tuple[str, str, int], tuple[int, ...]]:
        found = [one for one in run_folder.read(folder, Completion) if one.policy in ("prior", "tuned")]
        return {(one.policy, one.item, one.draw): one.token_ids for one in found}

    few, many = said(fewer), said(compared)
    assert (len(few), len(many)) == (2 * 3 * 2, 2 * 6 * 3)
    assert few.items() <= many.items()


def test_rejection_takes_no_part_without_a_bound(data: Path, models: Models) -> None:
    setting = setting_of(data, models)
    pool = pool_of(draw_pool(setting), OPTIONS.pool)
    assert OPTIONS.upper is None
    bounded = replace(setting, options=replace(OPTIONS, upper=4.0))
    assert (len(methods(setting, pool)), len(methods(bounded, pool))) == (len(METHODS) - 1, len(METHODS))


def test_a_killed_comparison_goes_on_with_the_next_method(
    room: Path, data: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, limit=2, draws=2, pool=8, n=2, samplers=("best-of-n", "SIR"))
    whole = posterior.run(data, models, room / "unbroken", options=options)
    with monkeypatch.context() as patch:
        patch.setattr(best_of_n, "importance_resampled", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            posterior.run(data, models, room / "broken", options=options)
    assert not (room / "broken" / "run.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(compare, "draw_pool", lambda _: pytest.fail("the pool was drawn again"))
        patch.setattr(best_of_n, "best_of_n", lambda *_, **__: pytest.fail("a finished method ran again"))
        again = posterior.run(data, models, room / "broken", options=options)
    assert run_folder.read(again, Estimate) == run_folder.read(whole, Estimate)
    assert run_folder.read(again, Completion) == run_folder.read(whole, Completion)
    assert sorted(path.name for path in again.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert "run.json" in {path.name for path in again.iterdir()}


def test_true_rewards_of_the_embedded_world(room: Path, models: Models) -> None:
    """Where the reward is known it stands beside the learned one, and the figures are marked as simulated."""
    built = coffee.build(room / "world", demonstrations=5, preferences=5, prompts=6)
    options = replace(OPTIONS, samplers=("best-of-n",), limit=2, max_tokens=120)
    folder = posterior.run(built / "prompts", models, room / "worldly", options=options)
    found = by_subject(folder)
    answers = [one for one in run_folder.read(folder, Completion) if one.policy == "prior"]
    expected = np.mean([coffee.true_reward_of(one) for one in answers])
    assert found["prior"]["true reward"].value == pytest.approx(expected)
    assert "true reward" in found[f"{TARGET_LINE} 1"]
    assert all(one.simulated for one in run_folder.read(folder, Estimate))


def test_a_fully_tuned_policy_is_a_model_of_its_own(room: Path, data: Path, models: Models) -> None:
    options = replace(OPTIONS, samplers=("best-of-n",), limit=2)
    folder = posterior.run(data, replace(models, policies=(room / "blank",)), room / "whole", options=options)
    figures = by_subject(folder)["blank"]
    assert (figures["KL(method || prior)"].low or 0) > 1.0
    answer = next(one for one in run_folder.read(folder, Completion) if one.policy == "blank")
    backbone = open_backbone(room / "blank")
    asked = encode_prompt(backbone.tokenizer, answer.prompt, max_tokens=32)
    with torch.no_grad():
        table = torch.log_softmax(backbone.causal(input_ids=torch.tensor([[*asked, *answer.token_ids]])).logits[0], -1)
    own = sum(float(table[len(asked) + step - 1, token]) for step, token in enumerate(answer.token_ids))
    assert answer.logprob == pytest.approx(own, abs=1e-3)


def test_a_policy_of_another_vocabulary_is_refused(room: Path, data: Path, models: Models) -> None:
    folder = room / "foreign"
    tokenizer = make_tokenizer(["other words altogether"] * 9, 290)
    make_model(tiny_models.SIZE, tokenizer, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match="has another vocabulary than the prior"):
        posterior.run(data, replace(models, policies=(folder,)), room / "unspoken", options=OPTIONS)


def test_models_that_do_not_fit(room: Path, data: Path, models: Models) -> None:
    def fails(wrong: Models, name: str) -> str:
        with pytest.raises((UserError, DataError)) as caught:
            posterior.run(data, wrong, room / name, options=OPTIONS)
        return str(caught.value)

    assert "two things are called 'tuned'" in fails(replace(models, policies=models.policies * 2), "one")
    assert "is a reward model, which gives no answers" in fails(replace(models, policies=models.rewards), "two")
    other = tiny_models.save_blank(room / "other")
    assert "another backbone" in fails(replace(models, prior=other), "three")
    assert "there is no reward model" in fails(replace(models, rewards=()), "four")


def test_the_command_line_prints_a_line_a_method(room: Path, data: Path, models: Models, command: Command) -> None:
    line = (
        f"posterior --data {data} --prior {models.prior} --reward {models.rewards[0]} --policy {models.policies[0]} "
        f"--beta 1 --limit 2 --draws 2 --pool 8 --n 2 --sampler SIR --max-tokens 40 --max-new-tokens 8 "
        f"--out {room / 'cli'}"
    )
    shown = command(line)
    assert shown.code in (None, 0)
    for word in (
        "prior",
        "tuned",
        "SIR of 2",
        "KL to target",
        "self-BLEU",
        "tokens an answer",
        "<= ",
        "none",
        "log Z: ",
    ):
        assert word in shown.out, word
    assert "? unreliable: fewer than 30 effective draws" in shown.out
    assert shown.out.rstrip().endswith(str(room / "cli"))


def test_best_of_poisson_takes_part_where_it_is_named(data: Path, models: Models) -> None:
    """Its KL lies below its own bound and near that of best-of-n with as many draws on average."""
    setting = setting_of(data, models)
    named_ones = replace(setting, options=replace(setting.options, samplers=("best-of-n", "best-of-Poisson")))
    pool = pool_of(draw_pool(named_ones), named_ones.options.pool)
    given = [method() for method in methods(named_ones, pool)]
    best, mixed = given[-2:]
    assert (best.name, mixed.name) == ("best of 4", "best of 1 + Poisson(3)")
    assert len(mixed.sampled.kept.log_prior) == len(named_ones.found) * named_ones.options.draws
    bound = best_of_poisson_bound(3.0)
    assert (mixed.divergences[0].value or 9) <= bound + 1e-9  # equal where all rewards of the pool differ
    assert bound < best_of_n.best_of_n_bound(4)
    assert mixed.divergences[1].value == pytest.approx(best.divergences[1].value, abs=0.5)
    assert "best-of-Poisson" not in PosteriorOptions(beta=1.0).samplers
