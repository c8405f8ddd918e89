//! What must hold for any bytes, whoever reads them: the property of the tests and of the fuzz target `trace`.

use vmmc_traces::{Format, MAX_COUNT, MAX_PAGE, Options, Reference, References, TraceError, Writer};

/// Reads the bytes in every format, and as what they look like. Nothing panics, errors point at lines that are there, what is
/// accepted is within the limits, and a trace that is written of it reads the same.
pub fn check(bytes: &[u8]) {
    let collapse = bytes.first().map(|byte| usize::from(byte % 4));
    let options = Options { page_size: 512, instructions: bytes.len().is_multiple_of(2), collapse };
    for format in [Format::Trace, Format::Lackey, Format::Perf] {
        one(bytes, References::new(bytes, format, options));
    }
    one(bytes, References::detect(bytes, options).expect("memory can be read"));
}

fn one(bytes: &[u8], mut references: References<&[u8]>) {
    let mut read: Vec<Reference> = Vec::new();
    let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
    for reference in &mut references {
        match reference {
            Ok(reference) => read.push(reference),
            Err(TraceError::Line { line, .. } | TraceError::TooLong { line }) => {
                assert!((1..=lines).contains(&line), "line {line} of {lines}")
            }
            Err(error) => panic!("memory can be read: {error}"),
        }
    }
    assert!(references.next().is_none(), "an end is an end");
    for Reference { page, count } in &read {
        assert!((1..=MAX_COUNT).contains(count) && page + u64::from(*count) - 1 <= MAX_PAGE, "{page} {count}");
    }

    let mut text = Vec::new();
    let mut writer = Writer::new(&mut text, references.page_size(), "two\nlines").expect("memory takes all");
    read.iter().for_each(|reference| writer.write(*reference).expect("memory takes all"));
    let mut again = References::detect(&text[..], Options::default()).expect("memory can be read");
    assert_eq!(again.format(), Format::Trace);
    let reread: Vec<Reference> = again.by_ref().map(|reference| reference.expect("it was written so")).collect();
    assert_eq!((reread, again.page_size()), (read, references.page_size()));
}
