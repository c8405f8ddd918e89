//! What may be connected or bound to: what `tokio::net` takes, borrowed or not.

use std::io;
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// What [`VmmcStream::connect`](super::VmmcStream::connect) and [`VmmcListener::bind`](super::VmmcListener::bind) take: the types that implement
/// `tokio::net::ToSocketAddrs`. Names are looked up on a thread that may block, so what is borrowed is copied first.
pub trait ToSocketAddrs: sealed::Sealed {}

pub(super) mod sealed {
    /// Nobody else's types: the trait may change.
    pub trait Sealed {
        /// The same, able to go to another thread.
        type Owned: std::net::ToSocketAddrs + Send + 'static;

        fn owned(&self) -> Self::Owned;
    }
}

/// Types that need no copying but their own.
macro_rules! addresses {
    ($($type:ty),*) => {$(
        impl ToSocketAddrs for $type {}
        impl sealed::Sealed for $type {
            type Owned = $type;
            fn owned(&self) -> $type {
                self.clone()
            }
        }
    )*};
}

addresses!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));
addresses!(String, (String, u16));

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {}

impl<T: sealed::Sealed + ?Sized> sealed::Sealed for &T {
    type Owned = T::Owned;

    fn owned(&self) -> T::Owned {
        (**self).owned()
    }
}

impl ToSocketAddrs for str {}

impl sealed::Sealed for str {
    type Owned = String;

    fn owned(&self) -> String {
        self.to_owned()
    }
}

impl ToSocketAddrs for (&str, u16) {}

impl sealed::Sealed for (&str, u16) {
    type Owned = (String, u16);

    fn owned(&self) -> (String, u16) {
        (self.0.to_owned(), self.1)
    }
}

impl ToSocketAddrs for &[SocketAddr] {}

impl sealed::Sealed for &[SocketAddr] {
    type Owned = Several;

    fn owned(&self) -> Several {
        Several(self.to_vec())
    }
}

/// Several addresses, of which the first that works is used.
#[derive(Debug)]
pub struct Several(Vec<SocketAddr>);

impl net::ToSocketAddrs for Several {
    type Iter = std::vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.0.clone().into_iter())
    }
}

#[cfg(test)]
mod tests {
    use std::net::ToSocketAddrs as _;

    use super::sealed::Sealed as _;
    use super::*;

    fn first(address: impl ToSocketAddrs) -> SocketAddr {
        address.owned().to_socket_addrs().unwrap().next().unwrap()
    }

    #[test]
    fn what_tokio_takes_is_taken() {
        let address = SocketAddr::from(([10, 77, 0, 1], 80));
        let text = String::from("10.77.0.1:80");
        assert_eq!(first(address), address);
        let borrowed = &address;
        assert_eq!(first(borrowed), address);
        assert_eq!(first(&[address][..]), address);
        assert_eq!(first("10.77.0.1:80"), address);
        assert_eq!(first(&text), address);
        assert_eq!(first(("10.77.0.1", 80)), address);
        assert_eq!(first((String::from("10.77.0.1"), 80)), address);
        assert_eq!(first((Ipv4Addr::new(10, 77, 0, 1), 80)), address);
        assert!("nonsense".owned().to_socket_addrs().is_err());
    }
}
