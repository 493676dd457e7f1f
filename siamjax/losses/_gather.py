"""The whole batch on every device, for losses that mine over all of it."""

from jax import lax


def whole_batch(axis_name, *arrays):
    """This device's shares [n / devices, ...] -> the whole batch's arrays [n, ...]; unchanged without an `axis_name`.

    Arrays may be None. Every device then computes the whole batch's loss, so the caller takes the mean of the gradients
    over the devices (`lax.pmean`): that is the gradient on one device.
    """
    if axis_name is None:
        return arrays
    return tuple(None if x is None else lax.all_gather(x, axis_name, tiled=True) for x in arrays)
