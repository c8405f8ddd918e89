//! Reading traces, what other programs write, and any bytes.

mod check;
mod errors;
mod generated;

use proptest::prelude::*;
use vmmc_traces::{Format, Options, Reference, References};

const LACKEY: &str = include_str!("ls.lackey");
const PERF: &str = include_str!("ls.perf");
const PERF_MEM: &str = include_str!("ls.perf-mem");

/// What is read of a text without a mistake, in the format that it looks like, which must be this.
fn read(text: &str, format: Format, options: Options) -> Vec<Reference> {
    let references = References::detect(text.as_bytes(), options).expect("memory can be read");
    assert_eq!(references.format(), format);
    references.map(|reference| reference.expect("no mistake is in it")).collect()
}

fn all(references: &[(u64, u32)]) -> Vec<Reference> {
    references.iter().map(|&(page, count)| Reference { page, count }).collect()
}

#[test]
fn a_trace_is_read() {
    let text =
        "# from nowhere\n\nvmmc-trace 1 page-size 65536 # large\r\n\t0x1F 0x10\r\n 7 # seven\n7\n36028797018963967";
    let mut references = References::new(text.as_bytes(), Format::Trace, Options::default());
    let read: Vec<Reference> = references.by_ref().map(Result::unwrap).collect();
    assert_eq!(read, all(&[(31, 16), (7, 1), (7, 1), ((1 << 55) - 1, 1)]));
    assert_eq!(references.page_size(), 65536);
    let collapse = Options { collapse: Some(1), ..Options::default() };
    assert_eq!(self::read("1\n1\n2\n1\n", Format::Trace, collapse), all(&[(1, 1), (2, 1), (1, 1)]));
    assert!(self::read("", Format::Trace, Options::default()).is_empty());
}

#[test]
fn lackey_is_read() {
    let text = "==1== Lackey\nI  0401ab70,3\n S 1fff000ffc,8\n L 00001000,4\n M 00001800,1\n L 00002000,1\n==1== end\n";
    let data = read(text, Format::Lackey, Options::default());
    // The store goes over the end of its page; the two references to page 1 become one.
    assert_eq!(data, all(&[(0x1fff000, 2), (1, 1), (2, 1)]));
    let every = Options { instructions: true, collapse: Some(0), ..Options::default() };
    assert_eq!(read(text, Format::Lackey, every), all(&[(0x401a, 1), (0x1fff000, 2), (1, 1), (1, 1), (2, 1)]));
    let large = Options { page_size: 1 << 21, ..Options::default() };
    assert_eq!(read(text, Format::Lackey, large), all(&[(0x1fff000 >> 9, 1), (0, 1)]));
}

#[test]
fn what_lackey_wrote_of_ls_is_read() {
    let count = |kind: &str| LACKEY.lines().filter(|line| line.starts_with(kind)).count();
    let keep = |instructions| Options { instructions, collapse: Some(0), ..Options::default() };
    let data = read(LACKEY, Format::Lackey, keep(false));
    assert_eq!(data.len(), count(" L ") + count(" S ") + count(" M "));
    assert_eq!(read(LACKEY, Format::Lackey, keep(true)).len(), data.len() + count("I  "));
    let collapsed = read(LACKEY, Format::Lackey, Options::default());
    assert!(collapsed.len() < data.len() && collapsed.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(collapsed[0], Reference { page: 0x1fff000, count: 1 });
}

#[test]
fn what_perf_wrote_of_ls_is_read() {
    let keep = Options { collapse: Some(0), ..Options::default() };
    let addresses = read(PERF, Format::Perf, keep);
    assert_eq!(addresses.len(), PERF.lines().count());
    let samples = read(PERF_MEM, Format::Perf, keep);
    // The same run, whose samples' first line is a heading.
    assert_eq!(samples, addresses[..PERF_MEM.lines().count() - 1]);
    let text = "    7fd1b4b0c110\n               0\nffffffff81752b6a\n\n";
    assert_eq!(read(text, Format::Perf, keep), all(&[(0x7fd1b4b0c, 1)]));
}

/// Text that is nearly right more often than chance would have it.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        any::<u64>().prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| format!("{n:#x}")),
        any::<u32>().prop_map(|n| format!("    {n:012x}")),
        (prop::sample::select(vec!["I ", " L", " S", " M", "X"]), any::<u64>(), any::<u16>())
            .prop_map(|(kind, address, size)| format!("{kind} {address:x},{size}")),
        (0u32..40).prop_map(|n| format!("{n}")),
        Just("vmmc-trace 1 page-size 4096".to_owned()),
        Just("==1==".to_owned()),
        Just("1,2,0x3,0x4,5".to_owned()),
        "[ -~]{0,12}",
    ];
    let separator = prop::sample::select(vec!["\n", "\n", "\n", " ", "\r\n", "#", ",", "\u{fffd}"]);
    prop::collection::vec((word, separator), 0..40)
        .prop_map(|parts| parts.into_iter().flat_map(|(a, b)| [a, b.to_owned()]).collect::<String>().into_bytes())
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        check::check(&bytes);
    }

    #[test]
    fn any_text_is_read_or_refused(text in texts()) {
        check::check(&text);
    }

    #[test]
    fn what_was_damaged_is_read_or_refused(at in 0..LACKEY.len(), by in any::<u8>(), cut in 0..LACKEY.len()) {
        let mut bytes = LACKEY.as_bytes().to_vec();
        bytes[at] = by;
        check::check(&bytes[..cut]);
    }
}
