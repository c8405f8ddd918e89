//! Traces of known shape, from a seed: the same parameters and the same seed make the same trace everywhere.
//!
//! | shape | what it stands for |
//! |---|---|
//! | sequential  | a buffer sent from one end to the other, again and again |
//! | strided     | a matrix sent by columns |
//! | zipf        | a store of objects, some of which are popular |
//! | working set | a program that goes from one task to the next |
//! | transpose   | a matrix read by rows and written by columns |

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

use crate::{MAX_COUNT, Reference};

/// The most pages that a generated trace touches: 64 GiB of 4 KiB pages.
pub const MAX_GENERATED_PAGES: u64 = 1 << 24;

/// What a trace looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// From the first page to the last, over and over.
    Sequential,
    /// Every `stride`th transfer, then those next to them, and so on until all were there; over and over.
    Strided {
        /// How many transfers apart, from 1.
        stride: u64,
    },
    /// At random, the k-th most popular with a frequency in proportion to 1/k^alpha. Popular ones lie anywhere.
    Zipf {
        /// 0 is uniform; 0.6 to 1.2 is what caches see.
        alpha: f64,
    },
    /// At random among a few, which change all at once from time to time.
    WorkingSet {
        /// How many transfers are in a set, from 1.
        set: u64,
        /// References until the set changes, from 1.
        phase: u64,
    },
}

/// No trace can be generated of these parameters.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GenerateError {
    /// Too few or too many pages.
    #[error("a generated trace has 1 to {MAX_GENERATED_PAGES} pages, not {0}")]
    Pages(u64),
    /// A transfer is of no pages, of too many, or of more than there are.
    #[error(
        "a transfer is of 1 to {MAX_COUNT} pages and of no more than the trace has, {pages}; {transfer} is not: give another --transfer"
    )]
    Transfer {
        /// Of so many.
        transfer: u64,
        /// So many are there.
        pages: u64,
    },
    /// The stride is 0 or too long.
    #[error("a stride is 1 to the number of transfers, {transfers}; {stride} is not")]
    Stride {
        /// It.
        stride: u64,
        /// Pages, by pages of a transfer.
        transfers: u64,
    },
    /// Alpha isn't a number, or out of all proportion.
    #[error("alpha is 0 to 10, not {0}")]
    Alpha(f64),
    /// The working set is empty, or larger than the whole.
    #[error("a working set is 1 to all of the {transfers} transfers; {set} is not")]
    Set {
        /// It.
        set: u64,
        /// Pages, by pages of a transfer.
        transfers: u64,
    },
    /// A phase without references.
    #[error("a phase lasts 1 reference or more, not 0")]
    Phase,
    /// The matrix is empty, or too large.
    #[error(
        "a matrix has 1 to {most} rows of 8-byte elements where pages are of {page_size} bytes; {rows} are not that"
    )]
    Rows {
        /// So many.
        rows: u64,
        /// The page size.
        page_size: u64,
        /// The most rows with which two matrices are within [`MAX_GENERATED_PAGES`].
        most: u64,
    },
}

/// The references of a generated trace, of which there is no end but for a transposed matrix: `take` as many as are wanted.
pub struct Generator {
    kind: Kind,
    random: Xoshiro256PlusPlus,
    /// How many transfers make up the pages.
    transfers: u64,
    transfer: u32,
    /// Counts what was generated.
    index: u64,
}

enum Kind {
    Sequential,
    Strided { stride: u64, at: u64 },
    Zipf { zipf: Zipf<f64>, places: Vec<u32> },
    WorkingSet { set: u64, phase: u64, places: Vec<u32> },
    Transpose { rows: u64, page_size: u64 },
}

