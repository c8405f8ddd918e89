//! The references in a text, whoever has written it, as one iterator.

use std::fmt;
use std::io::BufRead;

use crate::collapse::Collapse;
use crate::detect::detect;
use crate::lines::Lines;
use crate::trace::{self, Line};
use crate::{PAGE_SIZE, Problem, Reference, TraceError, import};

/// Who has written a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// It is a trace.
    Trace,
    /// `valgrind --tool=lackey --trace-mem=yes`.
    Lackey,
    /// `perf script -F addr`, or `perf mem -x, report -D`.
    Perf,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Trace => "trace",
            Format::Lackey => "lackey",
            Format::Perf => "perf",
        })
    }
}

/// What becomes of addresses.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The page size that addresses are divided by, in bytes: a power of two in [`PAGE_SIZES`](crate::PAGE_SIZES). Of a trace its
    /// header tells.
    pub page_size: u64,
    /// Whether the fetching of instructions counts, too.
    pub instructions: bool,
    /// References to one of the last so many are left out. By default addresses have 1, traces 0.
    pub collapse: Option<usize>,
}

impl Default for Options {
    fn default() -> Options {
        Options { page_size: PAGE_SIZE, instructions: false, collapse: None }
    }
}

/// The references in a text, read as they are asked for. After an error there are no more.
pub struct References<R> {
    lines: Lines<R>,
    format: Format,
    options: Options,
    collapse: Collapse,
    page_size: Option<u64>,
    begun: bool,
    ended: bool,
}

impl<R: BufRead> References<R> {
    /// Reads a text in this format.
    ///
    /// # Panics
    /// If the options' page size isn't one of [`PAGE_SIZES`](crate::PAGE_SIZES).
    pub fn new(reader: R, format: Format, options: Options) -> References<R> {
        assert!(
            options.page_size.is_power_of_two() && trace::PAGE_SIZES.contains(&options.page_size),
            "{} bytes are no page",
            options.page_size
        );
        let window = options.collapse.unwrap_or(usize::from(format != Format::Trace));
        References {
            lines: Lines::new(reader),
            format,
            options,
            collapse: Collapse::new(window),
            page_size: (format != Format::Trace).then_some(options.page_size),
            begun: false,
            ended: false,
        }
    }

    /// Reads a text in the format that its first lines are in. Waits for these.
    ///
    /// # Errors
    /// [`TraceError::Read`].
    ///
    /// # Panics
    /// As [`new`](References::new).
    pub fn detect(mut reader: R, options: Options) -> Result<References<R>, TraceError> {
        let begin = reader.fill_buf().map_err(|source| TraceError::Read { line: 1, source })?;
        let format = detect(begin);
        Ok(References::new(reader, format, options))
    }

    /// The text's format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The size of its pages in bytes. Of a trace that is known with the first reference.
    pub fn page_size(&self) -> u64 {
        self.page_size.unwrap_or(PAGE_SIZE)
    }

    fn step(&mut self) -> Result<Option<Reference>, TraceError> {
        while let Some(line) = self.lines.next()? {
            let reference = match self.format {
                Format::Lackey => import::lackey(line, self.options.instructions, self.options.page_size),
                Format::Perf => import::perf(line, self.options.page_size),
                Format::Trace => match trace::parse(line) {
                    Ok(Line::Nothing) => Ok(None),
                    Ok(Line::PageSize(_)) if self.begun || self.page_size.is_some() => Err(Problem::HeaderPlace),
                    Ok(Line::PageSize(size)) => {
                        self.page_size = Some(size);
                        Ok(None)
                    }
                    Ok(Line::Reference(reference)) => Ok(Some(reference)),
                    Err(problem) => Err(problem),
                },
            };
            if let Some(reference) = reference.map_err(|problem| self.lines.error(problem))? {
                self.begun = true;
                if self.collapse.keeps(reference) {
                    return Ok(Some(reference));
                }
            }
        }
        Ok(None)
    }
}

impl<R: BufRead> Iterator for References<R> {
    type Item = Result<Reference, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.step().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
