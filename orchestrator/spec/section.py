"""Base of the sections of a spec, and the numbers in their fields."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictInt,
    model_serializer,
)

from orchestrator.errors import quoted


def at_most(limit: int, reason: str) -> Any:
    """Return the annotation of a whole number with an upper limit, whose message gives the reason."""

    def check(value: int) -> int:
        if value > limit:
            raise ValueError(f"must be <= {limit:,}, {reason}; got {quoted(value)}")
        return value

    return AfterValidator(check), Field(json_schema_extra={"maximum": limit})


_IN_64_BITS = at_most(2**63 - 1, "a whole number of 64 bits")
PositiveInt: TypeAlias = Annotated[StrictInt, Field(ge=1), *_IN_64_BITS]
Count: TypeAlias = Annotated[StrictInt, Field(ge=0), *_IN_64_BITS]
Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Section(BaseModel):
    """Frozen and strict: no field that the model does not have."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)


class WithArguments(Section):
    """Section that may name a user's own code, whose ``args`` are left out of documents if there are none.

    So are a ``baseline`` without values and ``seeds: 1``, so that plans are what they were before these fields.
    """

    @model_serializer(mode="wrap")
    def _without_empty_mappings(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = handler(self)
        usual = {"args": {}, "baseline": {}, "seeds": 1}
        return {key: value for key, value in document.items() if key not in usual or value != usual[key]}
