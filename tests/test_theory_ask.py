"""`latebloom ask`, `schedule`, `fit` over sizes: answers that agree with brute force, one screen, JSON, bad input."""

import json

import numpy as np
import pytest

from latebloom.theory import AreaLaw, Constant, InputError, Signal, write_plan, wsd
from latebloom.theory.ask import answer, answers_text
from latebloom.theory.cost import depth_cost_ratio, flops_per_token, plan_flops
from latebloom.theory.landscapes.coupled import random_coupled
from latebloom.theory.landscapes.functional import FunctionalLaw
from latebloom.theory.landscapes.registry import FittedLandscape, read_fitted
from latebloom.theory.landscapes.scaling import ShapeLaw, SizeLaw
from latebloom.theory.schedule_report import report, report_text
from latebloom.theory.words import amount_text, blocks_text
from tests.helpers import tiny_plan
from tests.test_cli import run
from tests.test_theory_landscapes import area, records

SCREEN = 24, 140  # lines and columns of a terminal
PLAN = tiny_plan(steps=400, tau=200, small=1, full=4).replace(schedule=wsd(steps=400, peak_lr=0.05))


@pytest.fixture
def plan_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_plan(PLAN, "plan.json")
    return "plan.json"


def on_one_screen(text):
    return len(text.splitlines()) <= SCREEN[0] and max(map(len, text.splitlines())) <= SCREEN[1]


class TestAnswers:
    def test_best_fixed_depth_is_the_lowest_of_equal_compute(self):
        law = area()
        answers = answer(PLAN, [FittedLandscape(law=law)])
        best, flops = answers.optimum, plan_flops(PLAN)
        assert answers.flops == flops
        assert answers.fixed_depths == (1, 4)
        losses = {}
        for depth in (1, 4):
            steps = round(flops / (PLAN.batch_tokens * flops_per_token(PLAN.model, depth)))
            schedule = PLAN.schedule.with_steps(steps)
            losses[depth] = float(law.fixed(schedule, steps, depth=depth))
        assert best.best_depth == min(losses, key=losses.get)
        assert best.best_loss == pytest.approx(min(losses.values()), rel=1e-3)
        assert best.fixed_loss == pytest.approx(losses[4], rel=1e-12)
        assert best.wins == (best.tau > 0 and best.loss < best.best_loss)
        assert answers.tau_star == law.tau_star(PLAN.schedule, 0.01 * float(law.fixed(PLAN.schedule, 400, depth=4)))
        ratio = depth_cost_ratio(PLAN.model, 1, 4)
        assert best.steps == pytest.approx(flops / flops_per_token(PLAN.model, 4) / PLAN.batch_tokens / (
            1 - (1 - ratio) * best.tau / best.steps), rel=0.01)  # fmt: skip

    @pytest.mark.parametrize(("small_gap", "depth"), [(0.0, 1), (3.0, 4)])
    def test_the_control_that_decides_is_named(self, small_gap, depth):
        """Where the small depth misses nothing it is best; where it misses 3 nats the full one is."""
        answers = answer(PLAN, [FittedLandscape(law=area(small_gap=small_gap))])
        assert answers.optimum.best_depth == depth
        text = answers_text(answers, PLAN)
        assert f"best fixed depth    {blocks_text(depth)} for" in text
        if small_gap == 0:
            assert not answers.optimum.wins
            assert "Do not grow: " in text
            assert f"the best fixed depth of equal compute: train {blocks_text(depth)}." in text

    def test_two_small_depths(self):
        """The better trunk is chosen: depth 2 with half the gap, at its own cost."""
        laws = [FittedLandscape(law=area()), FittedLandscape(law=area(small_depth=2, kappa=0.1))]
        assert answer(PLAN, laws).optimum.small_depth == 2

    def test_winning_compute_separates_losing_from_winning(self):
        law = area(small_gap=3.0, kappa=1.0)
        answers = answer(PLAN, [FittedLandscape(law=law)], flops=plan_flops(PLAN))
        if answers.winning_flops is not None:
            assert answer(PLAN, [FittedLandscape(law=law)], flops=1.2 * answers.winning_flops).optimum.wins
        assert answers.winning_flops_full is None or answers.winning_flops is None or (
            answers.winning_flops_full <= 1.1 * answers.winning_flops
        )  # fmt: skip

    def test_closed_form_is_the_optimum_at_a_constant_rate(self):
        """Power laws without onset, decay and noise: the numerical optimum has the closed form's expansion."""
        signal = Signal(amplitude=1.0, exponent=0.3, onset=1e-6, reference=1.0)
        law = AreaLaw(
            small_depth=1, full_depth=4, floor=1.0, small_gap=9.0, kappa=1.0, noise=0.0, noise_rate=1.0,
            trunk=signal, fresh=signal.replace(amplitude=1.5),
        )  # fmt: skip
        plan = PLAN.replace(schedule=Constant(steps=400, peak_lr=0.05))
        answers = answer(plan, [FittedLandscape(law=law)], flops=100 * plan_flops(plan))
        closed, best = answers.closed_form, answers.optimum
        assert closed.grows == best.grows
        assert closed.tau / closed.horizon == pytest.approx(best.tau / best.steps, abs=0.01)
        assert closed.loss == pytest.approx(best.loss - 1.0, rel=1e-4)
        assert "by power laws at a constant rate: " in answers_text(answers, plan)
        assert answer(PLAN, [FittedLandscape(law=random_coupled(trunk=6, new=4, coupling=0.3))]).closed_form is None

    def test_exact_retention(self):
        law = random_coupled(trunk=6, new=4, coupling=0.3)
        answers = answer(PLAN, [FittedLandscape(law=law)])
        best = answers.optimum
        schedule = PLAN.schedule.with_steps(best.steps)
        left = schedule.total_area - float(schedule.area(best.tau))
        cold = float(law.full_after(left))
        assert answers.retention == pytest.approx(cold - best.loss, abs=1e-3)  # tau is rounded to a whole step
        assert "Retention (a cold start's loss minus the grown run's)" in answers_text(answers, PLAN)

    def test_bad_input(self):
        for laws, message in (
            ([], "law = None: is needed to answer from"),
            ([area(), area()], "small_depth = 1: has two laws"),
            ([area(full_depth=5)], "full_depth = 5: is the depth that this law grows to, the plan's is 4"),
        ):
            with pytest.raises(InputError, match=message):
                answer(PLAN, [FittedLandscape(law=law) for law in laws])
        for changes, message in (
            ({"flops": 0.0}, "compute = 0"),
            ({"flops": float("nan")}, "compute = nan"),
            ({"tolerance": 1.0}, "tolerance = 1"),
            ({"peaks": (0.1, 0.05)}, "peaks = "),
        ):
            with pytest.raises(InputError, match=message):
                answer(PLAN, [FittedLandscape(law=area())], **changes)


