//! Sends what libbpf has to say to `tracing`: by itself it writes to stderr.

use std::sync::Once;

use libbpf_rs::PrintLevel;

/// Takes over libbpf's messages, once per process (libbpf has one hook for all its users).
pub(crate) fn redirect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        libbpf_rs::set_print(Some((PrintLevel::Debug, forward)));
    });
}

/// libbpf's warnings tell of failures that this crate returns as errors, and explains better: they
/// are details (of the verifier, for one), not something to show a user twice.
fn forward(level: PrintLevel, message: String) {
    let message = message.trim_end();
    match level {
        PrintLevel::Warn => tracing::debug!(target: "libbpf", "{message}"),
        PrintLevel::Info | PrintLevel::Debug => tracing::trace!(target: "libbpf", "{message}"),
    }
}
