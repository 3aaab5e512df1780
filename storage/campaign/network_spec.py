"""Which networks are sampled: the `network` section of a campaign, and the kernel of its limit."""

from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    Tag,
    WithJsonSchema,
)
from pydantic import model_validator as validator
from pydantic_core import PydanticCustomError

from storage.campaign.activations import BY_NAME
from storage.campaign.data_spec import PLUGIN
from storage.campaign.frozen import Count, Frozen, Many, refusal
from storage.campaign.messages import nearest, short

ACTIVATIONS = tuple(BY_NAME)
ARCHITECTURES = ("fcn", "cnn")
CONVOLUTION = ("patches", "image", "pool_after", "head")  # settings of a cnn alone


def known_or_plugin(known: tuple[str, ...], example: str) -> tuple[BeforeValidator, WithJsonSchema]:
    """A name of the list, or `module:attribute` of the user's own."""

    def check(value: object) -> object:
        if isinstance(value, str) and (value in known or PLUGIN.fullmatch(value)):
            return value
        raise refusal(value, nearest(str(value), [*known, example]))

    schema = {
        "anyOf": [{"enum": list(known)}, {"type": "string", "pattern": f"^{PLUGIN.pattern}$"}]
    }
    return BeforeValidator(check, json_schema_input_type=object), WithJsonSchema(schema)


Activation = Annotated[str, *known_or_plugin(ACTIVATIONS, "my.module:phi")]
Architecture = Annotated[str, *known_or_plugin(ARCHITECTURES, "my.module:Net")]


def _number_or_list(value: object) -> str:
    return "@layers" if isinstance(value, list | tuple) else "@number"


WeightVariance = Annotated[
    Annotated[PositiveFloat, Tag("@number")] | Annotated[Many[PositiveFloat], Tag("@layers")],
    Discriminator(_number_or_list),
]
BiasVariance = Annotated[
    Annotated[NonNegativeFloat, Tag("@number")] | Annotated[Many[NonNegativeFloat], Tag("@layers")],
    Discriminator(_number_or_list),
]


class Kernel(Frozen):
    """What fixes the infinite-width prior of a network, its NNGP kernel."""

    architecture: Architecture = "fcn"
    """Fully connected, convolutional, or your own as `module:attribute`"""
    depth: Count = 1
    """Hidden layers [layers]"""
    activation: Activation
    """Activation φ of the hidden layers, or your own as `module:attribute`"""
    weight_variance: WeightVariance
    """σ², variance of weights times fan-in: of each layer, the readout's last, or one of all [1]"""
    bias_variance: BiasVariance = 0.0
    """Variance of the biases of all hidden layers, or a list with a number for each [1]"""
    prior: Literal["gaussian", "uniform"] = "gaussian"
    """Law of weights and biases; uniform ones, of the same variances, are sampled by scheme prior
    alone, and their kernel is known for 3 inputs at most, of which a bias is one"""
    scaling: Literal["standard", "mean_field"] = "standard"
    """Mean field divides the readout's variance and the temperature by chi"""
    chi: PositiveFloat = 1.0
    """Mean field: what divides the readout's variance and the temperature [1]"""
    patches: Count | None = None
    """cnn: number of equal parts of a point, without overlap, that the filters see [patches]"""
    image: Annotated[Many[Count], Field(min_length=3, max_length=3)] | None = None
    """cnn: shape of a point, over which 3 x 3 filters move [channels, height, width in pixels]"""
    pool_after: Many[Count] = ()
    """image: hidden layers that are averaged over squares of 2 x 2 [layer, from 1]"""
    head: Literal["flatten", "average"] | None = None
    """image: what the readout reads, all positions or their average"""

    @validator(mode="after")
    def _consistent(self) -> "Kernel":
        if len(self.weights) != self.depth + 1:
            raise PydanticCustomError(
                "weight_variance",
                "weight_variance has {found} numbers, wanted {wanted}: one per hidden layer "
                "and one for the readout, or one number for all",
                {"found": len(self.weights), "wanted": self.depth + 1},
            )
        if isinstance(self.bias_variance, tuple) and len(self.bias_variance) != self.depth:
            raise PydanticCustomError(
                "bias_variance",
                "bias_variance has {found} numbers, wanted {wanted}: one per hidden layer, or one "
                "number for all",
                {"found": len(self.bias_variance), "wanted": self.depth},
            )
        if self.scaling == "standard" and self.chi != 1:
            raise PydanticCustomError(
                "chi",
                "chi is {found} with scaling standard; set scaling: mean_field, or leave chi out",
                {"found": self.chi},
            )
        problem = _prior_problem(self) or _convolution_problem(self)
        if problem:
            raise PydanticCustomError("architecture", "{problem}", {"problem": problem})
        return self

    @property
    def weights(self) -> Many[float]:
        """σ² of each layer, the readout's last."""
        given = self.weight_variance
        return given if isinstance(given, tuple) else (given,) * (self.depth + 1)

    @property
    def biases(self) -> Many[float]:
        """σ_b² of each hidden layer."""
        given = self.bias_variance
        return given if isinstance(given, tuple) else (given,) * self.depth

    @property
    def physical_weight_variance(self) -> Many[float]:
        """σ² of each layer, the readout's divided by chi."""
        return (*self.weights[:-1], self.weights[-1] / self.chi)


class Network(Kernel):
    """f(x) = Σ_i a_i φ(h_i), W ~ N(0, σ²/fan_in): fully connected, convolutional or the user's."""

    width: Count
    """Neurons or channels of every hidden layer [neurons]"""


def _prior_problem(kernel: Kernel) -> str:
    """What is wrong with weights that are not Gaussian, in one line; nothing if nothing is."""
    if kernel.prior == "uniform" and kernel.architecture != "fcn":
        return f"prior uniform is for fcn; found {kernel.architecture}: leave it out"
    return ""


def _convolution_problem(kernel: Kernel) -> str:
    """What is wrong with the settings of a convolutional network, in one line; nothing if none."""
    given = [key for key in CONVOLUTION if getattr(kernel, key)]
    if kernel.architecture != "cnn":
        return f"{given[0]} belongs to architecture cnn; leave it out" if given else ""
    if (kernel.patches is None) == (kernel.image is None):
        return "architecture cnn needs either patches, their number, or image: [channels, h, w]"
    if any(kernel.biases):
        return f"bias_variance is {short(kernel.bias_variance)}; architecture cnn has no biases"
    if kernel.patches is not None:
        if len(given) > 1:
            return f"{given[1]} belongs to a cnn on an image; leave it out, or give image"
        if kernel.depth > 2:
            return f"depth is {kernel.depth}; a cnn on patches has 1 or 2 hidden layers"
        return ""
    return _image_problem(kernel)


def _image_problem(kernel: Kernel) -> str:
    assert kernel.image is not None
    if kernel.head is None:
        return "head is missing; a cnn on an image reads out with flatten or average"
    if not set(kernel.pool_after) <= set(range(1, kernel.depth + 1)):
        return f"pool_after is {list(kernel.pool_after)} with {kernel.depth} hidden layers"
    factor = 2 ** len(set(kernel.pool_after))
    if any(side % factor for side in kernel.image[1:]):
        height, width = kernel.image[1:]
        return f"pool_after halves {height} x {width} positions {len(kernel.pool_after)} times"
    return ""
