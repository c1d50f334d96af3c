"""What every scenario is: a story with parameters, told through a play.

Owns how parameters become options and are shown. A scenario's file reads like what happens in it;
how it is played, measured and judged is the play's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from loadtest.play import Play


class ParameterUnknown(ValueError):
    """A scenario has no such parameter, or not of that kind; the message says what it has."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Scenario:
    """A story; fields are its parameters, with units in their names."""

    name: ClassVar[str]
    title: ClassVar[str]
    #: Thresholds that hold unless the user's own say otherwise; as in a thresholds file.
    limits: ClassVar[Mapping[str, str]] = {}
    #: Parameters without which there is no story, and those that are a part of one.
    above_zero: ClassVar[frozenset[str]] = frozenset({"viewers"})
    shares: ClassVar[frozenset[str]] = frozenset()

    #: How the viewers wait and come back, where it is not as protocol v1 says.
    patience: ClassVar[Mapping[str, Any]] = {}

    viewers: int

    async def play(self, play: Play) -> None:
        """Tell the story."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """Return the parameters by name."""
        return asdict(self)

    def with_options(self, given: Mapping[str, str | float]) -> Self:
        """Return the same story with other parameters; ParameterUnknown says which there are."""
        known = {field.name: type(getattr(self, field.name)) for field in fields(self)}
        changed: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known:
                has = ", ".join(known)
                raise ParameterUnknown(f"{self.name} has no {name!r}; it has {has}")
            try:
                changed[name] = known[name](value)
            except ValueError as error:
                wanted = known[name].__name__
                raise ParameterUnknown(f"{name}: {value!r} is no {wanted}") from error
            if (why := self._wrong(name, changed[name])) is not None:
                raise ParameterUnknown(f"{name}: {value!r} is {why}")
        return replace(self, **changed)

    def _wrong(self, name: str, value: Any) -> str | None:
        """Why a parameter cannot have a value."""
        if not isinstance(value, int | float):
            return None
        if not math.isfinite(value):
            return "no finite number"
        if value < 0 or (not value and name in self.above_zero):
            return "not above 0" if name in self.above_zero else "below 0"
        return "above 1" if name in self.shares and value > 1 else None
