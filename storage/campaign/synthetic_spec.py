"""Synthetic sources of data: a law of inputs, and a teacher drawn for each dataset."""

import re
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, FiniteFloat, PositiveFloat, model_validator

from storage.campaign.activations import BY_NAME
from storage.campaign.frozen import Count, Many, refusal
from storage.campaign.source_spec import Data, Inputs, Test, mistake

if TYPE_CHECKING:  # that one text is all that a type checker needs to know
    ActivationName = str
else:
    ActivationName = Literal[(*BY_NAME,)]


def _whole(wanted: str) -> BeforeValidator:
    """A whole number as the key of a mapping, where it arrives as text."""

    def check(key: object) -> int:
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
    """Law of the points: N(0, I), or uniform on |x|² = dimension"""
    dimension: Count
    """Length d of a point x [coordinates]"""
    test: Test  # pyright: ignore[reportIncompatibleVariableOverride]
    """Test points, or a section for test points with a law of their own [points]"""

    @property
    def number_of_inputs(self) -> int:
        """d."""
        return self.dimension


class Directed(Isotropic):
    """A target of directions w* among the inputs."""

    @property
    def teacher_length(self) -> int:
        """d."""
        return self.dimension


class SingleIndex(Directed):
    """y = Σ_k c_k He_k(w*·x), or Σ_k c_k (w*·x)^k, with |w*| = 1 drawn per dataset."""

    one_direction: ClassVar[bool] = True

    source: Literal["single_index"]
    """A polynomial of one direction of the points"""
    teacher: Coefficients
    """Coefficients c_k of the target by their order k [y]"""
    basis: Literal["hermite", "monomial"] = "hermite"
    """Polynomials of order k: He_k (probabilists'), or the power z^k"""

    @property
    def components(self) -> tuple[str, ...]:
        """The polynomials."""
        letter = "He" if self.basis == "hermite" else "z^"
        return tuple(f"{letter}{order}" for order in sorted(self.teacher))


class MultiIndex(Directed):
    """y = Σ_i Σ_k c_ik He_k(w*_i·x) with orthonormal directions w*_i drawn per dataset."""

    source: Literal["multi_index"]
    """Polynomials of several directions of the points, added up"""
    directions: Count
    """Orthonormal directions w*_i, at most dimension [directions]"""
    teacher: dict[Direction, Coefficients]
    """Coefficients c_ik of He_k by order k, for every direction i from 1 [y]"""

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

    @property
    def components(self) -> tuple[str, ...]:
        """The polynomials of each direction."""
        directions = sorted(self.teacher.items())
        return tuple(f"He{order}(w{i})" for i, orders in directions for order in sorted(orders))


class AbsIndex(Directed):
    """y = v·x + ε(|v·x| - √(2/π)) with |v| = 1 drawn per dataset."""

    one_direction: ClassVar[bool] = True
    even_part: ClassVar[bool] = True

    source: Literal["abs_index"]
    """A line and an absolute value of one direction of the points"""
    epsilon: FiniteFloat
    """Coefficient ε of the even part of the target [y]"""

    @property
    def components(self) -> tuple[str, ...]:
        """The line and the absolute value."""
        return ("z", "|z|")


class Linear(Directed):
    """y = w*·x with |w*| = 1 drawn per dataset."""

    one_direction: ClassVar[bool] = True

    source: Literal["linear"]
    """A linear function of the points"""


class Patches(Data):
    """y = Σ_i a*_i Σ_k c_k He_k(w*·x_i) over patches x_i of x ~ N(0, I), |w*| = |a*| = 1."""

    one_direction: ClassVar[bool] = True
    in_patches: ClassVar[bool] = True

    source: Literal["patches"]
    """The same polynomial of one direction in every patch of the points"""
    patches: Count
    """Number P of patches of a point [patches]"""
    patch_size: Count
    """Length of a patch x_i and of the direction w* [coordinates]"""
    teacher: Coefficients
    """Coefficients c_k of He_k by their order k [y]"""
    readout: Literal["equal", "random"] = "equal"
    """Weights of the patches: a*_i = 1/√P, or drawn per dataset like w*"""

    @property
    def components(self) -> tuple[str, ...]:
        """The polynomials."""
        return tuple(f"He{order}" for order in sorted(self.teacher))

    @property
    def teacher_length(self) -> int:
        """That of a patch."""
        return self.patch_size

    @property
    def number_of_inputs(self) -> int:
        """All patches together."""
        return self.patches * self.patch_size


class TeacherNetwork(Isotropic):
    """y = f(x) with f drawn per dataset from the prior of a network, W ~ N(0, σ²/fan_in).

    There are no biases, and y is as large as the prior makes it: over teachers, its variance at x
    is the prior's <f(x)²>.
    """

    source: Literal["teacher_network"]
    """The output of a random network"""
    architecture: Literal["fcn", "cnn"] = "fcn"
    """The teacher: fully connected, or filters on patches that do not overlap"""
    patches: Count | None = None
    """Equal parts of a point that the filters of a cnn see [patches]"""
    depth: Count = 1
    """Hidden layers of the teacher [layers]"""
    width: Count
    """Neurons or channels of every hidden layer of the teacher [neurons]"""
    activation: ActivationName
    """Activation φ of the teacher's hidden layers"""
    weight_variance: Many[PositiveFloat]
    """σ², variance of weights times fan-in, of each layer; the last is the readout's [1]"""

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
    """Points and target whose spectra fall as powers"""
    inputs: Literal["gaussian", "legendre"] = "gaussian"
    """The z_k: independent normals, or Legendre polynomials of one uniform number"""
    modes: Count
    """Number M of modes, the length of a point [modes]"""
    eigenvalue_exponent: PositiveFloat
    """α: the eigenvalues fall as k^-(1+α) [1]"""
    target_exponent: PositiveFloat
    """β: the squared coefficients of the target fall as k^-(1+β) [1]"""

    @property
    def number_of_inputs(self) -> int:
        """M."""
        return self.modes
