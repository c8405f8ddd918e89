//! An XDP program that is not ours, which passes everything.

use std::{
    io::Write,
    os::fd::AsFd,
    process::{Command, Stdio},
};

use libbpf_rs::{Link, Object, ObjectBuilder, ProgramMut, Xdp, XdpFlags};

const SOURCE: &str = r#"__attribute__((section("xdp"), used)) int strange_filter(void *ctx) { return 2; }"#;

pub(crate) struct Foreign(Object);

impl Foreign {
    pub(crate) fn load() -> Self {
        let mut clang = Command::new("clang")
            .args(["-O2", "-g", "-target", "bpf", "-x", "c", "-c", "-", "-o", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("clang");
        clang.stdin.take().unwrap().write_all(SOURCE.as_bytes()).unwrap();
        let elf = clang.wait_with_output().unwrap().stdout;
        Self(ObjectBuilder::default().open_memory(&elf).unwrap().load().unwrap())
    }

    fn program(&mut self) -> ProgramMut<'_> {
        self.0.progs_mut().next().unwrap()
    }

    /// As most tools do it: it stays until someone removes it, or the interface goes.
    pub(crate) fn attach_directly(&mut self, ifindex: u32, generic: bool) {
        let flags = if generic { XdpFlags::SKB_MODE } else { XdpFlags::DRV_MODE };
        Xdp::new(self.program().as_fd()).attach(ifindex.try_into().unwrap(), flags).unwrap();
    }

    pub(crate) fn attach_by_link(&mut self, ifindex: u32) -> Link {
        self.program().attach_xdp(ifindex.try_into().unwrap()).unwrap()
    }
}
