//! Lines of other programs, with addresses in them.
//!
//! ```text
//! lackey:               perf script -F addr:      perf mem -x, report -D:
//! I  0401ab70,3             558abdce45c0          15274,15274,0xffffffff81752b6a,0x558abdce45c0,0,0x1e05080021,ld.so:_start
//!  S 1fff000778,8
//! ```

use crate::trace::{hexadecimal, reference};
use crate::{Problem, Reference};

/// The largest access that an instruction makes, in bytes: some save all registers at once.
const MAX_ACCESS: u64 = 1 << 16;

/// Addresses from here on are the kernel's.
const KERNEL: u64 = 1 << 63;

/// A line of lackey's. `None` where it is about no memory, or an instruction's fetch that isn't asked for.
pub(crate) fn lackey(line: &[u8], instructions: bool, page_size: u64) -> Result<Option<Reference>, Problem> {
    let text = std::str::from_utf8(line).map_err(|_| Problem::Lackey)?.trim_end();
    // What valgrind says of itself: "==PID==", "--PID--".
    if text.is_empty() || text.starts_with("==") || text.starts_with("--") {
        return Ok(None);
    }
    let (kind, rest) = text.split_at_checked(3).ok_or(Problem::Lackey)?;
    let data = match kind {
        "I  " => false,
        " L " | " S " | " M " => true,
        _ => return Err(Problem::Lackey),
    };
    let (address, size) = rest.split_once(',').ok_or(Problem::Lackey)?;
    let address = hexadecimal(address).ok_or(Problem::Lackey)?;
    let size = size.parse().ok().filter(|size| (1..=MAX_ACCESS).contains(size)).ok_or(Problem::Lackey)?;
    if data || instructions { pages(address, size, page_size).map(Some) } else { Ok(None) }
}

/// A line of perf's. `None` where it is about no memory of the program.
pub(crate) fn perf(line: &[u8], page_size: u64) -> Result<Option<Reference>, Problem> {
    let text = std::str::from_utf8(line).map_err(|_| Problem::Perf)?.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let word = if text.contains(',') { text.split(',').nth(3).ok_or(Problem::Perf)? } else { text }.trim();
    let address = hexadecimal(word.strip_prefix("0x").unwrap_or(word)).ok_or(Problem::Perf)?;
    // 0 is what perf says where it knows no address.
    if address == 0 || address >= KERNEL { Ok(None) } else { pages(address, 1, page_size).map(Some) }
}

/// The pages that an access of `size` bytes touches.
fn pages(address: u64, size: u64, page_size: u64) -> Result<Reference, Problem> {
    let first = address / page_size;
    let last = address.checked_add(size - 1).ok_or(Problem::Page)? / page_size;
    reference(first, last - first + 1)
}
