//! A netlink socket that asks one question at a time and waits for the whole answer.
//!
//! Every request carries `NLM_F_ACK`, so that every answer has a definite end: the acknowledgement,
//! an error, or the `NLMSG_DONE` of a dump. The kernel normally answers inside the `send`; the
//! receive timeout is there so that a lost answer is an error and not a hang.

use std::io;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_ALIGNTO, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::RecvFlags;

/// The kernel fills datagrams of at most 32 KiB; twice that leaves room for growth.
const RECEIVE_BUFFER: usize = 64 << 10;
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// A dump is interrupted when the table changes under it; a table that changes this often is news.
const DUMP_ATTEMPTS: usize = 16;

#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        // Connected to the kernel (port 0), the socket refuses messages from other processes.
        socket.connect(&SocketAddr::new(0, 0))?;
        // Strict checking makes the kernel filter dumps, and refuse what it would otherwise ignore.
        // Kernels before 4.20 lack it: everything it filters is checked again here.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, sequence: 0, buffer: vec![0; RECEIVE_BUFFER] })
    }

    /// Sends `body` and returns the messages of the answer. A refusal is the kernel's errno.
    pub(super) fn request<M>(&mut self, body: M, flags: u16) -> io::Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(body));
        for _ in 0..DUMP_ATTEMPTS {
            self.sequence = self.sequence.wrapping_add(1);
            message.header.sequence_number = self.sequence;
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            retry_interrupted(|| self.socket.send(&bytes, 0))?;
            if let Some(answer) = self.answer()? {
                return Ok(answer);
            }
        }
        Err(io::Error::other("the kernel's table kept changing while it was read"))
    }

    /// Collects the answer to the last request; `None` when it is a dump that was interrupted.
    fn answer<M: NetlinkDeserializable>(&mut self) -> io::Result<Option<Vec<M>>> {
        let deadline = Instant::now() + REPLY_TIMEOUT;
        let sequence = self.sequence;
        let mut answer = Vec::new();
        let mut interrupted = false;
        loop {
            let mut datagram = self.receive(deadline)?;
            while !datagram.is_empty() {
                let message = NetlinkBuffer::new_checked(datagram).map_err(malformed)?;
                let (bytes, rest) = datagram.split_at(message.length() as usize);
                let padding = bytes.len().next_multiple_of(NLMSG_ALIGNTO.into()) - bytes.len();
                datagram = rest.get(padding..).unwrap_or_default();
                // The late answer to a request that was given up.
                if message.sequence_number() != sequence {
                    continue;
                }
                interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
                let message = NetlinkMessage::<M>::deserialize(bytes).map_err(malformed)?;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => answer.push(inner),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(done.code.wrapping_neg()));
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => {
                        return Ok((!interrupted).then_some(answer));
                    }
                    NetlinkPayload::Overrun(_) => return Err(malformed("data was lost")),
                    _ => {}
                }
            }
        }
    }

    /// Receives one datagram.
    fn receive(&mut self, deadline: Instant) -> io::Result<&[u8]> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
            match rustix::event::poll(&mut ready, Some(&left)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let (_, length) = retry_interrupted(|| {
            rustix::net::recv(&self.socket, &mut self.buffer[..], flags).map_err(io::Error::from)
        })?;
        self.buffer.get(..length).ok_or_else(|| {
            malformed(format!("a message of {length} bytes does not fit the buffer of {RECEIVE_BUFFER}"))
        })
    }
}

fn malformed(reason: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("netlink answer not understood: {reason}"))
}

fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NLM_F_DUMP;
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::address::AddressMessage;
    use netlink_packet_route::link::LinkMessage;
    use netlink_sys::protocols::NETLINK_ROUTE;
    use rustix::io::Errno;

    use super::*;

    fn link(index: u32) -> RouteNetlinkMessage {
        let mut question = LinkMessage::default();
        question.header.index = index;
        RouteNetlinkMessage::GetLink(question)
    }

    #[test]
    fn a_late_answer_to_an_earlier_request_is_ignored() {
        let mut netlink = Netlink::open(NETLINK_ROUTE).unwrap();
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK;
        header.sequence_number = 77;
        let mut given_up = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(link(1)));
        given_up.finalize();
        let mut bytes = vec![0; given_up.buffer_len()];
        given_up.serialize(&mut bytes);
        netlink.socket.send(&bytes, 0).unwrap();

        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answer = netlink.request(question, NLM_F_DUMP).unwrap();
        let addresses_only = answer.iter().all(|message| matches!(message, RouteNetlinkMessage::NewAddress(_)));
        assert!(addresses_only, "{answer:?}");
    }

    #[test]
    fn a_refusal_is_the_errno_and_the_socket_serves_on() {
        let mut netlink = Netlink::open(NETLINK_ROUTE).unwrap();
        let error = netlink.request(link(i32::MAX as u32), 0).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::NODEV));
        assert_eq!(netlink.request(link(1), 0).unwrap().len(), 1);
    }
}
