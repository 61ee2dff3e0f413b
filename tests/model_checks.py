"""ModelChecks: what every model and every half of one must do to be a model of transformers."""

import abc
import copy
import inspect
import subprocess
import sys

import pytest
import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput, is_flash_attn_2_available, is_torch_flex_attn_available

from modeling_unigloR.modeling_layers_uniglor import STATISTICS

STRANGER = """
import sys
sys.modules["modeling_unigloR"] = sys.modules["train"] = None  # as if they were not installed
import torch
from transformers import AutoModel
for line in sys.stdin:
    folder = line.strip()
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules"), type(model).__module__
    torch.manual_seed(0)
    with torch.no_grad():
        output = model(**torch.load(folder + "/inputs.pt", weights_only=True))
    torch.save({name: value for name, value in output.items() if isinstance(value, torch.Tensor)}, folder + "/outputs.pt")
    print("done", flush=True)
"""


class Stranger:
    """A process without this package, which loads one folder after the other with the code inside, and runs `inputs.pt` through it."""

    def __init__(self, folder):
        self.errors = folder / "errors.txt"
        with self.errors.open("w") as errors:
            command = [sys.executable, "-c", STRANGER]
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder, bufsize=1
            )

    def outputs(self, folder):
        """What the model in a folder gives to `inputs.pt`: {name: tensor}."""
        self.process.stdin.write(f"{folder}\n")
        answer = self.process.stdout.readline()
        assert answer == "done\n", self.errors.read_text()[-3000:]
        return torch.load(folder / "outputs.pt", weights_only=True)

    def stop(self):
        self.process.kill()
        self.process.wait(timeout=60)


