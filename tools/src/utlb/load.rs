//! A trace in memory, as the simulator runs it.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use vmmc_traces::{Format, Numbering, Options, Reference, References, TraceError};

/// The most pages that a trace may refer to, repetitions counted: to know the future takes four bytes for each.
const MOST: u64 = 1 << 28;

/// A trace, its pages renumbered.
pub(crate) struct Trace {
    /// What it is called.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) page_size: u64,
    /// First page and number of pages of each send.
    pub(crate) sends: Vec<(u32, u32)>,
    /// How many different pages are sent.
    pub(crate) touched: u64,
    /// All pages are below.
    pub(crate) end: u32,
    /// How many pages are sent, repetitions counted.
    pub(crate) lookups: u64,
}

/// A trace can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("can't open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{name}, read as {format}")]
    Bad { name: String, format: Format, source: TraceError },
    #[error("{0} has no references: nothing can be learned from it")]
    Empty(String),
    #[error("{0} sends more than {MOST} pages, which is as many as the simulator keeps: cut it, as with `head`")]
    TooLong(String),
}

/// The references in a file, or, if it is `-`, in what comes on standard input.
pub(crate) fn open(
    path: &Path,
    format: Option<Format>,
    options: Options,
) -> Result<References<Box<dyn BufRead>>, LoadError> {
    let reader: Box<dyn BufRead> = match path.to_str() {
        Some("-") => Box::new(io::stdin().lock()),
        _ => {
            let file = File::open(path).map_err(|source| LoadError::Open { path: path.to_owned(), source })?;
            Box::new(BufReader::with_capacity(1 << 16, file))
        }
    };
    match format {
        Some(format) => Ok(References::new(reader, format, options)),
        None => References::detect(reader, options).map_err(|source| LoadError::Bad {
            name: name(path),
            format: Format::Trace,
            source,
        }),
    }
}

/// What a file is called here.
pub(crate) fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".into() } else { path.display().to_string() }
}

impl Trace {
    /// Reads all references of a text.
    pub(crate) fn read(name: &str, mut references: References<impl BufRead>) -> Result<Trace, LoadError> {
        let format = references.format();
        let mut kept = Vec::new();
        let mut lookups = 0;
        for reference in &mut references {
            let reference = reference.map_err(|source| LoadError::Bad { name: name.into(), format, source })?;
            lookups += u64::from(reference.count);
            if lookups > MOST {
                return Err(LoadError::TooLong(name.into()));
            }
            kept.push(reference);
        }
        Trace::new(name, references.page_size(), kept)
    }

    /// Of these references.
    pub(crate) fn new(name: &str, page_size: u64, references: Vec<Reference>) -> Result<Trace, LoadError> {
        let numbering = Numbering::new(references.iter().copied());
        let lookups = references.iter().map(|reference| u64::from(reference.count)).sum();
        let end = u32::try_from(numbering.end()).map_err(|_| LoadError::TooLong(name.into()))?;
        // What is below `end` fits.
        let small = |reference: Reference| (reference.page as u32, reference.count);
        let sends: Vec<_> = references.into_iter().filter_map(|r| numbering.renumber(r)).map(small).collect();
        if sends.is_empty() {
            return Err(LoadError::Empty(name.into()));
        }
        Ok(Trace { name: name.into(), page_size, sends, touched: numbering.touched(), end, lookups })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_renumbered_and_counted() {
        let text = "vmmc-trace 1 page-size 8192\n0x7f0000000 2\n5\n0x7f0000001\n";
        let references = References::detect(text.as_bytes(), Options::default()).unwrap();
        let trace = Trace::read("x", references).unwrap();
        // What is between the stretches shrinks to a gap.
        let far = 5 + 1 + vmmc_traces::GAP as u32;
        assert_eq!(trace.sends, [(far, 2), (5, 1), (far + 1, 1)]);
        assert_eq!(trace.end, far + 2);
        assert_eq!((trace.page_size, trace.touched, trace.lookups), (8192, 3, 4));
    }
}
