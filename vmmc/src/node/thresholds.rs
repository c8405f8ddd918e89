//! Where a node's [table of thresholds](Thresholds) comes from, if its program says nothing: a file, or the library.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::engine::{Thresholds, ThresholdsError};

/// The environment variable that names the file, instead of [`THRESHOLDS_FILE`].
pub const THRESHOLDS_ENV: &str = "VMMC_THRESHOLDS";

/// Where the file is looked for, and may be missing.
pub const THRESHOLDS_FILE: &str = "/etc/vmmc/thresholds";

/// More than this isn't read, bytes: no table is so long, and a part of one would be another table.
const LONGEST: u64 = 1 << 16;

/// Where a table comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// The library.
    BuiltIn,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path) => path.display().fmt(f),
            Origin::BuiltIn => f.write_str("built in"),
        }
    }
}

/// A table of thresholds can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadThresholds {
    /// The file can't be read.
    #[error("the bulk lane's thresholds can't be read from {}: {source}. `vmmc-bench thresholds --write FILE` makes such a file; without {THRESHOLDS_ENV} the built-in ones hold", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is something else in it.
    #[error("the bulk lane's thresholds in {} are none: {source}. Mend it, or have `vmmc-bench thresholds --write FILE` make another", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, and in which line.
        source: ThresholdsError,
    },
}

/// The table that holds for nodes that say nothing themselves, and where it comes from: the file that `given` names, or else [`THRESHOLDS_ENV`], or else
/// [`THRESHOLDS_FILE`]; the built-in one if the last is missing.
///
/// # Errors
/// When the file can't be read, or is no table. A file that was named must be there.
pub fn find_thresholds(given: Option<&Path>) -> Result<(Thresholds, Origin), BadThresholds> {
    let named = || std::env::var_os(THRESHOLDS_ENV).filter(|name| !name.is_empty()).map(PathBuf::from);
    let named = given.map(Path::to_owned).or_else(named);
    let path = named.as_deref().unwrap_or(Path::new(THRESHOLDS_FILE));
    match read(path) {
        Ok(table) => Ok((table, Origin::File(path.to_owned()))),
        Err(BadThresholds::Read { source, .. }) if named.is_none() && source.kind() == io::ErrorKind::NotFound => {
            Ok((Thresholds::default(), Origin::BuiltIn))
        }
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> Result<Thresholds, BadThresholds> {
    let mut text = String::new();
    let result = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text));
    let result = result.and_then(|length| match length as u64 > LONGEST {
        true => Err(io::Error::other(format!("it is longer than {LONGEST} bytes"))),
        false => Ok(()),
    });
    result.map_err(|source| BadThresholds::Read { path: path.to_owned(), source })?;
    text.parse().map_err(|source| BadThresholds::Parse { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::tests::Temp;

    #[test]
    fn a_file_that_was_named_must_be_there_and_be_a_table() {
        let temp = Temp::new("thresholds");
        std::fs::create_dir_all(&temp.0).unwrap();
        let path = temp.0.join("table");
        let error = find_thresholds(Some(&path)).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()) && error.contains("No such file"), "{error}");
        std::fs::write(&path, "1500 never\n9000 much\n").unwrap();
        let error = find_thresholds(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("line 2: \"much\" is no size") && error.contains("vmmc-bench thresholds"), "{error}");
        std::fs::write(&path, b"1500 \xff\n").unwrap();
        assert!(matches!(find_thresholds(Some(&path)), Err(BadThresholds::Read { .. })));
        std::fs::write(&path, "1500 never\n9000 8192\n").unwrap();
        let (table, origin) = find_thresholds(Some(&path)).unwrap();
        assert_eq!((table.at(9000), origin), (Some(8192), Origin::File(path.clone())));
        // However long it is; and what is too long isn't read in part.
        std::fs::write(&path, format!("1500 never\n#{}\n9000 8192\n", "-".repeat(1 << 16))).unwrap();
        for path in [&path, Path::new("/dev/zero")] {
            let error = find_thresholds(Some(path)).unwrap_err();
            assert!(matches!(error, BadThresholds::Read { .. }) && error.to_string().contains("65536"), "{error}");
        }
    }
}
