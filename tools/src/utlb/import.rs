//! `vmmc utlb import`: writes a trace of what another program has recorded.

use std::error::Error;
use std::io::{self, BufWriter, ErrorKind};
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use vmmc_traces::{Format, Numbering, Options, PAGE_SIZE, Reference, TraceError, Writer};

use super::generate::page_size;
use super::load::{self, LoadError};

/// How traces are read, for every command that does.
#[derive(clap::Args)]
pub(crate) struct Reading {
    /// What has written them [default: by their first lines].
    #[arg(long, value_name = "FORMAT", value_parser = format())]
    from: Option<Format>,
    /// The page size that addresses are divided by, bytes; a trace's header names its own.
    #[arg(long, value_name = "BYTES", default_value_t = PAGE_SIZE, value_parser = page_size())]
    page_size: u64,
    /// Of lackey's lines, use the fetching of instructions, too.
    #[arg(long)]
    instructions: bool,
    /// Leave out references to one of the last N [default: 1 of lackey and perf, which are repetitions in a row; 0 of a trace].
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(0..=1024))]
    collapse: Option<usize>,
}

impl Reading {
    /// As the parser takes it.
    pub(crate) fn options(&self) -> (Option<Format>, Options) {
        let Reading { from, page_size, instructions, collapse } = *self;
        (from, Options { page_size, instructions, collapse })
    }
}

fn format() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(["trace", "lackey", "perf"]).map(|name| match name.as_str() {
        "lackey" => Format::Lackey,
        "perf" => Format::Perf,
        _ => Format::Trace,
    })
}

/// The arguments of `vmmc utlb import`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What was recorded; - is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    reading: Reading,
    /// Give pages small numbers in the order of their addresses. Neighbours stay so; at most 64 pages are left of an untouched stretch.
    #[arg(long)]
    compact: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> Result<(), Box<dyn Error>> {
    let (format, options) = args.reading.options();
    let mut references = load::open(&args.file, format, options)?;
    let (name, format) = (load::name(&args.file), references.format());
    let bad = |source: TraceError| LoadError::Bad { name: name.clone(), format, source };
    // A trace's header is known with its first reference; and if that is a mistake, nothing is written.
    let first = references.next().transpose().map_err(bad)?;
    let page_size = references.page_size();
    let about = format!("imported from {format}");
    let read = first.into_iter().map(Ok).chain(references.map(|reference| reference.map_err(bad)));
    if !args.compact {
        return Ok(write(page_size, &about, read.map(|reference| reference.map_err(io::Error::other)))?);
    }
    let all: Vec<Reference> = read.collect::<Result<_, _>>()?;
    let numbering = Numbering::new(all.iter().copied());
    Ok(write(page_size, &about, all.into_iter().filter_map(|reference| numbering.renumber(reference)).map(Ok))?)
}

/// Writes a trace to standard output. That nobody reads it to its end is no error.
pub(crate) fn write(
    page_size: u64,
    about: &str,
    references: impl Iterator<Item = io::Result<Reference>>,
) -> io::Result<()> {
    let all = || {
        let mut writer = Writer::new(BufWriter::new(io::stdout().lock()), page_size, about)?;
        for reference in references {
            writer.write(reference?)?;
        }
        writer.flush()
    };
    match all() {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
