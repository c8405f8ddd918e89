//! Which program has written a text, by its first lines.

use crate::Format;
use crate::import;
use crate::trace::{self, hexadecimal};

/// The format of a text that begins so. What nobody would have written is taken for a trace, whose errors say most.
pub(crate) fn detect(begin: &[u8]) -> Format {
    begin.split(|byte| *byte == b'\n').find_map(of_line).unwrap_or(Format::Trace)
}

/// The format of the texts that have such a line, if it decides.
fn of_line(line: &[u8]) -> Option<Format> {
    let text = std::str::from_utf8(line).ok()?.trim_end();
    if text.starts_with("==") || matches!(import::lackey(line, true, 4096), Ok(Some(_))) {
        return Some(Format::Lackey);
    }
    if text.starts_with("# PID, TID, IP, ADDR") || (text.contains(',') && import::perf(line, 4096).is_ok()) {
        return Some(Format::Perf);
    }
    // perf sets addresses from the right, 16 wide, and without 0x. A number could be one of ours by chance.
    let word = text.trim_start();
    if text.len() == 16 && word.len() > 8 && hexadecimal(word).is_some() {
        return Some(Format::Perf);
    }
    match trace::parse(line) {
        Ok(trace::Line::Nothing) => None,
        Ok(_) => Some(Format::Trace),
        Err(_) => hexadecimal(word).map(|_| Format::Perf),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_tell() {
        for (text, format) in [
            ("", Format::Trace),
            ("# a comment\n\n12\n", Format::Trace),
            ("vmmc-trace 1 page-size 4096\n", Format::Trace),
            ("0x7f00 3\n", Format::Trace),
            ("12345678", Format::Trace),
            ("nonsense\n", Format::Trace),
            ("==15265== Lackey, an example Valgrind tool\n", Format::Lackey),
            ("I  0401ab70,3\n", Format::Lackey),
            ("\n S 1fff000778,8\n", Format::Lackey),
            ("    558abdce45c0\n", Format::Perf),
            ("    558123456780\n", Format::Perf),
            ("ffffffff81752b6a\n", Format::Perf),
            ("7fd1b4b0c110\n", Format::Perf),
            ("# PID, TID, IP, ADDR, LOCAL WEIGHT, DSRC, SYMBOL\n", Format::Perf),
            ("15274,15274,0xffffffff81752b6a,0x558abdce45c0,0,0x1e05080021,x:y\n", Format::Perf),
        ] {
            assert_eq!(detect(text.as_bytes()), format, "{text:?}");
        }
    }
}
