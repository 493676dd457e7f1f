"""The architectures with published weights, against PyTorch's on the same random weights."""

import jax
import numpy as np
import pytest

from siamjax import encoders, pretrained
from siamjax.pretrained import _files

torch = pytest.importorskip("torch")
try:
    import timm
    import torchvision
except (ImportError, RuntimeError) as error:
    # PyPI's torchvision is built for torch with CUDA, and does not load with a CPU-only torch.
    pytest.skip(f"torchvision and timm cannot be imported: {error}", allow_module_level=True)
safetensors = pytest.importorskip("safetensors.torch")

# Our name -> the network of torchvision or timm, and how it is called without its classifier.
MODELS = {
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(),
    "resnet18": lambda: torchvision.models.resnet18(),
    "resnet50": lambda: torchvision.models.resnet50(),
    "efficientnet_lite0": lambda: timm.create_model("efficientnet_lite0"),
    "vit_s14": lambda: timm.create_model("vit_small_patch14_dinov2", dynamic_img_size=True),
}
# As published, with the classifier: https://docs.pytorch.org/vision/stable/models.html, and timm's results.
PUBLISHED = {"mobilenet_v2": 3_504_872, "resnet18": 11_689_512, "resnet50": 25_557_032, "efficientnet_lite0": 4_652_008}


def randomised(model):
    """`model` with random numbers in all that is constant at the start, so that no layer can be left out unseen."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var") or "norm" in name or "bn" in name or "gamma" in name:
                if tensor.is_floating_point():
                    tensor.uniform_(0.5, 1.5)
            elif name.endswith(("running_mean", "bias", "cls_token")):
                tensor.normal_(0, 0.1)
    return model.eval()


def features(model, images):
    """What the classifier reads."""
    kept = {}
    last = list(model.children())[-1]
    last = last[-1] if isinstance(last, torch.nn.Sequential) else last
    last.register_forward_pre_hook(lambda _, inputs: kept.update(inputs=inputs[0]))
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        model((torch.from_numpy(images).permute(0, 3, 1, 2) - mean) / deviation)
    return kept["inputs"].numpy()


@pytest.mark.parametrize("name", MODELS)
def test_equals_pytorchs_on_random_weights(name, tmp_path):
    model = randomised(MODELS[name]())
    if name in PUBLISHED:
        assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name]
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    variables = pretrained.load(name, tmp_path / "weights.pth")
    images = np.random.default_rng(0).uniform(size=(2, 70, 84, 3)).astype(np.float32)
    expected = features(model, images)
    encoder = encoders.make(name, width=1, embedding=expected.shape[1])
    variables = {part: {"backbone": tree} for part, tree in variables.items()}
    got = jax.jit(encoder.apply)(variables, images)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("legacy", [True, False])
def test_every_format_of_pytorch_gives_the_same_arrays(legacy, tmp_path):
    """As `torch.save` wrote them before version 1.6, in which torchvision's files still are, and since."""
    base = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {
        "plain": base,
        "transposed": base.permute(2, 0, 1),  # a view of the same storage
        "part": base[1, 1:],
        "half": torch.randn(3, 2).half(),
        "bfloat16": torch.randn(3, 2).bfloat16(),
        "count": torch.tensor(7),
        "parameter": torch.nn.Parameter(torch.randn(4)),
        "empty": torch.zeros(0, 3),
    }
    for content in (tensors, {"epoch": 3, "state_dict": tensors}):
        torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
        found = _files.read(tmp_path / "w.pth")
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert found[name].shape == tuple(tensor.shape)
            np.testing.assert_array_equal(np.float32(found[name]), tensor.detach().float().numpy())


@pytest.mark.parametrize("legacy", [True, False])
def test_a_cut_off_file_of_pytorch_is_refused(legacy, tmp_path):
    torch.save({"a": torch.zeros(1000)}, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    (tmp_path / "w.pth").write_bytes((tmp_path / "w.pth").read_bytes()[:-900])
    with pytest.raises(ValueError, match="cannot be read as weights"):
        _files.read(tmp_path / "w.pth")


def test_torchvisions_and_timms_names_of_mobilenet_v2_are_the_same_layers(tmp_path):
    ours, others = torchvision.models.mobilenet_v2(), timm.create_model("mobilenetv2_100")
    randomised(ours)
    # Both list the same layers in the same order.
    values = dict(zip(others.state_dict(), ours.state_dict().values(), strict=True))
    safetensors.save_file(values, tmp_path / "timm.safetensors")
    torch.save(ours.state_dict(), tmp_path / "torchvision.pth")
    first, second = (
        pretrained.load("mobilenet_v2", tmp_path / name) for name in ("timm.safetensors", "torchvision.pth")
    )
    jax.tree.map(np.testing.assert_array_equal, first, second)