class ModelChecks(abc.ABC):
    """A mixin of tests. A subclass says how its model is made and what it reads; B is 2 in all inputs.

    Attributes:
        hidden_states: {name in the output: number of layers} of what `output_hidden_states` adds.
        attentions: the same of what `output_attentions` adds.
        compiled: (name of a method, its inputs) that `torch.compile` takes in one graph; by default `forward` and the model's inputs.
        compiled_fields: of the configuration of the model that is compiled: one layer is traced sooner than two.
        travels: whether the model's own code lies in its folder.
    """

    hidden_states: dict[str, int]
    attentions: dict[str, int]
    compiled_fields = {"num_hidden_layers": 1}
    travels = True

    @pytest.fixture
    def model(self, request) -> PreTrainedModel:
        """A tiny random model in eval mode."""
        return self.make(request)

    @abc.abstractmethod
    def make(self, request, **fields) -> PreTrainedModel:
        """A tiny random model in eval mode, with these fields of its configuration."""

    @abc.abstractmethod
    def inputs(self, model) -> dict[str, torch.Tensor]:
        """Of `forward`: the same numbers in every call."""

    def compiled(self, model):
        return "forward", self.inputs(model)

    @staticmethod
    def run(model, inputs, **options):
        """`forward` with the same dropout in every call, whose numbers are drawn from one seed."""
        torch.manual_seed(0)
        return model(**inputs, **options)

    @staticmethod
    def tensors(output):
        """{name: tensor} of an output's floating-point tensors."""
        return {name: value for name, value in output.items() if isinstance(value, torch.Tensor) and value.is_floating_point()}

    # --- Outputs ------------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def test_forward_returns_a_model_output_or_its_tuple(self, model):
        inputs = self.inputs(model)
        output = self.run(model, inputs)
        assert isinstance(output, ModelOutput)
        assert not {*self.hidden_states, *self.attentions} & set(output)  # nobody asked for them
        as_tuple = self.run(model, inputs, return_dict=False)
        assert type(as_tuple) is tuple and len(as_tuple) == len(output.to_tuple())
        for value, expected in zip(as_tuple, output.to_tuple()):
            torch.testing.assert_close(value, expected, rtol=0, atol=0)

    @torch.no_grad()
    def test_hidden_states_are_those_before_the_first_layer_and_after_each(self, model):
        inputs = self.inputs(model)
        output = self.run(model, inputs, output_hidden_states=True)
        for name, number in self.hidden_states.items():
            states = output[name]
            assert isinstance(states, tuple) and len(states) == 1 + number
            assert all(state.ndim == 3 and state.shape == states[0].shape for state in states)
            assert all((one != two).any() for one, two in zip(states, states[1:]))
        plain = self.run(model, inputs)
        for name, value in self.tensors(plain).items():
            torch.testing.assert_close(output[name], value, rtol=0, atol=0)

    @torch.no_grad()
    def test_attentions_come_from_the_eager_implementation_and_each_row_is_a_distribution(self, model):
        inputs = self.inputs(model)
        with pytest.raises(ValueError, match="eager"):
            self.run(model, inputs, output_attentions=True)
        model.set_attn_implementation("eager")
        output = self.run(model, inputs, output_attentions=True)
        for name, number in self.attentions.items():
            assert len(output[name]) == number
            for weights in output[name]:
                assert weights.ndim == 4
                torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))

    # --- The same numbers, however they are computed ------------------------------------------------------------------------------

    @torch.no_grad()
    def test_every_attention_implementation_gives_the_same(self, model):
        inputs, expected = self.inputs(model), None
        assert model._supports_sdpa and model._supports_flash_attn and model._supports_flex_attn and model._supports_attention_backend
        for implementation in ("sdpa", "eager"):
            model.set_attn_implementation(implementation)
            found = self.tensors(self.run(model, inputs))
            expected = found if expected is None else expected
            for name, value in expected.items():
                torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4, msg=f"{name} by {implementation}")

    @pytest.mark.skipif(is_flash_attn_2_available(), reason="it is installed")
    def test_an_attention_that_is_not_installed_is_refused_in_one_line_and_changes_nothing(self, model):
        before = model.config._attn_implementation
        with pytest.raises(ImportError, match="^[^\n]*FlashAttention2[^\n]*$"):
            model.set_attn_implementation("flash_attention_2")
        assert model.config._attn_implementation == before
        assert self.tensors(self.run(model, self.inputs(model)))  # it goes on working

    @pytest.mark.skipif(not is_torch_flex_attn_available(), reason="this torch has none")
    def test_flex_attention_is_taken_by_the_model_and_its_parts(self, model):
        model.set_attn_implementation("flex_attention")  # computed on a GPU only, where gradients are wanted
        assert {part.config._attn_implementation for part in model.modules() if isinstance(part, PreTrainedModel)} == {"flex_attention"}

    @torch.no_grad()
    def test_the_same_call_gives_the_same_and_changes_no_input(self, model):
        inputs = self.inputs(model)
        before = copy.deepcopy(inputs)
        first, second = (self.tensors(self.run(model.train(), inputs)) for _ in range(2))
        for name, value in first.items():
            torch.testing.assert_close(second[name], value, rtol=0, atol=0)
        for name, value in before.items():
            torch.testing.assert_close(inputs[name], value, rtol=0, atol=0)

    def test_the_same_seed_makes_the_same_model(self, request):
        one, two = (self.make(request, seed=1).state_dict() for _ in range(2))
        other = self.make(request, seed=2).state_dict()
        assert list(one) == list(two)
        assert all(torch.equal(one[name], two[name]) for name in one) and any((one[name] != other[name]).any() for name in one)

    @pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")  # the oldest version has no other
    def test_recomputed_activations_give_the_same_gradients(self, model):
        inputs, gradients = self.inputs(model), []
        for recompute in (False, True):
            trained = copy.deepcopy(model)
            if recompute:
                trained.gradient_checkpointing_enable()
            output = self.run(trained.train(), inputs)
            sum(value.square().mean() for value in self.tensors(output).values() if value.requires_grad).backward()
            gradients.append({name: value.grad for name, value in trained.named_parameters() if value.grad is not None})
        assert gradients[0] and list(gradients[0]) == list(gradients[1])
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4, msg=name)

    @torch.no_grad()
    def test_it_compiles_without_a_graph_break(self, request):
        model = self.make(request, **self.compiled_fields)
        method, inputs = self.compiled(model)
        plain = getattr(model, method)
        expected = plain(**inputs)
        torch._dynamo.reset()
        found = torch.compile(plain, backend="eager", fullgraph=True)(**inputs)
        pairs = [(found, expected)] if isinstance(expected, torch.Tensor) else list(zip(found.to_tuple(), expected.to_tuple()))
        for value, plain_value in pairs:
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, plain_value, atol=1e-5, rtol=1e-4)

    # --- Checkpoints --------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def test_saved_and_loaded_it_gives_the_same(self, model, tmp_path):
        model.save_pretrained(tmp_path)
        loaded = type(model).from_pretrained(tmp_path)
        assert not loaded.training
        expected = self.tensors(self.run(model, self.inputs(model)))
        for name, value in self.tensors(self.run(loaded, self.inputs(model))).items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0)

    @torch.no_grad()
    def test_a_process_that_has_only_its_folder_gets_the_same(self, model, tmp_path, stranger):
        if not self.travels:
            pytest.skip("it is loaded from the folder of the whole model")
        inputs = self.inputs(model)
        model.save_pretrained(tmp_path)
        torch.save(inputs, tmp_path / "inputs.pt")
        found, expected = stranger.outputs(tmp_path), self.run(model, inputs)
        for name, value in self.tensors(expected).items():
            torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5, msg=name)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @torch.no_grad()
    def test_loaded_in_half_precision_the_statistics_stay_in_float32(self, dtype, model, tmp_path):
        for name, buffer in model.named_buffers():
            if name.rpartition(".")[2] in {"latent_mean", "offset_mean", "running_mean"}:
                buffer.add_(torch.rand_like(buffer) / 1000)  # has no exact value in half precision
        model.save_pretrained(tmp_path)
        loaded = type(model).from_pretrained(tmp_path, dtype=dtype)
        statistics = dict(loaded.named_buffers())
        statistics = {
            name: statistics[name] for name, buffer in model.named_buffers()
            if name.rpartition(".")[2] in STATISTICS | {"running_mean", "running_var"} and name in model.state_dict()
        }  # fmt: skip
        assert all(value.dtype == torch.float32 for value in statistics.values())
        for name, value in statistics.items():
            torch.testing.assert_close(value, model.get_buffer(name), rtol=0, atol=0)
        assert loaded.dtype == dtype and {value.dtype for value in loaded.parameters()} <= {dtype, torch.float32}
        expected, inputs = self.tensors(self.run(model, self.inputs(model))), self.inputs(model)
        inputs = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
        for name, value in self.tensors(self.run(loaded, inputs)).items():
            assert value.isfinite().all(), name
            # 8 bits of mantissa, and a network that adds up their roundings: measured, 0.5 to 2 %. The loss is more sensitive.
            assert name == "loss" or (value.float() - expected[name]).norm() < 0.05 * expected[name].norm().clamp_min(1), name

    # --- Signature ----------------------------------------------------------------------------------------------------------------

    def test_forward_takes_no_argument_that_it_does_not_know(self, model):
        """A misspelt input is an error, and not a default value in silence."""
        parameters = inspect.signature(model.forward).parameters
        assert not any(parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) for parameter in parameters.values())
        assert {"output_hidden_states", "output_attentions"} <= set(parameters)
        assert next(iter(parameters)) == model.main_input_name
        with pytest.raises(TypeError, match="keypoint_"):
            model(**self.inputs(model), keypoint_=None)


