"""Synthetic sources of data: a law of inputs, and a teacher drawn for each dataset."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, FiniteFloat, PositiveFloat, model_validator

from storage.frozen import Count, Many, refusal
from storage.source_spec import Data, Inputs, Test, mistake


def _whole(wanted: str) -> BeforeValidator:
    """A whole number as the key of a mapping, where it arrives as text."""

    def check(key: Any) -> int:
        if isinstance(key, str) and re.fullmatch("0|[1-9][0-9]{0,9}", key):
            return int(key)
        if isinstance(key, int) and not isinstance(key, bool):
            return key
        raise refusal(key, f"wanted {wanted}, a whole number")

    return BeforeValidator(check)


Order = Annotated[int, _whole("the order of a polynomial"), Field(ge=0, le=100)]
Direction = Annotated[int, _whole("the number of a direction"), Field(ge=1)]
Coefficients = Annotated[dict[Order, FiniteFloat], Field(min_length=1)]  # k -> c_k


class Isotropic(Data):
    """Points x ~ N(0, I), or uniform on |x|² = dimension."""

    inputs: Inputs = "gaussian"
    dimension: Count
    test: Test  # pyright: ignore[reportIncompatibleVariableOverride]


class SingleIndex(Isotropic):
    """y = Σ_k c_k He_k(w*·x), or Σ_k c_k (w*·x)^k, with |w*| = 1 drawn per dataset."""

    source: Literal["single_index"]
    teacher: Coefficients
    basis: Literal["hermite", "monomial"] = "hermite"


class MultiIndex(Isotropic):
    """y = Σ_i Σ_k c_ik He_k(w*_i·x) with orthonormal directions w*_i drawn per dataset."""

    source: Literal["multi_index"]
    directions: Count
    teacher: dict[Direction, Coefficients]  # i -> k -> c_ik, for every direction i from 1

    @model_validator(mode="after")
    def _directions_fit(self) -> "MultiIndex":
        count = self.directions
        if count > self.dimension:
            raise mistake(
                f"found {count} directions in dimension {self.dimension}; they are orthonormal: "
                "raise dimension"
            )
        if unknown := [i for i in self.teacher if i > count]:
            raise mistake(f"teacher has direction {unknown[0]}; directions allows 1 to {count}")
        if len(self.teacher) < count:
            absent = next(i for i in range(1, count + 1) if i not in self.teacher)
            raise mistake(f"teacher lacks direction {absent} of {count}; add it to teacher")
        if sum(0 in orders for orders in self.teacher.values()) > 1:
            raise mistake("teacher has order 0 in two directions, the same constant; keep one")
        return self


class AbsIndex(Isotropic):
    """y = v·x + ε(|v·x| - √(2/π)) with |v| = 1 drawn per dataset."""

    source: Literal["abs_index"]
    epsilon: FiniteFloat


class Linear(Isotropic):
    """y = w*·x with |w*| = 1 drawn per dataset."""

    source: Literal["linear"]


class Patches(Data):
    """y = Σ_i a*_i Σ_k c_k He_k(w*·x_i) over patches x_i of x ~ N(0, I), |w*| = |a*| = 1."""

    source: Literal["patches"]
    patches: Count  # P
    patch_size: Count  # length of x_i and of w*
    teacher: Coefficients
    readout: Literal["equal", "random"] = "equal"  # a*_i = 1/√P, or drawn per dataset like w*


class TeacherNetwork(Isotropic):
    """y = f(x) with f drawn per dataset from the prior of a network, W ~ N(0, σ²/fan_in).

    There are no biases, and y is as large as the prior makes it: over teachers, its variance at x
    is the prior's <f(x)²>.
    """

    source: Literal["teacher_network"]
    architecture: Literal["fcn", "cnn"] = "fcn"
    patches: Count | None = None  # cnn: filters on equal parts of x that do not overlap
    depth: Count = 1  # hidden layers
    width: Count  # neurons or channels of every hidden layer
    activation: Literal["linear", "erf", "relu", "tanh", "gelu", "sin", "quadratic"]
    weight_variance: Many[PositiveFloat]  # σ² of each layer; the last is the readout's

    @model_validator(mode="after")
    def _layers_fit(self) -> "TeacherNetwork":
        if len(self.weight_variance) != self.depth + 1:
            raise mistake(
                f"weight_variance has {len(self.weight_variance)} numbers, wanted "
                f"{self.depth + 1}: one per hidden layer and one for the readout"
            )
        if (self.architecture == "cnn") != (self.patches is not None):
            raise mistake("architecture cnn and patches, their number, go together")
        if self.patches is not None and self.dimension % self.patches:
            raise mistake(f"patches: {self.dimension} inputs are no {self.patches} equal parts")
        if self.patches is not None and self.depth > 2:
            raise mistake(f"depth is {self.depth}; a cnn on patches has 1 or 2 hidden layers")
        return self


class PowerLaw(Data):
    """x_k = √(M λ_k) z_k, y = Σ ± k^(-(1+β)/2) z_k; x·x'/M has eigenvalues λ_k = k^-(1+α).

    The z_k are independent normals, or √(2k - 1) P_(k-1)(u) of one u uniform on [-1, 1].
    """

    source: Literal["power_law"]
    inputs: Literal["gaussian", "legendre"] = "gaussian"
    modes: Count
    eigenvalue_exponent: PositiveFloat  # α
    target_exponent: PositiveFloat  # β
