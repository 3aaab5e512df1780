"""Theories: one record for each, from which rules, schema, analysis, words and colours derive.

The numbers of a theory are in `pipelines.theories`, under the same name.
"""

from collections.abc import Callable

from storage.campaign.theory_conditions import (
    activation,
    architecture,
    architecture_of_the_data,
    depth,
    gaussian_inputs,
    gaussian_weights,
    hermite_polynomials,
    learned,
    odd_on_patches,
    odd_target,
    one_direction,
    one_output,
    outputs_that_scale,
    points_as_drawn,
    prior,
    that_settles,
    two_inputs,
    wide_enough_to_scale,
    without_bias,
)
from storage.campaign.theory_record import Theory

INDEX_ACTIVATIONS = ("erf", "relu", "linear")  # whose overlaps with polynomials are known
_FEATURES = (architecture("fcn"), one_output, gaussian_weights)
_AVERAGED = (
    one_direction,
    gaussian_inputs,
    hermite_polynomials,
    points_as_drawn,
    architecture_of_the_data,
    depth(1),
    activation(*INDEX_ACTIVATIONS),
    odd_on_patches,
    without_bias,
    two_inputs,
    learned,
)

RECORDS = (
    Theory(
        "nngp",
        title="NNGP",
        words="the NNGP",
        meaning="the NNGP, regression with the kernel of infinite width",
        papers=("lee2018deep", "matthews2018gaussian"),
        colour="blue",
        line=(0, (5, 2)),
        times="too",
        holds=(architecture("fcn", "cnn"), that_settles),
    ),
    Theory(
        "kernel_scaling",
        title="kernel scaling",
        words="kernel scaling",
        meaning=(
            "kernel scaling, where the data rescale that kernel by a factor fixed by the "
            "evidence (Li and Sompolinsky 2021; Pacelli et al. 2023)"
        ),
        papers=("li2021statistical", "pacelli2023statistical"),
        colour="orange",
        line="-",
        holds=(
            architecture("fcn"),
            outputs_that_scale,
            wide_enough_to_scale,
            gaussian_weights,
        ),
    ),
    Theory(
        "scale_mixture",
        title="exact",
        words="the exact posterior",
        meaning=(
            "the exact posterior of the linear network, a mixture over the norm of its readout "
            "(Zavatone-Veth and Pehlevan 2021; Hanin and Zlokapa 2023)"
        ),
        papers=("zavatoneveth2021depth", "hanin2023bayesian"),
        colour="green",
        line="-",
        holds=(
            activation("linear"),
            architecture("fcn"),
            depth(1),
            without_bias,
            one_output,
            gaussian_weights,
        ),
    ),
    Theory(
        "adaptive",
        title="adaptive kernel",
        words="the adaptive kernel",
        meaning=(
            "the adaptive kernel of a finite dataset, where each neuron has its law in the "
            "field of the others (Seroussi, Naveh and Ringel 2023; Rubin, Seroussi and Ringel "
            "2024)"
        ),
        papers=("seroussi2023separation", "rubin2024grokking"),
        colour="purple",
        line=(0, (6, 1.5)),
        learns=True,
        holds=(depth(1), *_FEATURES),
    ),
    Theory(
        "vga",
        title="Gaussian neurons",
        words="the Gaussian law of a neuron",
        meaning="the Gaussian nearest to that law",
        papers=("seroussi2023separation",),
        colour="yellow",
        line=(0, (3, 1.5)),
        learns=True,
        holds=(depth(1), *_FEATURES),
    ),
    Theory(
        "equations_of_state",
        title="equations of state",
        words="the equations of state",
        meaning=(
            "the equations of state, Gaussian layers of which each adapts to the one above "
            "(Seroussi, Naveh and Ringel 2023)"
        ),
        papers=("seroussi2023separation",),
        colour="purple",
        line="-",
        learns=True,
        holds=(depth(2), *_FEATURES),
    ),
    Theory(
        "width_corrections",
        title="order 1/N",
        words="the prior to order 1/N",
        meaning=(
            "the prior of finite networks to leading order in 1/width, with kernels that "
            "fluctuate (Yaida 2020; Roberts, Yaida and Hanin 2022)"
        ),
        papers=("yaida2020nongaussian", "roberts2022principles"),
        colour="orange",
        line=(0, (5, 2)),
        needs=("observe.correlators",),
        holds=(prior, architecture("fcn"), gaussian_weights),
    ),
    Theory(
        "exact_prior",
        title="exact prior",
        words="the exact prior",
        meaning=(
            "the exact prior of linear and relu networks of any width (Zavatone-Veth and "
            "Pehlevan 2021)"
        ),
        papers=("zavatoneveth2021exact",),
        colour="green",
        line="-",
        needs=("observe.correlators",),
        holds=(
            prior,
            activation("linear", "relu"),
            architecture("fcn"),
            without_bias,
            gaussian_weights,
        ),
    ),
    Theory(
        "gradient_flow",
        title="gradient flow, NTK",
        words="gradient flow with the NTK",
        meaning=(
            "gradient flow with the tangent kernel of infinite width (Jacot et al. 2018; Lee et "
            "al. 2019)"
        ),
        papers=("jacot2018neural", "lee2019wide"),
        colour="orange",
        line=(0, (1, 1.5)),
        times="only",
    ),
    Theory(
        "volterra",
        title="Langevin, N = ∞",
        words="Langevin dynamics at infinite width",
        meaning=(
            "Langevin dynamics with weight decay at infinite width, a linear equation with memory "
            "that begins with the NTK and ends at the NNGP (Avidan, Li and Sompolinsky 2023)"
        ),
        papers=("avidan2023connecting",),
        colour="green",
        line="-",
        times="only",
        holds=(that_settles,),
    ),
    Theory(
        "mean_field",
        title="mean field",
        words="the mean field of one layer",
        meaning=(
            "the mean field of one hidden layer, in which each neuron learns features in the "
            "field of all (Bordelon and Pehlevan 2022)"
        ),
        papers=("bordelon2022self",),
        colour="green",
        line="-",
        times="only",
        particles=True,
        holds=(depth(1), one_output),
    ),
    Theory(
        "gfl",
        title="Gaussian features",
        words="Gaussian feature learning",
        meaning=(
            "Gaussian feature learning, the order parameter q = w·w* of a neuron as a Gaussian "
            "whose variance the data widen (Rubin, Seroussi and Ringel 2024)"
        ),
        papers=("rubin2024grokking",),
        colour="sky",
        line=(0, (4, 1.5, 1, 1.5)),
        given="average",
        holds=_AVERAGED,
    ),
    Theory(
        "order_parameter",
        title="full action S(q)",
        words="the full action S(q)",
        meaning=(
            "the full action S(q) of the order parameter, with the effective temperature of "
            "finite n (Rubin, Seroussi and Ringel 2024)"
        ),
        papers=("rubin2024grokking",),
        colour="green",
        line="-",
        given="average",
        holds=_AVERAGED,
    ),
    Theory(
        "gmfl",
        title="Gaussian mixture",
        words="the Gaussian mixture of the thermodynamic limit",
        meaning=(
            "Gaussian mixtures, the limit in which a neuron is thermodynamic and falls into "
            "droplets beyond a first-order transition (Rubin, Seroussi and Ringel 2024)"
        ),
        papers=("rubin2024grokking",),
        colour="yellow",
        line=(0, (1, 1.5)),
        given="average",
        holds=(*_AVERAGED, activation("erf"), odd_target),
    ),
    Theory(
        "effective_ridge",
        title="effective ridge",
        words="the effective ridge",
        meaning=(
            "the effective ridge of the Gaussian process, from the spectrum of its pool "
            "(Canatar, Bordelon and Pehlevan 2021)"
        ),
        papers=("canatar2021spectral", "simon2023eigenlearning"),
        colour="green",
        line="-",
        given="pool",
    ),
    Theory(
        "equivalent_kernel",
        title="equivalent kernel",
        words="the equivalent kernel",
        meaning=(
            "the equivalent kernel, the leading order in the density of data (Silverman 1984; "
            "Sollich and Williams 2005)"
        ),
        papers=("silverman1984spline", "sollich2005using"),
        colour="orange",
        line=(0, (1, 1.5)),
        given="pool",
    ),
    Theory(
        "equivalent_kernel_next_order",
        title="EK to next order",
        words="the equivalent kernel to next order",
        meaning=("the equivalent kernel with its first correction (Cohen, Malka and Ringel 2021)"),
        papers=("cohen2021learning",),
        colour="yellow",
        line=(0, (4, 1.5, 1, 1.5)),
        given="pool",
    ),
    Theory(
        "rg_ridge",
        title="RG: effective ridge",
        words="decimation with the effective ridge",
        meaning=(
            "the effective ridge of the kernel without its unlearnable modes, which add their "
            "variance to the ridge and their part of the target to the noise (Howard et al. "
            "2024)"
        ),
        papers=("howard2024wilsonian",),
        colour="blue",
        line=(0, (5, 3)),
        given="pool",
        cuts=True,
    ),
    Theory(
        "rg_ek",
        title="RG: EK",
        words="decimation with the equivalent kernel",
        meaning="the equivalent kernel of that decimated kernel",
        papers=("howard2024wilsonian", "sollich2005using"),
        colour="sky",
        line=(0, (1, 3)),
        given="pool",
        cuts=True,
    ),
    Theory(
        "rg_gpr",
        title="RG: regression, T(Λ)",
        words="decimated regression with one ridge T(Λ)",
        meaning=(
            "exact regression with the decimated kernel and one renormalized ridge T(Λ), on the"
            " same points (Howard et al. 2024)"
        ),
        papers=("howard2024wilsonian",),
        colour="purple",
        line=(2, (5, 3)),
        given="draws",
        cuts=True,
    ),
    Theory(
        "rg_gpr_position",
        title="RG: regression, T(x)",
        words="decimated regression with the ridge T(x) of each point",
        meaning=(
            "the same with the ridge T(x) of each point, T plus the prior variance removed there"
        ),
        papers=("howard2024wilsonian",),
        colour="grey",
        line=(4, (2, 2)),
        given="draws",
        cuts=True,
    ),
    Theory(
        "quartic",
        title="quartic term",
        words="the ridge renormalized by the quartic term",
        meaning=(
            "the effective ridge at T/(1 + 6u⟨h²⟩), which a quartic term in the loss makes of T"
            " in a Gaussian average over the residuals h"
        ),
        papers=("cohen2021learning",),
        colour="yellow",
        given="pool",
        needs=("regression.quartic",),
    ),
)
BY_NAME = {record.name: record for record in RECORDS}


def names(wanted: Callable[[Theory], bool] = lambda record: True) -> tuple[str, ...]:
    """Names of the theories that are wanted, in the order of their records."""
    return tuple(record.name for record in RECORDS if wanted(record))


def record(name: str) -> Theory:
    """The record of a theory; of one that nobody has introduced, its name alone."""
    return BY_NAME.get(name) or _INTRODUCED.get(name) or Theory(name)


_INTRODUCED: dict[str, Theory] = {}  # theories of users, by module:attribute


def introduce(theory: Theory) -> None:
    """Have `record` know a theory of a user's own, from its plug-in or from a store."""
    _INTRODUCED[theory.name] = theory
