"""Numbers for devices and metrics within one owner's memory, so that kernels and COPY see integers and not names.

Numbers are given as devices are met and are never stored: another owner may give others.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schema.catalogue import Catalogue, DeviceModel
from streams.copyrows import TextTable
from streams.pane_rows import NO_COUNTER


@dataclass(frozen=True, slots=True)
class ModelSlots:
    """The metrics of one device model in the order of its catalogue; a slot is an index into them."""

    names: tuple[str, ...]
    wrap: npt.NDArray[np.int64]
    """(S,) for `panes.fold`: size of a counter's register, 0 if unknown, `NO_COUNTER` for other kinds."""
    first: int
    """Slots of all models lie in one line; this model's begin here."""

    def slot(self, metric: str) -> int:
        """Return the index of a metric; -1 for one that the catalogue does not have."""
        return self.names.index(metric) if metric in self.names else -1


class Layout:
    """All models' slots in one line, and the devices met so far."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.texts = TextTable()
        self.models: dict[str, ModelSlots] = {}
        self._device_text: list[int] = []
        self._device_first: list[int] = []
        metric_text: list[int] = []
        steps: list[float] = []
        wraps: list[int] = []
        for name, model in sorted(catalogue.items()):
            wrap = _wraps(model)
            self.models[name] = ModelSlots(model.metric_names, wrap, len(steps))
            metric_text += [self.texts.number(metric) for metric in model.metric_names]
            steps += [float(metric.steps_per_unit) for metric in model.metrics.values()]
            wraps += wrap.tolist()
        self.metric_text = np.array(metric_text, np.int64)
        self.steps = np.array(steps, np.float64)
        self.wraps = np.array(wraps, np.int64)

    def add_device(self, device_id: str, model: str) -> int:
        """Give a device its number."""
        self._device_text.append(self.texts.number(device_id))
        self._device_first.append(self.models[model].first)
        return len(self._device_text) - 1

    def device_name(self, number: int) -> str:
        """Return the device that has a number."""
        return self.texts.text(self._device_text[number])

    def device_columns(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return text number and first slot (D,) of all devices."""
        return np.array(self._device_text, np.int64), np.array(self._device_first, np.int64)


def _wraps(model: DeviceModel) -> npt.NDArray[np.int64]:
    return np.array(
        [
            (metric.quantise(metric.wrap) if metric.wrap else 0) if metric.kind == "counter" else NO_COUNTER
            for metric in model.metrics.values()
        ],
        np.int64,
    )
