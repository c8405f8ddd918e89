//! Histogram files in the text format of HdrHistogram (`.hgrm`), which its plotter reads.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use hdrhistogram::Histogram;

use crate::error::BenchError;
use crate::spec::{Spec, new_histogram};

/// The samples of all rounds, by peer and what was measured.
#[derive(Default)]
pub(crate) struct Histograms {
    merged: Vec<(&'static str, Spec, Histogram<u64>)>,
}

impl Histograms {
    /// Takes in one round's samples: (nanoseconds, how many).
    pub(crate) fn add(&mut self, peer: &'static str, spec: &Spec, counts: &[(u64, u64)]) {
        let same = |(p, s, _): &(&str, Spec, _)| *p == peer && s == spec;
        let at = self.merged.iter().position(same).unwrap_or_else(|| {
            self.merged.push((peer, spec.clone(), new_histogram()));
            self.merged.len() - 1
        });
        for &(value, count) in counts {
            self.merged[at].2.saturating_record_n(value, count);
        }
    }

    /// Writes a file for each peer, MTU and size into `directory`.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), BenchError> {
        for (peer, spec, histogram) in &self.merged {
            let name = format!("{peer}-{}-{}b-mtu{}.hgrm", spec.bench, spec.size, spec.mtu);
            let path = directory.join(name);
            fs::write(&path, text(histogram)).map_err(|source| BenchError::Write { path, source })?;
        }
        Ok(())
    }
}

/// The percentile distribution in microseconds.
fn text(histogram: &Histogram<u64>) -> String {
    let us = |ns: f64| ns / 1e3;
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    // Writing to a String cannot fail.
    for v in histogram.iter_quantiles(5) {
        total += v.count_since_last_iteration();
        let (value, quantile) = (us(v.value_iterated_to() as f64), v.quantile());
        let _ = write!(text, "{value:12.3} {quantile:1.12} {total:10}");
        let _ = if quantile < 1.0 {
            writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(text, " {:>14}", "inf")
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
    let _ = writeln!(
        text,
        "#[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.buckets(),
        histogram.distinct_values() / usize::from(histogram.buckets()).max(1),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Bench;

    #[test]
    fn rounds_are_merged_into_one_file_for_each_peer() {
        let spec = Spec { bench: Bench::Lat, mtu: 1500, size: 64, samples: 2, millis: 0, ..Spec::default() };
        let mut histograms = Histograms::default();
        histograms.add("tcp", &spec, &[(1000, 10)]);
        histograms.add("floor", &spec, &[(500, 1)]);
        histograms.add("tcp", &spec, &[(3000, 10)]);
        let directory = tempfile::tempdir().unwrap();
        histograms.write(directory.path()).unwrap();
        let text = fs::read_to_string(directory.path().join("tcp-lat-64b-mtu1500.hgrm")).unwrap();
        assert!(text.contains("Total count    =           20"), "{text}");
        assert!(text.lines().any(|l| l.ends_with("inf")), "{text}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_with_its_name() {
        let spec = Spec { bench: Bench::Lat, mtu: 1500, size: 64, samples: 2, millis: 0, ..Spec::default() };
        let mut histograms = Histograms::default();
        histograms.add("tcp", &spec, &[(1000, 10)]);
        let error = histograms.write(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/tcp-lat"), "{error}");
    }
}
