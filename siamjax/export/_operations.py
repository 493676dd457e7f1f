"""The operations of JAX that have a counterpart in ONNX, by their names in a jaxpr."""

import math
import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from siamjax.export._graph import Graph, Unsupported, Value, broadcast, constant

# (graph, parameters of the operation, shapes of its results, operands) -> results.
Operation = Callable[[Graph, dict[str, Any], list[tuple], Sequence[Value]], Sequence[Value]]


def _same(kind):
    """The node `kind` of the same operands."""

    def operation(graph, params, shapes, values):
        return [graph.node(kind, values, broadcast(values))]

    return operation


def _identity(graph, params, shapes, values):
    return [values[0]]


def _reciprocal_root(graph, params, shapes, values):
    root = graph.node("Sqrt", values, values[0].shape)
    return [graph.node("Reciprocal", [root], root.shape)]


def _square(graph, params, shapes, values):
    return [graph.node("Mul", [values[0], values[0]], values[0].shape)]


def _integer_power(graph, params, shapes, values):
    if params["y"] == 2:
        return _square(graph, params, shapes, values)
    return [graph.node("Pow", [values[0], constant(np.float32(params["y"]))], values[0].shape)]


def _complementary_error(graph, params, shapes, values):
    error = graph.node("Erf", values, values[0].shape)
    return [graph.node("Sub", [constant(np.float32(1)), error], error.shape)]


def _log1p(graph, params, shapes, values):
    more = graph.node("Add", [values[0], constant(np.float32(1))], values[0].shape)
    return [graph.node("Log", [more], more.shape)]


def _unequal(graph, params, shapes, values):
    equal = graph.node("Equal", values, broadcast(values))
    return [graph.node("Not", [equal], equal.shape)]


def _select(graph, params, shapes, values):
    which, *cases = values
    if len(cases) != 2:
        raise Unsupported(f"select_n of {len(cases)} cases")
    return [graph.node("Where", [which, cases[1], cases[0]], broadcast(values))]


def _clamp(graph, params, shapes, values):
    least, x, most = values
    raised = graph.node("Max", [x, least], broadcast([x, least]))
    return [graph.node("Min", [raised, most], broadcast([raised, most]))]


def _cast(graph, params, shapes, values):
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(params["new_dtype"]))
    return [graph.node("Cast", values, values[0].shape, to=kind)]


# Number by number: their operands are broadcast by ONNX.
ELEMENTWISE: dict[str, Operation] = {
    "abs": _same("Abs"),
    "add": _same("Add"),
    "and": _same("And"),
    "clamp": _clamp,
    "convert_element_type": _cast,
    "copy": _identity,
    "copy_p": _identity,
    "cos": _same("Cos"),
    "div": _same("Div"),
    "eq": _same("Equal"),
    "erf": _same("Erf"),
    "erfc": _complementary_error,
    "exp": _same("Exp"),
    "floor": _same("Floor"),
    "ge": _same("GreaterOrEqual"),
    "gt": _same("Greater"),
    "integer_pow": _integer_power,
    "le": _same("LessOrEqual"),
    "log": _same("Log"),
    "log1p": _log1p,
    "logistic": _same("Sigmoid"),
    "lt": _same("Less"),
    "max": _same("Max"),
    "min": _same("Min"),
    "mul": _same("Mul"),
    "ne": _unequal,
    "neg": _same("Neg"),
    "not": _same("Not"),
    "or": _same("Or"),
    "pow": _same("Pow"),
    # Of a scale that cancels, in `distances`. Another use would show when the model is compared with its network.
    "reduce_precision": _identity,
    "rsqrt": _reciprocal_root,
    "select_n": _select,
    "sign": _same("Sign"),
    "sin": _same("Sin"),
    "sqrt": _same("Sqrt"),
    "square": _square,
    "stop_gradient": _identity,
    "sub": _same("Sub"),
    "tanh": _same("Tanh"),
}


def _integers(numbers):
    return constant(np.array(numbers, np.int64))


def _broadcast_in_dim(graph, params, shapes, values):
    """Only axes of 1 are added; what needs the value whole broadcasts it."""
    sides = [1] * len(params["shape"])
    for axis, side in zip(params["broadcast_dimensions"], values[0].shape, strict=True):
        sides[axis] = side
    return [graph.reshaped(values[0], sides)]