class TextModelChecks:
    """Tests, beside those of `ModelChecks`, of models that have a text model."""

    def test_its_text_model_is_found_where_transformers_looks_for_it(self, model):
        assert model.get_input_embeddings() is model.text_model.get_input_embeddings()
        assert isinstance(model.get_input_embeddings(), torch.nn.Embedding)
        for part in (model.get_encoder(), model.get_decoder()):
            assert isinstance(part, PreTrainedModel) and part is not model and part in model.modules()
        assert model.get_encoder() is not model.get_decoder()

    @torch.no_grad()
    def test_a_larger_vocabulary_keeps_the_old_tokens_and_survives_saving(self, model, tmp_path):
        inputs, size = self.inputs(model), model.config.text_config.vocab_size
        before, table = self.run(model, inputs), model.get_input_embeddings().weight.clone()
        embeddings = model.resize_token_embeddings(size + 3)
        assert embeddings.num_embeddings == model.config.text_config.vocab_size == size + 3
        torch.testing.assert_close(embeddings.weight[:size], table, rtol=0, atol=0)
        model.save_pretrained(tmp_path)
        loaded = type(model).from_pretrained(tmp_path)
        assert loaded.get_input_embeddings().num_embeddings == size + 3
        after = self.run(loaded, inputs)
        name = next(name for name in ("logits", "latents", "length_logits") if name in before)
        torch.testing.assert_close(after[name][..., : before[name].shape[-1]], before[name], atol=1e-5, rtol=1e-4)
