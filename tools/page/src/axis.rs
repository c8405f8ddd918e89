//! Axes: which values they show, where each lies on them, and where the marks are. plotters has some, too; but its
//! logarithmic one doesn't let the marks be chosen.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::units;

/// One axis of a plot.
#[derive(Clone, Debug)]
pub struct Axis {
    logarithmic: bool,
    min: f64,
    max: f64,
    /// Value and text of each mark, in order.
    ticks: Vec<(f64, String)>,
    /// What it shows.
    pub title: String,
}

/// How far apart the largest and the smallest value are before an axis becomes logarithmic.
const WIDE: f64 = 30.0;

/// The most marks that there is room for.
const MOST_TICKS: usize = 8;

impl Axis {
    /// Begins at 0, so that lengths compare as the values do.
    pub fn linear(values: impl Iterator<Item = f64>, unit: &str) -> Axis {
        let most = values.filter(|v| v.is_finite()).fold(0.0, f64::max);
        let most = if most > 0.0 { most } else { 1.0 };
        let step = steps(most / 5.0).find(|step| most / step <= 5.0).unwrap_or(most);
        let count = (most / step - 1e-9).ceil().max(1.0);
        let ticks = (0..=count as usize).map(|n| n as f64 * step).map(|v| (v, units::tick(v, unit))).collect();
        Axis { logarithmic: false, min: 0.0, max: count * step, ticks, title: units::name(unit).into() }
    }

    /// From the smallest to the largest, with marks at 1, 2, 5, 10 ... or, where that were too many, at powers of ten.
    /// Values that a logarithm doesn't have are left out.
    pub fn logarithmic(values: impl Iterator<Item = f64>, unit: &str) -> Axis {
        let (least, most) = bounds(values.filter(|v| *v > 0.0)).unwrap_or((1.0, 10.0));
        let all = || steps(least / 10.0);
        let min = all().take_while(|&v| v <= least * (1.0 + 1e-9)).last().unwrap_or(least);
        let max = all().find(|&v| v >= most * (1.0 - 1e-9) && v > min).unwrap_or(most * 2.0);
        let mut ticks: Vec<f64> = all().skip_while(|&v| v < min).take_while(|&v| v <= max).collect();
        if ticks.len() > MOST_TICKS {
            ticks.retain(|tick| (tick.log10() - tick.log10().round()).abs() < 1e-6);
        }
        let ticks = ticks.into_iter().map(|v| (v, units::tick(v, unit))).collect();
        Axis { logarithmic: true, min, max, ticks, title: units::name(unit).into() }
    }

    /// The same axis with another title.
    pub fn called(self, title: &str) -> Axis {
        Axis { title: title.into(), ..self }
    }

    /// Logarithmic where the values differ so much that the small ones would be lost, else linear.
    pub fn fitting(values: impl Iterator<Item = f64> + Clone, unit: &str) -> Axis {
        match bounds(values.clone().filter(|v| *v > 0.0)) {
            Some((least, most)) if most > WIDE * least => Axis::logarithmic(values, unit),
            _ => Axis::linear(values, unit),
        }
    }

    /// For values that double, such as sizes of messages: each doubling as far from the last.
    pub fn doubling(values: impl Iterator<Item = f64> + Clone, unit: &str) -> Axis {
        let (min, max) = bounds(values.clone().filter(|v| *v > 0.0)).unwrap_or((1.0, 2.0));
        let mut distinct: Vec<f64> = values.filter(|v| *v > 0.0).collect();
        distinct.sort_by(f64::total_cmp);
        distinct.dedup();
        let mut ticks = distinct;
        if ticks.len() > MOST_TICKS {
            let (first, last) = (min.log2().ceil() as i32, max.log2().floor() as i32);
            let stride = ((last - first) as usize).div_ceil(MOST_TICKS).max(1);
            // Counted from the largest, whose figures people look for.
            ticks = (first..=last).rev().step_by(stride).map(|power| f64::from(power).exp2()).collect();
            ticks.reverse();
        }
        let ticks = ticks.into_iter().map(|v| (v, units::tick(v, unit))).collect();
        let max = if max > min { max } else { 2.0 * min };
        Axis { logarithmic: true, min, max, ticks, title: units::name(unit).into() }
    }

    /// 1/(1 - percentile) up to `most`, which is how the plots of HdrHistogram stretch the tail.
    pub fn percentiles(most: f64) -> Axis {
        let most = if most.is_finite() { most.max(10.0) } else { 1e6 };
        let nines = |n: usize| match n {
            1 => "90%".to_owned(),
            2 => "99%".to_owned(),
            n => format!("99.{}%", "9".repeat(n - 2)),
        };
        let mut ticks = vec![(1.0, "0%".to_owned())];
        ticks.extend((1..=7).map(|n| (10f64.powi(n as i32), nines(n))).take_while(|tick| tick.0 <= most));
        Axis { logarithmic: true, min: 1.0, max: most, ticks, title: "percentile".into() }
    }

