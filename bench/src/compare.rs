//! `vmmc-bench compare`: the ratios of several runs side by side, of the same program to see how far chance goes, or of two
//! programs to see what a change has changed.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::BenchError;
use crate::matrix::size_text;
use crate::report::{RATIO, median, rival};

/// What to compare.
#[derive(Debug, clap::Args)]
pub(crate) struct Compare {
    /// Results of `--json`, two or more.
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Ends with exit status 1 if a ratio's spread is larger: percent.
    #[arg(long, value_name = "PERCENT", value_parser = crate::amount::percent)]
    limit: Option<f64>,
    /// Compares these metrics only, separated by commas: p50, bandwidth, rate ...
    #[arg(long, value_delimiter = ',', value_name = "METRICS")]
    metric: Vec<String>,
}

/// A row as it was written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Row {
    bench: String,
    peer: String,
    mtu: u32,
    size: usize,
    metric: String,
    value: f64,
    unit: String,
    vs_floor: Option<f64>,
    vs_tcp: Option<f64>,
}

/// One of a row's ratios.
type Ratio = fn(&Row) -> Option<f64>;

/// One ratio in all files.
struct Line {
    name: String,
    ratios: Vec<f64>,
    /// The largest less the smallest, divided by the median.
    spread: f64,
}

/// The comparison, and what is to be said of the limit if it isn't kept.
pub(crate) fn run(args: &Compare) -> Result<(String, Option<String>), BenchError> {
    let files: Vec<Vec<Row>> = args.files.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    let lines = lines(&files, &args.metric);
    if lines.is_empty() {
        return Err(BenchError::NothingInCommon);
    }
    let limit = args.limit.unwrap_or(f64::INFINITY);
    let beyond = lines.iter().filter(|line| line.spread * 100.0 > limit).count();
    let complaint = format!("{beyond} of {} ratios have a spread of more than {limit}%", lines.len());
    Ok((table(&lines, &args.files), (beyond > 0).then_some(complaint)))
}

fn read(path: &Path) -> Result<Vec<Row>, BenchError> {
    let text = fs::read_to_string(path).map_err(|source| BenchError::Read { path: path.into(), source })?;
    serde_json::from_str(&text).map_err(|source| BenchError::NoRows { path: path.into(), source })
}

/// The ratios that all files have, but for those that are always one.
fn lines(files: &[Vec<Row>], metrics: &[String]) -> Vec<Line> {
    let bases: [(&str, Ratio); 3] = [
        ("floor", |row| row.vs_floor),
        ("tcp", |row| row.vs_tcp),
        // The metric says to what.
        ("", |row| (row.unit == RATIO).then_some(row.value)),
    ];
    let mut lines = Vec::new();
    for row in files.first().into_iter().flatten() {
        for (base, ratio) in bases {
            let base = if base == "tcp" { rival(&row.peer) } else { base };
            if row.peer == base || !(metrics.is_empty() || metrics.contains(&row.metric)) {
                continue;
            }
            let same = |other: &&Row| {
                let key = |r: &Row| (r.bench.clone(), r.peer.clone(), r.mtu, r.size, r.metric.clone());
                key(other) == key(row)
            };
            let of_file = |file: &Vec<Row>| file.iter().find(same).and_then(ratio);
            if let Some(ratios) = files.iter().map(of_file).collect::<Option<Vec<f64>>>() {
                let Row { bench, peer, mtu, size, metric, .. } = row;
                let compared = if base.is_empty() { peer.clone() } else { format!("{peer}/{base}") };
                let name = format!("{bench:<8}{mtu:>6}{:>9}  {metric:<16} {compared}", size_text(*size));
                lines.push(Line { name, spread: spread(&ratios), ratios });
            }
        }
    }
    lines
}

/// The largest less the smallest, divided by the median.
fn spread(values: &[f64]) -> f64 {
    let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), &v| (a.min(v), b.max(v)));
    (most - least) / median(values)
}

fn table(lines: &[Line], files: &[PathBuf]) -> String {
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (file, number) in files.iter().zip(1..) {
        let _ = writeln!(text, "#{number} is {}", file.display());
    }
    let header = format!("{:<8}{:>6}{:>9}  {:<16} ratio", "bench", "mtu", "size", "metric");
    let _ = write!(text, "\n{header:<width$} ");
    for number in 1..=files.len() {
        let _ = write!(text, "{:>9}", format!("#{number}"));
    }
    let _ = writeln!(text, "{:>9}", "spread");
    for Line { name, ratios, spread } in lines {
        let _ = write!(text, "{name:<width$} ");
        for ratio in ratios {
            let _ = write!(text, "{ratio:>9.3}");
        }
        let _ = writeln!(text, "{:>8.1}%", spread * 100.0);
    }
    let spreads: Vec<f64> = lines.iter().map(|line| line.spread).collect();
    if let Some(widest) = lines.iter().max_by(|a, b| a.spread.total_cmp(&b.spread)) {
        let squeezed: Vec<&str> = widest.name.split_whitespace().collect();
        let _ = writeln!(
            text,
            "\n{} ratios; spread (largest less smallest, by the median): {:.1}% in the median, {:.1}% at most ({})",
            lines.len(),
            median(&spreads) * 100.0,
            widest.spread * 100.0,
            squeezed.join(" ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(peer: &str, metric: &str, vs_floor: f64, vs_tcp: Option<f64>) -> Row {
        let (bench, peer, metric) = ("lat".into(), peer.into(), metric.into());
        Row {
            bench,
            peer,
            mtu: 1500,
            size: 64,
            metric,
            value: 1.0,
            unit: "us".into(),
            vs_floor: Some(vs_floor),
            vs_tcp,
        }
    }

    #[test]
    fn a_ratios_spread_is_that_of_all_files() {
        let files = [1.0, 1.1, 0.9].map(|x| vec![row("floor", "p50", 1.0, Some(0.5)), row("vmmc", "p50", x, None)]);
        let lines = lines(&files, &[]);
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].spread, &lines[0].ratios[..]), (0.0, &[0.5; 3][..]));
        assert!(lines[0].name.ends_with("floor/tcp") && lines[1].name.ends_with("vmmc/floor"));
        assert!((lines[1].spread - 0.2).abs() < 1e-9);
        let text = table(&lines, &["a".into(), "b".into(), "c".into()]);
        assert!(text.contains("20.0% at most (lat 1500 64 B p50 vmmc/floor)"), "{text}");
    }

    #[test]
    fn only_what_all_files_have_is_compared_and_only_what_was_asked_for() {
        let first = vec![row("vmmc", "p50", 1.0, Some(2.0)), row("vmmc", "p99", 1.0, None)];
        let second = vec![row("vmmc", "p99", 1.0, None), row("vmmc", "p50", 1.0, None)];
        assert_eq!(lines(&[first.clone(), second.clone()], &[]).len(), 2);
        assert_eq!(lines(&[first.clone(), second], &["p50".into()]).len(), 1);
        assert!(lines(&[first, Vec::new()], &[]).is_empty());
    }

    #[test]
    fn a_file_that_has_no_rows_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        assert!(read(&path).unwrap_err().to_string().contains("x.json"));
        fs::write(&path, r#"[{"bench": "lat"}]"#).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("x.json"));
        fs::write(
            &path,
            r#"[{"bench":"lat","peer":"vmmc","mtu":1500,"size":8,"metric":"p50","value":1,"unit":"us","vs_floor":1.5,"vs_tcp":null}]"#,
        )
        .unwrap();
        assert_eq!(read(&path).unwrap()[0].vs_floor, Some(1.5));
    }
}
