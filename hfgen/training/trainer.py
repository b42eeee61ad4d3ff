"""The state of a run, and the step that changes it. It knows no family."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hfgen.data import ImageStore, ImageStream
from hfgen.data.feed import Feed
from hfgen.devices import describe, seed_generators
from hfgen.errors import SettingsError
from hfgen.images import to_float
from hfgen.kernels import choose_kernels
from hfgen.pipelines.places import resolve_folder
from hfgen.seeds import derive_seed
from hfgen.training import checkpoints, fsdp
from hfgen.training.compile_check import compile_networks
from hfgen.training.config import RunConfig
from hfgen.training.ema import EMA, make_averages
from hfgen.training.launcher import agree_with_launcher
from hfgen.training.meters import Meters
from hfgen.training.phases import Draws, Loss, Phase, Step
from hfgen.training.processes import decide, gather_values, join, send_networks
from hfgen.training.schedules import learning_rate_factor
from hfgen.training.warm_start import build_networks, start_from

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger("hfgen")


class _PhaseModule(nn.Module):
    """A phase's loss as one module: DDP synchronises the gradients of what its forward used."""

    def __init__(self, phase: Phase, networks: dict[str, nn.Module]) -> None:
        super().__init__()
        self.networks = networks
        self.registered = nn.ModuleDict(networks)
        self.loss = phase.loss

    def forward(self, step: Step) -> Loss:
        return self.loss(self.networks, step)


