//! Every mistake has a line, shows what is there, and says what to write instead.

use std::io::{self, BufReader, Read};

use vmmc_traces::{Format, MAX_LINE, Options, References, TraceError};

fn error(text: &[u8], format: Format) -> String {
    let mut references = References::new(text, format, Options::default());
    let error = references.find_map(Result::err).expect("a mistake").to_string();
    assert!(references.next().is_none(), "nothing after a mistake");
    error
}

#[test]
fn mistakes_are_told_where_they_are() {
    for (text, parts) in [
        ("1\n2 x\n", ["line 2 is \"2 x\"", "PAGE or PAGE COUNT"]),
        ("# a\n0x\n", ["line 2 is \"0x\"", "0x7f3a 16"]),
        ("+1", ["line 1 is \"+1\"", "decimal or 0x"]),
        ("-1", ["line 1", "decimal or 0x"]),
        ("1 2 3", ["line 1", "PAGE or PAGE COUNT"]),
        ("18446744073709551616", ["line 1", "PAGE or PAGE COUNT"]),
        ("0x80000000000000", ["line 1", "page numbers end at 0x7fffffffffffff"]),
        ("0x7fffffffffffff 2", ["line 1", "page numbers end"]),
        ("1 0", ["line 1", "COUNT is 1 to 1048576"]),
        ("1 1048577", ["line 1", "COUNT is 1 to 1048576"]),
        ("vmmc-trace 2 page-size 4096", ["line 1", "the header is `vmmc-trace 1 page-size BYTES`"]),
        ("vmmc-trace 1 page-size 4095", ["line 1", "a power of two from 512"]),
        ("vmmc-trace 1 page-size 4096 x", ["line 1", "the header is"]),
        ("1\nvmmc-trace 1 page-size 4096", ["line 2", "stands once, before all references"]),
        ("vmmc-trace 1 page-size 4096\nvmmc-trace 1 page-size 4096", ["line 2", "stands once"]),
    ] {
        let error = error(text.as_bytes(), Format::Trace);
        assert!(parts.iter().all(|part| error.contains(part)), "{text:?}: {error}");
    }
    for text in ["I  0401ab70", " L 0401ab70,0", " L 0401ab70,65537", " L xyz,1", "total 12", " X 0401ab70,1", "é"] {
        let error = error(text.as_bytes(), Format::Lackey);
        assert!(error.contains("line 1 is") && error.contains("--log-file=FILE"), "{text:?}: {error}");
    }
    let beyond = error(b" L ffffffffffffffff,2", Format::Lackey);
    assert!(beyond.contains("page numbers end"), "{beyond}");
    for text in ["ls 4711 7fd1b4b0c110", "1,2,3", "1,2,3,x", "0x"] {
        let error = error(text.as_bytes(), Format::Perf);
        assert!(error.contains("line 1 is") && error.contains("perf script -F addr"), "{text:?}: {error}");
    }
}

#[test]
fn long_lines_are_neither_kept_nor_shown_whole() {
    let longest = format!("1 #{}", "x".repeat(MAX_LINE - 3));
    assert_eq!(longest.len(), MAX_LINE);
    for end in ["", "\n"] {
        let text = format!("{longest}{end}");
        assert_eq!(References::new(text.as_bytes(), Format::Trace, Options::default()).map(Result::unwrap).count(), 1);
    }
    let endless = BufReader::new(io::repeat(b'7'));
    let error = References::new(endless, Format::Trace, Options::default()).find_map(Result::err).unwrap();
    assert!(matches!(error, TraceError::TooLong { line: 1 }), "{error}");
    assert!(error.to_string().contains("longer than 4096 bytes"), "{error}");

    let wide = self::error("é".repeat(200).as_bytes(), Format::Trace);
    assert!(wide.contains("é ...") && wide.len() < 300, "{wide}");
    let binary = self::error(b"\x7fELF\x01\x02\xff", Format::Trace);
    assert!(binary.starts_with("line 1 is \"\\u{7f}ELF"), "{binary}");
}

#[test]
fn a_file_that_fails_is_told() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let reader = || BufReader::new(b"1\n".chain(Failing));
    let mut references = References::new(reader(), Format::Trace, Options::default());
    assert!(references.next().unwrap().is_ok());
    let error = references.next().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "line 2 can't be read");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the disk is gone");
    assert!(References::detect(BufReader::new(Failing), Options::default()).is_err());
}
