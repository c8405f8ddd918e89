//! The log on standard error, and `VMMC_LOG`, which says what is in it.

use std::env;
use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

const VARIABLE: &str = "VMMC_LOG";

/// All targets, of the library and of the programs. A filter that names another is a mistake.
const TARGETS: [&str; 13] = [
    "vmmc::node",
    "vmmc::link",
    "vmmc::engine",
    "vmmc::bulk",
    "vmmc::port",
    "vmmc::route",
    "vmmc::steering",
    "vmmc::monitor",
    "vmmc::serve",
    "vmmc::doctor",
    "vmmc::lab",
    "vmmc_bench",
    "libbpf",
];

/// The paragraph about the log that ends the programs' `--help`.
pub const LOG_HELP: &str = "VMMC_LOG says what is logged on standard error: a level (off, error, warn, info, debug, trace), \
or targets with levels, separated by commas, as in VMMC_LOG=info,vmmc::link=debug. At info the log tells the lives of nodes, \
links, exports and imports; at debug what was decided, and why. The targets are vmmc::node, vmmc::link, vmmc::engine, vmmc::bulk, vmmc::port, \
vmmc::route, vmmc::steering, vmmc::monitor, vmmc::serve, vmmc::doctor, vmmc::lab, vmmc_bench and libbpf; vmmc stands for all that \
begin with it. Keys are never logged.";

/// `VMMC_LOG` isn't a filter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "VMMC_LOG is {value:?}, and {what}: use a level (off, error, warn, info, debug, trace), or targets with levels, such as \
     VMMC_LOG=info,vmmc::link=debug"
)]
pub struct BadLogFilter {
    value: String,
    what: String,
}

/// Begins to log on standard error what `VMMC_LOG` says or, where that isn't set or empty, what is at `default` or above.
///
/// Whoever sets it looks for something, and is told time and target of every line; the warnings that others get are just that.
///
/// # Errors
/// When the variable isn't a filter, or names a target that doesn't exist: then nothing is logged.
pub fn start_log(default: LevelFilter) -> Result<(), BadLogFilter> {
    let value =
        env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned()).filter(|v| !v.trim().is_empty());
    let detailed = value.is_some() || default > LevelFilter::WARN;
    let filter = value.map(|value| parse(&value)).transpose()?.unwrap_or_else(|| Targets::new().with_default(default));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // Complaining that standard error is closed, on standard error, would be a panic.
        .log_internal_errors(false)
        .with_target(detailed);
    let registry = tracing_subscriber::registry().with(filter);
    // Who has a log already, as a test may, keeps it.
    let _ = match detailed {
        true => registry.with(lines).try_init(),
        false => registry.with(lines.without_time()).try_init(),
    };
    Ok(())
}

fn parse(value: &str) -> Result<Targets, BadLogFilter> {
    let bad = |what| BadLogFilter { value: value.to_owned(), what };
    for directive in value.split(',').map(str::trim) {
        let (target, level) = match directive.split_once('=') {
            Some((target, level)) => (Some(target), Some(level)),
            // A word is a level or a target: one that is neither would be taken for a target that never says anything.
            None if is_level(directive) => (None, Some(directive)),
            None => (Some(directive), None),
        };
        if let Some(level) = level.filter(|level| !is_level(level)) {
            return Err(bad(format!("{level:?} is no level")));
        }
        if let Some(target) = target.filter(|target| !exists(target)) {
            let kind = if level.is_some() { "no target of this program" } else { "neither a level nor a target" };
            return Err(bad(format!("{target:?} is {kind}")));
        }
    }
    value.replace(' ', "").parse().map_err(|error| bad(format!("it is not understood ({error})")))
}

fn is_level(word: &str) -> bool {
    // What is empty would be taken for one.
    !word.is_empty() && word.parse::<LevelFilter>().is_ok()
}

/// Whether anything is logged under a target: it is one, or stands for some, or is a part of one.
fn exists(target: &str) -> bool {
    let within =
        |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|r| r.is_empty() || r.starts_with("::"));
    TARGETS.iter().any(|known| within(target, known) || within(known, target))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use tracing::Level;

    use super::*;

    #[test]
    fn filters_are_understood() {
        let all = parse("debug").unwrap();
        assert!(all.would_enable("vmmc::link", &Level::DEBUG) && !all.would_enable("vmmc::link", &Level::TRACE));
        let some = parse("info, vmmc::link=debug,libbpf=off").unwrap();
        assert!(some.would_enable("vmmc::link", &Level::DEBUG) && some.would_enable("vmmc::node", &Level::INFO));
        assert!(!some.would_enable("vmmc::node", &Level::DEBUG) && !some.would_enable("libbpf", &Level::ERROR));
        let every = parse("vmmc=trace").unwrap();
        assert!(TARGETS[..10].iter().all(|target| every.would_enable(target, &Level::TRACE)));
        assert!(!every.would_enable("libbpf", &Level::ERROR));
        parse("vmmc::serve::echo=debug").unwrap();
        parse("vmmc::node").unwrap();
    }

    #[test]
    fn what_is_no_filter_is_said() {
        for (value, what) in [
            ("debgu", "\"debgu\" is neither a level nor a target"),
            ("vmmc=loud", "\"loud\" is no level"),
            ("vmmc::linc=debug", "\"vmmc::linc\" is no target"),
            ("vmm=debug", "\"vmm\" is no target"),
            ("info,,debug", "\"\" is neither"),
            ("=", "\"\" is no level"),
            ("vmmc[span]=info", "is no target"),
        ] {
            let error = parse(value).expect_err(value).to_string();
            assert!(error.contains(what) && error.contains(&format!("VMMC_LOG is {value:?}")), "{error}");
        }
    }

    /// A target that isn't listed could not be asked for.
    #[test]
    fn every_target_in_the_sources_is_listed() {
        fn search(directory: &Path, found: &mut BTreeSet<String>) {
            for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() && !path.ends_with("target") {
                    search(&path, found);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(&path).unwrap();
                    let names = text.split("target: \"").skip(1).filter_map(|rest| rest.split_once('"'));
                    found.extend(names.map(|(target, _)| target.to_owned()));
                }
            }
        }
        let (root, mut found) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."), BTreeSet::new());
        ["vmmc/src", "xdp-prog/src", "tools", "bench"].iter().for_each(|part| search(&root.join(part), &mut found));
        // Not the pieces of this search.
        found.retain(|target| target.starts_with("vmmc") || target == "libbpf");
        assert!(found.len() >= 10 && found.iter().all(|target| exists(target)), "{found:?}");
    }

    #[test]
    fn the_help_names_every_target() {
        assert!(TARGETS.iter().all(|target| LOG_HELP.contains(target)));
    }
}
