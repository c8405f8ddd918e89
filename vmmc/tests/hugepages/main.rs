//! Arenas in huge pages, on real ones: the test has the system keep some, and sets their number back afterwards. That takes root, and a
//! process of its own, because the number is the machine's.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use vmmc::memory::utlb::{Config, Rule};
use vmmc::memory::{Arena, HugePages, MemoryError, Paging};
use vmmc::node::Resolve;
use vmmc::port::sim::{Conditions, Network};
use vmmc::{Bulk, Error, Lane, NoBulkLane, Node};
use vmmc_lab::{LabConfig, TempLab};

/// How many huge pages the test has the system keep. Fewer than an arena of the usual length takes: so nodes that other programs
/// open meanwhile leave them alone.
const KEPT: usize = 24;

/// The number of huge pages that the system keeps; set back to what it was when this is dropped.
struct Number {
    before: usize,
}

impl Number {
    const FILE: &str = "/proc/sys/vm/nr_hugepages";

    fn get() -> usize {
        fs::read_to_string(Self::FILE).expect("this kernel has no huge pages").trim().parse().unwrap()
    }

    /// Sets it, and makes sure that so many are there.
    fn set(&self, number: usize) {
        if let Err(error) = fs::write(Self::FILE, number.to_string()) {
            panic!("this test needs root, to have the system keep huge pages: writing {} failed: {error}", Self::FILE);
        }
        let got = Self::get();
        assert_eq!(got, number, "this machine has no memory for {number} huge pages: it made {got}");
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        if let Err(error) = fs::write(Self::FILE, self.before.to_string()) {
            eprintln!("{} can't be set back to {}: {error}", Self::FILE, self.before);
        }
    }
}