impl Generator {
    /// A trace of this shape over so many pages, each reference a transfer of so many. Pages that are left at the end, because
    /// they are too few for a transfer, aren't touched.
    ///
    /// # Errors
    /// If a parameter is out of its range.
    pub fn new(shape: Shape, pages: u64, transfer: u64, seed: u64) -> Result<Generator, GenerateError> {
        if !(1..=MAX_GENERATED_PAGES).contains(&pages) {
            return Err(GenerateError::Pages(pages));
        }
        let bad = GenerateError::Transfer { transfer, pages };
        let size = u32::try_from(transfer).ok().filter(|size| (1..=MAX_COUNT).contains(size) && transfer <= pages);
        let transfer = size.ok_or(bad)?;
        let transfers = pages / u64::from(transfer);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        // Below 2^24 all are.
        let mut places = || -> Vec<u32> {
            let mut places: Vec<u32> = (0..transfers as u32).collect();
            places.shuffle(&mut random);
            places
        };
        let kind = match shape {
            Shape::Sequential => Kind::Sequential,
            Shape::Strided { stride } if !(1..=transfers).contains(&stride) => {
                return Err(GenerateError::Stride { stride, transfers });
            }
            Shape::Strided { stride } => Kind::Strided { stride, at: 0 },
            Shape::Zipf { alpha } => {
                let zipf = Zipf::new(transfers as f64, alpha).ok().filter(|_| (0.0..=10.0).contains(&alpha));
                Kind::Zipf { zipf: zipf.ok_or(GenerateError::Alpha(alpha))?, places: places() }
            }
            Shape::WorkingSet { set, .. } if !(1..=transfers).contains(&set) => {
                return Err(GenerateError::Set { set, transfers });
            }
            Shape::WorkingSet { phase: 0, .. } => return Err(GenerateError::Phase),
            Shape::WorkingSet { set, phase } => Kind::WorkingSet { set, phase, places: places() },
        };
        Ok(Generator { kind, random, transfers, transfer, index: 0 })
    }

    /// Reads a matrix of `rows` x `rows` elements of 8 bytes by rows, and writes each element into another, by columns: two
    /// references for each element. Ends.
    ///
    /// # Errors
    /// If there are no rows, or two such matrices have more than [`MAX_GENERATED_PAGES`].
    pub fn transpose(rows: u64, page_size: u64) -> Result<Generator, GenerateError> {
        let most = (MAX_GENERATED_PAGES / 2).saturating_mul(page_size / 8).isqrt();
        if !(1..=most).contains(&rows) {
            return Err(GenerateError::Rows { rows, page_size, most });
        }
        let kind = Kind::Transpose { rows, page_size };
        Ok(Generator { kind, random: Xoshiro256PlusPlus::seed_from_u64(0), transfers: 0, transfer: 1, index: 0 })
    }
}

impl Iterator for Generator {
    type Item = Reference;

    fn next(&mut self) -> Option<Reference> {
        let (index, random) = (self.index, &mut self.random);
        self.index += 1;
        let unit = match &mut self.kind {
            Kind::Sequential => index % self.transfers,
            Kind::Strided { stride, at } => {
                let unit = *at;
                *at += *stride;
                if *at >= self.transfers {
                    // The column next to the one that has ended.
                    *at = (*at % *stride + 1) % *stride;
                }
                unit
            }
            Kind::Zipf { zipf, places } => {
                let rank = zipf.sample(random) as usize;
                u64::from(places[rank.clamp(1, places.len()) - 1])
            }
            Kind::WorkingSet { set, phase, places } => {
                let count = *set as usize;
                if index.is_multiple_of(*phase) {
                    // The chosen ones are put at the end.
                    let _ = places.partial_shuffle(random, count);
                }
                let first = places.len() - count;
                u64::from(places[random.random_range(first..places.len())])
            }
            Kind::Transpose { rows, page_size } => {
                let (element, writes) = (index / 2, index % 2 == 1);
                let (row, column) = (element / *rows, element % *rows);
                if row >= *rows {
                    return None;
                }
                let pages = (*rows * *rows * 8).div_ceil(*page_size);
                match writes {
                    false => element * 8 / *page_size,
                    true => pages + (column * *rows + row) * 8 / *page_size,
                }
            }
        };
        Some(Reference { page: unit * u64::from(self.transfer), count: self.transfer })
    }
}
