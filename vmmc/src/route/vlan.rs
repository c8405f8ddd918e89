//! VLAN interfaces (802.1Q): which tag their frames carry, and the port that carries them.
//!
//! An interface like `eth0.5` has addresses, routes and neighbours of its own, but no queues: its frames leave by
//! `eth0`, with a tag. So a node on it has its addresses from here, and its sockets there.

use netlink_packet_route::link::{InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, LinkMessage, VlanProtocol};
use rustix::io::Errno;

use super::ethtool::takes_tags_off;
use super::interface::name_of;
use super::{Interface, RouteError, Routes};

/// What makes an interface a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vlan {
    /// Its identifier: the tag.
    pub id: u16,
    /// Whether the tag is a provider's (802.1ad) and not a customer's (802.1Q).
    pub provider: bool,
    /// The index of the interface that carries it; `None` when that is in another network namespace.
    pub parent: Option<u32>,
}

impl Routes {
    /// The interface that carries the frames of a VLAN; `None` when `interface` is no VLAN and carries its own.
    ///
    /// # Errors
    ///
    /// [`RouteError::ProviderVlan`] and [`RouteError::NestedVlan`] when frames would need another tag than one of 802.1Q;
    /// [`RouteError::ParentElsewhere`]; [`RouteError::TagsTakenOff`] when the NIC takes the tag off the frames that arrive, so
    /// that XDP can't tell what VLAN they are of; those of [`interface`](Self::interface).
    pub fn parent(&mut self, interface: &Interface) -> Result<Option<Interface>, RouteError> {
        let Some(Vlan { id, provider, parent }) = interface.vlan else { return Ok(None) };
        let name = || interface.name.clone();
        if provider {
            return Err(RouteError::ProviderVlan { name: name(), id });
        }
        let Some(index) = parent else { return Err(RouteError::ParentElsewhere { name: name() }) };
        let link = self.link_by_index(index).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NODEV) => RouteError::InterfaceGone { name: name(), index: interface.index },
            _ => RouteError::kernel(format!("reading the interface under {}", interface.name))(error),
        })?;
        let parent = self.interface(name_of(&link).unwrap_or_default())?;
        if parent.vlan.is_some() {
            return Err(RouteError::NestedVlan { name: name(), parent: parent.name });
        }
        // A veth pair leaves frames as they were sent, whatever it says of itself: from an AF_XDP socket they come with the tag in
        // place.
        let veth = info(&link).any(|info| *info == LinkInfo::Kind(InfoKind::Veth));
        let failed = || RouteError::kernel(format!("reading the features of {}", parent.name));
        if !veth && takes_tags_off(&mut self.generic, parent.index).map_err(failed())? {
            return Err(RouteError::TagsTakenOff { name: name(), parent: parent.name });
        }
        Ok(Some(parent))
    }
}

/// What makes the interface that the message is about a VLAN, if it is one.
pub(super) fn describe(link: &LinkMessage) -> Option<Vlan> {
    let data = info(link).find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    })?;
    let mut vlan = Vlan { id: 0, provider: false, parent: None };
    for item in data {
        match item {
            InfoVlan::Id(id) => vlan.id = *id,
            InfoVlan::Protocol(protocol) => vlan.provider = *protocol != VlanProtocol::Ieee8021Q,
            _ => {}
        }
    }
    let elsewhere = link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::LinkNetNsId(_)));
    let parent = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    });
    vlan.parent = parent.filter(|_| !elsewhere);
    Some(vlan)
}

/// What kind of device the message is about, where it isn't hardware.
pub(super) fn kind(link: &LinkMessage) -> Option<String> {
    info(link).find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    })
}

fn info(link: &LinkMessage) -> impl Iterator<Item = &LinkInfo> {
    let infos = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    infos.flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(extra: impl IntoIterator<Item = LinkAttribute>) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::Link(7));
        link.attributes.extend(extra);
        link
    }

    fn vlan(protocol: VlanProtocol) -> LinkAttribute {
        let data = InfoData::Vlan(vec![InfoVlan::Protocol(protocol), InfoVlan::Id(5)]);
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(data)])
    }

    #[test]
    fn what_makes_a_vlan_is_read_off_the_kernel_s_answer() {
        let found = describe(&link([vlan(VlanProtocol::Ieee8021Q)])).unwrap();
        assert_eq!(found, Vlan { id: 5, provider: false, parent: Some(7) });
        let found = describe(&link([vlan(VlanProtocol::Ieee8021Ad)])).unwrap();
        assert_eq!(found, Vlan { id: 5, provider: true, parent: Some(7) });
        let found = describe(&link([LinkAttribute::LinkNetNsId(0), vlan(VlanProtocol::Ieee8021Q)])).unwrap();
        assert_eq!(found.parent, None, "the index is of another namespace");
        // A veth pair has another end, too.
        let veth = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]);
        assert_eq!(describe(&link([veth])), None);
        assert_eq!(describe(&link([])), None);
    }
}
