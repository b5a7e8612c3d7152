"""Hugging Face both ways: weights in, runs out, logits equal, `generate` works, and refusals."""

import json
import shutil
import sys
import types

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from latebloom import cli
from latebloom.theory import InputError, fixed_depth
from latebloom.theory.plan import BlockVariant
from latebloom.train.data.tokenizers import byte_tokenizer, with_end
from latebloom.train.interop.sample import _examples, _score, hellaswag, load_run
from latebloom.train.model.hf import export, from_hf, hf_config, hf_state
from latebloom.train.model.transformer import GPT2
from latebloom.train.run import checkpoint
from latebloom.train.run.directory import RunDirectory
from latebloom.train.run.loop import TrainConfig, train
from tests.helpers import tiny_plan, tiny_shape

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()

IDS = torch.randint(0, 256, (2, 16), generator=torch.Generator().manual_seed(0))
LOGITS = 1e-5  # float32, two implementations of the same sums
QUIET = TrainConfig(quiet=True, evals=2, eval_tokens=256, repeat_data=True, device="cpu")


def stirred(model):
    """The model with biases and gains that are not at their initial values."""
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    return model


def gpt2(depth, **changes):
    config = dict(vocab_size=256, n_positions=16, n_embd=32, n_layer=depth, n_head=2, bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    return stirred(transformers.GPT2LMHeadModel(transformers.GPT2Config(**config | changes)).eval())


@pytest.mark.parametrize(("depth", "tied"), [(0, True), (1, False), (12, True)])
def test_import_of_a_random_gpt2(depth, tied, tmp_path):
    theirs = gpt2(depth, tie_word_embeddings=tied)
    ours = from_hf(theirs)
    assert (ours.depth, ours.shape.tied_head) == (depth, tied)
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = theirs(IDS).logits
        torch.testing.assert_close(ours(IDS), expected, rtol=0, atol=LOGITS)
        assert torch.equal(from_hf(tmp_path)(IDS), ours(IDS))
    theirs.save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    assert (tmp_path / "parts" / "model.safetensors.index.json").exists()
    with torch.no_grad():
        assert torch.equal(from_hf(tmp_path / "parts")(IDS), ours(IDS))


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_variants_are_llama_and_qwen3(depth, qk_norm):
    block = BlockVariant(kv_heads=2, hidden=48, rope_theta=500.0, norm_eps=1e-5, qk_norm=qk_norm)
    ours = stirred(GPT2(tiny_shape().replace(heads=4, block=block, tied_head=depth != 1), depth))
    config = transformers.AutoConfig.for_model(**hf_config(ours.shape, depth))
    assert type(config).__name__ == ("Qwen3Config" if qk_norm else "LlamaConfig")
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    missing, unexpected = theirs.load_state_dict(hf_state(ours.state_dict(), ours.shape), strict=False)
    assert (set(missing) - {"lm_head.weight"}, unexpected) == (set(), [])
    with torch.no_grad():
        torch.testing.assert_close(ours(IDS), theirs(IDS).logits, rtol=0, atol=LOGITS)
        again = from_hf(theirs)
        assert again.shape == ours.shape.replace(name=again.shape.name)
        assert torch.equal(again(IDS), ours(IDS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation_function": "relu"}, "activation_function = 'relu': differs from ours, the tanh"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon = 1e-06: differs from ours"),
        ({"n_inner": 64}, "n_inner = 64: is not 4 x 32"),
    ],
)
def test_what_is_not_ours_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        from_hf(gpt2(1, **changes))


def test_damaged_directories_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no config\.json"):
        from_hf(tmp_path)
    gpt2(1).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="only safetensors are read"):
        from_hf(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="model_type = 'bert': is not one of ours"):
        from_hf(tmp_path)


