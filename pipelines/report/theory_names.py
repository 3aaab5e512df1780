"""What theories and observables are called in sentences."""

from pipelines.text.rounding import plain

NAMES = {
    "nngp": "the NNGP",
    "kernel_scaling": "kernel scaling",
    "scale_mixture": "the exact posterior",
    "width_corrections": "the prior to order 1/N",
    "exact_prior": "the exact prior",
    "gfl": "Gaussian feature learning",
    "order_parameter": "the full action S(q)",
    "gmfl": "the Gaussian mixture of the thermodynamic limit",
    "adaptive": "the adaptive kernel",
    "vga": "the Gaussian law of a neuron",
    "equations_of_state": "the equations of state",
    "effective_ridge": "the effective ridge",
    "equivalent_kernel": "the equivalent kernel",
    "equivalent_kernel_next_order": "the equivalent kernel to next order",
    "rg_ridge": "decimation with the effective ridge",
    "rg_ek": "decimation with the equivalent kernel",
    "rg_gpr": "decimated regression with one ridge T(Λ)",
    "rg_gpr_position": "decimated regression with the ridge T(x) of each point",
    "quartic": "the ridge renormalized by the quartic term",
}
LONG = {
    "nngp": "the NNGP, regression with the kernel of infinite width",
    "kernel_scaling": (
        "kernel scaling, where the data rescale that kernel by a factor fixed by the evidence "
        "(Li and Sompolinsky 2021; Pacelli et al. 2023)"
    ),
    "scale_mixture": (
        "the exact posterior of the linear network, a mixture over the norm of its readout "
        "(Zavatone-Veth and Pehlevan 2021; Hanin and Zlokapa 2023)"
    ),
    "width_corrections": (
        "the prior of finite networks to leading order in 1/width, with kernels that fluctuate "
        "(Yaida 2020; Roberts, Yaida and Hanin 2022)"
    ),
    "exact_prior": (
        "the exact prior of linear and relu networks of any width (Zavatone-Veth and Pehlevan 2021)"
    ),
    "gfl": (
        "Gaussian feature learning, the order parameter q = w·w* of a neuron as a Gaussian whose "
        "variance the data widen (Rubin, Seroussi and Ringel 2024)"
    ),
    "order_parameter": (
        "the full action S(q) of the order parameter, with the effective temperature of finite n "
        "(Rubin, Seroussi and Ringel 2024)"
    ),
    "gmfl": (
        "Gaussian mixtures, the limit in which a neuron is thermodynamic and falls into droplets "
        "beyond a first-order transition (Rubin, Seroussi and Ringel 2024)"
    ),
    "adaptive": (
        "the adaptive kernel of a finite dataset, where each neuron has its law in the field of "
        "the others (Seroussi, Naveh and Ringel 2023; Rubin, Seroussi and Ringel 2024)"
    ),
    "vga": "the Gaussian nearest to that law",
    "equations_of_state": (
        "the equations of state, Gaussian layers of which each adapts to the one above (Seroussi, "
        "Naveh and Ringel 2023)"
    ),
    "effective_ridge": (
        "the effective ridge of the Gaussian process, from the spectrum of its pool "
        "(Canatar, Bordelon and Pehlevan 2021)"
    ),
    "equivalent_kernel": (
        "the equivalent kernel, the leading order in the density of data (Silverman 1984; Sollich "
        "and Williams 2005)"
    ),
    "equivalent_kernel_next_order": (
        "the equivalent kernel with its first correction (Cohen, Malka and Ringel 2021)"
    ),
    "rg_ridge": (
        "the effective ridge of the kernel without its unlearnable modes, which add their variance "
        "to the ridge and their part of the target to the noise (Howard et al. 2024)"
    ),
    "rg_ek": "the equivalent kernel of that decimated kernel",
    "rg_gpr": (
        "exact regression with the decimated kernel and one renormalized ridge T(Λ), on the same "
        "points (Howard et al. 2024)"
    ),
    "rg_gpr_position": (
        "the same with the ridge T(x) of each point, T plus the prior variance removed there"
    ),
    "quartic": (
        "the effective ridge at T/(1 + 6u⟨h²⟩), which a quartic term in the loss makes of T in a "
        "Gaussian average over the residuals h"
    ),
}


def in_words(theory: str) -> str:
    """`the NNGP`; a plug-in by its own name."""
    return NAMES.get(theory, theory)


def observable_in_words(observable: str) -> str:
    """The observable in running text."""
    kind, _, rest = observable.partition(" ")
    match kind:
        case "pool_error" | "quartic_error":
            return f"the error over the pool{_coupled(rest)}"
        case "train_error":
            return "the training error"
        case "posterior_variance":
            return "the posterior variance"
        case "quartic_residual":
            return f"the mean square residual{_coupled(rest)}"
        case "learnability":
            return "the learnability" if rest == "target" else f"the learnability of {rest}"
        case "mse_mean":
            return "the error of the mean output"
        case "predictive_variance":
            return "the predictive variance"
        case "accuracy":
            return "the classification accuracy"
        case "weight_norm":
            return "the norm of the readout"
        case "hidden_variance":
            along = "along the teacher" if rest == "teacher" else "across the teacher"
            return f"the variance of first-layer weights {along}"
        case "overlap_kurtosis":
            return "the kurtosis of the overlaps with the teacher"
        case "kernel_mean":
            return f"the mean kernel of layer {rest}"
        case "kernel_variance":
            return f"the fluctuation of the kernel of layer {rest}"
        case "correlation":
            return f"the correlation in the kernel of layer {rest}"
        case "pre_activation_kurtosis":
            return f"the excess kurtosis of pre-activations of layer {rest}"
    layer, _, direction = rest.partition(" ")
    where = "at a point" if direction == "point" else f"along the {direction} direction"
    return f"the pre-activation variance of layer {layer} {where}"


def _coupled(coupling: str) -> str:
    return f" with the quartic coupling u = {plain(float(coupling))}" if coupling else ""
