"""The training loop: batches in, checkpoints out. It knows no family."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from hfgen.data import ImageStore, batch_indices, open_store
from hfgen.errors import UserError
from hfgen.files import atomic_folder, write_text
from hfgen.images import grid, to_float, unit_to_uint8, write_png
from hfgen.pipelines import load
from hfgen.seeds import derive_seed
from hfgen.training import checkpoints, sharding
from hfgen.training.config import RunConfig
from hfgen.training.devices import choose_kernels, resident
from hfgen.training.ema import Follower, make_averages
from hfgen.training.folders import claim_folder, sole_run
from hfgen.training.interrupts import Interrupts
from hfgen.training.meters import Meters, Reading
from hfgen.training.phases import Draws, Loss, Phase, Step
from hfgen.training.schedules import learning_rate_factor
from hfgen.training.trackers import Trackers, make_accelerator

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger("hfgen")

OnCheckpoint = Callable[[Path, int], None]


def train(config: RunConfig, out: Path, *, resume: str = "auto", on_checkpoint: OnCheckpoint | None = None) -> Path:
    """Train until `config.max_images` were seen and return `out`/pretrained.

    Repeating the call continues from the newest whole checkpoint and ends with the same bits as a run that was
    never interrupted; a finished run returns at once. The main process calls `on_checkpoint` with the folder and
    the images seen of each checkpoint that it wrote.

    Raises:
        UserError: bad data or settings, `out` holds another run, or a loss isn't finite.
        Interrupted: Ctrl-C or SIGTERM arrived; the state was saved.
    """
    accelerator = make_accelerator(config, out)
    # Every process builds its trainer before the folder is claimed: settings that can't work leave no trace.
    trainer = Trainer(config, _open_data(config), accelerator, out)
    trainer.on_checkpoint = on_checkpoint
    main = accelerator.is_main_process
    with sole_run(out) if main else contextlib.nullcontext():
        if main:
            claim_folder(out, config, trainer.store, resume)
        accelerator.wait_for_everyone()
        if (out / "pretrained").is_dir():
            logger.info("%s is finished already", out)
        else:
            trainer.resume()
            trainer.run()
    return out / "pretrained"


def _open_data(config: RunConfig) -> ImageStore:
    return open_store(
        config.data,
        split=config.split,
        resolution=config.resolution,
        channels="auto" if config.channels == "auto" else int(config.channels),
        small_images=config.small_images,
        skip_damaged=config.skip_damaged,
        condition=getattr(config.model, "paired_with", None),
        image_column=config.image_column or None,
        label_column=config.label_column or None,
        config_name=config.config_name or None,
    )


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
    """The state of one run, and the step that changes it."""

    def __init__(self, config: RunConfig, store: ImageStore, accelerator: Accelerator, out: Path) -> None:
        self.config, self.accelerator, self.out = config, accelerator, out
        if config.batch_size % accelerator.num_processes:
            raise UserError(
                f"batch_size: {config.batch_size} can't be shared by {accelerator.num_processes} processes; "
                "choose a multiple"
            )
        self.device = accelerator.device
        self.kernels = choose_kernels(self.device, config.precision, config.compiled)
        self.last_image = math.ceil(config.max_images / config.batch_size) * config.batch_size
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed("weights", config.seed))
            networks = config.model.build(config.resolution, store.channels, store.classes)
        if config.start_from:
            _start_from(config.start_from, networks)
        for network in networks.values():
            network.to(self.device).to(memory_format=self.kernels.memory_format)  # type: ignore[call-overload]
        self.networks = networks
        self.averages = make_averages(self.networks)
        self.phases = config.model.phases()
        self.sharded = self._shard()
        self.followers = {name: Follower(self.averages[name], network) for name, network in networks.items()}
        trainable = {name: [p for p in net.parameters() if p.requires_grad] for name, net in self.networks.items()}
        self.trainable = trainable
        self.optimizers = {phase.name: self._optimizer(phase) for phase in self.phases}
        self.modules = {phase.name: self._prepare(phase) for phase in self.phases}
        self.store = resident(store, self.device)
        self.images_seen = 0
        self._compile()
        self.meters = Meters()
        self.collapsed: set[str] = set()
        self.trackers = Trackers(accelerator)
        self.line_started = time.perf_counter()
        self.on_checkpoint: OnCheckpoint | None = None

    def _optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        parameters = [parameter for name in phase.trains for parameter in self.trainable[name]]
        return torch.optim.AdamW(
            parameters, lr=phase.lr, betas=phase.betas, weight_decay=phase.weight_decay, fused=True
        )

    def _shard(self) -> sharding.Sharded | None:
        if not sharding.asked():
            return None
        if self.config.compiled not in ("auto", "off"):
            raise UserError(f"compiled: {self.config.compiled} doesn't go with FSDP; use --compiled off")
        self.kernels = dataclasses.replace(self.kernels, compiled="off")
        return sharding.Sharded(self.networks, self.averages, self.phases, self.device.type)

    def _prepare(self, phase: Phase) -> Callable[[Step], Loss]:
        self._train_only(phase)
        if self.sharded is not None:
            return partial(self.sharded, phase.loss)
        return self.accelerator.prepare_model(_PhaseModule(phase, self.networks))

    def _compile(self) -> None:
        """Compile in place, child by child: losses call `encode` and `decode`, which a compiled whole would miss.

        Stays eager where compiled gradients are wrong, as Inductor's silently can be.

        Raises:
            UserError: they are, and compilation was asked for.
        """
        if self.kernels.compiled == "off":
            return
        eager = self._gradients()
        for network in self.networks.values():
            for module in (network, *network.children()):
                module.compile(mode=self.kernels.compiled)
        for name, gradient in self._gradients().items():
            error = float((gradient - eager[name]).norm() / eager[name].norm())
            if error > 0.1:
                text = f"torch.compile gives {name} a gradient that is {error:.0%} off the eager one"
                if self.config.compiled != "auto":
                    raise UserError(f"compiled: {text}; use --compiled off")
                logger.warning("%s; it stays off", text)
                self.kernels = dataclasses.replace(self.kernels, compiled="off")
                return

    def _gradients(self) -> dict[str, Tensor]:
        """Each phase's gradient at the first step, flat."""
        step, gradients = self._begin_step(), {}
        for phase in self.phases:
            self._backward(phase, step)
            found = [p.grad for name in phase.trains for p in self.trainable[name] if p.grad is not None]
            gradients[phase.name] = torch.cat([gradient.flatten() for gradient in found])
            self.optimizers[phase.name].zero_grad()
        return gradients

    def _train_only(self, phase: Phase) -> None:
        """Freeze what the phase doesn't train; what `build` froze stays frozen."""
        for name, parameters in self.trainable.items():
            for parameter in parameters:
                parameter.requires_grad_(name in phase.trains)

    # One step.

    def step(self) -> None:
        """See one batch: every active phase updates once, then the averages follow."""
        config = self.config
        if self.kernels.compiled == "reduce-overhead":
            # Only then: it imports Inductor, which takes seconds.
            torch.compiler.cudagraph_mark_step_begin()
        step = self._begin_step()
        trained: set[str] = set()
        for phase in self.phases:
            if phase.begin * self.last_image <= self.images_seen < phase.end * self.last_image:
                self._update(phase, step)
                trained.update(phase.trains)
        self.images_seen += config.batch_size
        for name in sorted(trained):
            self.followers[name].update(config.batch_size, self.images_seen, config.ema_half_life)

    def _begin_step(self) -> Step:
        config, accelerator = self.config, self.accelerator
        rank, processes = accelerator.process_index, accelerator.num_processes
        torch.manual_seed(derive_seed("layers", config.seed, self.images_seen, rank))
        return Step(
            *self._batch(),
            draws=Draws(config.seed, self.images_seen, self.device, rank, processes),
            averages=self.averages,
            index=self.images_seen // config.batch_size,
            progress=self.images_seen / self.last_image,
            gather=accelerator.gather,
        )

    def _batch(self) -> tuple[Tensor, Tensor | None]:
        config, accelerator = self.config, self.accelerator
        indices = batch_indices(len(self.store), self.images_seen, config.batch_size, config.seed)
        share = indices.chunk(accelerator.num_processes)[accelerator.process_index]
        images = to_float(self.store.gather(share).to(self.device)).contiguous(memory_format=self.kernels.memory_format)
        return images, None if self.store.labels is None else self.store.labels[share].to(self.device)

    def _update(self, phase: Phase, step: Step) -> None:
        optimizer = self.optimizers[phase.name]
        first, last = int(phase.begin * self.last_image), int(phase.end * self.last_image)
        factor = learning_rate_factor(self.images_seen, first, last, self.config.warmup_images, phase.lr_end)
        for group in optimizer.param_groups:
            group["lr"] = phase.lr * factor
        loss = self._backward(phase, step)
        norm = self._clip(phase)
        # Fused AdamW leaves weights and moments alone where found_inf is 1, without a wait for the device.
        optimizer.found_inf = 1 - torch.isfinite(norm).float()  # type: ignore[attr-defined]
        optimizer.step()
        optimizer.zero_grad()
        if phase.after is not None and (self.config.on_nonfinite == "stop" or torch.isfinite(norm)):
            with torch.no_grad():
                phase.after(self.networks, step)
        for name, value in {**loss.terms, "gradient_norm": norm}.items():
            self.meters.add(f"{phase.name}/{name}", value, step.index)

    def _backward(self, phase: Phase, step: Step) -> Loss:
        self._train_only(phase)
        stance = "force_eager" if self.kernels.compiled == "off" else "default"
        with self._autocast(), torch.compiler.set_stance(stance):
            loss = self.modules[phase.name](step)
        loss.total.backward()
        if self.sharded is not None:
            sharding.mean_gradients(p for name in phase.trains for p in self.trainable[name])
        return loss

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.kernels.precision == "bf16")

    def _clip(self, phase: Phase) -> Tensor:
        """The norm of the phase's gradient, which is then no longer than the phase allows."""
        parameters = [parameter for name in phase.trains for parameter in self.trainable[name]]
        norm = sharding.whole(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        if phase.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, phase.clip, norm)
        return norm

    # The run around the steps.

    def run(self) -> None:
        """Step to the end, with logs, sample grids and checkpoints on the way."""
        batch, main = self.config.batch_size, self.accelerator.is_main_process
        if main:
            logger.info("%s; images on %s", self.kernels, self.store.images.device.type)
        bar = tqdm(total=self.last_image, initial=self.images_seen, unit="img", disable=not main, desc=self.out.name)
        self.line_started = time.perf_counter()
        try:
            with bar, Interrupts(self.accelerator) as interrupts:
                while self.images_seen < self.last_image:
                    self.advance()
                    bar.update(batch)
                    if interrupts.arrived(self.images_seen // batch):
                        self.save()
                        interrupts.stop(self.out, self.images_seen)
        finally:
            self.trackers.finish()
        self._publish()

    def advance(self) -> None:
        """One step, and the log line, the sample grid and the checkpoint that fall due after it."""
        config, batch = self.config, self.config.batch_size
        self.step()
        finished = self.images_seen >= self.last_image
        if _crossed(self.images_seen, batch, config.log_every) or finished:
            self._log()
        draw, save = (
            _crossed(self.images_seen, batch, every) or finished
            for every in (config.sample_every, config.checkpoint_every)
        )
        pipeline = self._pipeline() if draw or save else None
        if draw:
            self._sample(pipeline)
        if save:
            self._save(pipeline)

    def _log(self) -> None:
        """Write the means since the last line; seconds go to a file of their own, since they never repeat."""
        readings = self._read()
        self.meters.clear()
        seconds, self.line_started = time.perf_counter() - self.line_started, time.perf_counter()
        if not self.accelerator.is_main_process:
            return
        means = {name: reading.mean for name, reading in readings.items() if math.isfinite(reading.mean)}
        skipped = {f"{name}/nonfinite": reading.nonfinite for name, reading in readings.items() if reading.nonfinite}
        self._warn(means, readings)
        _append_line(self.out / "log.jsonl", {"images": self.images_seen, **means, **skipped})
        speed = {"images": self.images_seen, "seconds": round(seconds, 3)}
        _append_line(self.out / "speed.jsonl", {**speed, "processes": self.accelerator.num_processes})
        self.trackers.log(self.config, self.out, {**means, **skipped}, self.images_seen)

    def _read(self) -> dict[str, Reading]:
        """The terms since the last line.

        Raises:
            UserError: one wasn't finite, and the run doesn't skip such steps.
        """
        readings = self.meters.read(self.accelerator.gather)
        bad = [(reading.first_step, name) for name, reading in readings.items() if reading.first_step is not None]
        if bad and self.config.on_nonfinite == "stop":
            # A term explains more than the gradient that it spoilt.
            first, name = min(bad, key=lambda pair: (pair[0], pair[1].endswith("/gradient_norm")))
            raise UserError(
                f"{name} wasn't finite at step {first} (image {first * self.config.batch_size}); "
                f"{self._stands()}: repeat the command with --on_nonfinite skip, or in another --out with a smaller "
                "learning rate or --precision fp32"
            )
        return readings

    def _stands(self) -> str:
        folders = checkpoints.checkpoint_folders(self.out / "checkpoints")
        return f"the checkpoint of image {int(folders[-1].name)} stands" if folders else "there is no checkpoint yet"

    def _warn(self, means: dict[str, float], readings: dict[str, Reading]) -> None:
        """Say what was skipped, and what has collapsed for two lines in a row."""
        for name, reading in readings.items():
            if reading.nonfinite:
                steps = reading.nonfinite
                logger.warning("%s wasn't finite in %d steps before image %d", name, steps, self.images_seen)
        for phase in self.phases:
            own = {n.removeprefix(f"{phase.name}/"): v for n, v in means.items() if n.startswith(f"{phase.name}/")}
            text = phase.watch(own) if phase.watch is not None and own else None
            if text is None:
                self.collapsed.discard(phase.name)
            elif phase.name in self.collapsed:
                logger.warning("%s, before image %d", text, self.images_seen)
            else:
                self.collapsed.add(phase.name)

    def _sample(self, pipeline: Any) -> None:
        """Draw the same 64 images every time, so that the grids show the training and nothing else."""
        if pipeline is None:
            return
        images = pipeline.preview(torch.cat(list(self._first(64))), torch.Generator().manual_seed(0))
        sheet = grid(unit_to_uint8(images), 8, zoom=max(1, 64 // self.config.resolution))
        write_png(self.out / "samples" / f"{self.images_seen:09d}.png", sheet)

    # Saving and resuming.

    def _pipeline(self) -> Any:
        """What would be published now; None but in the main process.

        Raises:
            UserError: a value that wasn't finite went into it.
        """
        self._read()
        averages = self._whole_averages()
        if not self.accelerator.is_main_process:
            return None
        with torch.no_grad(), torch.random.fork_rng(), self._autocast():
            for phase in self.phases:
                if phase.fit is not None:
                    phase.fit(averages, self._first)
        return self.config.model.pipeline(averages)

    def _first(self, count: int) -> Iterator[Tensor]:
        """The first `count` images that the run sees, in batches."""
        for start in range(0, min(count, len(self.store)), 256):
            size = min(256, count - start, len(self.store) - start)
            indices = batch_indices(len(self.store), start, size, self.config.seed)
            yield to_float(self.store.gather(indices).to(self.device))

    def _whole_averages(self) -> dict[str, nn.Module]:
        """The averages for the main process; FSDP's are gathered into new networks there, and {} elsewhere."""
        if self.sharded is None:
            return self.averages
        main = self.accelerator.is_main_process
        tensors = {name: sharding.gather(net.state_dict(), keep=main) for name, net in self.averages.items()}
        if not main:
            return {}
        with torch.random.fork_rng():
            networks = self.config.model.build(self.config.resolution, self.store.channels, self.store.classes)
        for name, network in networks.items():
            checkpoints.load_network(name, network.to(self.device).eval(), tensors[name])
            _copy_measured(self.averages[name], network)
        # What has no weights isn't shared: itself, so that what is fitted to it is saved with the averages.
        return {name: net if _has_weights(net) else self.averages[name] for name, net in networks.items()}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Everything that the next step depends on, beside the config and the clock."""
        networks = {f"network.{name}": net.state_dict() for name, net in self.networks.items()}
        averages = {f"average.{name}": net.state_dict() for name, net in self.averages.items()}
        optimizers = {f"optimizer.{name}": checkpoints.optimizer_tensors(o) for name, o in self.optimizers.items()}
        state = {**networks, **averages, **optimizers, "log": self.meters.state(self.accelerator.gather)}
        if self.sharded is None:
            return state
        main = self.accelerator.is_main_process
        return {name: sharding.gather(tensors, keep=main) for name, tensors in state.items()}

    def save(self) -> None:
        """Write a checkpoint; only the main process does, and none that a value which wasn't finite went into."""
        self._save(self._pipeline())

    def _save(self, pipeline: Any) -> None:
        state = self.state()
        if self.accelerator.is_main_process:
            parent = self.out / "checkpoints"
            folder = parent / f"{self.images_seen:012d}"
            checkpoints.save_checkpoint(folder, pipeline, state, self.images_seen)
            checkpoints.drop_old(parent, self.config.keep_checkpoints)
            if self.on_checkpoint is not None:
                self.on_checkpoint(folder, self.images_seen)
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Continue from the newest whole checkpoint; where there is none, learn what comes before the first step."""
        found = checkpoints.newest_checkpoint(self.out / "checkpoints")
        if found is None:
            self._start()
        else:
            self.images_seen, state = found
            for kind, networks in (("network", self.networks), ("average", self.averages)):
                for name, network in networks.items():
                    checkpoints.load_network(name, network, state[f"{kind}.{name}"])
            for name, optimizer in self.optimizers.items():
                checkpoints.load_optimizer(optimizer, state[f"optimizer.{name}"])
            accelerator = self.accelerator
            self.meters.load(state["log"], self.device, accelerator.process_index, accelerator.num_processes)
        if self.accelerator.is_main_process:
            for name in ("log.jsonl", "speed.jsonl"):
                _keep_lines(self.out / name, self.images_seen)

    def _start(self) -> None:
        """Let the main process learn what frozen networks learn ahead, and send it to the others."""
        from accelerate.utils import broadcast

        hooks = [phase.start for phase in self.phases if phase.start is not None]
        if not hooks:
            return
        for hook in hooks if self.accelerator.is_main_process else ():
            hook(self.networks, self.store)
        for name, network in self.networks.items():
            if not self.trainable[name]:
                for tensor in network.state_dict().values():
                    broadcast(tensor)
                self.averages[name].load_state_dict(network.state_dict())

    def _publish(self) -> None:
        """Put the last checkpoint's pipeline where users look for it."""
        if self.accelerator.is_main_process:
            last = checkpoints.checkpoint_folders(self.out / "checkpoints")[-1]
            with atomic_folder(self.out / "pretrained") as temporary:
                shutil.copytree(last / "pretrained", temporary, dirs_exist_ok=True)
        self.accelerator.wait_for_everyone()


def _start_from(model: str, networks: dict[str, nn.Module]) -> None:
    """Load the networks that a published model and this run have in common.

    Raises:
        UserError: there are none, or one is built otherwise.
    """
    pipeline = load(model)
    # What has no weights isn't learnt but fitted, and will be again.
    learnt = [name for name in pipeline.component_names if _has_weights(getattr(pipeline, name))]
    common = [name for name in learnt if name in networks and _has_weights(networks[name])]
    if not common:
        raise UserError(f"start_from: {model} is a {pipeline.family}, with no network that this run trains")
    for name in common:
        try:
            networks[name].load_state_dict(getattr(pipeline, name).state_dict(), strict=True)
        except RuntimeError as error:
            text = " ".join(str(error).split())
            raise UserError(f"start_from: {name} of {model} is built otherwise ({text}); set model.* alike") from None
        _copy_measured(getattr(pipeline, name), networks[name])


def _copy_measured(source: Any, network: Any) -> None:
    """What a config says of the latents goes with the weights: no setting built it."""
    names = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
    if hasattr(network, "register_to_config"):
        network.register_to_config(**{name: source.config[name] for name in names if name in source.config})


def _has_weights(network: nn.Module | None) -> bool:
    return network is not None and next(network.parameters(), None) is not None


def _crossed(images_seen: int, batch: int, every: int) -> bool:
    """Whether the last step passed a multiple of `every`; never where `every` is 0."""
    return every > 0 and images_seen // every > (images_seen - batch) // every


def _append_line(path: Path, values: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def _keep_lines(path: Path, images_seen: int) -> None:
    """Cut the lines that a resumed run is about to write again, a half-written last one among them."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        if entry["images"] <= images_seen:
            kept.append(line + "\n")
    write_text(path, "".join(kept))