class Trainer:
    """Networks, averages, optimizers and the clock of one run, in this process.

    `computed` is how the run computed before, as `computes` told it; empty at its beginning.
    """

    def __init__(
        self,
        config: RunConfig,
        images: ImageStore | ImageStream,
        accelerator: Accelerator,
        computed: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.config, self.accelerator = config, accelerator
        if config.batch_size % accelerator.num_processes:
            raise SettingsError(
                f"batch_size: {config.batch_size} can't be shared by {accelerator.num_processes} processes; "
                "choose a multiple"
            )
        self.device = accelerator.device
        precision, self.compiled_asked = agree_with_launcher(config)
        before = computed.get("precision") if computed.get("device") == self._device_kind() else None
        chosen = decide(accelerator, lambda: choose_kernels(self.device, precision, self.compiled_asked, before=before))
        self.kernels = dataclasses.replace(chosen, device=self.device)
        self.last_image = math.ceil(config.max_images / config.batch_size) * config.batch_size
        self.images_seen = 0
        self.networks = self._build(images.at_hand)
        self.averages = make_averages(self.networks)
        self.phases = config.model.phases()
        self.fsdp = self._shard()
        self.emas = {name: EMA(self.averages[name], network) for name, network in self.networks.items()}
        self.trainable = {name: [p for p in net.parameters() if p.requires_grad] for name, net in self.networks.items()}
        self.optimizers = {phase.name: self._optimizer(phase) for phase in self.phases}
        self.modules = {phase.name: self._prepare(phase) for phase in self.phases}
        rank, processes = accelerator.process_index, accelerator.num_processes
        self.feed = Feed(images, config.batch_size, config.seed, self.device, rank, processes)
        self.meters = Meters()
        self._compile()

    @property
    def store(self) -> ImageStore:
        """The images that are at hand between steps; all of them on a GPU where they fit."""
        return self.feed.store

    # Before the first step.

    def _build(self, store: ImageStore) -> dict[str, nn.Module]:
        config = self.config
        with torch.random.fork_rng(devices=[]):
            # The CPU's generator alone, where networks are built: torch.manual_seed reseeds every GPU's too.
            torch.default_generator.manual_seed(derive_seed("weights", config.seed))
            if config.model.trains_its_start:
                # The main process fetches it, and is the one to complain.
                decide(self.accelerator, lambda: str(resolve_folder(config.start_from)))
            networks = build_networks(config, store)
        if config.start_from and not config.model.trains_its_start:
            decide(self.accelerator, lambda: start_from(config.start_from, networks))
        for network in networks.values():
            network.to(self.device)
        send_networks(self.accelerator, networks)
        for network in networks.values():
            # Convolutions of videos have weights of another rank than the format.
            if all(parameter.ndim != 5 for parameter in network.parameters()):
                network.to(memory_format=self.kernels.memory_format)  # type: ignore[call-overload]
        return networks

    def _optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self._trained_by(phase), lr=phase.lr, betas=phase.betas, weight_decay=phase.weight_decay, fused=True
        )

    def _shard(self) -> fsdp.FSDPRoot | None:
        if not fsdp.asked():
            return None
        if self.config.compiled not in ("auto", "off"):
            raise SettingsError(f"compiled: {self.config.compiled} doesn't go with FSDP; use --compiled off")
        self.kernels = dataclasses.replace(self.kernels, compiled="off")
        return fsdp.FSDPRoot(self.networks, self.averages, self.phases, self.device.type)

    def _prepare(self, phase: Phase) -> Callable[[Step], Loss]:
        self.train_only(phase)
        if self.fsdp is not None:
            return partial(self.fsdp, phase.loss)
        return self.accelerator.prepare_model(_PhaseModule(phase, self.networks))

    def _compile(self) -> None:
        """Compile, if the kernels say so and its gradients are right in every process.

        Raises:
            SettingsError: it fails or they aren't, and compilation was asked for.
        """
        if self.kernels.compiled == "off":
            return
        early = [weight for phase in self.phases if phase.early for weight in phase.early(self.networks)]
        fault = compile_networks(self.networks, self.kernels.compiled, early, self.gradients)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        fault = next(filter(None, gather_values(self.accelerator, fault)), None)
        if fault is None:
            return
        if self.compiled_asked != "auto":
            raise SettingsError(f"compiled: {fault}; use --compiled off")
        if self.accelerator.is_main_process:
            logger.warning("%s; it stays off", fault)
        self.kernels = dataclasses.replace(self.kernels, compiled="off")

    def gradients(self, mode: str) -> dict[str, Tensor]:
        """Each phase's gradient of the first batch, flat, by this mode of torch.compile or, if off, without it.

        At the run's end, where every term counts; in this process alone, whose compiler may be the only one to fail.
        """
        progress, gradients = 1 - self.config.batch_size / self.last_image, {}
        step = dataclasses.replace(self.begin_step(), progress=progress, gather=lambda tensor: tensor, join=None)
        for phase in self.phases:
            self.train_only(phase)
            module = self.modules[phase.name]
            with self.computing(mode):
                loss = getattr(module, "module", module)(step)
            loss.total.backward()
            # A gradient that is 0 by arithmetic can be there in one mode only.
            found = [
                weight.new_zeros(weight.shape) if weight.grad is None else weight.grad
                for weight in self._trained_by(phase)
            ]
            gradients[phase.name] = torch.cat([gradient.flatten() for gradient in found])
            self.optimizers[phase.name].zero_grad()
        return gradients

    # One step.

    def step(self) -> None:
        """See one batch: every active phase updates once, then the averages."""
        config, now, trained = self.config, self.begin_step(), set[str]()
        for phase in self.phases:
            if not phase.begin * self.last_image <= self.images_seen < phase.end * self.last_image:
                continue
            optimizer = self._scheduled(phase)
            self.train_only(phase)
            with self.computing(self.kernels.compiled):
                loss = self.modules[phase.name](now)
            loss.total.backward()
            norm = self._clip(phase)
            # Fused AdamW leaves weights and moments alone where found_inf is 1, without a wait for the device. NaN
            # and infinity times 0 aren't 0.
            optimizer.found_inf = (norm.float() * 0).ne_(0)  # type: ignore[attr-defined]
            optimizer.step()
            optimizer.zero_grad()
            if phase.after is not None and (config.on_nonfinite == "stop" or torch.isfinite(norm)):
                with torch.no_grad():
                    phase.after(self.networks, now)
            terms = {**loss.terms, "gradient_norm": norm}
            self.meters.add({f"{phase.name}/{name}": value for name, value in terms.items()}, now.index)
            trained.update(phase.trains)
        self.images_seen += config.batch_size
        for name in sorted(trained):
            self.emas[name].update(config.batch_size, self.images_seen, config.ema_half_life)

    def begin_step(self) -> Step:
        """The next batch, and what else its losses need."""
        config, accelerator = self.config, self.accelerator
        rank, processes = accelerator.process_index, accelerator.num_processes
        if self.kernels.compiled == "reduce-overhead":
            # Only then: it imports Inductor, which takes seconds.
            torch.compiler.cudagraph_mark_step_begin()
        seed_generators(self.device, derive_seed("layers", config.seed, self.images_seen, rank))
        return Step(
            *self.batch(),
            draws=Draws(config.seed, self.images_seen, self.device, rank, processes),
            averages=self.averages,
            index=self.images_seen // config.batch_size,
            progress=self.images_seen / self.last_image,
            gather=accelerator.gather,
            join=join if processes > 1 else None,
        )

    def batch(self) -> tuple[Tensor, Tensor | None]:
        """Gather the next batch's share of this process: images (n, C, R, R) in [-1, 1], and labels (n,) or None."""
        images, labels = self.feed.batch(self.images_seen)
        return to_float(images).contiguous(memory_format=self.kernels.memory_format), labels

    def train_only(self, phase: Phase) -> None:
        """Freeze what the phase doesn't train; what `build` froze stays frozen."""
        for name, parameters in self.trainable.items():
            for parameter in parameters:
                parameter.requires_grad_(name in phase.trains)

    @contextlib.contextmanager
    def computing(self, compiled: str) -> Iterator[None]:
        """In the run's precision, and by this mode of torch.compile or, if off, without it."""
        stance = "force_eager" if compiled == "off" else "default"
        with self.autocast(), torch.compiler.set_stance(stance):
            yield

    def autocast(self) -> torch.autocast:
        """In the run's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.kernels.precision == "bf16")

    def _scheduled(self, phase: Phase) -> torch.optim.Optimizer:
        """The phase's optimizer, at its learning rate of this step."""
        optimizer = self.optimizers[phase.name]
        first, last = int(phase.begin * self.last_image), int(phase.end * self.last_image)
        factor = learning_rate_factor(self.images_seen, first, last, self.config.warmup_images, phase.lr_end)
        for group in optimizer.param_groups:
            group["lr"] = phase.lr * factor
        return optimizer

    def _clip(self, phase: Phase) -> Tensor:
        """The norm of the phase's gradient over all processes, which is then no longer than the phase allows."""
        parameters = self._trained_by(phase)
        if self.fsdp is not None:
            fsdp.average_gradients(parameters)
        norm = fsdp.full(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        if phase.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, phase.clip, norm)
        return norm

    def _trained_by(self, phase: Phase) -> list[nn.Parameter]:
        return [parameter for name in phase.trains for parameter in self.trainable[name]]

    # Its state, for checkpoints, and how it computes, for the record.

    def computes(self) -> dict[str, str | int | bool]:
        """What the run's numbers depend on beside its config, as JSON values."""
        kernels, processes = self.kernels, self.accelerator.num_processes
        kind = {"device": self._device_kind(), "precision": kernels.precision}
        return {**kind, "compiled": kernels.compiled, "processes": processes, "fsdp": self.fsdp is not None}

    def _device_kind(self) -> str:
        return describe(self.device).partition(",")[0]

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Everything that the next step depends on, beside the config and the clock."""
        networks = {f"network.{name}": net.state_dict() for name, net in self.networks.items()}
        averages = {f"average.{name}": net.state_dict() for name, net in self.averages.items()}
        optimizers = {f"optimizer.{name}": checkpoints.optimizer_tensors(o) for name, o in self.optimizers.items()}
        state = {**networks, **averages, **optimizers, "log": self.meters.state(self.accelerator.gather)}
        if self.fsdp is None:
            return state
        main = self.accelerator.is_main_process
        return {name: fsdp.full_tensors(tensors, keep=main) for name, tensors in state.items()}

    def load(self, images_seen: int, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Put `state` of that moment back.

        Raises:
            SettingsError: it is of other networks.
        """
        self.images_seen = images_seen
        for kind, networks in (("network", self.networks), ("average", self.averages)):
            for name, network in networks.items():
                checkpoints.load_network(name, network, state[f"{kind}.{name}"])
        for name, optimizer in self.optimizers.items():
            checkpoints.load_optimizer(optimizer, state[f"optimizer.{name}"])
        accelerator = self.accelerator
        self.meters.load(state["log"], self.device, accelerator.process_index, accelerator.num_processes)