/// A number of `/proc/meminfo`.
fn meminfo(name: &str) -> usize {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_else(|| panic!("{name}?"));
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

fn free() -> usize {
    meminfo("HugePages_Free") - meminfo("HugePages_Rsvd")
}

struct Nobody;
impl Resolve for Nobody {
    fn resolve(&mut self, _: IpAddr, _: Duration) -> Result<[u8; 6], Error> {
        Ok([2; 6])
    }
}

fn node(arena: usize, huge: HugePages) -> Result<Node, Error> {
    let lane = Lane {
        port: Box::new(Network::new(1, Conditions::default()).attach([2; 6])),
        address: IpAddr::from([10, 0, 0, 1]),
        udp_port: 7000,
        interface: None,
        mac: [2; 6],
        vlan: None,
        mtu: 1500,
        resolver: Box::new(Nobody),
        steering: None,
        binding: None,
        arena: None,
        no_bulk: None,
    };
    Node::builder().arena(arena).huge_pages(huge).open_on(lane)
}

#[test]
fn arenas_in_huge_pages() {
    assert!(Path::new(Number::FILE).exists(), "this kernel has no huge pages");
    let number = Number { before: Number::get() };
    number.set(number.before + KEPT);
    let (size, ordinary) = (meminfo("Hugepagesize") << 10, 4096);
    let before = free();
    assert!(before >= KEPT, "somebody else has taken huge pages: {before} are free");

    // All of them are taken at once, and come back.
    let arena = Arena::with(KEPT * size, HugePages::Require).unwrap();
    assert_eq!((arena.len(), arena.page_size(), free()), (KEPT * size, size, before - KEPT));
    let mut buffer = arena.buffer((KEPT - 2) * size).unwrap();
    assert!(buffer.iter().all(|&byte| byte == 0));
    buffer.fill(7);
    let aligned = arena.buffer_aligned(5, size).unwrap();
    assert!(aligned.as_ptr().addr().is_multiple_of(size));
    let too_much = arena.buffer(2 * size).unwrap_err();
    assert!(matches!(too_much, MemoryError::Exhausted { arena, .. } if arena == KEPT * size), "{too_much}");
    drop((buffer, aligned));

    // A sparse region is zero, and so is what is discarded; but no page goes back, for there might be no other.
    let region = arena.sparse((KEPT - 2) * size).unwrap();
    let is_zero = || {
        let mut bytes = vec![1; region.len()];
        region.read(0, &mut bytes).unwrap();
        bytes.iter().all(|&byte| byte == 0)
    };
    assert!(is_zero());
    region.fill(7).unwrap();
    region.discard(0..region.len() as u64).unwrap();
    assert!(is_zero());
    assert_eq!(free(), before - KEPT);
    drop((region, arena));
    assert_eq!(free(), before);

    // An arena is rounded up to whole pages, unless it is shorter than one; nobody has to want huge ones.
    let sizes = |len, huge| Arena::with(len, huge).map(|arena| (arena.len(), arena.page_size())).unwrap();
    assert_eq!(sizes(size + 1, HugePages::WhenFree), (2 * size, size));
    assert_eq!(sizes(size - ordinary, HugePages::WhenFree), (size - ordinary, ordinary));
    assert_eq!(sizes(size - ordinary, HugePages::Require), (size, size));
    assert_eq!(sizes(2 * size, HugePages::Never), (2 * size, ordinary));

    // Where they don't suffice it is ordinary ones, or an error, which says what would.
    let most = (before + 3) * size;
    assert_eq!(sizes(most, HugePages::WhenFree), (most, ordinary));
    let error = Arena::with(most, HugePages::Require).unwrap_err();
    let text = error.to_string();
    let MemoryError::NoHugePages { needed, free: found, set, .. } = error else { panic!("{text}") };
    assert_eq!((needed, found, set), (before + 3, before, number.before + KEPT + 3));
    assert!(text.contains(&format!("sysctl vm.nr_hugepages={set}")), "{text}");
    assert_eq!(free(), before, "a refused arena keeps nothing");
    number.set(set);
    assert_eq!(sizes(most, HugePages::Require), (most, size));

    // Of a node, too.
    let page_of = |node: Node| node.stats().unwrap().arena_page_bytes as usize;
    assert_eq!(page_of(node(2 * size, HugePages::WhenFree).unwrap()), size);
    assert_eq!(page_of(node(2 * size, HugePages::Never).unwrap()), ordinary);
    let refused = node(most + size, HugePages::Require).unwrap_err();
    assert!(matches!(refused, Error::Memory(MemoryError::NoHugePages { .. })), "{refused}");

    paged_buffers(size);
    zero_copy_lanes(size, most);

    let before = number.before;
    drop(number);
    assert_eq!(Number::get(), before);
}

/// Paged buffers over such an arena are pinned and unpinned by the huge page, and children haven't got them either.
fn paged_buffers(size: usize) {
    let arena = Arena::with(4 * size, HugePages::Require).unwrap();
    let paging = Paging::new(arena.clone(), Config { rule: Rule::Pin, ..Config::default() });
    assert_eq!((paging.page_size(), paging.counters().budget), (size, 2));
    let mut buffer = paging.map(5 * size + 7).unwrap();
    let value = |at: usize| (at ^ at >> 8 ^ at >> 16 ^ at >> 21) as u8;
    buffer.write().iter_mut().enumerate().for_each(|(at, byte)| *byte = value(at));
    for round in 0..2 {
        for page in 0..6 {
            let at = page * size;
            let hold = buffer.hold(at..at + 1);
            assert!(hold.runs().all(|run| run.frame.is_some()), "{hold:?}");
            assert!(inherited(buffer.as_ptr().wrapping_add(at)).is_none(), "page {page}");
            drop(hold);
            buffer.write_part(at..at + 1).unwrap()[0] = round;
        }
        assert!(buffer.iter().enumerate().all(|(at, &b)| b == if at % size == 0 { round } else { value(at) }));
    }
    let counters = paging.counters();
    assert_eq!((counters.pins, counters.unpins, counters.copied, counters.failures), (12, 10, 0, 0));
    drop(buffer);
    assert_eq!(arena.available(), arena.len());
}

/// The mapping at this address, unless children don't get it: then `None`.
fn inherited(at: *const u8) -> Option<String> {
    let text = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut mapping = "";
    for line in text.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let parse = |hex| usize::from_str_radix(hex, 16).ok();
        if let Some((Some(start), Some(end))) = range.map(|(start, end)| (parse(start), parse(end))) {
            mapping = if (start..end).contains(&at.addr()) { line } else { "" };
        } else if let (Some(flags), false) = (line.strip_prefix("VmFlags:"), mapping.is_empty()) {
            return (!flags.split(' ').any(|flag| flag == "dc")).then(|| mapping.to_owned());
        }
    }
    panic!("nothing is mapped at {at:p}");
}

/// A bulk lane that is in zero-copy mode, or else an error: which says what is missing, the pages or the NIC. On a veth pair it is always something.
fn zero_copy_lanes(size: usize, most: usize) {
    let lab = TempLab::new(&LabConfig { hosts: 2, ..LabConfig::default() })
        .unwrap_or_else(|error| panic!("this test needs root and network namespaces: {error}"));
    let host = lab.host(1);
    let open =
        |arena, bulk| host.enter(|| Node::builder().interface(&host.interface).arena(arena).bulk(bulk).open()).unwrap();
    let error = open(most + size, Bulk::RequireZeroCopy).unwrap_err();
    assert!(matches!(error, Error::Memory(MemoryError::NoHugePages { .. })), "{error}");
    let error = open(2 * size, Bulk::RequireZeroCopy).unwrap_err();
    let Error::NoBulkLane { reason, .. } = &error else { panic!("{error}") };
    assert!(matches!(**reason, NoBulkLane::Copies { .. }), "{error}");
    assert!(error.to_string().contains("has no XDP_ZEROCOPY"), "{error}");
    let stats = open(2 * size, Bulk::Require).unwrap().stats().unwrap();
    assert_eq!(stats.arena_page_bytes as usize, size);
    assert!(stats.bulk_copied.is_some_and(|why| why.contains("has no XDP_ZEROCOPY")));
}
