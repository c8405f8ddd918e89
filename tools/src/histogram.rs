//! Durations, counted: hdrhistogram with the units and texts of this program.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;

/// How long things took: kept in nanoseconds with three digits, told in microseconds.
pub(crate) struct Durations(Histogram<u64>);

/// The longest duration told apart.
const LONGEST: Duration = Duration::from_secs(100);

impl Durations {
    pub(crate) fn new() -> Durations {
        let bounds = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3);
        Durations(bounds.expect("the bounds are constants that hdrhistogram accepts"))
    }

    pub(crate) fn record(&mut self, took: Duration) {
        self.0.saturating_record(took.as_nanos().min(LONGEST.as_nanos()) as u64);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The duration that this share of all don't exceed, in microseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        us(self.0.value_at_quantile(share) as f64)
    }

    /// A table: these durations, and half of them.
    pub(crate) fn table(&self) -> String {
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
        let row = |name, share: f64| line(name, values.iter().map(|value| format!("{:.2}", value * share)).collect());
        let header = line("microseconds", columns.map(String::from).to_vec());
        [header, row("round trip", 1.0), row("one way (half of it)", 0.5)].join("\n")
    }

    /// The percentile distribution in microseconds, in the text format of HdrHistogram (`.hgrm`), which its plotter reads.
    pub(crate) fn hgrm(&self) -> String {
        let histogram = &self.0;
        let mut text =
            format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
        let mut total = 0;
        for step in histogram.iter_quantiles(5) {
            total += step.count_since_last_iteration();
            let (value, quantile) = (us(step.value_iterated_to() as f64), step.quantile_iterated_to());
            let _ = write!(text, "{value:12.3} {quantile:1.12} {total:10}");
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

    #[test]
    fn everything_is_in_microseconds() {
        let mut durations = Durations::new();
        for nanos in (1..=1000).map(|n| n * 100) {
            durations.record(Duration::from_nanos(nanos));
        }
        durations.record(Duration::from_secs(1_000_000));
        assert_eq!(durations.count(), 1001);
        assert!((durations.quantile(0.5) - 50.0).abs() < 0.2);
        let table = durations.table();
        let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(rows[0][1..], ["min", "p50", "p90", "p99", "p99.9", "max"]);
        assert_eq!(rows[1][2], "0.10");
        assert_eq!(rows[2][5], "0.05");
        let text = durations.hgrm();
        assert!(text.contains("Total count    =         1001]"), "{text}");
        let values = text.lines().skip(2).filter(|l| !l.starts_with('#'));
        let columns: Vec<Vec<f64>> =
            values.map(|l| l.split_whitespace().map(|w| w.parse().unwrap()).collect()).collect();
        assert!(columns.len() > 10 && columns.is_sorted_by(|a, b| a[..3] <= b[..3]), "{text}");
        assert_eq!(columns.last().unwrap()[1..], [1.0, 1001.0]);
    }

    #[test]
    fn an_empty_one_has_a_text_too() {
        assert!(Durations::new().hgrm().contains("Total count    =            0]"));
    }
}
