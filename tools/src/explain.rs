//! What a node can't know of its failure, and the kernel can: that a peer is silent because the interface here has gone down.

use std::error::Error;

use vmmc::route::{RouteError, Routes};
use vmmc::{EngineError, LinkEnd};

use crate::call::CallError;

/// A failure, and what has become of the interface.
#[derive(Debug, thiserror::Error)]
#[error("{failure}. The reason may be here: {reason}")]
struct Explained {
    failure: Box<dyn Error>,
    reason: String,
}

/// Adds what is wrong with the interface, where a peer's silence may be due to that.
pub(crate) fn silence(interface: &str, failure: Box<dyn Error>) -> Box<dyn Error> {
    if !is_silence(&*failure) {
        return failure;
    }
    match here(interface) {
        Some(reason) => Explained { failure, reason }.into(),
        None => failure,
    }
}

fn is_silence(failure: &(dyn Error + 'static)) -> bool {
    let node = match failure.downcast_ref::<CallError>() {
        Some(CallError::Node(error)) => Some(error),
        _ => failure.downcast_ref(),
    };
    let Some(vmmc::Error::Engine(EngineError::LinkEnded { end, .. })) = node else { return false };
    matches!(end, LinkEnd::Silent(_) | LinkEnd::NoAnswer(_))
}

/// What is wrong with the interface, or with the port under it.
fn here(interface: &str) -> Option<String> {
    let mut routes = Routes::open().ok()?;
    let found = match routes.interface(interface) {
        Ok(found) => found,
        Err(error @ RouteError::NoSuchInterface { .. }) => return Some(error.to_string()),
        Err(_) => return None,
    };
    let port = routes.parent(&found).ok().flatten();
    let broken = [Some(found), port].into_iter().flatten().find(|i| !i.up || !i.carrier)?;
    let name = broken.name;
    Some(match broken.up {
        false => RouteError::InterfaceDown { name }.to_string(),
        true => RouteError::NoCarrier { name }.to_string(),
    })
}
