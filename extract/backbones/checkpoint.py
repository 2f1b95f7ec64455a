"""From a checkpoint file to a network with its weights, strictly: every tensor has its place, or it is an error."""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from extract.backbones.catalogue import BACKBONES
from extract.backbones.images import ImageNetwork
from extract.backbones.network import Network, empty
from extract.backbones.spec import BackboneSpec
from extract.cache import code_digest, file_sha256, room_beside
from extract.download import cache_folder
from extract.errors import InputError
from extract.weights.files import read_tensors
from extract.weights.names import FORMATS, State, format_of

_SHOWN = 3
# Names in torchvision's older files, which its own loaders translate: densenet.py, vision_transformer.py.
_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
_MLP = (re.compile(r"\.mlp\.linear_([12])\."), lambda found: f".mlp.{3 * (int(found[1]) - 1)}.")
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # heads of GoogLeNet and Inception that answer in training alone
_LAST = "classifier.weight"
_COUNTER = "num_batches_tracked"  # BatchNorm's, of no use here; some formats have it


@dataclass(frozen=True, slots=True)
class _Misfit:
    """How a file's tensors differ from a network's; false where they do not."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)


def network_from(name: str, spec: BackboneSpec, path: Path) -> Network:
    """The network of backbone ``name`` with the weights in the file ``path``, of any official format.

    The last layer has as many classes as the file's; a file without it (a pure feature network) gives a network
    whose classifier is the identity.

    Raises:
        InputError: a missing or broken file, or one of another network; the message names the first tensors that are
            missing, unexpected or of another shape, and the backbone that the file seems to be of.
    """
    networks = [empty(build) for build in spec.builds]
    state = _state(path, networks[0])
    tried = [(_misfit(_fitted(network, state), state), network) for network in networks]
    misfit, network = min(tried, key=lambda pair: len(pair[0]))
    if misfit:
        raise InputError(_refusal(path, name, misfit, state))
    return _filled(network, state)


def _state(path: Path, network: Network) -> State:
    """The tensors of ``path`` under our names; translated files are kept as safetensors for the next time."""
    if isinstance(network, ImageNetwork):
        return _image_names(_tensors(path), network.last_layer)
    kept = _kept(path)
    if kept is None:
        return _translated(_tensors(path))
    try:
        return load_file(kept)
    except (OSError, SafetensorError):  # not there yet, or cut short
        tensors = _tensors(path)
    state = _translated(tensors)
    if format_of(tensors) is not None:
        _keep(kept, state)
    return state


def _kept(path: Path) -> Path | None:
    """Where the translated tensors of ``path`` are kept; None for those that are read as they are, or in parts."""
    if path.suffix == ".safetensors" or path.with_suffix(".index").is_file():  # ours, or of TensorFlow
        return None
    try:
        what = file_sha256(path) + code_digest()
    except OSError:  # the reader says what is wrong with it
        return None
    return cache_folder() / f"converted-{hashlib.sha256(what.encode()).hexdigest()[:32]}.safetensors"


def _tensors(path: Path) -> State:
    return {name: tensor for name, tensor in read_tensors(path).items() if not name.endswith(_COUNTER)}


def _translated(tensors: Mapping[str, Tensor]) -> State:
    """Under our names, where the format is known; as they are otherwise, which may be our own."""
    known = format_of(tensors)
    state = known.translate(tensors) if known else dict(tensors)
    if _LAST in state:
        state[_LAST] = state[_LAST].flatten(1)  # a 1 x 1 x 1 convolution, in some
    return state


def _image_names(tensors: Mapping[str, Tensor], last_layer: str) -> State:
    """Torchvision's names of an image network, below ours."""
    if any(name.startswith("body.") for name in tensors):
        return dict(tensors)
    tensors = {
        _DENSE.sub(r"\1\2", _MLP[0].sub(_MLP[1], name)): tensor
        for name, tensor in tensors.items()
        if not name.startswith(_AUXILIARY)
    }
    return {
        f"classifier.{name.removeprefix(last_layer + '.')}" if name.startswith(last_layer + ".") else f"body.{name}": t
        for name, t in tensors.items()
    }


def _keep(kept: Path, state: State) -> None:
    """Write translated tensors beside the downloads. A cache that cannot be written is no error, only slower."""
    with suppress(OSError, SafetensorError), room_beside(kept) as room:
        unfinished = room / kept.name
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, unfinished)
        unfinished.replace(kept)


def _fitted(network: Network, state: State) -> Network:
    """An empty network with the file's last layer in place of its own."""
    if _LAST not in state:
        network.classifier = nn.Identity()
        return network
    last = network.classifier
    assert isinstance(last, nn.Linear)  # noqa: S101 - as every network is built
    network.classifier = nn.Linear(last.in_features, len(state[_LAST]), device="meta")
    return network


def _misfit(network: Network, state: State) -> _Misfit:
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_COUNTER)}
    misshapen = (
        f"{name} of {tuple(state[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    )
    return _Misfit(
        tuple(name for name in wanted if name not in state),
        tuple(name for name in state if name not in wanted),
        tuple(misshapen),
    )


def _filled(network: Network, state: State) -> Network:
    wanted = network.state_dict()
    values = OrderedDict(
        {
            name: torch.zeros((), dtype=torch.int64) if name.endswith(_COUNTER) else state[name].to(tensor.dtype)
            for name, tensor in wanted.items()
        }
    )
    values._metadata = wanted._metadata  # type: ignore[attr-defined]  # versions, which some modules ask for
    network.load_state_dict(values, assign=True)
    return network


def _refusal(path: Path, name: str, misfit: _Misfit, state: State) -> str:
    if len(misfit.unexpected) == len(state):
        known = ", ".join(known.name for known in FORMATS)
        return (
            f"{path} holds tensors of no known names ({_first(tuple(state))}); expected weights of {name} in one of "
            f"the formats {known}, or saved by this project"
        )
    found = "; ".join(
        f"{what} {_first(names)}"
        for what, names in (
            ("missing", misfit.missing),
            ("unexpected", misfit.unexpected),
            ("of another shape", misfit.misshapen),
        )
        if names
    )
    likely = [other for other in _likely(state) if other != name]
    hint = f"; it looks like weights of {' or '.join(likely)}" if likely else ""
    return f"{path} holds weights of another network than {name}: {found}{hint}"


def _first(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _likely(state: State) -> list[str]:
    """The backbones whose tensors these are."""
    return [
        name
        for name, spec in BACKBONES.items()
        if ":" not in name and any(not _misfit(_fitted(empty(build), state), state) for build in spec.builds)
    ]