def _reshape(graph, params, shapes, values):
    return [graph.reshaped(values[0], shapes[0])]


def _transpose(graph, params, shapes, values):
    return [graph.transposed(values[0], params["permutation"])]


def _slice(graph, params, shapes, values):
    (x,), strides = values, params["strides"] or (1,) * len(values[0].shape)
    bounds = zip(params["start_indices"], params["limit_indices"], strides, x.shape, strict=True)
    cut = [(axis, *each[:3]) for axis, each in enumerate(bounds) if (each[0], each[1], each[2]) != (0, each[3], 1)]
    if not cut:
        return [x]
    axes, starts, ends, steps = (list(column) for column in zip(*cut, strict=True))
    # An end of a symbolic side that is the whole side.
    ends = [2**62 if end == x.shape[axis] else end for axis, end in zip(axes, ends, strict=True)]
    if not all(isinstance(number, int) for number in (*starts, *ends)):
        raise Unsupported("a slice of the batch")
    return [graph.node("Slice", [x, *map(_integers, (starts, ends, axes, steps))], shapes[0])]


def _gather(graph, params, shapes, values):
    """A slice: JAX writes those of arrays of any batch as a gather by constant numbers."""
    (x, start), numbers = values, params["dimension_numbers"]
    axes, sizes = numbers.start_index_map, params["slice_sizes"]
    if not start.is_constant or numbers.operand_batching_dims:
        raise Unsupported("gather by numbers that are computed")
    starts, ends, steps = [], [], []
    for place, axis in enumerate(axes):
        along = start.tensor[..., place]
        if along.ndim:  # An axis of the result for each axis: equal steps along its own, none along others.
            along = np.moveaxis(along, place, 0)
            along = along.reshape(len(along), -1)
        first = int(along.flat[0])
        step = int(along[1, 0]) - first if along.ndim and len(along) > 1 else 1
        expected = first + step * np.arange(along.shape[0])[:, None] if along.ndim else along
        if step < 1 or first < 0 or np.any(along != expected) or int(along.max()) + sizes[axis] > x.shape[axis]:
            raise Unsupported("gather of more than a slice")
        starts, ends, steps = [*starts, first], [*ends, int(along.max()) + int(sizes[axis])], [*steps, step]
    if start.tensor.ndim > 1:
        own = tuple(axis for axis in range(len(shapes[0])) if axis not in numbers.offset_dims)
        if own != tuple(axes) or start.tensor.ndim != 1 + len(axes) or any(sizes[axis] != 1 for axis in axes):
            raise Unsupported("gather of more than a slice")
    cut = [
        len(range(starts[axes.index(axis)], ends[axes.index(axis)], steps[axes.index(axis)])) if axis in axes else size
        for axis, size in enumerate(sizes)
    ]
    sliced = graph.node("Slice", [x, *map(_integers, (starts, ends, axes, steps))], cut)
    return [graph.reshaped(sliced, shapes[0])]


def _reversed(graph, params, shapes, values):
    axes = list(params["dimensions"])
    all_of = [[-1] * len(axes), [-(2**62)] * len(axes), axes, [-1] * len(axes)]
    return [graph.node("Slice", [values[0], *map(_integers, all_of)], shapes[0])]


def _pad(graph, params, shapes, values):
    low, high, inside = zip(*params["padding_config"], strict=True)
    if any(inside) or min(*low, *high, 0) < 0:
        raise Unsupported("pad inside of an array, or by negative amounts")
    return [graph.node("Pad", [values[0], _integers([*low, *high]), values[1]], shapes[0])]


def _concatenate(graph, params, shapes, values):
    return [graph.node("Concat", values, shapes[0], axis=params["dimension"])]


def _stack(graph, params, shapes, values):
    axis = params["axis"]
    thin = [graph.reshaped(value, [*value.shape[:axis], 1, *value.shape[axis:]]) for value in values]
    return [graph.node("Concat", thin, shapes[0], axis=axis)]


def _unstack(graph, params, shapes, values):
    axis = params["axis"]
    parts = [[*shape[:axis], 1, *shape[axis:]] for shape in shapes]
    split = graph.nodes_outputs("Split", [values[0], _integers([1] * len(shapes))], parts, axis=axis)
    return [graph.reshaped(part, shape) for part, shape in zip(split, shapes, strict=True)]


