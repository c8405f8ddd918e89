//! The traces that are always there: by what they show, a small zoo of programs.

use vmmc_traces::{Generator, Options, PAGE_SIZE, References, Shape};

use super::load::{LoadError, Trace};

/// A trace with a name.
pub(crate) struct Shipped {
    pub(crate) name: &'static str,
    /// For the list.
    pub(crate) what: &'static str,
    source: Source,
}

enum Source {
    Shape { shape: Shape, pages: u64, transfer: u64, references: usize },
    Transpose { rows: u64 },
    Text(&'static str),
}

/// All of them.
pub(crate) const ALL: [Shipped; 7] = [
    Shipped {
        name: "sequential",
        what: "1024 pages from one end to the other, 100 times",
        source: Source::Shape { shape: Shape::Sequential, pages: 1024, transfer: 1, references: 102_400 },
    },
    Shipped {
        name: "blocks",
        what: "4096 pages from one end to the other, 16 pages in a send, 4 times",
        source: Source::Shape { shape: Shape::Sequential, pages: 4096, transfer: 16, references: 1024 },
    },
    Shipped {
        name: "strided",
        what: "2048 pages, every 64th, then those next to them, and so on, 25 times",
        source: Source::Shape { shape: Shape::Strided { stride: 64 }, pages: 2048, transfer: 1, references: 51_200 },
    },
    Shipped {
        name: "zipf",
        what: "5000 pages, some more popular than others: Zipf, alpha 0.9",
        source: Source::Shape { shape: Shape::Zipf { alpha: 0.9 }, pages: 5000, transfer: 1, references: 200_000 },
    },
    Shipped {
        name: "working-set",
        what: "8192 pages, of which 200 at a time are used, for 40000 sends",
        source: Source::Shape {
            shape: Shape::WorkingSet { set: 200, phase: 40_000 },
            pages: 8192,
            transfer: 1,
            references: 200_000,
        },
    },
    Shipped {
        name: "transpose",
        what: "a matrix of 320 x 320 doubles, read by rows and written by columns",
        source: Source::Transpose { rows: 320 },
    },
    Shipped {
        name: "sort",
        what: "what the program sort reads and writes in memory, recorded by lackey",
        source: Source::Text(include_str!("sort.trace")),
    },
];

/// Chance is the same every time.
const SEED: u64 = 1;

impl Shipped {
    /// It, in memory.
    pub(crate) fn trace(&self) -> Result<Trace, LoadError> {
        // A test makes all of them, so that none is without sense.
        let nonsense = |_| LoadError::Empty(self.name.into());
        match self.source {
            Source::Shape { shape, pages, transfer, references } => {
                let generator = Generator::new(shape, pages, transfer, SEED).map_err(nonsense)?;
                Trace::new(self.name, PAGE_SIZE, generator.take(references).collect())
            }
            Source::Transpose { rows } => {
                let generator = Generator::transpose(rows, PAGE_SIZE).map_err(nonsense)?;
                Trace::new(self.name, PAGE_SIZE, generator.collect())
            }
            Source::Text(text) => {
                let references = References::new(text.as_bytes(), vmmc_traces::Format::Trace, Options::default());
                Trace::read(self.name, references)
            }
        }
    }
}
