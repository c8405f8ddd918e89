//! Switching an interface's offloads off, so that every packet is one that a wire could carry.
//!
//! With them TCP hands the kernel packets of 64 KiB, and a veth pair passes them on as they are.

use std::process::Command;

use super::PeerError;

/// What `ethtool -K` calls each, and `ethtool -k`.
const OFFLOADS: [(&str, &str); 3] =
    [("tso", "tcp-segmentation-offload"), ("gso", "generic-segmentation-offload"), ("gro", "generic-receive-offload")];

/// An interface without offloads. Dropping this switches those on again that were on.
pub(crate) struct Without {
    interface: String,
    were_on: Vec<&'static str>,
}

impl Without {
    /// Switches the offloads of `interface` off.
    pub(crate) fn on(interface: &str) -> Result<Without, PeerError> {
        let features = ethtool(&["-k", interface])?;
        let were_on = on_in(&features);
        let without = Without { interface: interface.into(), were_on };
        without.set("off")?;
        Ok(without)
    }

    fn set(&self, state: &str) -> Result<(), PeerError> {
        if self.were_on.is_empty() {
            return Ok(());
        }
        let mut arguments = vec!["-K", &self.interface];
        for name in &self.were_on {
            arguments.extend([name, state]);
        }
        ethtool(&arguments).map(drop)
    }
}

impl Drop for Without {
    fn drop(&mut self) {
        if let Err(error) = self.set("on") {
            tracing::warn!("offloads of {} stay off: {error}", self.interface);
        }
    }
}

/// Which of the offloads are on and can be switched.
fn on_in(features: &str) -> Vec<&'static str> {
    let is_on = |long: &str| features.lines().any(|line| line.trim() == format!("{long}: on"));
    OFFLOADS.iter().filter(|(_, long)| is_on(long)).map(|(short, _)| *short).collect()
}

fn ethtool(arguments: &[&str]) -> Result<String, PeerError> {
    let line = arguments.join(" ");
    let output = Command::new("ethtool")
        .args(arguments)
        .output()
        .map_err(|e| format!("running `ethtool {line}`: {e}. Is it installed? apt-get install ethtool"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("`ethtool {line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_is_found() {
        let features = "Features for vh1:\ntcp-segmentation-offload: on\n\ttx-tcp-segmentation: on\n\
                        generic-segmentation-offload: on [fixed]\ngeneric-receive-offload: off\n";
        assert_eq!(on_in(features), ["tso"]);
        assert!(on_in("").is_empty());
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        let error = Without::on("nonesuch0").err().expect("there is none").to_string();
        assert!(error.contains("ethtool -k nonesuch0"), "{error}");
    }
}