def _split(graph, params, shapes, values):
    return graph.nodes_outputs("Split", [values[0], _integers(params["sizes"])], shapes, axis=params["axis"])


def _reduction(kind):
    def operation(graph, params, shapes, values):
        return [graph.node(kind, [values[0], _integers(params["axes"])], shapes[0], keepdims=0)]

    return operation


def _product(graph, params, shapes, values):
    ((of_a, of_b), (batch_a, batch_b)), (a, b) = params["dimension_numbers"], values
    if not batch_a and tuple(of_a) == (len(a.shape) - 1,) and len(of_b) == 1 and len(b.shape) <= 2:
        return [graph.node("MatMul", [a, graph.transposed(b, (*of_b, *({0, 1} - {*of_b}))[: len(b.shape)])], shapes[0])]
    letters = iter(string.ascii_lowercase)
    names_a, names_b = [next(letters) for _ in a.shape], [next(letters) for _ in b.shape]
    for first, second in zip((*of_a, *batch_a), (*of_b, *batch_b), strict=True):
        names_b[second] = names_a[first]
    free_a = [name for axis, name in enumerate(names_a) if axis not in (*of_a, *batch_a)]
    free_b = [name for axis, name in enumerate(names_b) if axis not in (*of_b, *batch_b)]
    result = [names_a[axis] for axis in batch_a] + free_a + free_b
    equation = f"{''.join(names_a)},{''.join(names_b)}->{''.join(result)}"
    return [graph.node("Einsum", [a, b], shapes[0], equation=equation)]


def _convolution(graph, params, shapes, values):
    if set(params["lhs_dilation"]) != {1} or params["batch_group_count"] != 1:
        raise Unsupported("a convolution whose input is dilated, or whose batch is grouped")
    of_x, of_kernel, of_y = params["dimension_numbers"]
    x, kernel = graph.transposed(values[0], of_x), graph.transposed(values[1], of_kernel)
    y = graph.node(
        "Conv",
        [x, kernel],
        [shapes[0][axis] for axis in of_y],
        strides=list(params["window_strides"]),
        dilations=list(params["rhs_dilation"]),
        group=params["feature_group_count"],
        pads=_pads(params["padding"]),
    )
    return [graph.transposed(y, np.argsort(of_y))]


def _pads(padding):
    low, high = zip(*padding, strict=True)
    if min(*low, *high, 0) < 0:
        raise Unsupported("a convolution with negative padding")
    return [*low, *high]


def _pool(kind, **attributes):
    """A pooling of the inner axes of [n, ..., c]."""

    def operation(graph, params, shapes, values):
        x, window = values[0], params["window_dimensions"]
        dilations = (*params["base_dilation"], *params["window_dilation"])
        if len(window) < 3 or (window[0], window[-1]) != (1, 1) or {*dilations} != {1}:
            raise Unsupported("a pooling of other axes than height and width")
        last = len(window) - 1
        inner = slice(1, last)
        pooled = graph.node(
            kind,
            [graph.transposed(x, (0, last, *range(1, last)))],
            [shapes[0][0], shapes[0][last], *shapes[0][inner]],
            kernel_shape=list(window[inner]),
            strides=list(params["window_strides"][inner]),
            pads=_pads(params["padding"][inner]),
            **attributes,
        )
        return [graph.transposed(pooled, (0, *range(2, last + 1), 1))]

    return operation


def _sum_pool(graph, params, shapes, values):
    (mean,) = _pool("AveragePool", count_include_pad=1)(graph, params, shapes, values)
    return [graph.node("Mul", [mean, constant(np.float32(math.prod(params["window_dimensions"])))], shapes[0])]


OPERATIONS: dict[str, Operation] = {
    **ELEMENTWISE,
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "dot_general": _product,
    "expand_dims": _reshape,
    "gather": _gather,
    "iota": _identity,  # It depends on no input.
    "pad": _pad,
    "reduce_max": _reduction("ReduceMax"),
    "reduce_min": _reduction("ReduceMin"),
    "reduce_sum": _reduction("ReduceSum"),
    "reduce_window_max": _pool("MaxPool"),
    "reduce_window_sum": _sum_pool,
    "reshape": _reshape,
    "rev": _reversed,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "stack": _stack,
    "transpose": _transpose,
    "unstack": _unstack,
}
