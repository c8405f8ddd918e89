//! Who holds an interface that is wanted: found out as far as the caller's privilege goes, and said in
//! a way that lets the reader do something about it.

use std::{fmt, fs, path::Path};

use libbpf_rs::{
    libbpf_sys::bpf_xdp_query_opts,
    query::{LinkInfoIter, LinkTypeInfo, ProgInfoIter},
};

/// The name of our own program, as the kernel knows it.
const STEERING_PROGRAM: &str = "vmmc_steer";

/// A process, as far as another one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command name (at most 15 bytes), empty if unknown.
    pub command: String,
}

/// The XDP program that is attached to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The interface.
    pub interface: String,
    /// The program's id, as in `ip link show`.
    pub program_id: u32,
    /// The program's name; empty if it has none, or the caller lacks the privilege to see it.
    pub program_name: String,
    /// Whether it runs in generic mode.
    pub generic: bool,
    /// The `bpf_link` it hangs on; none if it was attached directly, as `ip link` does, or the caller
    /// lacks the privilege to see it.
    pub link_id: Option<u32>,
    /// The processes that keep that link open: none if it is pinned, or they can't be seen from here.
    pub processes: Vec<Process>,
}

impl Holder {
    /// Fills in what can be found out about the program `attached` tells of.
    pub(crate) fn find(interface: &str, ifindex: u32, attached: &bpf_xdp_query_opts) -> Option<Self> {
        let ids = [attached.drv_prog_id, attached.skb_prog_id, attached.hw_prog_id, attached.prog_id];
        let program_id = ids.into_iter().find(|&id| id != 0)?;
        let program_name = ProgInfoIter::default()
            .find(|program| program.id == program_id)
            .map(|program| program.name.to_string_lossy().into_owned())
            .unwrap_or_default();
        // The index is only unique within a network namespace, hence the program.
        let link_id = LinkInfoIter::default()
            .filter(|link| link.prog_id == program_id)
            .find(|link| matches!(&link.info, LinkTypeInfo::Xdp(xdp) if xdp.ifindex == ifindex))
            .map(|link| link.id);
        Some(Self {
            interface: interface.to_owned(),
            program_id,
            program_name,
            generic: attached.skb_prog_id == program_id,
            link_id,
            processes: link_id.map(processes_with_link).unwrap_or_default(),
        })
    }

    /// Whether it is a steering program like ours: another node's.
    pub fn is_vmmc(&self) -> bool {
        self.program_name == STEERING_PROGRAM
    }

    /// How to get rid of it.
    pub fn remedy(&self) -> String {
        let Self { interface, generic, link_id, .. } = self;
        match (link_id, self.processes.is_empty()) {
            (Some(_), false) => "stop that process".to_owned(),
            (Some(link), true) => {
                format!("no process that is visible here keeps its link open: `bpftool link detach id {link}`")
            }
            (None, _) => {
                let mode = if *generic { "xdpgeneric" } else { "xdp" };
                format!("remove it with `ip link set dev {interface} {mode} off`")
            }
        }
    }
}

/// The program and who holds it, in the form `XDP program "filter" (id 12), held by process 34 (cat)`.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("XDP program ")?;
        if !self.program_name.is_empty() {
            write!(f, "\"{}\" ", self.program_name)?;
        }
        write!(f, "(id {})", self.program_id)?;
        for (i, Process { pid, command }) in self.processes.iter().enumerate() {
            let lead = if i == 0 { ", held by process" } else { " and" };
            write!(f, "{lead} {pid} ({command})")?;
        }
        Ok(())
    }
}

/// The kernel tells who has a link open only in the description of every open file.
fn processes_with_link(link_id: u32) -> Vec<Process> {
    let wanted = format!("link_id:\t{link_id}");
    let holds_link = |process: &Path| {
        entries(&process.join("fdinfo"))
            .any(|file| fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line == wanted)))
    };
    let mut found: Vec<Process> = entries(Path::new("/proc"))
        .filter_map(|process| {
            let pid = process.file_name()?.to_str()?.parse().ok()?;
            holds_link(&process).then(|| Process {
                pid,
                command: fs::read_to_string(process.join("comm"))
                    .map(|name| name.trim_end().to_owned())
                    .unwrap_or_default(),
            })
        })
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// A directory's entries; none if it can't be read, since processes end while one looks.
fn entries(directory: &Path) -> impl Iterator<Item = std::path::PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(link_id: Option<u32>, pids: &[u32]) -> Holder {
        Holder {
            interface: "eth0".into(),
            program_id: 12,
            program_name: "filter".into(),
            generic: false,
            link_id,
            processes: pids.iter().map(|&pid| Process { pid, command: "cat".into() }).collect(),
        }
    }

    #[test]
    fn names_program_and_processes() {
        assert_eq!(holder(None, &[]).to_string(), "XDP program \"filter\" (id 12)");
        assert_eq!(
            holder(Some(3), &[7, 9]).to_string(),
            "XDP program \"filter\" (id 12), held by process 7 (cat) and 9 (cat)"
        );
        let nameless = Holder { program_name: String::new(), ..holder(None, &[]) };
        assert_eq!(nameless.to_string(), "XDP program (id 12)");
    }

    #[test]
    fn the_remedy_fits_the_way_it_is_attached() {
        assert_eq!(holder(Some(3), &[7]).remedy(), "stop that process");
        assert!(holder(Some(3), &[]).remedy().contains("bpftool link detach id 3"));
        assert!(holder(None, &[]).remedy().contains("`ip link set dev eth0 xdp off`"));
        let generic = Holder { generic: true, ..holder(None, &[]) };
        assert!(generic.remedy().contains("`ip link set dev eth0 xdpgeneric off`"));
    }
}
