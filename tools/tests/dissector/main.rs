//! The Wireshark dissector, by tshark, over captures of simulated nodes: it says of every packet what the library's parsers say.

mod expected;
mod file;
mod garbage;
mod kinds;
#[allow(dead_code)]
#[path = "../../../vmmc/tests/simulated/lanes.rs"]
mod lanes;
#[allow(dead_code)] // The command and the library's tests use more of these.
#[path = "../../src/capture/packet.rs"]
mod packet;
#[allow(dead_code)]
#[path = "../../src/capture/pcapng.rs"]
mod pcapng;
mod scene;
#[path = "../common/tshark.rs"]
mod tshark;
#[allow(dead_code)]
#[path = "../../../vmmc/tests/simulated/world.rs"]
mod world;
