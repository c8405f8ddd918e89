//! What ethtool's generic netlink family knows of an interface: how many queues it uses, and whether it takes VLAN tags off.
//!
//! Of the queues, `RTM_GETLINK` reports the queues a driver has *allocated*: as many as it could ever use. What is
//! in use, and so what an AF_XDP socket can bind to, is what `ethtool -L` sets and `ethtool -l`
//! shows.

use std::io;

use netlink_packet_core::{
    DecodeError, Emitable, NLA_F_NESTED, NLA_HEADER_SIZE, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable,
    Nla, NlaBuffer, NlasIterator, parse_u16, parse_u32,
};

use super::netlink::Netlink;

// linux/genetlink.h
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

// linux/ethtool_netlink.h
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_MSG_CHANNELS_GET: u8 = 17;
const ETHTOOL_MSG_RSS_GET: u8 = 38;
const ETHTOOL_A_RSS_HEADER: u16 = 1;
const ETHTOOL_A_RSS_INDIR: u16 = 4;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
const ETHTOOL_A_CHANNELS_HEADER: u16 = 1;
const ETHTOOL_A_CHANNELS_RX_COUNT: u16 = 6;
const ETHTOOL_A_CHANNELS_TX_COUNT: u16 = 7;
const ETHTOOL_A_CHANNELS_COMBINED_COUNT: u16 = 9;

/// Queues in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Channels {
    pub(super) rx: u32,
    pub(super) tx: u32,
}

/// Asks for the queues in use. `None` when the driver has no notion of a changeable number of them,
/// or the kernel (before 5.6, or built without) has no ethtool over netlink.
pub(super) fn channels(generic: &mut Netlink, interface: u32) -> io::Result<Option<Channels>> {
    let Some(answer) = ask(generic, interface, ETHTOOL_MSG_CHANNELS_GET, ETHTOOL_A_CHANNELS_HEADER)? else {
        return Ok(None);
    };
    let count = |kind| {
        let value = answer.iter().find_map(|message| message.attribute(kind));
        value.map_or(Ok(0), |value| parse_u32(value).map_err(io::Error::other))
    };
    let combined = count(ETHTOOL_A_CHANNELS_COMBINED_COUNT)?;
    Ok(Some(Channels {
        rx: combined.saturating_add(count(ETHTOOL_A_CHANNELS_RX_COUNT)?),
        tx: combined.saturating_add(count(ETHTOOL_A_CHANNELS_TX_COUNT)?),
    }))
}

/// Whether the NIC takes the tag off frames of a VLAN that arrive (`rx-vlan-offload`): the kernel is told it beside the frame,
/// an XDP program isn't. False when the kernel can't tell.
pub(super) fn takes_tags_off(generic: &mut Netlink, interface: u32) -> io::Result<bool> {
    let answer = ask(generic, interface, ETHTOOL_MSG_FEATURES_GET, ETHTOOL_A_FEATURES_HEADER)?.unwrap_or_default();
    // A list of those that are on: each has a number and, what doesn't change from one kernel to the next, a name.
    let active = answer.iter().find_map(|message| message.attribute(ETHTOOL_A_FEATURES_ACTIVE)).unwrap_or_default();
    for bit in children(child(active, ETHTOOL_A_BITSET_BITS)?.unwrap_or_default()) {
        if child(bit?.value(), ETHTOOL_A_BITSET_BIT_NAME)? == Some(b"rx-vlan-hw-parse\0") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Which queue each value of the NIC's hash goes to (its RSS indirection table). `None` when the driver has none, or the kernel (before 6.3) doesn't tell.
pub(super) fn indirection(generic: &mut Netlink, interface: u32) -> io::Result<Option<Vec<u32>>> {
    let Some(answer) = ask(generic, interface, ETHTOOL_MSG_RSS_GET, ETHTOOL_A_RSS_HEADER)? else { return Ok(None) };
    let table = answer.iter().find_map(|message| message.attribute(ETHTOOL_A_RSS_INDIR));
    Ok(table.map(|table| table.as_chunks().0.iter().map(|queue| u32::from_ne_bytes(*queue)).collect()))
}

/// The attributes within one.
fn children(nest: &[u8]) -> impl Iterator<Item = io::Result<NlaBuffer<&[u8]>>> {
    NlasIterator::new(nest).map(|nla| nla.map_err(io::Error::other))
}

fn child(nest: &[u8], kind: u16) -> io::Result<Option<&[u8]>> {
    for nla in children(nest) {
        let nla = nla?;
        if nla.kind() == kind {
            let end = NLA_HEADER_SIZE + nla.value_length();
            return Ok(nla.into_inner().get(NLA_HEADER_SIZE..end));
        }
    }
    Ok(None)
}

/// Asks about an interface. `None` when driver or kernel don't know what is asked.
fn ask(generic: &mut Netlink, interface: u32, command: u8, header_kind: u16) -> io::Result<Option<Vec<Message>>> {
    let asked = ethtool_family(generic).and_then(|family| {
        let index = Attribute { kind: ETHTOOL_A_HEADER_DEV_INDEX, value: interface.to_ne_bytes().into() };
        let mut header = vec![0; index.buffer_len()];
        index.emit(&mut header);
        generic.request(Message::new(family, command, header_kind | NLA_F_NESTED, header), 0)
    });
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if unsupported(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Generic netlink families are numbered when the kernel boots.
fn ethtool_family(generic: &mut Netlink) -> io::Result<u16> {
    let name = b"ethtool\0".into();
    let question = Message::new(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, name);
    let answer = generic.request(question, 0)?;
    let family = answer.iter().find_map(|message| message.attribute(CTRL_ATTR_FAMILY_ID));
    let family = family.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    parse_u16(family).map_err(io::Error::other)
}

fn unsupported(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported)
}

/// A generic netlink message: four bytes of header, then attributes.
#[derive(Debug)]
struct Message {
    family: u16,
    command: u8,
    attributes: Vec<Attribute>,
}

#[derive(Debug)]
struct Attribute {
    kind: u16,
    value: Vec<u8>,
}

impl Message {
    const HEADER: usize = 4;

    fn new(family: u16, command: u8, kind: u16, value: Vec<u8>) -> Self {
        Self { family, command, attributes: vec![Attribute { kind, value }] }
    }

    fn attribute(&self, kind: u16) -> Option<&[u8]> {
        let found = self.attributes.iter().find(|nla| nla.kind == kind);
        found.map(|nla| nla.value.as_slice())
    }
}

impl Nla for Attribute {
    fn value_len(&self) -> usize {
        self.value.len()
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.value);
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        Self::HEADER + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(Self::HEADER);
        header.copy_from_slice(&[self.command, 1, 0, 0]);
        self.attributes.as_slice().emit(attributes);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let (generic, attributes) =
            payload.split_at_checked(Self::HEADER).ok_or("generic netlink message without a header")?;
        let attributes = NlasIterator::new(attributes)
            .map(|nla| nla.map(|nla| Attribute { kind: nla.kind(), value: nla.value().into() }));
        Ok(Self { family: header.message_type, command: generic[0], attributes: attributes.collect::<Result<_, _>>()? })
    }
}
