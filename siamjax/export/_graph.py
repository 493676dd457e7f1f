"""The nodes and constants of an ONNX model that is being made."""

import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

_MULTIPLE = re.compile(r"(?:(\d+)\*)?b")  # of the size of a batch


class Unsupported(ValueError):
    """A function has no counterpart in ONNX; the message says what in it."""


@dataclasses.dataclass(frozen=True)
class Value:
    """A value of the model.

    Attributes:
      tensor: its name; or an array, if it depends on no input.
      shape: its sides; numbers, or multiples of the batch. A side may be 1 where that of the value that it stands for
        is larger: it is broadcast where an operation needs it whole, see `Graph.full`.
    """

    tensor: Any
    shape: tuple = ()

    @property
    def is_constant(self) -> bool:
        """Whether it depends on no input."""
        return isinstance(self.tensor, np.ndarray)


def constant(array: Any) -> Value:
    """An array as a value."""
    array = np.asarray(array)
    return Value(array, array.shape)


class Graph:
    """Nodes and constants; every method adds those that its result needs.

    Attributes:
      nodes: in the order of computation.
      constants: by name.
    """

    def __init__(self, batch: str):
        """`batch`: the name of an input whose first axis is the batch."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._numbers, self._batch = itertools.count(), Value(batch)

    def node(self, kind: str, values: Sequence[Value], shape: Sequence = (), **attributes: Any) -> Value:
        """The output of a new node of this `kind`, which has this `shape`."""
        return self.nodes_outputs(kind, values, [shape], **attributes)[0]

    def nodes_outputs(self, kind: str, values: Sequence[Value], shapes: Sequence, **attributes: Any) -> list[Value]:
        """The same with several outputs."""
        names = [f"t{next(self._numbers)}" for _ in shapes]
        self.nodes.append(onnx.helper.make_node(kind, [self.name(value) for value in values], names, **attributes))
        return [Value(name, tuple(shape)) for name, shape in zip(names, shapes, strict=True)]

    def output(self, name: str, value: Value) -> None:
        """Gives the model an output of this name."""
        self.nodes.append(onnx.helper.make_node("Identity", [self.name(value)], [name]))

    def name(self, value: Value) -> str:
        """The name of a value in the model."""
        if not value.is_constant:
            return value.tensor
        name = f"c{next(self._numbers)}"
        self.constants[name] = onnx.numpy_helper.from_array(np.array(value.tensor, order="C"), name)
        return name

    def full(self, value: Value, shape: Sequence) -> Value:
        """The value broadcast to this shape, which has as many sides."""
        if value.shape == tuple(shape):
            return value
        if value.is_constant and all(isinstance(side, int) for side in shape):
            return constant(np.broadcast_to(value.tensor, shape))
        sides = self.node("Concat", [self._side(side) for side in shape], axis=0)
        return self.node("Expand", [value, sides], shape)

    def reshaped(self, value: Value, shape: Sequence) -> Value:
        """The value in this shape, of as many numbers."""
        if value.shape == tuple(shape):
            return value
        if value.is_constant:
            return constant(value.tensor.reshape(shape))
        free = [side for side in shape if not isinstance(side, int)]
        if len(free) > 1:
            raise Unsupported(f"a reshape to {list(shape)}")
        sides = [side if isinstance(side, int) else -1 for side in shape]
        return self.node("Reshape", [value, constant(np.array(sides, np.int64))], shape)

    def transposed(self, value: Value, order: Sequence[int]) -> Value:
        """The value with its axes in this order."""
        order = [int(axis) for axis in order]
        if order == sorted(order):
            return value
        if value.is_constant:
            return constant(value.tensor.transpose(order))
        return self.node("Transpose", [value], [value.shape[axis] for axis in order], perm=order)

    def _side(self, side):
        """A side of a shape, as a tensor of one number."""
        if isinstance(side, int):
            return constant(np.array([side], np.int64))
        found = _MULTIPLE.fullmatch(str(side))
        if found is None:
            raise Unsupported(f"a shape with a side of {side}")
        batch = self.node("Shape", [self._batch], start=0, end=1)
        return batch if found[1] is None else self.node("Mul", [batch, constant(np.array([int(found[1])], np.int64))])


def broadcast(values: Sequence[Value]) -> tuple:
    """The shape of an operation on the corresponding numbers of `values`, by the rules of NumPy."""
    rank = max(len(value.shape) for value in values)
    padded = [(1,) * (rank - len(value.shape)) + value.shape for value in values]
    return tuple(next((side for side in sides if not _is_one(side)), 1) for sides in zip(*padded, strict=True))


def _is_one(side):
    return isinstance(side, int) and side == 1
