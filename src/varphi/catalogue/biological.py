"""Gates of membranes and circuits: potentials in mV, rates in 1/ms, concentrations in units of K."""

from varphi.activation.constraint import Positive, Real
from varphi.activation.registry import activation
from varphi.numbers import exp, explinear, hill, log, maximum, sigmoid, tanh, where

# Below zero there is no concentration: there Hill functions keep their value at zero.


@activation(
    latex=r"\frac{x^n}{K^n+x^n}",
    source="Hill, J. Physiol. 40, 1910; Alon, An Introduction to Systems Biology, 2006",
    aliases=("hill", "naka_rushton"),
)
def hill_activator(x, K: Positive = 1.0, n: Positive = 2.0):
    """A gene switched on by x: half at K, steeper for larger n; zero for x <= 0."""
    return where(x > 0, hill(maximum(x, 0), K, n), 0)


@activation(latex=r"\frac{K^n}{K^n+x^n}", source="Hill, J. Physiol. 40, 1910; Elowitz & Leibler, Nature 403, 2000")
def hill_repressor(x, K: Positive = 1.0, n: Positive = 2.0):
    """A gene switched off by x: one at zero, half at K; one for x <= 0."""
    return where(x > 0, hill(K, maximum(x, 0), n), 1)


@activation(
    latex=r"\frac{x}{K+x}",
    source="Michaelis & Menten, Biochem. Z. 49, 1913; Monod, 1949",
    aliases=("monod", "holling_ii"),
)
def michaelis_menten(x, K: Positive = 1.0):
    """Saturating uptake: linear for small x, half at K; zero for x <= 0."""
    return where(x > 0, hill(maximum(x, 0), K, 1), 0)


@activation(
    latex=r"\frac{x}{K+x+x^2/K_i}",
    source="Haldane, Enzymes, 1930; Andrews, Biotechnol. Bioeng. 10, 1968",
    aliases=("andrews",),
)
def haldane(x, K: Positive = 1.0, Ki: Positive = 10.0):
    """Uptake inhibited by excess: rises, peaks at sqrt(K·Ki), falls as 1/x; zero for x <= 0."""
    uptake = hill(maximum(x, 0), K, 1)
    return where(x > 0, uptake / (1 + uptake * maximum(x, 0) / Ki), 0)


@activation(
    latex=r"\frac{1}{1+e^{-(V-V_h)/k}}",
    source="Hodgkin & Huxley, J. Physiol. 117, 1952; Hille, Ion Channels, 2001",
    aliases=("boltzmann",),
)
def boltzmann_gate(x, half: Real = -40.0, slope: Real = 7.0):
    """The open fraction of a two-state channel at potential x in mV; a negative slope inactivates."""
    return sigmoid((x - half) / slope)


@activation(latex=r"\frac{0.01(V+55)}{1-e^{-(V+55)/10}}", source="Hodgkin & Huxley, J. Physiol. 117, 1952")
def hh_alpha_n(x):
    """Opening rate of potassium activation, per ms at x mV: linear above -55 mV, its 0/0 there removed."""
    return 0.1 * explinear((x + 55) / 10)


@activation(latex=r"0.125\,e^{-(V+65)/80}", source="Hodgkin & Huxley, J. Physiol. 117, 1952")
def hh_beta_n(x):
    """Closing rate of potassium activation, per ms at x mV."""
    return 0.125 * exp(-(x + 65) / 80)


@activation(latex=r"\frac{0.1(V+40)}{1-e^{-(V+40)/10}}", source="Hodgkin & Huxley, J. Physiol. 117, 1952")
def hh_alpha_m(x):
    """Opening rate of sodium activation, per ms at x mV: linear above -40 mV, its 0/0 there removed."""
    return explinear((x + 40) / 10)


@activation(latex=r"4\,e^{-(V+65)/18}", source="Hodgkin & Huxley, J. Physiol. 117, 1952")
def hh_beta_m(x):
    """Closing rate of sodium activation, per ms at x mV."""
    return 4 * exp(-(x + 65) / 18)


@activation(latex=r"0.07\,e^{-(V+65)/20}", source="Hodgkin & Huxley, J. Physiol. 117, 1952")
def hh_alpha_h(x):
    """Rate at which sodium inactivation is lifted, per ms at x mV."""
    return 0.07 * exp(-(x + 65) / 20)


@activation(latex=r"\frac{1}{1+e^{-(V+35)/10}}", source="Hodgkin & Huxley, J. Physiol. 117, 1952")
def hh_beta_h(x):
    """Rate of sodium inactivation, per ms at x mV: at most one."""
    return sigmoid((x + 35) / 10)


@activation(latex=r"\frac{1}{2}\left(1+\tanh\frac{V-V_1}{V_2}\right)", source="Morris & Lecar, Biophys. J. 35, 1981")
def morris_lecar_m(x, v1: Real = -1.2, v2: Positive = 18.0):
    """Calcium activation at steady state, at x mV."""
    return sigmoid(2 * (x - v1) / v2)


@activation(latex=r"\frac{1}{1+\frac{[Mg]}{3.57}e^{-0.062V}}", source="Jahr & Stevens, J. Neurosci. 10, 1990")
def nmda_unblock(x, mg: Positive = 1.0):
    """The fraction of NMDA channels free of magnesium (mM) at x mV."""
    return sigmoid(0.062 * x - log(mg / 3.57))


@activation(
    latex=r"\frac{1}{1+e^{-a(x-\theta)}}-\frac{1}{1+e^{a\theta}}", source="Wilson & Cowan, Biophys. J. 12, 1972"
)
def wilson_cowan(x, a: Positive = 1.2, theta: Real = 2.8):
    """Response of a population, zero without input: a logistic shifted down to pass through the origin."""
    return 0.5 * tanh(0.5 * a * x) * (1 + tanh(0.5 * a * (x - theta)) * tanh(0.5 * a * theta))


@activation(latex=r"0.04v^2+5v+140", source="Izhikevich, IEEE Trans. Neural Networks 14, 2003")
def izhikevich(x):
    """The quadratic upstroke of a spiking neuron, mV per ms at x mV: rest and threshold are its zeros."""
    return (0.04 * x + 5) * x + 140


@activation(latex=r"-(V-E_L)+\Delta_T\,e^{(V-V_T)/\Delta_T}", source="Fourcaud-Trocmé et al., J. Neurosci. 23, 2003")
def exponential_integrate_and_fire(x, rest: Real = -65.0, threshold: Real = -59.9, sharpness: Positive = 3.48):
    """Leak plus exponential spike onset, in mV at x mV: leaky below threshold, exploding above."""
    return rest - x + sharpness * exp((x - threshold) / sharpness)


@activation(
    latex=r"x\,e^{1-x}", source="Ricker, J. Fish. Res. Board Can. 11, 1954; Rall, 1967", aliases=("alpha_function",)
)
def ricker_map(x):
    """Overcompensating growth, also the alpha function of a synapse: peak 1 at x = 1; for x >= 0."""
    return x * exp(1 - x)


@activation(latex=r"e^{-b e^{-cx}}", source="Gompertz, Phil. Trans. R. Soc. 115, 1825")
def gompertz(x, b: Positive = 1.0, c: Positive = 1.0):
    """Growth that slows exponentially: an asymmetric sigmoid."""
    return exp(-b * exp(-c * x))
