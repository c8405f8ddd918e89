//! Histogram files in the text format of HdrHistogram (`.hgrm`), which its plotter reads.

use std::fs;
use std::path::Path;

use vmmc_histogram::Durations;

use crate::error::BenchError;
use crate::spec::Spec;

/// The samples of all rounds, by peer and what was measured.
#[derive(Default)]
pub(crate) struct Histograms {
    merged: Vec<(&'static str, Spec, Durations)>,
}

impl Histograms {
    /// Takes in one round's samples: (nanoseconds, how many).
    pub(crate) fn add(&mut self, peer: &'static str, spec: &Spec, counts: &[(u64, u64)]) {
        let same = |(p, s, _): &(&str, Spec, _)| *p == peer && s == spec;
        let at = self.merged.iter().position(same).unwrap_or_else(|| {
            self.merged.push((peer, spec.clone(), Durations::new()));
            self.merged.len() - 1
        });
        self.merged[at].2.add_counts(counts);
    }

    /// Everything: who, what was measured, and the samples.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Spec, &Durations)> {
        self.merged.iter().map(|(peer, spec, durations)| (*peer, spec, durations))
    }

    /// Writes a file for each peer, MTU, size and number of connections into `directory`.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), BenchError> {
        for (peer, spec, durations) in &self.merged {
            let of = if spec.count > 0 { format!("-{}", spec.count) } else { String::new() };
            let name = format!("{peer}-{}{of}-{}b-mtu{}.hgrm", spec.bench, spec.size, spec.mtu);
            let path = directory.join(name);
            fs::write(&path, durations.hgrm()).map_err(|source| BenchError::Write { path, source })?;
        }
        Ok(())
    }
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
