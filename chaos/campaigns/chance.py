"""Statistics of counts: bounds and intervals at one level of confidence."""

from math import sqrt

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959964
"""Number of standard deviations around the mean that hold 95 % of a normal distribution."""


def loss_probability_below(runs: int) -> float:
    """Return the upper bound on the probability of an event that did not occur in `runs` trials: 1 - 0.05^(1/n)."""
    return float(1 - (1 - CONFIDENCE) ** (1 / runs))


def missed_with(one_in: int, tasks: int) -> float:
    """Return the probability that a defect of one task in `one_in` hits none of `tasks`: (1 - 1/N)^n."""
    return float((1 - 1 / one_in) ** tasks)


def interval(count: int, of: int) -> tuple[float, float]:
    """Return Wilson's interval of a share; 0 to 1 if nothing was counted.

    https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval#Wilson_score_interval
    """
    if not of:
        return 0.0, 1.0
    share, z2 = count / of, NORMAL_QUANTILE**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = NORMAL_QUANTILE / (1 + z2 / of) * sqrt(share * (1 - share) / of + z2 / (4 * of**2))
    return max(0.0, middle - half), min(1.0, middle + half)
