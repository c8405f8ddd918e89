//! `vmmc utlb generate`: writes a trace of a known shape.

use std::error::Error;

use clap::Subcommand;
use clap::builder::{RangedU64ValueParser, TypedValueParser};
use vmmc_traces::{Generator, MAX_GENERATED_PAGES, PAGE_SIZE, PAGE_SIZES, Reference, Shape};

use super::import::write;

/// The arguments of `vmmc utlb generate`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    shape: Kind,
    /// The page size that the trace's header names, bytes: a power of two from 512 to 1 GiB.
    #[arg(long, global = true, value_name = "BYTES", default_value_t = PAGE_SIZE, value_parser = page_size())]
    page_size: u64,
}

#[derive(Subcommand)]
enum Kind {
    /// From the first page to the last, over and over: a buffer that is sent again and again.
    Sequential {
        #[command(flatten)]
        size: Size,
    },
    /// Every STRIDEth send, then those next to them, and so on; over and over: a matrix that is sent by columns.
    Strided {
        #[command(flatten)]
        size: Size,
        /// How many sends apart.
        #[arg(long, default_value_t = 64)]
        stride: u64,
    },
    /// At random, the k-th most popular with a frequency in proportion to 1/k^ALPHA: a store of objects.
    Zipf {
        #[command(flatten)]
        size: Size,
        /// How much popularity differs: 0 not at all, 0.6 to 1.2 is usual, at most 10.
        #[arg(long, default_value_t = 0.9)]
        alpha: f64,
        #[command(flatten)]
        chance: Chance,
    },
    /// At random among a few, which change all at once from time to time: a program that goes from task to task.
    WorkingSet {
        #[command(flatten)]
        size: Size,
        /// How many sends are in a working set.
        #[arg(long, default_value_t = 200)]
        set: u64,
        /// References until the set changes.
        #[arg(long, default_value_t = 40_000)]
        phase: u64,
        #[command(flatten)]
        chance: Chance,
    },
    /// A matrix of ROWS x ROWS doubles, read by rows and written, transposed, by columns into another.
    Transpose {
        /// Rows of the matrix, and columns.
        #[arg(long, default_value_t = 512)]
        rows: u64,
    },
}

#[derive(clap::Args)]
struct Size {
    /// How many pages there are, at most 16777216.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=MAX_GENERATED_PAGES))]
    pages: u64,
    /// How many references to write.
    #[arg(long, default_value_t = 1_000_000)]
    references: u64,
    /// How many pages each reference sends at once.
    #[arg(long, value_name = "PAGES", default_value_t = 1)]
    transfer: u64,
}

#[derive(clap::Args)]
struct Chance {
    /// The same seed makes the same trace.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Parses a page size.
pub(crate) fn page_size() -> impl TypedValueParser<Value = u64> {
    RangedU64ValueParser::<u64>::new().range(PAGE_SIZES).try_map(|size| match size.is_power_of_two() {
        true => Ok(size),
        false => Err(format!("a page size is a power of two: {}", size.next_power_of_two())),
    })
}

/// Runs it.
pub(crate) fn run(Args { shape, page_size }: Args) -> Result<(), Box<dyn Error>> {
    let (about, references): (String, Box<dyn Iterator<Item = Reference>>) = match shape {
        Kind::Sequential { size } => of("sequential", String::new(), Shape::Sequential, size, 0)?,
        Kind::Strided { size, stride } => {
            of("strided", format!(", stride {stride}"), Shape::Strided { stride }, size, 0)?
        }
        Kind::Zipf { size, alpha, chance: Chance { seed } } => {
            of("zipf", format!(", alpha {alpha}, seed {seed}"), Shape::Zipf { alpha }, size, seed)?
        }
        Kind::WorkingSet { size, set, phase, chance: Chance { seed } } => {
            let more = format!(", set {set}, phase {phase}, seed {seed}");
            of("working-set", more, Shape::WorkingSet { set, phase }, size, seed)?
        }
        Kind::Transpose { rows } => {
            (format!("transpose: {rows} rows"), Box::new(Generator::transpose(rows, page_size)?))
        }
    };
    Ok(write(page_size, &about, references.map(Ok))?)
}

/// What a trace says of itself, and its references.
type Made = (String, Box<dyn Iterator<Item = Reference>>);

fn of(name: &str, more: String, shape: Shape, size: Size, seed: u64) -> Result<Made, Box<dyn Error>> {
    let Size { pages, references, transfer } = size;
    let about = format!("{name}: {pages} pages, {references} references, transfers of {transfer}{more}");
    let count = usize::try_from(references)?;
    Ok((about, Box::new(Generator::new(shape, pages, transfer, seed)?.take(count))))
}
