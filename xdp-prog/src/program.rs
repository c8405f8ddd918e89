//! The program in the kernel, verified and ready, but attached to nothing.
//!
//! Most users want [`Steering::attach`], which does all of it. A loaded program by itself is for
//! trying it on frames that are in memory, not on a wire.

use std::{fmt, io, mem::MaybeUninit, net::IpAddr, os::fd::AsFd};

use libbpf_rs::{
    OpenObject, ProgramInput,
    skel::{OpenSkel, SkelBuilder},
};

use crate::{
    Maps, Steering, SteeringError, Target,
    link::{Link, Placement},
    log,
    skeleton::{SteerSkel, SteerSkelBuilder},
};

/// Room for a [`Program`], which borrows it: libbpf's objects may not move.
#[derive(Debug)]
pub struct Storage(MaybeUninit<OpenObject>);

impl Storage {
    /// Room for one program.
    pub fn new() -> Self {
        Self(MaybeUninit::uninit())
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self::new()
    }
}

/// What the program tells the kernel to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `XDP_PASS`: go on as if there were no program.
    Pass,
    /// `XDP_REDIRECT`: to the AF_XDP socket of the queue.
    Redirect,
    /// `XDP_DROP`: a packet for the bulk lane that its gate doesn't let in.
    Drop,
}

/// What the program did with a frame in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// What it tells the kernel to do.
    pub action: Action,
    /// The frame as it is now. Of what the bulk lane lets in only the payload is left, if the gate says so.
    pub frame: Vec<u8>,
}

/// The steering program of one node, loaded.
pub struct Program<'storage> {
    skeleton: SteerSkel<'storage>,
    maps: Maps,
}

impl<'storage> Program<'storage> {
    /// Loads the program for the node at `address` and `port`, in the VLAN with that identifier (1 to 4094) or in none. Blocks while the kernel verifies it (a
    /// few milliseconds).
    ///
    /// ```no_run
    /// use xdp_prog::{Action, Program, Storage};
    ///
    /// let mut storage = Storage::new();
    /// let program = Program::load(&mut storage, [10, 77, 0, 1].into(), 7000, None)?;
    /// let arp = [&[0xff; 6][..], &[2; 6], &[0x08, 0x06], &[0; 28]].concat();
    /// assert_eq!(program.run(&arp)?, Action::Pass);
    /// assert_eq!(program.maps().counters()?.not_ip, 1);
    /// # Ok::<(), xdp_prog::SteeringError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`SteeringError::Address`] if no packet can be for that address and port, [`SteeringError::Vlan`] if there is no such
    /// VLAN, [`SteeringError::Privilege`], [`SteeringError::Kernel`] if it is too old, or
    /// [`SteeringError::Load`].
    pub fn load(
        storage: &'storage mut Storage,
        address: IpAddr,
        port: u16,
        vlan: Option<u16>,
    ) -> Result<Self, SteeringError> {
        if address.is_unspecified() || address.is_multicast() || port == 0 {
            return Err(SteeringError::Address { address, port });
        }
        if let Some(id) = vlan.filter(|id| !(1..=4094).contains(id)) {
            return Err(SteeringError::Vlan { id });
        }
        log::redirect();
        Self::load_object(storage, address.to_canonical(), port, vlan).map_err(|error| SteeringError::loading(&error))
    }

    fn load_object(
        storage: &'storage mut Storage,
        address: IpAddr,
        port: u16,
        vlan: Option<u16>,
    ) -> Result<Self, libbpf_rs::Error> {
        let mut open = SteerSkelBuilder::default().open(&mut storage.0)?;
        let node = open.maps.rodata_data.as_deref_mut().expect("the skeleton maps its constants");
        node.node_port = port.to_be();
        node.node_vlan = vlan.unwrap_or(0);
        (node.node_version, node.node_address) = match address {
            IpAddr::V4(v4) => (4, [u32::from_ne_bytes(v4.octets()), 0, 0, 0]),
            IpAddr::V6(v6) => {
                let octets = v6.octets();
                let (words, _) = octets.as_chunks();
                (6, std::array::from_fn(|i| u32::from_ne_bytes(words[i])))
            }
        };
        let skeleton = open.load()?;
        Ok(Self { maps: Maps::of(&skeleton)?, skeleton })
    }

    /// Runs the program on `frame`, from the Ethernet header on, as if it had arrived on queue 0
    /// (`BPF_PROG_TEST_RUN`). It counts its verdict as it would for any frame. Nothing is sent or
    /// delivered.
    ///
    /// # Errors
    ///
    /// [`SteeringError::Run`] if `frame` has less than the 14 bytes of an Ethernet header.
    pub fn run(&self, frame: &[u8]) -> Result<Action, SteeringError> {
        Ok(self.run_in(None, frame)?.action)
    }

    /// Like [`run`](Self::run), but says also what has become of the frame, and can have it arrive on the queue of an
    /// interface: of the calling thread's network namespace, by index, and one that runs an XDP program in native mode.
    ///
    /// # Errors
    ///
    /// [`SteeringError::Run`], also if there is no such interface or queue.
    pub fn run_in(&self, arrival: Option<(u32, u32)>, frame: &[u8]) -> Result<Trial, SteeringError> {
        let failed = |reason: String| SteeringError::Run { length: frame.len(), reason };
        let length = u32::try_from(frame.len()).map_err(|error| failed(error.to_string()))?;
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let mut context = arrival.map(|(ifindex, queue)| [0, length, 0, ifindex, queue, 0].map(u32::to_ne_bytes));
        let mut behind = vec![0; frame.len()];
        let input = ProgramInput {
            context_in: context.as_mut().map(|context| context.as_flattened_mut()),
            data_in: Some(frame),
            data_out: Some(&mut behind),
            ..Default::default()
        };
        let output = self.skeleton.progs.vmmc_steer.test_run(input).map_err(|error| failed(format!("{error:#}")))?;
        let action = match output.return_value {
            libbpf_rs::libbpf_sys::XDP_PASS => Action::Pass,
            libbpf_rs::libbpf_sys::XDP_REDIRECT => Action::Redirect,
            libbpf_rs::libbpf_sys::XDP_DROP => Action::Drop,
            code => return Err(failed(format!("it returned {code}, neither of XDP_PASS, XDP_REDIRECT and XDP_DROP"))),
        };
        let length = output.data.map_or(0, |data| data.len());
        behind.truncate(length);
        Ok(Trial { action, frame: behind })
    }

    /// The program's sockets and counters.
    pub fn maps(&self) -> &Maps {
        &self.maps
    }

    /// Attaches the program to an interface: see [`Steering::attach`]. Only `interface` and `ifindex`
    /// of the target matter, the address was fixed by loading.
    ///
    /// # Errors
    ///
    /// Those of [`Steering::attach`].
    pub fn attach(self, target: &Target) -> Result<Steering, SteeringError> {
        Steering::attach_program(self, target)
    }

    pub(crate) fn link(&self, ifindex: i32, placement: Placement) -> io::Result<Link> {
        Link::create(self.skeleton.progs.vmmc_steer.as_fd(), ifindex, placement)
    }

    pub(crate) fn into_maps(self) -> Maps {
        self.maps
    }
}

impl fmt::Debug for Program<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("maps", &self.maps).finish_non_exhaustive()
    }
}
