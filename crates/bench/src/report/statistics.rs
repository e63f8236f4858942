//! Medians and quantiles.

/// The median; of an even number of values the mean of the two in the middle. `None` without values.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

/// Where values lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// See [`median`].
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub most: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// `None` without values.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Spread> {
        let values: Vec<f64> = values.collect();
        let median = median(values.iter().copied())?;
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Spread { median, least, most, count: values.len() })
    }
}

/// The value that a share (0 to 1) of all values does not exceed; one of the values (nearest rank). `None` without
/// values.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let of = |values: &[f64]| median(values.iter().copied());

        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(of(&[7.0]), Some(7.0));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_spread_has_its_ends() {
        let spread = Spread::of([3.0, 1.0, 8.0].into_iter());

        assert_eq!(spread, Some(Spread { median: 3.0, least: 1.0, most: 8.0, count: 3 }));
        assert_eq!(Spread::of(std::iter::empty()), None);
    }

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();

        let quantiles = [0.0, 0.5, 0.99, 1.0].map(|share| quantile(&hundred, share));

        assert_eq!(quantiles, [Some(1.0), Some(50.0), Some(99.0), Some(100.0)]);
        assert_eq!(quantile(&[5.0], 0.99), Some(5.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