    /// Where a value lies: 0 is the axis's beginning, 1 its end. What is beyond them is put at them.
    pub(crate) fn position(&self, value: f64) -> f64 {
        let (from, to, at) = match self.logarithmic {
            true => (self.min.ln(), self.max.ln(), value.max(self.min).ln()),
            false => (self.min, self.max, value),
        };
        ((at - from) / (to - from)).clamp(0.0, 1.0)
    }

    /// Whether it can show the value.
    pub(crate) fn shows(&self, value: f64) -> bool {
        value.is_finite() && (!self.logarithmic || value > 0.0)
    }

    /// The values that are marked.
    pub fn marked(&self) -> impl Iterator<Item = f64> {
        self.ticks.iter().map(|tick| tick.0)
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (self.position(*value) * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Light lines would stand between the marks.
        if hint.weight().allow_light_points() { Vec::new() } else { self.marked().collect() }
    }

    fn range(&self) -> Range<f64> {
        self.min..self.max
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        // Never asked: what an axis's marks say is its own, and told by `format_ext`.
        value.to_string()
    }

    fn format_ext(&self, value: &f64) -> String {
        self.ticks.iter().find(|tick| tick.0 == *value).map(|tick| tick.1.clone()).unwrap_or_default()
    }
}

/// The smallest and the largest of those that are numbers.
fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|v| v.is_finite()).fold(None, |bounds, v| match bounds {
        None => Some((v, v)),
        Some((least, most)) => Some((least.min(v), most.max(v))),
    })
}

/// 1, 2, 5, 10, 20, 50 ... times a power of ten, from below `from` on.
fn steps(from: f64) -> impl Iterator<Item = f64> {
    let first = from.log10().floor() as i32;
    (first..first + 40).flat_map(|power| {
        // 2e-3 as it is written, and not 2 times something that is nearly 1e-3.
        [1, 2, 5].map(|n| format!("{n}e{power}").parse::<f64>().unwrap_or(f64::MAX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.1.as_str()).collect()
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_ends_at_a_mark() {
        let axis = Axis::linear([7.0, 43.0].into_iter(), "Gbit/s");
        assert_eq!(texts(&axis), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!((axis.position(0.0), axis.position(25.0), axis.position(99.0)), (0.0, 0.5, 1.0));
        assert_eq!(texts(&Axis::linear([50.0].into_iter(), "Gbit/s")).last(), Some(&"50"));
        assert_eq!(texts(&Axis::linear([0.0, f64::NAN].into_iter(), "ratio")).last(), Some(&"1×"));
    }

    #[test]
    fn a_logarithmic_axis_has_marks_in_decades() {
        let axis = Axis::logarithmic([1.15, 31.0, 0.0, -1.0].into_iter(), "us");
        assert_eq!(texts(&axis), ["1 µs", "2 µs", "5 µs", "10 µs", "20 µs", "50 µs"]);
        assert!((axis.position(50f64.sqrt()) - 0.5).abs() < 1e-9);
        let wide = Axis::logarithmic([0.8, 90_000.0].into_iter(), "us");
        assert_eq!(texts(&wide), ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms"]);
        let single = Axis::logarithmic([5.0].into_iter(), "us");
        assert_eq!((single.position(5.0), single.position(10.0)), (0.0, 1.0));
        assert!(!axis.shows(0.0) && !axis.shows(f64::INFINITY) && axis.shows(1.0));
    }

    #[test]
    fn an_axis_without_values_is_one_all_the_same() {
        for axis in [
            Axis::linear([].into_iter(), "us"),
            Axis::logarithmic([].into_iter(), "us"),
            Axis::fitting([].into_iter(), "us"),
            Axis::doubling([].into_iter(), "pages"),
            Axis::percentiles(0.0),
        ] {
            assert!(axis.marked().map(|v| axis.position(v)).all(|at| (0.0..=1.0).contains(&at)), "{axis:?}");
            assert!((0.0..=1.0).contains(&axis.position(3.0)), "{axis:?}");
        }
    }

    #[test]
    fn sizes_are_marked_themselves_while_there_is_room() {
        assert_eq!(texts(&Axis::doubling([64.0, 8972.0, 4096.0].into_iter(), "bytes")).len(), 3);
        let many = Axis::doubling((3..=20).map(|power| f64::from(power).exp2()), "bytes");
        assert_eq!(texts(&many), ["32", "256", "2K", "16K", "128K", "1M"]);
        assert_eq!(many.position(8.0), 0.0);
        assert_eq!(Axis::doubling([64.0].into_iter(), "bytes").position(64.0), 0.0);
    }

    #[test]
    fn percentiles_are_marked_by_their_nines() {
        assert_eq!(texts(&Axis::percentiles(20_000.0)), ["0%", "90%", "99%", "99.9%", "99.99%"]);
        assert_eq!(texts(&Axis::percentiles(f64::INFINITY)).last(), Some(&"99.9999%"));
        let axis = Axis::percentiles(1e4);
        assert!((axis.position(100.0) - 0.5).abs() < 1e-9);
        assert_eq!((axis.format_ext(&100.0), axis.format_ext(&101.0)), ("99%".into(), String::new()));
        assert_eq!((axis.map(&1.0, (400, 0)), axis.map(&100.0, (400, 0))), (400, 200));
    }
}
