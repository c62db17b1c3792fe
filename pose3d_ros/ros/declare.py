"""The parameters of param_tables.py as parameters of a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RclParameter

from pose3d_ros.ros.compat import parameter_overrides
from pose3d_ros.ros.params import Parameter, ParameterError, check_overrides


def declare(node: Node, table: Sequence[Parameter], settable: Callable[[], str] = lambda: '') -> None:
    """Declare every parameter of the table on the node, and keep values to its rules from then on.

    settable: returns why parameters cannot be set now, '' when they can. Raises ParameterError for an unknown or bad
    one among the overrides (YAML, command line, constructor).
    """
    declared = list(node.get_parameters_by_prefix(''))  # by rclpy itself: use_sim_time and the like
    check_overrides(table, parameter_overrides(node), declared)
    rules = {parameter.name: parameter for parameter in table}
    for parameter in table:
        node.declare_parameter(parameter.name, parameter.default, _descriptor(parameter))

    def on_set(changes: list[RclParameter]) -> SetParametersResult:
        for change in changes:
            rule = rules.get(change.name)
            if rule is None:
                continue
            if reason := settable():
                return SetParametersResult(successful=False, reason=f'{change.name}: {reason}')
            try:
                rule.check(change.value)
            except ParameterError as error:
                return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)


def values_of(node: Node, table: Sequence[Parameter]) -> dict[str, Any]:
    """Return the present values of the parameters of a table by name."""
    return {parameter.name: node.get_parameter(parameter.name).value for parameter in table}


def _descriptor(parameter: Parameter) -> ParameterDescriptor:
    unit = f' [{parameter.unit}]' if parameter.unit else ''
    descriptor = ParameterDescriptor(description=parameter.description + unit, read_only=parameter.fixed,
                                     additional_constraints=parameter.allowed)
    if parameter.low is not None and parameter.high is not None:
        if isinstance(parameter.default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(parameter.low), to_value=int(parameter.high))]
        else:
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(parameter.low),
                                                                  to_value=float(parameter.high))]
    return descriptor
