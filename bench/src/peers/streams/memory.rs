//! What memory this process holds, and what the kernel holds for everybody.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Memory {
    /// Of this process, anonymous: heap and stacks.
    pub(super) process: u64,
    /// Pages of this process's files in memory (memfd), arenas among them, whether they are mapped at the moment or not.
    pub(super) arena: u64,
    /// The kernel's own, of the whole machine: `Slab` of /proc/meminfo. Sockets, their inodes and buffers are in it.
    pub(super) slab: u64,
    /// Of that and besides, what TCP sockets account for data on its way, of the whole machine.
    pub(super) buffers: u64,
}

impl Memory {
    /// What is held now.
    pub(super) fn now() -> io::Result<Memory> {
        let own = fs::read_to_string("/proc/self/smaps_rollup")?;
        let all = fs::read_to_string("/proc/meminfo")?;
        let sockets = fs::read_to_string("/proc/net/sockstat")?;
        let missing = |what: &str| io::Error::other(format!("the kernel doesn't say how much {what} there is"));
        Ok(Memory {
            process: kilobytes(&own, "Pss_Anon:").ok_or_else(|| missing("anonymous memory"))?,
            arena: files_in_memory(Path::new("/proc/self/fd"))?,
            slab: kilobytes(&all, "Slab:").ok_or_else(|| missing("slab memory"))?,
            buffers: tcp_pages(&sockets).ok_or_else(|| missing("TCP memory"))? * rustix::param::page_size() as u64,
        })
    }

    /// What this process itself holds.
    pub(super) fn own(&self) -> u64 {
        self.process + self.arena
    }
}

/// The line of this name, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// The pages that TCP's sockets account for.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    line.split_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()
}

/// Bytes that the memfds among the open descriptors take, each file once.
fn files_in_memory(descriptors: &Path) -> io::Result<u64> {
    let mut files = Vec::new();
    for entry in fs::read_dir(descriptors)? {
        let path = entry?.path();
        // One may have been closed meanwhile; that of the directory itself has been.
        let Ok(target) = fs::read_link(&path) else { continue };
        if !target.to_string_lossy().starts_with("/memfd:") {
            continue;
        }
        let about = fs::metadata(&path)?;
        let file = (about.dev(), about.ino(), about.blocks() * 512);
        if !files.contains(&file) {
            files.push(file);
        }
    }
    Ok(files.iter().map(|file| file.2).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_understood() {
        let rollup = "55-7f ---p 00000000 00:00 0 [rollup]\nRss:     1696 kB\nPss_Anon:   112 kB\n";
        assert_eq!(kilobytes(rollup, "Pss_Anon:"), Some(112 << 10));
        assert_eq!(kilobytes(rollup, "Slab:"), None);
        let sockstat = "sockets: used 14\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 11\nUDP: inuse 0 mem 3\n";
        assert_eq!(tcp_pages(sockstat), Some(11));
        assert_eq!(tcp_pages("UDP: inuse 0 mem 3\n"), None);
    }

    #[test]
    fn memory_that_is_touched_is_counted_and_a_hole_is_not() {
        use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
        use rustix::io::pwrite;
        let before = Memory::now().unwrap();
        let file = memfd_create("vmmc-bench-test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 64 << 20).unwrap();
        let hole = Memory::now().unwrap();
        pwrite(&file, &vec![1; 4 << 20], 1 << 20).unwrap();
        let second = file.try_clone().unwrap();
        let filled = Memory::now().unwrap();
        drop((file, second));
        // Other tests run beside this one, but none makes such files.
        assert_eq!(hole.arena, before.arena);
        assert_eq!(filled.arena - before.arena, 4 << 20);
        let heap = vec![1_u8; 32 << 20];
        let after = Memory::now().unwrap();
        assert!(std::hint::black_box(&heap)[7] == 1 && after.process >= before.process + (16 << 20));
    }
}
