//! Durations, counted: [hdrhistogram](https://docs.rs/hdrhistogram) with the units and texts that `vmmc` and `vmmc-bench`
//! have in common. Kept in nanoseconds with three significant digits, told in microseconds.
//!
//! ```
//! use std::time::Duration;
//! use vmmc_histogram::Durations;
//!
//! let mut times = Durations::new();
//! for nanos in 1..=1000 {
//!     times.record(Duration::from_nanos(nanos));
//! }
//! assert_eq!(times.quantile(0.5), 0.5);
//! println!("{}", times.table(&[("one way", 1.0)]));
//! ```

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest duration told apart; anything longer counts as this.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// How often the percentile distribution has a step between one halving of what is left and the next.
const STEPS: u32 = 5;

/// How long things took. Recording neither allocates nor fails.
#[derive(Clone, Debug, PartialEq)]
pub struct Durations(Histogram<u64>);

impl Default for Durations {
    fn default() -> Durations {
        Durations::new()
    }
}

impl Durations {
    /// None yet.
    pub fn new() -> Durations {
        let bounds = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3);
        Durations(bounds.expect("the bounds are constants that hdrhistogram accepts"))
    }

    /// What [`Durations::counts`] has told.
    pub fn from_counts(counts: &[(u64, u64)]) -> Durations {
        let mut durations = Durations::new();
        durations.add_counts(counts);
        durations
    }

    /// Counts one more.
    pub fn record(&mut self, took: Duration) {
        self.record_nanos(took.as_nanos().min(LONGEST.as_nanos()) as u64);
    }

    /// Counts one more, of so many nanoseconds.
    pub fn record_nanos(&mut self, nanos: u64) {
        self.0.saturating_record(nanos);
    }

    /// Counts these too: (nanoseconds, how many).
    pub fn add_counts(&mut self, counts: &[(u64, u64)]) {
        for &(nanos, count) in counts {
            self.0.saturating_record_n(nanos, count);
        }
    }

    /// Counts all of `other` too.
    pub fn add(&mut self, other: &Durations) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// All that was recorded, as (nanoseconds, how many): the form in which it travels.
    pub fn counts(&self) -> Vec<(u64, u64)> {
        self.0.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect()
    }

    /// The duration that this share of all (0 to 1) doesn't exceed, microseconds. 0 when there are none.
    pub fn quantile(&self, share: f64) -> f64 {
        us(self.0.value_at_quantile(share) as f64)
    }

    /// How many there are up to about a microsecond, two, four ...: (upper bound in microseconds, how many since the last).
    pub fn doublings(&self) -> impl Iterator<Item = (f64, u64)> {
        self.0.iter_log(1 << 10, 2.0).map(|bin| (us(bin.value_iterated_to() as f64), bin.count_since_last_iteration()))
    }

    /// A table for a terminal, in microseconds: a line for each name, with all durations multiplied by the number beside it.
    pub fn table(&self, lines: &[(&str, f64)]) -> String {
        let columns = ["min", "p50", "p90", "p99", "p99.9", "max"];
        let values = [
            us(self.0.min() as f64),
            self.quantile(0.5),
            self.quantile(0.9),
            self.quantile(0.99),
            self.quantile(0.999),
            us(self.0.max() as f64),
        ];
        let line = |name: &str, cells: Vec<String>| {
            format!("{name:<24}{}", cells.iter().map(|cell| format!("{cell:>10}")).collect::<String>())
        };
        let header = line("microseconds", columns.map(String::from).to_vec());
        let row = |&(name, by): &(&str, f64)| line(name, values.iter().map(|v| format!("{:.2}", v * by)).collect());
        [header].into_iter().chain(lines.iter().map(row)).collect::<Vec<_>>().join("\n")
    }

    /// The percentile distribution in microseconds, in the text format of HdrHistogram (`.hgrm`), which its plotter reads.
    pub fn hgrm(&self) -> String {
        let histogram = &self.0;
        let mut text =
            format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
        let mut count = 0;
        // Writing to a String cannot fail.
        for step in histogram.iter_quantiles(STEPS) {
            count += step.count_since_last_iteration();
            let (value, quantile) = (us(step.value_iterated_to() as f64), step.quantile_iterated_to());
            let _ = write!(text, "{value:12.3} {quantile:1.12} {count:10}");
            let _ = match quantile < 1.0 {
                true => writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile)),
                false => writeln!(text),
            };
        }
        let _ = writeln!(
            text,
            "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]",
            us(histogram.mean()),
            us(histogram.stdev()),
            us(histogram.max() as f64),
            histogram.len(),
        );
        let sub_buckets = histogram.distinct_values() / usize::from(histogram.buckets()).max(1);
        let _ = writeln!(text, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), sub_buckets);
        text
    }
}

fn us(nanos: f64) -> f64 {
    nanos / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thousand_and_one() -> Durations {
        let mut durations = Durations::new();
        for nanos in (1..=1000).map(|n| n * 100) {
            durations.record(Duration::from_nanos(nanos));
        }
        durations.record(Duration::from_secs(1_000_000));
        durations
    }

    #[test]
    fn everything_is_in_microseconds() {
        let durations = thousand_and_one();
        assert_eq!(durations.count(), 1001);
        assert!((durations.quantile(0.5) - 50.0).abs() < 0.2);
        let table = durations.table(&[("round trip", 1.0), ("one way", 0.5)]);
        let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows[0][1..], ["min", "p50", "p90", "p99", "p99.9", "max"]);
        assert_eq!(rows[1][2], "0.10");
        assert_eq!(rows[2][2], "0.05");
        assert_eq!(durations.doublings().map(|(_, count)| count).sum::<u64>(), 1001);
    }

    #[test]
    fn the_text_is_what_the_plotter_reads() {
        let text = thousand_and_one().hgrm();
        assert!(text.contains("Total count    =         1001]"), "{text}");
        let values = text.lines().skip(2).filter(|l| !l.starts_with('#'));
        let columns: Vec<Vec<f64>> =
            values.map(|l| l.split_whitespace().map(|w| w.parse().unwrap()).collect()).collect();
        assert!(columns.len() > 10 && columns.is_sorted_by(|a, b| a[..3] <= b[..3]), "{text}");
        assert_eq!(columns.last().unwrap()[1..], [1.0, 1001.0]);
    }

    #[test]
    fn counts_and_sums_lose_nothing() {
        let durations = thousand_and_one();
        let again = Durations::from_counts(&durations.counts());
        assert_eq!(again.counts(), durations.counts());
        for q in [0.0, 0.5, 0.99, 0.999, 1.0] {
            assert_eq!(again.quantile(q), durations.quantile(q), "quantile {q}");
        }
        let mut twice = again;
        twice.add(&durations);
        assert_eq!((twice.count(), twice.quantile(0.5)), (2002, durations.quantile(0.5)));
    }

    #[test]
    fn an_empty_one_has_texts_too() {
        assert!(Durations::new().hgrm().contains("Total count    =            0]"));
        assert_eq!(Durations::new().quantile(0.99), 0.0);
        assert!(Durations::new().counts().is_empty());
    }
}