def test_from_pilots_to_answers(capsys, plan_file, tmp_path, monkeypatch):
    """`fit --out`, `ask --law`, `ask --pilot`: the same law, the same answers."""
    made = {record.header.name: record for record in records(area(), peaks=(0.05,))}
    monkeypatch.setattr("latebloom.theory.record.read_records", lambda paths: [made[str(path)] for path in paths])
    fit = ["fit", *made, "--law", "area", "--replicas", "12", "--out", "law.json"]
    assert run(capsys, *fit)[0] == 0
    assert len(read_fitted("law.json").replicas) == 12
    code, text, _ = run(capsys, "ask", plan_file, "--law", "law.json")
    assert code == 0
    assert on_one_screen(text)
    assert "best fixed depth" in text
    assert "intervals" in text
    from_file = json.loads(run(capsys, "ask", plan_file, "--law", "law.json", "--json")[1])
    from_pilots = json.loads(run(capsys, "ask", plan_file, "--pilot", *made, "--json")[1])
    assert from_file["optimum"] == from_pilots["optimum"]
    assert from_file["tau_star"] == from_pilots["tau_star"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["ask", "plan.json"], "--law = None: or --pilot is needed, and not both"),
        (["ask", "plan.json", "--law", "plan.json"], "is not a field here"),
        (["ask", "nowhere.json", "--law", "law.json"], "cannot be read"),
        (["schedule", "nowhere.json"], "cannot be read"),
        (["schedule", "plan.json", "--curve", "x.csv"], "curve = 'x.csv': is not there"),
        (["schedule", "plan.json", "--curve", "x.csv", "--law", "functionl"], "did you mean 'functional'?"),
        (["fit", "x.csv", "--law", "siez"], "x.csv"),
        (["fit", "x.csv", "--law", "size"], "curve = 'x.csv': is not there"),
        (["plan", "--model", "gpt2-124m", "--steps", "2000", "--batch-tokens", "9", "--peak-lr", "0.1", "--pilot",
          "p", "--law", "aera"], "p"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(capsys, plan_file, args, message):
    code, out, err = run(capsys, *args)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err


class TestSchedule:
    def test_report(self, capsys, plan_file):
        code, text, _ = run(capsys, "schedule", plan_file)
        assert code == 0
        assert on_one_screen(text)
        assert text.startswith("wsd, 400 steps: passes the qualifying exam")
        table = json.loads(run(capsys, "schedule", plan_file, "--json")[1])
        assert table == report(PLAN)
        assert table["bound"]["curve"]["value"][-1] == pytest.approx(table["bound"]["best_value"], rel=1e-4)
        meets = table["bound"]["meeting_step"]
        assert meets["0.25"] > meets["0.5"] > meets["0.75"] > 0

    def test_constant_fails(self, plan_file):
        from latebloom.theory import Constant

        text = report_text(report(PLAN.replace(schedule=Constant(steps=400, peak_lr=0.05))))
        assert text.startswith("constant, 400 steps: fails the qualifying exam (never decays")

    def test_best_schedule_of_a_law_beats_the_plans(self, capsys, plan_file, tmp_path):
        law = FunctionalLaw(floor=2.0, amplitude=0.5, noise=20.0, exponent=0.6, memory=7.0, tail=1.4)
        schedule = wsd(steps=400, peak_lr=0.05, decay=0.5)
        step = np.arange(1, 401)
        rows = zip(step, law.loss(schedule, step), np.append(schedule.lrs()[1:], 0.0), strict=True)
        (tmp_path / "a.csv").write_text("step,loss,lr\n" + "\n".join(f"{s},{l},{r}" for s, l, r in rows))
        code, text, _ = run(capsys, "schedule", plan_file, "--curve", "a.csv", "--warmup", "1")
        assert code == 0, text
        assert "Best schedule of the functional law" in text
        best = json.loads(run(capsys, "schedule", plan_file, "--curve", "a.csv", "--warmup", "1", "--json")[1])["best"]
        assert best["loss"] <= best["loss_of_plan"]
        assert sum(best["pieces"]["steps"]) == pytest.approx(400, rel=1e-6)


class TestSizes:
    SIZE = SizeLaw(floor=1.8, size_amplitude=480.0, size_exponent=0.35, token_amplitude=2000.0, token_exponent=0.36)

    def test_size_law_from_a_table(self, capsys, plan_file, tmp_path):
        n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5)))
        rows = "\n".join(f"run,{a},{b},{c}" for a, b, c in zip(n, d, self.SIZE.loss(n, d), strict=True))
        (tmp_path / "runs.csv").write_text(f"name,parameters,tokens,loss\n{rows}\n")
        code, text, _ = run(capsys, "fit", "runs.csv", "--law", "size")
        assert code == 0
        table = json.loads(run(capsys, "fit", "runs.csv", "--law", "size", "--json")[1])
        assert "runs.csv:2 run" in table["runs"] and len(table["runs"]) == 25
        for name, row in table["parameters"].items():
            assert row["value"] == pytest.approx(getattr(self.SIZE, name), rel=0.02), name
        best = self.SIZE.optimum(6 * 1e9 * 1e11)
        assert f"at {amount_text(6e20)} FLOPs (1 x the largest run): {amount_text(best.parameters)} parameters" in text
        assert run(capsys, "fit", "runs.csv", "--law", "shape")[2].startswith("latebloom: column = 'width': is needed")

    def test_shape_law_from_a_table(self, capsys, plan_file, tmp_path):
        rng = np.random.default_rng(0)
        w, l, t = rng.uniform(100, 1000, 40), rng.uniform(2, 30, 40), rng.uniform(1e8, 1e10, 40)
        law = ShapeLaw(
            floor=1.5, width_amplitude=0.5, width_exponent=0.5, depth_amplitude=0.3, depth_exponent=0.6,
            token_amplitude=0.4, token_exponent=0.4, lr_exponent=0.0, noise=0.0, width_reference=300.0,
            depth_reference=8.0, token_reference=1e9, lr_reference=1.0,
        )  # fmt: skip
        rows = "\n".join(",".join(map(str, row)) for row in zip(w, l, t, law.loss(w, l, t), strict=True))
        (tmp_path / "runs.csv").write_text(f"width,depth,tokens,loss\n{rows}\n")
        table = json.loads(run(capsys, "fit", "runs.csv", "--law", "shape", "--json")[1])
        for name in ("width_exponent", "depth_exponent", "token_exponent"):
            assert table["parameters"][name]["value"] == pytest.approx(getattr(law, name), rel=0.02)
        assert max(row["worst"] for row in table["runs"].values()) < 1e-3
