//! Throughput of one TCP connection, by iperf3.

use std::time::Duration;

use anyhow::ensure;
use testbed::{Iperf, iperf3};

use crate::world::World;

/// Systems differ in what they use, and figures of different congestion controls do not compare.
const CONGESTION_CONTROL: &str = "cubic";

/// The octets that one TCP connection moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tcp {
    /// Payload that arrived, in 10⁹ bits a second.
    pub gbit_per_s: f64,
}

/// Sends from A to B for so long, rounded up to whole seconds, which iperf3 wants. Nothing is left out at the
/// beginning: with round trips of microseconds slow start ends within milliseconds.
///
/// # Errors
/// When nothing arrives.
///
/// # Panics
/// When iperf3 fails.
pub fn tcp(world: &World, duration: Duration) -> anyhow::Result<Tcp> {
    // At most 60, as the command line has it.
    let seconds = duration.as_secs_f64().ceil() as u32;
    let wanted = Iperf { congestion_control: Some(CONGESTION_CONTROL), ..Iperf::tcp(seconds) };
    let report = iperf3(&world.a.netns, &world.b.netns, world.b.address, wanted);
    ensure!(report.received_octets > 0, "iperf3 moved nothing");
    Ok(Tcp { gbit_per_s: report.bits_per_second / 1e9 })
}