@pytest.mark.parametrize("depth", [0, 1, 12])
def test_a_run_is_exported_and_generates(depth, data, tmp_path, capsys):
    plan = fixed_depth(tiny_plan(steps=4, tau=None), name="exported", depth=depth)
    plan = plan.replace(model=plan.model.replace(tied_head=depth != 1))
    train(plan, data=data, out=tmp_path / "run", config=QUIET)
    with pytest.raises(SystemExit) as stop:
        cli.main(["export", str(tmp_path / "run"), "--to", "hf", "--out", str(tmp_path / "hf")])
    assert stop.value.code == 0
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    ours = GPT2(plan.model, depth)
    ours.load_state_dict(checkpoint.load(RunDirectory(tmp_path / "run").newest_checkpoint()[0])[1])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    ids = tokenizer("late bloom", return_tensors="pt").input_ids
    assert ids[0].tolist() == list(b"late bloom")
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, ours(IDS), rtol=0, atol=LOGITS)
        torch.testing.assert_close(from_hf(tmp_path / "hf")(IDS), ours(IDS), rtol=0, atol=LOGITS)
        made = model.generate(ids, max_new_tokens=5, do_sample=False)
        greedy = ids
        for _ in range(5):
            greedy = torch.cat([greedy, ours(greedy)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(made, greedy)
    card = (tmp_path / "hf" / "README.md").read_text()
    for text in (plan.digest, "| 4 | 256 |", "lm_eval --model hf", f"{depth} blocks of width 32"):
        assert text in card
    with pytest.raises(InputError, match="is not empty"):
        export(tmp_path / "run", tmp_path / "hf")


@pytest.fixture(scope="module")
def exported(data, tmp_path_factory):
    """(run, export) of two blocks that have seen a few words."""
    folder = tmp_path_factory.mktemp("exported")
    plan = fixed_depth(tiny_plan(steps=30, tau=None, peak_lr=0.05), name="exported", depth=2)
    train(plan, data=data, out=folder / "run", config=QUIET)
    return folder / "run", export(folder / "run", folder / "hf")


def bpe(vocab_size, text="grow depth late bloom " * 20):
    """As runs of before 2026-11-26 have it, without a token that ends a document."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator([text], trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet))
    return made


@pytest.mark.parametrize("kind", ["bytes", "bpe", "padded", "named"])
def test_every_export_has_an_end_of_text(kind):
    """A token of the model's, no other token moved, and all of it the same after being saved by others."""
    before = byte_tokenizer() if kind == "bytes" else bpe(270)
    size = before.get_vocab_size() + 5 * (kind == "padded")
    if kind == "named":
        before.add_special_tokens(["</s>"])
        size += 1
    after, name = with_end(before, size)
    assert name == ("</s>" if kind == "named" else "<|endoftext|>")
    index = after.token_to_id(name)
    assert index == (0 if kind == "bytes" else before.token_to_id("Ā") if kind == "bpe" else before.get_vocab_size() - (
        kind == "named"
    ))  # fmt: skip
    text = "late bloom, Ā Ċ naïve\n\tgrow ~ 深"
    for made in (after, Tokenizer.from_str(after.to_str())):
        assert made.encode(text).ids == before.encode(text).ids
        assert made.encode(f"late{name}bloom").ids == [*before.encode("late").ids, index, *before.encode("bloom").ids]
        assert made.decode(made.encode(text).ids) == text
        assert max(made.get_vocab().values()) < size


def test_no_end_of_text_where_no_token_is_free():
    """A BPE that has merged byte 0 needs it, and a word model has no bytes."""
    words = Tokenizer(models.WordLevel({"late": 0, "bloom": 1}, unk_token="late"))
    for made in (bpe(270, "grow\0\0 late\0\0 " * 20), words):
        assert with_end(made, made.get_vocab_size()) == (made, None)


def test_what_evaluation_harnesses_rely_on(exported):
    """A prefix for scoring without a context, padding of unequal prompts, and the longest input."""
    config = transformers.AutoConfig.from_pretrained(exported[1])
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported[1])
    model = transformers.AutoModelForCausalLM.from_pretrained(exported[1]).eval()
    ids = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert ids == {config.bos_token_id, config.eos_token_id, model.generation_config.pad_token_id}
    assert len(ids) == 1 and 0 <= min(ids) < config.vocab_size == len(tokenizer)
    assert config.max_position_embeddings == tokenizer.model_max_length == 16
    assert tokenizer.decode(tokenizer.bos_token_id) == "<|endoftext|>"
    assert tokenizer("bloom").input_ids == list(b"bloom")  # nothing is put before a text unasked
    prompts = ["late bl", "gr"]
    padded = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    settings = dict(max_new_tokens=6, do_sample=False, eos_token_id=None)
    together = model.generate(**padded, **settings)[:, -6:]
    for i, prompt in enumerate(prompts):
        assert torch.equal(model.generate(**tokenizer(prompt, return_tensors="pt"), **settings)[0, -6:], together[i])


def questions(folder):
    """(path, rows) of HellaSwag-like lines: WikiHow's marks, capitals, letters of two bytes, long contexts."""
    rng = np.random.default_rng(1)
    words = ["grow", "depth", "late", "bloom", "naïve", "深い", "xq"]
    rows = [
        {"activity_label": "Growing", "ctx_a": " ".join(rng.choice(words, rng.integers(1, 6))) + " [header] How",
         "ctx_b": str(rng.choice(["", "late [title] bloom"])), "ctx": "unused", "label": str(rng.integers(4)),
         "endings": [" ".join(rng.choice(words, rng.integers(1, 3))) + " [step]" * int(rng.integers(2))
                     for _ in range(4)]}
        for _ in range(25)
    ]  # fmt: skip
    path = folder / "hellaswag.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path, rows


@torch.no_grad()
def test_hellaswag_is_that_of_the_export(exported, tmp_path):
    """Our score against the exported model's, worked out text by text as lm-eval's task describes it."""
    path, rows = questions(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported[1])
    model = transformers.AutoModelForCausalLM.from_pretrained(exported[1]).eval()
    run = load_run(exported[0])
    best: list[tuple[int, int]] = []
    for row, (context, endings, _) in zip(rows, _examples(path), strict=True):
        tail = "Late. bloom" if row["ctx_b"] else ""
        head = f"Growing: {row['ctx_a'].removesuffix(' [header] How')} How {tail}".strip()
        sums, lengths = [], []
        for ending in row["endings"]:
            ending = ending.replace("[step]", "").replace("  ", " ")
            known = tokenizer(head).input_ids
            ids = tokenizer(f"{head} {ending}").input_ids[-17:]
            count = len(tokenizer(f"{head} {ending}").input_ids) - len(known)
            logs = model(torch.tensor([ids[:-1]])).logits[0].log_softmax(-1)
            sums.append(sum(float(logs[-i, ids[-i]]) for i in range(1, count + 1)))
            lengths.append(len(ending))
        ours = [_score(*run, context, ending) for ending in endings]
        np.testing.assert_allclose(ours, sums, rtol=0, atol=20 * LOGITS)  # sums over up to 16 tokens
        best.append((int(np.argmax(sums)), int(np.argmax(np.divide(sums, lengths)))))
    assert any(a != b for a, b in best)
    for i, name in enumerate(("accuracy", "accuracy_normalised")):  # labelled so, every question is right
        labelled = [row | {"label": choices[i]} for row, choices in zip(rows, best, strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in labelled))
        assert getattr(hellaswag(*run, path), name) == 1


def test_lm_eval_agrees_question_by_question(exported, tmp_path, monkeypatch):
    """The harness itself on the export, its own hellaswag task on our lines: runs where lm_eval is installed."""
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks.hellaswag import utils

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path, rows = questions(tmp_path)
    (tmp_path / "local.yaml").write_text(json.dumps({
        "task": "local", "dataset_path": "json", "dataset_kwargs": {"data_files": {"validation": str(path)}},
        "output_type": "multiple_choice", "validation_split": "validation", "doc_to_text": "{{query}}",
        "doc_to_target": "{{label}}", "doc_to_choice": "choices",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    })[:-1] + ', "process_docs": !function task.process_docs}')  # fmt: skip
    shutil.copy(utils.__file__, tmp_path / "task.py")
    found = lm_eval.simple_evaluate(
        model="hf", model_args={"pretrained": str(exported[1])}, tasks=["local"], device="cpu", batch_size=3,
        task_manager=TaskManager(include_path=str(tmp_path)), bootstrap_iters=0,
    )  # fmt: skip
    model, tokenizer = load_run(exported[0])
    for sample in found["samples"]["local"]:
        (tmp_path / "one.jsonl").write_text(json.dumps(rows[sample["doc_id"]]) + "\n")
        one = hellaswag(model, tokenizer, tmp_path / "one.jsonl")
        assert (one.accuracy, one.accuracy_normalised) == (sample["acc"], sample["acc_norm"])
    assert len(found["samples"]["local"]) == 25


def test_eval_hands_the_export_to_the_harness(exported, monkeypatch, capsys):
    """Against a stand-in: what it is given loads, and what it finds is said; without it, what to install."""

    def simple_evaluate(*, model_args, tasks, **told):
        model = transformers.AutoModelForCausalLM.from_pretrained(model_args["pretrained"])
        assert told["limit"] == 3 and told["num_fewshot"] is None
        return {"results": {task: {"alias": task, "acc,none": model.config.vocab_size / 512} for task in tasks}}

    def called(tasks):
        with pytest.raises(SystemExit):
            cli.main(["eval", str(exported[0]), "--tasks", tasks, "--limit", "3"])
        return capsys.readouterr()

    harness, tasks = types.ModuleType("lm_eval"), types.ModuleType("lm_eval.tasks")
    harness.simple_evaluate = simple_evaluate
    tasks.TaskManager = lambda include_path: types.SimpleNamespace(all_tasks=["arc_easy", "lambada"])
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "lm_eval", harness)
        patch.setitem(sys.modules, "lm_eval.tasks", tasks)
        share = transformers.AutoConfig.from_pretrained(exported[1]).vocab_size / 512
        assert called("arc_easy, lambada").out.splitlines() == [
            "task      scores", *(f"{name:<10}acc {share:.4f}" for name in ("arc_easy", "lambada"))
        ]  # fmt: skip
        assert "did you mean 'lambada'?" in called("lambda").err
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert "pip install 'lm_eval[hf]'" in called("lambada").err
