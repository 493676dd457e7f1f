"""A JAX function as an ONNX model: each operation of its jaxpr by its counterpart.

The best-known converter, jax2onnx, is not used: since 0.13 it excludes the releases of orbax-checkpoint that runs are
stored by (extra `train`), and lacks operations of the head "aligned". Encoders and heads need few operations.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax.extend import core

from siamjax import parallel
from siamjax.export._graph import Graph, Unsupported, Value, broadcast, constant
from siamjax.export._operations import ELEMENTWISE, OPERATIONS

# ONNX of 2022, which every runtime since then reads.
_OPSET, _IR_VERSION = 18, 8
# Operations that call another jaxpr -> the parameter that holds it. Derivatives are left out.
_CALLS = {
    "checkpoint": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "jit": "jaxpr",
    "pjit": "jaxpr",
}


def model(
    function: Callable[..., Any],
    constants: Any,
    inputs: Mapping[str, jax.ShapeDtypeStruct],
    outputs: Sequence[str],
    metadata: Mapping[str, str],
) -> bytes:
    """The content of an ONNX file.

    Args:
      function: (constants, *inputs) -> a tuple with an array for each name in `outputs`.
      constants: a tree of arrays, which the file holds.
      inputs: by name; their first axis is the batch, the dimension "b" of `jax.export.symbolic_shape`.
      outputs: their names.
      metadata: texts that the file holds.

    Raises:
      Unsupported: the function has operations without a counterpart; the message lists them.
    """
    with parallel.portable():
        closed = jax.make_jaxpr(function)(constants, *inputs.values())
    if unknown := sorted(_unknown(closed.jaxpr)):
        raise Unsupported(", ".join(unknown))
    graph = Graph(next(iter(inputs)))
    values = [constant(leaf) for leaf in jax.tree.leaves(constants)]
    values += [Value(name, tuple(given.shape)) for name, given in inputs.items()]
    avals = [variable.aval for variable in closed.jaxpr.outvars]
    for name, result, aval in zip(outputs, _results(graph, closed, values), avals, strict=True):
        graph.output(name, graph.full(result, aval.shape))
    nodes = _needed(graph.nodes, outputs)
    used = {name for node in nodes for name in node.input}
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            nodes,
            "siamjax",
            [_info(name, given) for name, given in inputs.items()],
            [_info(*each) for each in zip(outputs, avals, strict=True)],
            [tensor for name, tensor in graph.constants.items() if name in used],
        ),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="siamjax",
    )
    onnx.helper.set_model_props(made, dict(metadata))
    onnx.checker.check_model(made)
    return made.SerializeToString(deterministic=True)


def _results(graph, closed, values):
    """The results of a closed jaxpr for the values of its arguments."""
    known = dict(zip(closed.jaxpr.constvars, map(constant, closed.consts), strict=True))
    known |= dict(zip(closed.jaxpr.invars, values, strict=True))

    def read(atom):
        return constant(atom.val) if isinstance(atom, core.Literal) else known[atom]

    for equation in closed.jaxpr.eqns:
        results = _applied(graph, equation, [read(atom) for atom in equation.invars])
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in closed.jaxpr.outvars]


def _applied(graph, equation, values):
    name, params = equation.primitive.name, equation.params
    if name in _CALLS:
        return _results(graph, _closed(params[_CALLS[name]]), values)
    if name not in ELEMENTWISE and name != "broadcast_in_dim":
        values = [graph.full(value, atom.aval.shape) for value, atom in zip(values, equation.invars, strict=True)]
    if name != "broadcast_in_dim" and all(value.is_constant for value in values):
        return _folded(equation, values)
    return OPERATIONS[name](graph, params, [variable.aval.shape for variable in equation.outvars], values)


def _folded(equation, values):
    """Results that depend on constants alone, computed now."""
    arrays = [value.tensor for value in values]
    if equation.primitive.name in ELEMENTWISE:
        shape = broadcast(values)
        arrays = [np.broadcast_to(array, shape) if array.ndim else array for array in arrays]
    found = equation.primitive.bind(*arrays, **equation.params)
    return [constant(x) for x in (found if equation.primitive.multiple_results else [found])]


def _closed(jaxpr):
    return jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else core.ClosedJaxpr(jaxpr, ())


def _unknown(jaxpr):
    """The names of the operations that have no counterpart."""
    names = set()
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name in _CALLS:
            names |= _unknown(_closed(equation.params[_CALLS[name]]).jaxpr)
        elif name not in OPERATIONS:
            names.add(name)
    return names


def _needed(nodes, outputs):
    """The nodes that the outputs depend on, in their order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def _info(name, aval):
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(aval.dtype))
    shape = [side if isinstance(side, int) else str(side) for side in aval.shape]
    return onnx.helper.make_tensor_value_info(name, kind, shape)
